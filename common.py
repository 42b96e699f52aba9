"""What both tasks share, in the order in which a run needs it.

Data, augmentation, StepLR training with best-validation checkpointing, evaluation, results, plots. The ``main`` of a
task script tells the story of a run; ``lab/`` has what both stand on, and what a reader may skip at first.
"""

import contextlib
import copy
import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from lab import checkpoint, cifar10, diagnosis, faster, files, flags, photos, precision, summary
from lab.cifar10 import CLASSES
from lab.figures import draw_curve, draw_legend, learning_axes, mark_changes
from lab.files import atomic_write, save_figure, shown
from lab.flags import Run
from lab.lines import print_configuration, print_epoch, print_model, print_test
from lab.progress import Progress
from lab.recipe import EVERY, Learner, learner_for
from lab.record import FORMAT, MISTAKES, best_of, epochs_left, out_of_patience, read_record, size_of, steps_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# ---------------------------------------------------------------- a run


def build(network: Callable[[], nn.Module], run: Run) -> nn.Module:
    """The network on ``run.device``, with the first weights of ``run.seed`` or those of the unfinished state."""
    if run.device.index is not None:
        torch.cuda.set_device(run.device)
    torch.manual_seed(seed_for(run.seed, 0, WEIGHTS))
    model = network().to(run.device, memory_format=memory_format(run.device))
    if run.state:
        for weights in (run.state["best"], run.state["model"]):
            checkpoint.load_weights(model, weights, run.files.state, checkpoint.START_ANEW)
    return model


def describe(model: nn.Module, run: Run) -> None:
    """Print the configuration and, of a new run, the table of layers and FLOPs; draw the picture of the network."""
    print_configuration(run)
    if not run.state:
        summary.print_summary(model, run.image_size)
    save_figure(run.files.network, run.name, summary.draw_network, model, run.image_size)


# ---------------------------------------------------------------- randomness

SPLIT, WEIGHTS, TRAINING, VALIDATION, DROPOUT = range(5)


def seed_for(seed: int, epoch: int, purpose: int) -> int:
    """A 32-bit seed of its own for every purpose in every epoch.

    The three are hashed because torch's CPU generator looks at the low 32 bits of its seed only.
    """
    return int(np.random.SeedSequence((seed, epoch, purpose)).generate_state(1)[0])


def generator_for(seed: int, epoch: int, purpose: int) -> torch.Generator:
    """A CPU generator, so that every device draws the same numbers."""
    return torch.Generator().manual_seed(seed_for(seed, epoch, purpose))


# ---------------------------------------------------------------- the device


def memory_format(device: torch.device) -> torch.memory_format:
    """channels_last, which convolutions like best; but MPS cannot train batch norm in it (pytorch PR 188371)."""
    return torch.contiguous_format if device.type == "mps" else torch.channels_last


# ---------------------------------------------------------------- data


class Dataset(NamedTuple):
    """Images that live on the training device, and how a network gets to see them."""

    images: torch.Tensor  # [N, 3, 32, 32] uint8
    labels: torch.Tensor  # [N] int64
    mean: torch.Tensor  # [3, 1, 1], of pixels in [0, 1]
    std: torch.Tensor  # [3, 1, 1]
    size: int = 32  # height and width to which the images are enlarged


