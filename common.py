"""What both tasks share, in the order in which a run needs it.

Data, augmentation, StepLR training with best-validation checkpointing, evaluation, results, plots. The ``main`` of a
task script shows the steps of a run; ``lab/`` has what both stand on, and what a reader may skip at first.
"""

import copy
import math
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lab import checkpoint, cifar10, console, diagnosis, drawing, faster, photos, precision, summary
from lab import record as records
from lab.drawing import only_told, save_figure
from lab.files import remove, shown, told
from lab.learner import EVERY, Learner, learner_for
from lab.run import Run
from lab.schedule import best_of, epochs_left, out_of_patience, rate_of, size_of, steps_of
from lab.settings import Settings


def build(network: Callable[[], nn.Module], run: Run) -> nn.Module:
    """The network on ``run.device``, with the first weights of its seed; SystemExit: it cannot be used."""
    images, order = torch.zeros(2, 3, *2 * [run.settings.image_size]), precision.memory_format(run.device)
    torch.manual_seed(seed_for(run.settings.seed, 0, WEIGHTS))
    try:
        model = network()
        if run.settings.first_weights == "he":  # as torchvision; He et al., "Delving Deep into Rectifiers", eq. 14
            for module in model.modules():
                if isinstance(module, nn.Conv2d):
                    nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        with torch.no_grad():  # lazy layers learn their shapes
            model.to(run.device).eval()(images := images.to(run.device))
        try:
            try_out(model.to(memory_format=order), images.contiguous(memory_format=order), run)
        except RuntimeError:  # such as that of `view`, which only takes what is in the plain order
            model.to(memory_format=torch.contiguous_format)
            model.register_forward_pre_hook(lambda _, given: given[0].contiguous())
            try_out(model, images, run)
    except Exception as error:  # whatever somebody's own network leads to
        if checkpoint.is_full_memory(error):
            raise
        calls = traceback.extract_tb(error.__traceback__)
        *_, where = "", *(f", line {call.lineno}" for call in calls if Path(call.filename).name == run.script.name)
        reason = " ".join(str(error).split()) or type(error).__name__
        raise SystemExit(f"{shown(run.script)}{where}: this network cannot be used: {reason}") from None
    return model.train()


def try_out(model: nn.Module, images: Tensor, run: Run) -> None:
    """Show images to ``model`` and, if it is to be trained, train a copy for a step; raises whatever is wrong."""
    with torch.no_grad():
        check_logits(model(images))
    if run.trains:
        learner = learner_for(copy.deepcopy(model).train(), run.settings, steps=1)
        labels, autocast = torch.arange(2, device=images.device), precision.autocast(run.device, run.precision)
        check_logits(train_step(learner, images, labels, autocast)[1])


def check_logits(logits: object) -> None:
    """ValueError: what a network makes of two images is not two rows of ten numbers."""
    if getattr(logits, "shape", None) != (2, 10):
        made = f"a tensor of shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
        made = "nothing" if logits is None else made
        raise ValueError(f"of two images it makes {made}, not a tensor of shape (2, 10)")


def describe(model: nn.Module, dataset: "Dataset", run: Run) -> None:
    """Print the configuration and, for a new run, the table of layers and FLOPs; draw the picture of the network."""
    console.print_configuration(run, dataset.mean, dataset.std, precision.environment(run.device, run.precision))
    if not run.goes_on:
        summary.print_summary(model, run.settings.image_size)
    save_figure(run.network_picture, run.name, summary.draw_network, model, run.settings.image_size)


# ---------------------------------------------------------------- randomness

SPLIT, WEIGHTS, TRAINING, VALIDATION, DROPOUT = range(5)


def seed_for(seed: int, epoch: int, purpose: int) -> int:
    """A seed of its own for every purpose in every epoch: 32 bits, for torch's CPU generator uses no more."""
    return int(np.random.SeedSequence((seed, epoch, purpose)).generate_state(1)[0])


# ---------------------------------------------------------------- data


class Dataset(NamedTuple):
    """Images that live on the training device, and how a network gets to see them."""

    images: Tensor  # [N, 3, 32, 32] uint8
    labels: Tensor  # [N] int64
    mean: Tensor  # [3, 1, 1], of pixels in [0, 1]
    std: Tensor  # [3, 1, 1]
    size: int = 32  # height and width to which the images are enlarged