def load_data(run: Run) -> tuple[Dataset, Dataset, Dataset]:
    """The images to train, to validate and to test, on ``run.device``; sets ``run.config``.

    The training set is split nine to one, at random by the seed. Mean and standard deviation per channel are those of
    its first image, as in the lab report's training configuration; with --recipe, those of the images to train.
    Raises SystemExit: CIFAR-10 cannot be had; or the unfinished state is of a run with another configuration.
    """
    if run.dry_run:
        source = "made up, for a dry run that leaves nothing"
        images, labels, test_images, test_labels = cifar10.made_up()
    elif run.sample:
        source = "the sample of CIFAR-10 that comes with these scripts"
        images, labels, test_images, test_labels = cifar10.load_sample()
    else:
        directory = cifar10.find(flags.ROOT, run.data_dir)
        source = shown(directory)
        images, labels, test_images, test_labels = cifar10.load(directory)

    order = torch.randperm(len(images), generator=generator_for(run.seed, 0, SPLIT))
    n_val = len(images) // 10
    train, val, test = order[:-n_val], order[-n_val:], torch.arange(len(test_images))
    if run.limit:
        train, val, test = train[: run.limit], val[: run.limit // 10], test[: run.limit // 10]
    std, mean = torch.ones(3), torch.zeros(3)
    if not run.no_norm:
        mean, std = statistics_of(images[:1] if run.statistics == "first image" else images[train])
    run.config = run.settings | {"mean": mean.tolist(), "std": std.tolist()}
    if run.state and run.state["config"] != run.config:
        same = run.state["config"].keys() == run.config.keys()
        other = "set of images, by their mean and standard deviation" if same else "set of settings"
        raise SystemExit(f"{shown(run.files.state)} is of a run with another {other}. {checkpoint.START_ANEW}")
    print(f"Data:    {source}: {len(train):,} images to train, {len(val):,} to validate, {len(test):,} to test")

    def chosen(images: torch.Tensor, labels: torch.Tensor, which: torch.Tensor) -> Dataset:
        tensors = images[which], labels[which], mean.view(3, 1, 1), std.view(3, 1, 1)
        return Dataset(*(tensor.to(run.device) for tensor in tensors), run.image_size)

    return chosen(images, labels, train), chosen(images, labels, val), chosen(test_images, test_labels, test)


def statistics_of(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation per channel, [3] float32, of the pixels of [N, 3, H, W] uint8, as if in [0, 1].

    Sums of whole numbers are exact, so they are the same with any number of threads.
    """
    n, total, squares = images[:, 0].numel(), 0, 0
    for part in images.split(1000):
        total, squares = total + part.sum((0, 2, 3)), squares + part.int().square().sum((0, 2, 3))
    mean = total.double() / n
    return (mean / 255).float(), ((squares.double() / n - mean**2).sqrt() / 255).float()


def batches(
    dataset: Dataset, batch_size: int, order: torch.Tensor, augmentation: torch.Tensor | None
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield normalized images [B, 3, size, size] float32 and labels [B], in the given order.

    ``augmentation`` has the parameters for :func:`augment`, one row for each image of ``order``; None: as they are.
    """
    scale, shift = 1 / (255 * dataset.std), -dataset.mean / dataset.std
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        images = dataset.images[rows]
        if augmentation is not None:
            images = augment(images, augmentation[start : start + batch_size])
        images = images.to(torch.float32).mul_(scale).add_(shift)  # in the order of memory, which is three times faster
        if dataset.size != images.shape[-1]:
            images = F.interpolate(images, size=dataset.size, mode="bilinear")
        yield images.contiguous(memory_format=memory_format(images.device)), dataset.labels[rows]


# ---------------------------------------------------------------- augmentation


def sample_augmentation(n: int, generator: torch.Generator, rotation: float = 15.0) -> torch.Tensor:
    """Parameters for ``n`` images, [n, 4] float32: crop offset to the right and down, flip (0 or 1), angle in degrees.

    The distributions are those of RandomCrop(32, padding=4), RandomHorizontalFlip(0.5) and RandomRotation(rotation).
    """
    offsets = torch.randint(-4, 5, (n, 2), generator=generator)
    flips = torch.rand(n, 1, generator=generator) < 0.5
    angles = torch.empty(n, 1).uniform_(-rotation, rotation, generator=generator)
    return torch.cat([offsets, flips, angles], dim=1)


def augment(images: torch.Tensor, augmentation: torch.Tensor) -> torch.Tensor:
    """Crop, flip, then rotate counter-clockwise each image by its own row of ``augmentation`` [N, 4].

    ``images`` are [N, C, S, S], where S is a power of two; uncovered pixels are black. The result is that of
    torchvision's kernels, except where the source of a pixel lies exactly between two: 2 of 12,000 random images
    differ, in 1 or 2 pixels.

    All three only move pixels (rotation takes the nearest), so together they are one gather: for each pixel of the
    result, where in the original it comes from. The steps are undone in reverse, each with its check for black.
    """
    n, channels, size, _ = images.shape
    right, down, flip, angle = augmentation.view(n, 4, 1).unbind(1)  # [N, 1] each
    centre = (size - 1) / 2
    axis = torch.arange(size, device=images.device) - centre
    x, y = axis.repeat(size), axis.repeat_interleave(size)  # [S * S] each, from the centre
    cos, sin = torch.deg2rad(angle).cos(), torch.deg2rad(angle).sin()
    x, y = (cos * x - sin * y + centre).round_().int(), (sin * x + cos * y + centre).round_().int()  # [N, S * S] each
    rotated = x | y
    x = (1 - 2 * flip).int() * x + ((size - 1) * flip + right).int()
    y = y + down.int()
    # S is a power of two, so a coordinate from 0 to S - 1 has none of the bits of -S, and every other one has some:
    # one comparison instead of eight.
    inside = ((rotated | x | y) & -size) == 0

    pixel = ((size * y + x) & (size * size - 1)).long()  # any pixel where not inside
    moved = images.view(n, channels, -1).gather(2, pixel[:, None].expand(-1, channels, -1))
    return moved.mul_(inside[:, None]).view_as(images)


# ---------------------------------------------------------------- training


def train(model: nn.Module, train_set: Dataset, val_set: Dataset, run: Run) -> list[dict]:
    """Train ``model``, leave it with the weights of its best epoch, and return the history: a dict for each epoch.

    Adam, cross-entropy, StepLR (lab report, training configuration), or as the recipe says. After each epoch a state
    with the best weights so far is saved; the curves are drawn at most every 15 seconds. If ``run`` has such a state,
    goes on from there. If the run averages its weights, the average is validated, and kept.
    Raises FloatingPointError: a loss is not finite; OSError: a file cannot be written.
    """
    faster.keep_memory()
    rebuilt = faster.rebuild(model, (3, run.image_size, run.image_size))
    steps = steps_of(len(train_set.labels), run.batch_size)
    learner = learner_for(rebuilt, run, steps)
    candidate = copy.deepcopy(model) if learner.average else model
    history, best = checkpoint.begin_or_resume(run, learner, steps)
    drawn = -math.inf
    print("Loss and accuracy of each epoch (*: the best validation accuracy so far), time left:")
    while len(history) < run.epochs and not out_of_patience(history, run.settings):
        metrics = train_and_validate(learner, train_set, val_set, run, epoch=len(history) + 1)
        history.append(metrics)
        faster.copy_back(rebuilt, model)
        if best_of(history) is metrics:
            if learner.average:
                faster.copy_back(learner.validated, candidate)
            best = checkpoint.copy_of_weights(candidate)
        checkpoint.save_state(run, history, best, model, learner)
        if time.monotonic() - drawn > 15:  # an epoch may take less than a picture
            save_figure(
                run.files.live, run.name, draw_curves, {"run": run.name, "config": run.config, "history": history}
            )
            drawn = time.monotonic()
        print_epoch(history, run)
    model.load_state_dict(best)
    return history


def train_and_validate(learner: Learner, train_set: Dataset, val_set: Dataset, run: Run, epoch: int) -> dict:
    """Train for one epoch, validate on images of the same size, and return the metrics of both."""
    started, lr, size = time.perf_counter(), learner.rate, size_of(run.settings, epoch)
    train_set, val_set = train_set._replace(size=size), val_set._replace(size=size)
    train_loss, train_accuracy = train_epoch(learner, train_set, run, epoch)
    _, augmentation = sample_epoch(val_set, run, epoch, VALIDATION)
    with precision.autocast(run):
        logits = predict_logits(learner.validated, val_set, augmentation)
    val_loss, val_accuracy = score(logits, val_set.labels)
    if not math.isfinite(val_loss):
        raise FloatingPointError(
            f"The validation loss is no longer finite ({val_loss:g}) after epoch {epoch} at learning rate {lr:g}."
        )
    return {
        "epoch": epoch,
        "learning_rate": lr,
        "train_loss": train_loss,
        "train_accuracy": train_accuracy,
        "val_loss": val_loss,
        "val_accuracy": val_accuracy,
        "seconds": round(time.perf_counter() - started, 2),
    } | ({"image_size": size} if run.growth else {})


def train_epoch(learner: Learner, dataset: Dataset, run: Run, epoch: int) -> tuple[float, float]:
    """Train for one epoch; return mean loss and accuracy over the samples as they were trained on.

    The sums stay on the device, so that a GPU does not wait for the host at every step. Therefore a loss that is not
    finite is noticed only after about a second.
    """
    torch.manual_seed(seed_for(run.seed, epoch, DROPOUT))
    order, augmentation = sample_epoch(dataset, run, epoch, TRAINING)
    steps = steps_of(len(order), run.batch_size)
    order = order[: steps * run.batch_size]
    where = f"epoch {epoch}, step {{}} of {steps}, at learning rate {learner.rate:g}"
    losses, loss_sum, correct, checked = [], 0, 0, time.monotonic()
    learner.model.train()
    later = round(steps * epochs_left(run.settings, epoch))
    with Progress(f"Epoch {epoch:2}/{run.epochs}", "batch", steps, later) as progress:
        for images, labels in batches(dataset, run.batch_size, order, augmentation):
            loss, logits = train_step(learner.model, learner.optimizer, images, labels, run)
            learner.scheduler.step()
            losses.append(loss)
            if learner.average and (len(losses) % EVERY == 0 or len(losses) == steps):
                learner.average.update_parameters(learner.model)
            loss_sum += loss * len(labels)
            correct += (logits.argmax(1) == labels).sum()
            progress.update()
            if len(losses) == steps or time.monotonic() - checked > 1:
                checked = time.monotonic()
                check_finite(losses, where)
    return loss_sum.item() / len(order), correct.item() / len(order)


def check_finite(losses: list[torch.Tensor], where: str) -> None:
    """FloatingPointError if one of the losses so far is not finite; ``where`` has a place for its number."""
    finite = torch.stack(losses).isfinite().tolist()
    if not all(finite):
        step = finite.index(False)
        raise FloatingPointError(f"The loss is no longer finite ({losses[step]:g}) in {where.format(step + 1)}.")


def train_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, images: torch.Tensor, labels: torch.Tensor, run: Run
) -> tuple[torch.Tensor, torch.Tensor]:
    """One step of the optimizer; return the mean loss, and the logits [B, 10], as they were before it.

    Where labels are smoothed, the loss that is returned is without that, so that it compares with that of validation.
    """
    with precision.autocast(run):
        logits = model(images)
        loss = F.cross_entropy(logits, labels, label_smoothing=run.label_smoothing)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    logits = logits.detach()
    return (F.cross_entropy(logits, labels) if run.label_smoothing else loss.detach()), logits


def sample_epoch(dataset: Dataset, run: Run, epoch: int, purpose: int) -> tuple[torch.Tensor, torch.Tensor | None]:
    """All that is random in a pass over ``dataset``, on its device: an order, and the augmentation unless it is off."""
    generator, device = generator_for(run.seed, epoch, purpose), dataset.labels.device
    order = torch.randperm(len(dataset.labels), generator=generator)
    if run.no_aug or (purpose == VALIDATION and not run.augmented_validation):
        return order.to(device), None
    return order.to(device), sample_augmentation(len(order), generator, run.rotation).to(device)


# ---------------------------------------------------------------- evaluation


@torch.inference_mode()
def predict_logits(model: nn.Module, dataset: Dataset, augmentation: torch.Tensor | None = None) -> torch.Tensor:
    """Logits [N, 10] float32 in evaluation mode; the images are augmented if there is an ``augmentation`` [N, 4].

    Outside of autocast all is float32, so that a checkpoint gives the same logits everywhere, but for the last digits.
    """
    model.eval()
    order, logits = torch.arange(len(dataset.labels), device=dataset.labels.device), []
    for images, _ in batches(dataset, 500, order, augmentation):
        logits.append(model(images).float())
    return torch.cat(logits)


def score(logits: torch.Tensor, labels: torch.Tensor) -> tuple[float, float]:
    """Mean cross-entropy and accuracy of logits [N, 10] for labels [N]."""
    return F.cross_entropy(logits, labels).item(), (logits.argmax(1) == labels).sum().item() / len(labels)


def evaluate(model: nn.Module, dataset: Dataset, run: Run) -> dict:
    """Loss and accuracy on the test images, the confusion matrix, and the mistakes made with the highest confidence.

    A row of the confusion matrix is a true class, a column a predicted class. Mistakes are at most :data:`MISTAKES`.
    With --recipe, there is also the accuracy of the mean probabilities for an image and its mirror image.
    """
    logits = predict_logits(model, dataset)
    loss, accuracy = score(logits, dataset.labels)
    predicted = logits.argmax(1)
    confusion = torch.bincount(10 * dataset.labels + predicted, minlength=100).view(10, 10)
    confidence = logits.softmax(1).amax(1)
    ranked = confidence.argsort(descending=True, stable=True)
    wrong = ranked[(predicted != dataset.labels)[ranked]][:MISTAKES]
    rows = zip(wrong.tolist(), predicted[wrong].tolist(), confidence[wrong].tolist(), strict=True)
    mistakes = [{"index": index, "predicted": guess, "probability": share} for index, guess, share in rows]
    result = {"test_loss": loss, "test_accuracy": accuracy}
    if run.recipe:
        mirrored = predict_logits(model, dataset._replace(images=dataset.images.flip(3)))
        both = logits.softmax(1) + mirrored.softmax(1)
        result["test_accuracy_mirrored"] = score(both, dataset.labels)[1]
    return result | {"confusion_matrix": confusion.tolist(), "mistakes": mistakes}


# ---------------------------------------------------------------- results


def finish(model: nn.Module, history: list[dict], result: dict, test_set: Dataset, run: Run) -> None:
    """Give a finished run its files, from the best weights in ``model``, and print its result.

    The state to resume from goes last, so that a crash here loses nothing.
    """
    best = best_of(history)
    record = {"format": FORMAT, "run": run.name, "config": run.config}
    record |= {"environments": checkpoint.environments(run, history), "history": history, "best_epoch": best["epoch"]}
    record |= result
    pictures = pictures_of(record, test_set, run)
    for path, drawing in pictures.items():
        path.unlink(missing_ok=True)  # an earlier run's, which must not stay if this one cannot be drawn
        save_figure(path, run.name, *drawing)
    with atomic_write(run.files.record, run.name) as file:
        file.write(json.dumps(record, indent=1).encode())
    weights = {"model": checkpoint.copy_of_weights(model), "config": run.config}
    weights |= {"epoch": best["epoch"], "val_accuracy": best["val_accuracy"]}
    checkpoint.save(run.files.best, weights, run.name)
    run.files.live.unlink(missing_ok=True)
    run.files.state.unlink()

    print(f"Best epoch: {best['epoch']} of {len(history)}, validation accuracy {best['val_accuracy']:.4f}")
    files.print_written(run.files.best, run.files.record, *pictures, run.files.network)
    diagnosis.print_reading(record)
    cifar10.print_worth(result, run)
    print_model(run)
    print_test(result, run)


def reuse(model: nn.Module, run: Run) -> None:
    """What needs no training: --predict, --test, or the result of a finished run once more (--resume)."""
    if run.predict:
        predict(model, run)
    elif run.test:
        checkpoint.load_best(model, run)
        _, _, test_set = load_data(run)
        print_configuration(run)
        print_model(run)
        print_test(evaluate(model, test_set, run), run)
    else:
        show_result(model, run)


def predict(model: nn.Module, run: Run) -> None:
    """Print the three likeliest classes of each image file; SystemExit at the end if one cannot be read."""
    config = checkpoint.load_best(model, run)["config"]
    mean, std = (torch.tensor(config[name], device=run.device).view(3, 1, 1) for name in ("mean", "std"))
    unreadable = False
    for path in (image for given in run.predict for image in photos.images_in(given)):
        try:
            image = photos.read_image(path).to(run.device)
        except ValueError as error:
            print(error, file=sys.stderr)
            unreadable = True
            continue
        dataset = Dataset(image[None], torch.zeros(1, dtype=torch.int64, device=run.device), mean, std, run.image_size)
        likeliest = predict_logits(model, dataset)[0].softmax(0).topk(3)
        classes = zip(likeliest.indices.tolist(), likeliest.values.tolist(), strict=True)
        print(f"{path}: {', '.join(f'{CLASSES[number]} {probability:.1%}' for number, probability in classes)}")
    if unreadable:
        raise SystemExit(1)


def show_result(model: nn.Module, run: Run) -> None:
    """Print the result of a finished run from its record, and draw its pictures if they are missing."""
    try:
        record = read_record(run.files.record, run.name, run.settings, flags.older(run.usual))
    except ValueError as error:
        problem = f"{shown(run.files.record)} is damaged, of another version or of other settings: {error}."
        raise SystemExit(f"{problem} To train this run anew: {run.command}") from None
    print(f"{run.name} has finished, with its best epoch {record['best_epoch']}: see {shown(run.files.record)}")
    gallery = "mistakes" in record and not run.files.mistakes.exists()  # older records have none
    pictures = pictures_of(record, test_images_if_there(run) if gallery else None, run)
    pictures[run.files.network] = summary.draw_network, model, run.image_size
    for path, drawing in pictures.items():
        if not path.exists():
            save_figure(path, run.name, *drawing)
            files.print_written(path)
    diagnosis.print_reading(record)
    cifar10.print_worth(record, run)
    print_test(record, run)


def test_images_if_there(run: Run) -> Dataset | None:
    """The test images for the gallery of a finished run; None, after a line that says so, where they cannot be had."""
    directory = cifar10.find(flags.ROOT, run.data_dir)
    with contextlib.suppress(OSError, SystemExit):  # a result is printed without them
        if run.sample or not cifar10.damaged(directory):
            return load_data(run)[2]
    where = "the sample" if run.sample else shown(directory)
    print(f"{shown(run.files.mistakes)} is not drawn: its images cannot be read from {where}.")
    return None


# ---------------------------------------------------------------- plots


def pictures_of(record: dict, test_set: Dataset | None, run: Run) -> dict[Path, tuple]:
    """The pictures of a finished run: where each is, the function that draws it, and what that needs."""
    pictures = {run.files.curves: (draw_curves, record), run.files.confusion: (draw_confusion, record)}
    if test_set:
        pictures[run.files.mistakes] = draw_mistakes, record, test_set
    return pictures


def draw_curves(figure: "Figure", record: dict) -> None:
    """Draw loss and accuracy over the epochs from a run's record, and the test result once it is there.

    Grey lines mark where the learning rate was halved, green ones where the images grew.
    """
    history, best = record["history"], best_of(record["history"])["epoch"]
    figure.set_figheight(2.9)
    pair = learning_axes(figure, record["config"]["epochs"])
    for axes, metric in zip(pair, ("loss", "accuracy"), strict=True):
        mark_changes(axes, history)
        draw_curve(axes, history, f"train_{metric}", label="training")
        draw_curve(axes, history, f"val_{metric}", label="validation")
        axes.axvline(best, color="0.5", linestyle=":", label=f"best epoch ({best})")
        if "test_accuracy" in record:
            test = min(record[f"test_{metric}"], axes.get_ylim()[1])
            axes.plot(best, test, "*", color="tab:red", markersize=9, clip_on=False, label="test")
    draw_legend(figure, pair, ncols=5)
    test = "\ntest loss {test_loss:.3f}, test accuracy {test_accuracy:.3f}" if "test_accuracy" in record else ""
    figure.suptitle(flags.title(record["run"]) + test.format(**record), wrap=True)


def draw_confusion(figure: "Figure", record: dict) -> None:
    """Draw how often each class is taken for which, and beside it the accuracy for each class, from a run's record."""
    from matplotlib.colors import PowerNorm  # here: lab.files.matplotlib_as_it_comes says why

    counts = np.array(record["confusion_matrix"])
    shares = counts / counts.sum(1, keepdims=True).clip(1)  # of a true class
    figure.set_figheight(3.8)
    matrix, bars = figure.subplots(1, 2, width_ratios=(4, 1), sharey=True)
    image = matrix.imshow(shares, cmap="Blues", norm=PowerNorm(0.5, 0, 1), aspect="auto")  # a root: errors show
    for (row, column), count in np.ndenumerate(counts):
        colour = "white" if shares[row, column] > 0.3 else "black"
        matrix.text(column, row, f"{count:,}", ha="center", va="center", color=colour)
    matrix.set_xticks(range(10), CLASSES, rotation=40, ha="right", rotation_mode="anchor")
    matrix.set_yticks(range(10), CLASSES)
    matrix.set(xlabel="predicted class", ylabel="true class", title=f"{counts.sum():,} test images")
    bars.barh(range(10), shares.diagonal(), color="#9ecae1")
    for row, accuracy in enumerate(shares.diagonal()):
        bars.text(0.05, row, f"{accuracy:.3f}", va="center")
    bars.set(xlabel="accuracy", xlim=(0, 1), xticks=(0, 0.5, 1), title=f"all: {record['test_accuracy']:.3f}")
    label = "share of the true class (a square-root scale)"
    figure.colorbar(image, ax=bars, fraction=0.2, label=label, ticks=(0, 0.01, 0.05, 0.2, 0.5, 1))
    figure.suptitle(flags.title(record["run"]), wrap=True)


def draw_mistakes(figure: "Figure", record: dict, test_set: Dataset) -> None:
    """Draw the test images that were wrong with the highest confidence, from a run's record."""
    figure.set_figheight(8.2)
    grid = figure.subplots(5, 5).flat
    for axes, mistake in zip(grid, record["mistakes"], strict=False):
        index, predicted = mistake["index"], CLASSES[mistake["predicted"]]
        axes.imshow(test_set.images[index].permute(1, 2, 0).cpu().numpy(), interpolation="lanczos")
        true = CLASSES[test_set.labels[index]]
        axes.set_title(f"{true}\n→ {predicted} {mistake['probability']:.1%}")
    for axes in figure.axes:
        axes.axis("off")
    title = f"{flags.title(record['run'])}\nwrong with the highest confidence (true → predicted class)"
    figure.suptitle(title, wrap=True)