def load_data(run: Run) -> tuple[Dataset, Dataset, Dataset]:
    """The images to train, to validate and to test, on ``run.device``.

    The training set is split nine to one, at random by the seed. Mean and standard deviation per channel are those of
    its first image, as in the lab report's training configuration, or of the images to train.
    Raises SystemExit: CIFAR-10 is not there, and cannot be downloaded.
    """
    settings = run.settings
    images, labels = read_images(run, train=True)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed_for(settings.seed, 0, SPLIT)))
    n_val, limit = len(images) // 10, settings.limit or len(images)
    train, val = order[:-n_val][:limit], order[-n_val:][: limit // 10]
    statistics = {"mean": torch.zeros(3), "std": torch.ones(3)}
    if not settings.no_norm:
        statistics = statistics_of(images[:1] if settings.statistics == "first" else images[train])
    train_set, val_set = (dataset_of(images[part], labels[part], statistics, run) for part in (train, val))
    test_set = load_test_set(statistics, run)
    n = [f"{len(dataset.labels):,}" for dataset in (train_set, val_set, test_set)]
    if run.trains:
        print("Data:    {}: {} images to train, {} to validate, {} to test".format(source_of(run), *n))
    return train_set, val_set, test_set


def load_test_set(statistics: dict, run: Run) -> Dataset:
    """The images to test; ``statistics`` has a run's ``mean`` and ``std``, three numbers each, as its record has."""
    images, labels = read_images(run, train=False)
    n = run.settings.limit // 10 if run.settings.limit else len(images)
    return dataset_of(images[:n], labels[:n], statistics, run)


def dataset_of(images: Tensor, labels: Tensor, statistics: dict, run: Run) -> Dataset:
    mean, std = (torch.as_tensor(statistics[name]).view(3, 1, 1) for name in ("mean", "std"))
    return Dataset(*(tensor.to(run.device) for tensor in (images, labels, mean, std)), run.settings.image_size)


def read_images(run: Run, train: bool) -> tuple[Tensor, Tensor]:
    """All images [N, 3, 32, 32] uint8 and labels [N] to train and validate, or those to test."""
    if run.mode == "dry-run":
        return cifar10.made_up(train)
    return cifar10.load_sample(train) if run.settings.sample else cifar10.load(cifar10.find(run.data_dir), train)


def source_of(run: Run) -> str:
    if run.mode == "dry-run":
        return "made up, for a dry run that leaves nothing"
    return "the sample of CIFAR-10" if run.settings.sample else shown(cifar10.find(run.data_dir))


def statistics_of(images: Tensor) -> dict[str, Tensor]:
    """``mean`` and ``std`` per channel, [3] float32, of the pixels of [N, 3, H, W] uint8, as if in [0, 1]."""
    n, total, squares = images[:, 0].numel(), 0, 0  # whole numbers: their sums are the same with any number of threads
    for part in images.split(1000):
        total, squares = total + part.sum((0, 2, 3)), squares + part.int().square().sum((0, 2, 3))
    mean = total.double() / n
    return {"mean": (mean / 255).float(), "std": ((squares.double() / n - mean**2).sqrt() / 255).float()}


def batches(
    dataset: Dataset, batch_size: int, order: Tensor, augmentation: Tensor | None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield normalized images [B, 3, size, size] float32 and labels [B]; row i of ``augmentation`` is for order[i]."""
    scale, shift = 1 / (255 * dataset.std), -dataset.mean / dataset.std
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        images = dataset.images[rows]
        if augmentation is not None:
            images = augment(images, augmentation[start : start + batch_size])
        images = images.to(torch.float32).mul_(scale).add_(shift)  # in the order of memory, which is three times faster
        if dataset.size != images.shape[-1]:
            images = F.interpolate(images, size=dataset.size, mode="bilinear")
        yield images.contiguous(memory_format=precision.memory_format(images.device)), dataset.labels[rows]


# ---------------------------------------------------------------- augmentation


def sample_augmentation(n: int, generator: torch.Generator, rotation: float = 15.0) -> Tensor:
    """Parameters for ``n`` images, [n, 4] float32: crop offset to the right and down, flip (0 or 1), angle in degrees.

    The distributions are those of RandomCrop(32, padding=4), RandomHorizontalFlip(0.5) and RandomRotation(rotation).
    """
    offsets = torch.randint(-4, 5, (n, 2), generator=generator)
    flips = torch.rand(n, 1, generator=generator) < 0.5
    angles = torch.empty(n, 1).uniform_(-rotation, rotation, generator=generator)
    return torch.cat([offsets, flips, angles], dim=1)


def augment(images: Tensor, augmentation: Tensor) -> Tensor:
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


def train(model: nn.Module, train_set: Dataset, val_set: Dataset, run: Run) -> dict:
    """Train ``model``, leave it with the weights of its best epoch, and return the run's record, without test results.

    Adam, cross-entropy, StepLR (lab report, training configuration), or as the settings say. After each epoch a state
    with the best weights so far is saved: those with the highest validation accuracy, of equals the earliest. With
    --resume, it goes on from that state. If the weights are averaged, the average is validated, and kept.
    Raises FloatingPointError: a loss is not finite; SystemExit, OSError: the state cannot be used, or not be written.
    """
    settings, drawn = run.settings, -math.inf
    faster.keep_memory()
    rebuilt = model
    with only_told(f"{type(model).__name__} is trained as it is, perhaps slower than it could be"):
        rebuilt = faster.rebuild(model, (3, settings.image_size, settings.image_size))  # same state_dict
    learner = learner_for(rebuilt, settings, steps_of(len(train_set.labels), settings.batch_size))
    statistics = {"mean": train_set.mean.flatten().tolist(), "std": train_set.std.flatten().tolist()}
    config = asdict(settings) | statistics | {"network": checkpoint.fingerprint(model)}
    record = {"run": run.name, "config": config, "environments": [], "history": []}
    best, conditions = checkpoint.copy_of_weights(model), precision.environment(run.device, run.precision)
    if run.goes_on:  # history and environments of the record, and all that trains, become what they were
        best = checkpoint.restore(run.files.state, record, model, learner)
        print(f"{len(record['history'])} of {settings.epochs} epochs are done.")
        console.print_changes(record["environments"], conditions)
    checkpoint.save_state(run.files.state, record, best, learner)  # so --resume works before the first epoch ends
    history, network = record["history"], record["config"]["network"]
    print("Loss and accuracy of each epoch (*: the best validation accuracy so far), time left:")
    while len(history) < settings.epochs and not out_of_patience(history, settings):
        metrics = train_and_validate(learner, train_set, val_set, run, epoch=len(history) + 1)
        history.append(metrics)
        if conditions.items() - [{}, *record["environments"]][-1].items():  # it is the first epoch under these
            record["environments"].append({"from_epoch": len(history)} | conditions)
        if best_of(history) is metrics:
            best = checkpoint.copy_of_weights(learner.validated)
            network["logits"] = checkpoint.logits_of_one_image(learner.validated, settings.image_size)
        with told("The next epoch tries again, if there is one."):
            checkpoint.save_state(run.files.state, record, best, learner)
            records.write_table(run.files.live_table, record)
        if time.monotonic() - drawn > 15:  # an epoch may take less than a picture
            save_figure(run.files.live, run.name, draw_curves, record)
            drawn = time.monotonic()
        console.print_epoch(history, settings)
    model.load_state_dict(best)
    record["best_epoch"] = best_of(history)["epoch"]
    record["val_accuracy_plain"] = score(predict_logits(model, val_set), val_set.labels)[1]  # in float32, as the test
    record["silent_channels"] = silent_channels(model)
    return record


def train_and_validate(learner: Learner, train_set: Dataset, val_set: Dataset, run: Run, epoch: int) -> dict:
    """Train for one epoch, validate on images of the same size, and return the metrics of both."""
    started, size = time.perf_counter(), size_of(run.settings, epoch)
    train_set, val_set = train_set._replace(size=size), val_set._replace(size=size)
    rate = rate_of(run.settings, learner.steps * (epoch - 1), learner.steps)
    train_loss, train_accuracy, pause = train_epoch(learner, train_set, run, epoch)
    _, augmentation = sample_epoch(val_set, run.settings, epoch, VALIDATION)
    with precision.autocast(run.device, run.precision):
        logits = predict_logits(learner.validated, val_set, augmentation)
    val_loss, val_accuracy = score(logits, val_set.labels)
    if not math.isfinite(val_loss):
        where = f"after epoch {epoch} at learning rate {rate:g}"
        raise FloatingPointError(f"The validation loss is no longer finite ({val_loss:g}) {where}.")
    metrics = {"epoch": epoch, "learning_rate": rate, "train_loss": train_loss, "train_accuracy": train_accuracy}
    seconds = round(time.perf_counter() - started - pause, 2)
    metrics |= {"val_loss": val_loss, "val_accuracy": val_accuracy, "seconds": seconds}
    return metrics | ({"image_size": size} if run.settings.growth else {})


def train_epoch(learner: Learner, dataset: Dataset, run: Run, epoch: int) -> tuple[float, float, float]:
    """Train for one epoch; return mean loss and accuracy, measured while it trains, and the seconds it was stopped."""
    settings, steps, first = run.settings, learner.steps, learner.steps * (epoch - 1)
    torch.manual_seed(seed_for(settings.seed, epoch, DROPOUT))
    order, augmentation = sample_epoch(dataset, settings, epoch, TRAINING)
    order = order[: steps * settings.batch_size]  # without a last batch of one image
    # The sums stay on the device, so that a GPU waits for the host once a second, not in every step.
    losses, loss_sum, correct, checked = [], 0, 0, time.monotonic()
    autocast = precision.autocast(run.device, run.precision)
    learner.model.train()
    what = f"Epoch {epoch:2}/{settings.epochs}", " images", len(order), epochs_left(settings, epoch)
    with console.Progress(*what, lambda: (loss_sum.item(), correct.item())) as progress:
        for images, labels in batches(dataset, settings.batch_size, order, augmentation):
            learner.set_rate(first + len(losses))
            loss, logits = train_step(learner, images, labels, autocast)
            losses.append(loss)
            if learner.average and (len(losses) % EVERY == 0 or len(losses) == steps):
                learner.average.update_parameters(learner.model)
            loss_sum += loss * len(labels)
            correct += (logits.argmax(1) == labels).sum()
            progress.update(len(labels))
            if len(losses) == steps or time.monotonic() - checked > 1:
                checked, finite = time.monotonic(), torch.stack(losses).isfinite().tolist()
                if not all(finite):
                    step = finite.index(False)
                    rate = rate_of(settings, first + step, steps)
                    where = f"epoch {epoch}, step {step + 1} of {steps}, at learning rate {rate:g}"
                    raise FloatingPointError(f"The loss is no longer finite ({losses[step]:g}) in {where}.")
    return loss_sum.item() / len(order), correct.item() / len(order), progress.pause


def train_step(learner: Learner, images: Tensor, labels: Tensor, autocast: torch.autocast) -> tuple[Tensor, Tensor]:
    """One step of the optimizer; return mean loss and logits [B, 10], computed before the weights change."""
    smoothing = learner.settings.label_smoothing
    with autocast:
        logits = learner.model(images)
        loss = F.cross_entropy(logits, labels, label_smoothing=smoothing)
        # What is returned is not smoothed, to be comparable with the validation loss.
        plain = F.cross_entropy(logits.detach(), labels) if smoothing else loss.detach()
    learner.optimizer.zero_grad()
    loss.backward()
    learner.optimizer.step()
    return plain, logits.detach()


def sample_epoch(dataset: Dataset, settings: Settings, epoch: int, purpose: int) -> tuple[Tensor, Tensor | None]:
    """All that is random in a pass over ``dataset``, on its device: an order, and the augmentation unless it is off."""
    generator = torch.Generator().manual_seed(seed_for(settings.seed, epoch, purpose))  # one CPU's, for every device
    order, device = torch.randperm(len(dataset.labels), generator=generator), dataset.labels.device
    if settings.no_aug or (purpose == VALIDATION and settings.validation == "plain"):
        return order.to(device), None
    return order.to(device), sample_augmentation(len(order), generator, settings.rotation).to(device)


# ---------------------------------------------------------------- evaluation


@torch.inference_mode()
def predict_logits(model: nn.Module, dataset: Dataset, augmentation: Tensor | None = None) -> Tensor:
    """Logits [N, 10] float32 in evaluation mode; the images are augmented if there is an ``augmentation`` [N, 4]."""
    model.eval()
    order = torch.arange(len(dataset.labels), device=dataset.labels.device)
    return torch.cat([model(images).float() for images, _ in batches(dataset, 500, order, augmentation)])


def score(logits: Tensor, labels: Tensor) -> tuple[float, float]:
    """Mean cross-entropy and accuracy of logits [N, 10] for labels [N]."""
    return F.cross_entropy(logits, labels).item(), (logits.argmax(1) == labels).sum().item() / len(labels)


def silent_channels(model: nn.Module) -> dict[str, float]:
    """Of each batch normalization, the share of channels with next to no scale (gamma): of a size below 1e-4."""
    norms = ((name, module) for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d))
    return {name: (norm.weight.abs() < 1e-4).float().mean().item() for name, norm in norms if norm.affine}


def evaluate(model: nn.Module, dataset: Dataset) -> dict:
    """Loss and accuracy on the test images, the confusion matrix, and the mistakes made with the highest confidence.

    ``test_accuracy_mirrored`` is that of the mean probabilities for an image and its mirror image. A row of the
    confusion matrix is a true class, a column a predicted class.
    """
    logits = predict_logits(model, dataset)
    loss, accuracy = score(logits, dataset.labels)
    mirrored = predict_logits(model, dataset._replace(images=dataset.images.flip(3)))
    both = logits.softmax(1) + mirrored.softmax(1)
    predicted, confidence = logits.argmax(1), logits.softmax(1).amax(1)
    ranked = confidence.argsort(descending=True, stable=True)
    wrong = ranked[(predicted != dataset.labels)[ranked]][: records.MISTAKES]
    rows = zip(wrong.tolist(), predicted[wrong].tolist(), confidence[wrong].tolist(), strict=True)
    mistakes = [{"index": index, "predicted": guess, "probability": share} for index, guess, share in rows]
    result = {"test_loss": loss, "test_accuracy": accuracy, "test_accuracy_mirrored": score(both, dataset.labels)[1]}
    confusion = torch.bincount(10 * dataset.labels + predicted, minlength=100).view(10, 10)
    return result | {"confusion_matrix": confusion.tolist(), "mistakes": mistakes}


def finish(model: nn.Module, record: dict, test_set: Dataset, run: Run) -> None:
    """Give a finished run its files, from the best weights in ``model`` and its complete record; print its result."""
    record["config"]["network"]["logits"] = checkpoint.logits_of_one_image(model, run.settings.image_size)
    pictures, best = pictures_of(record, test_set, run), best_of(record["history"])
    for path, picture in pictures.items():
        save_figure(path, run.name, *picture)
    records.write_table(run.files.table, record)
    records.write_record(run.files.record, record)
    weights = {"model": checkpoint.copy_of_weights(model), "config": record["config"]}
    weights |= {"epoch": best["epoch"], "val_accuracy": best["val_accuracy"]}
    checkpoint.save(run.files.best, weights, run.name)
    for path in (run.files.live, run.files.live_table, run.files.state):  # the state goes last: a crash loses nothing
        remove(path)
    print(f"Best epoch: {best['epoch']} of {len(record['history'])}, validation accuracy {best['val_accuracy']:.4f}")
    console.print_written(run.files.best, run.files.record, run.files.table, *pictures, run.network_picture)
    print_result(record, run)


def print_result(record: dict, run: Run) -> None:
    """Print what the curves show, how to train on more than a sample and, last, the result as the report does."""
    diagnosis.print_reading(record)
    if run.settings.sample and run.mode != "dry-run":
        console.print_sample_note(run, is_there=bool(cifar10.parts_of(cifar10.find(run.data_dir))))
    console.print_test(record, run)


def reuse(model: nn.Module, run: Run) -> None:
    """What needs no training: --predict, --test, or the result of a finished run once more (--resume)."""
    if run.mode == "resume":
        return show_result(model, run)
    if not (config := checkpoint.load_best(model, run)):  # only weights: the flags say how images were normalized
        sample = run.settings.sample or run.settings.statistics == "first"  # the sample has CIFAR-10's first image
        like_it = replace(run, settings=replace(run.settings, sample=sample))
        config = vars(run.settings) | load_data(like_it)[0]._asdict()
    run = replace(run, settings=replace(run.settings, image_size=config["image_size"]))
    if run.mode == "predict":
        return predict(model, config, run)
    test_set = load_test_set(config, run)
    print(f"Data:    {source_of(run)}: {len(test_set.labels):,} images to test")
    if not run.weights:
        console.print_configuration(run, test_set.mean, test_set.std, precision.environment(run.device, "float32"))
    console.print_test(evaluate(model, test_set), run)


def predict(model: nn.Module, config: dict, run: Run) -> None:
    """Print the three likeliest classes of each image file; SystemExit at the end if one cannot be read."""
    unreadable = False
    if (numbers := precision.environment(run.device, "float32")["precision"]) != "float32":
        print(f"Computed in {numbers}", file=sys.stderr)
    for path in (image for given in run.images for image in photos.images_in(given)):
        try:
            image = photos.read_image(path)
        except ValueError as error:
            print(error, file=sys.stderr)
            unreadable = True
            continue
        dataset = dataset_of(image[None], torch.zeros(1, dtype=torch.int64), config, run)
        likeliest = predict_logits(model, dataset)[0].softmax(0).topk(3)
        classes = zip(likeliest.indices.tolist(), likeliest.values.tolist(), strict=True)
        print(f"{path}: {', '.join(f'{records.CLASSES[number]} {probability:.1%}' for number, probability in classes)}")
    if unreadable:
        raise SystemExit(1)


def show_result(model: nn.Module, run: Run) -> None:
    """Print the result of a finished run from its record, and draw its pictures if they are missing."""
    with checkpoint.usable(run.files.record, f"To train it: {run.command}"):
        record = records.read_record(run.files.record, run.name, run.settings)
        checkpoint.check_network(model, record["config"]["network"])
    if run.files.best.exists():
        checkpoint.load_best(model, run)
    print(f"{run.name} has finished ({console.origin(record)}). All about it: {shown(run.files.record)}")
    test_set, drawn = None, run.files.mistakes.exists()
    if not drawn and (run.settings.sample or not cifar10.damaged(cifar10.find(run.data_dir))):
        test_set = load_test_set(record["config"], run)
    elif not drawn:
        print(f"{shown(run.files.mistakes)} is not drawn: it needs the images of CIFAR-10, which are not there.")
    pictures = pictures_of(record, test_set, run)
    pictures[run.network_picture] = summary.draw_network, model, run.settings.image_size
    for path, picture in pictures.items():
        if not path.exists():
            save_figure(path, run.name, *picture)
            console.print_written(path)
    print_result(record, run)


def pictures_of(record: dict, test_set: Dataset | None, run: Run) -> dict[Path, tuple]:
    """The pictures of a finished run: where each is, the function that draws it, and what that needs."""
    pictures = {run.files.curves: (draw_curves, record), run.files.confusion: (drawing.draw_confusion, record)}
    if test_set:
        images = test_set.images.permute(0, 2, 3, 1).cpu().numpy()
        pictures[run.files.mistakes] = drawing.draw_mistakes, record, images, test_set.labels.tolist()
    return pictures


def draw_curves(figure: "drawing.Figure", record: dict) -> None:
    """Draw loss and accuracy of a run, and its test result if there is one; lines mark a halved rate, larger images."""
    history, best = record["history"], best_of(record["history"])["epoch"]
    figure.set_figheight(2.9)
    pair = drawing.learning_axes(figure, record["config"]["epochs"])
    for axes, metric in zip(pair, ("loss", "accuracy"), strict=True):
        drawing.mark_changes(axes, history)
        drawing.draw_curve(axes, history, f"train_{metric}", label="training", linestyle="--")
        drawing.draw_curve(axes, history, f"val_{metric}", label="validation")
        axes.axvline(best, color="0.5", linestyle=":", label=f"best epoch ({best})")
        if "test_accuracy" in record:
            test = min(record[f"test_{metric}"], axes.get_ylim()[1])
            axes.plot(best, test, "*", color="tab:red", markersize=9, clip_on=False, label="test")
    drawing.draw_legend(figure, pair, ncols=5)
    test = "\ntest loss {test_loss:.3f}, test accuracy {test_accuracy:.3f}" if "test_accuracy" in record else ""
    figure.suptitle(records.title_of(record) + test.format(**record), wrap=True)
