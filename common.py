"""What both tasks share: randomness, data, augmentation, training, evaluation, pictures.

The sections come in the order in which a run (``experiment.py``) needs them.
"""

import argparse
import math
import platform
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import nn
from tqdm import tqdm

import cifar10
import faster
import flags
from checkpoints import Files, save_checkpoint, shown, whole_file
from cifar10 import CLASSES

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


# ---------------------------------------------------------------- data


class Part(NamedTuple):
    """Images that live on the training device, and how a network gets to see them."""

    images: torch.Tensor  # [N, 3, 32, 32] uint8
    labels: torch.Tensor  # [N] int64
    mean: torch.Tensor  # [3, 1, 1], of pixels in [0, 1]
    std: torch.Tensor  # [3, 1, 1]


def load_data(args: argparse.Namespace) -> tuple[Part, Part, Part]:
    """The images to train, to validate and to test, on ``args.device``.

    The training set is split nine to one, at random by the seed. Mean and standard deviation per channel are those of
    its first image, as in the lab report's training configuration.
    """
    if args.dry_run:
        source = "made up, for a dry run"
        images, labels, test_images, test_labels = made_up_images()
    else:
        directory = args.data_dir or cifar10.find(flags.HERE)
        source = shown(directory)
        images, labels, test_images, test_labels = cifar10.load(directory)

    order = torch.randperm(len(images), generator=generator_for(args.seed, 0, SPLIT))
    n_val = len(images) // 10
    train, val, test = order[:-n_val], order[-n_val:], torch.arange(len(test_images))
    if args.limit:
        train, val, test = train[: args.limit], val[: args.limit // 10], test[: args.limit // 10]
    std, mean = torch.ones(3), torch.zeros(3)
    if not args.no_norm:
        std, mean = torch.std_mean(images[0].double() / 255, dim=(1, 2), correction=0)

    print(f"Data:    {source}: {len(train):,} images to train, {len(val):,} to validate, {len(test):,} to test")

    def part(images: torch.Tensor, labels: torch.Tensor, chosen: torch.Tensor) -> Part:
        tensors = images[chosen], labels[chosen], mean.float().view(3, 1, 1), std.float().view(3, 1, 1)
        return Part(*(tensor.to(args.device) for tensor in tensors))

    return part(images, labels, train), part(images, labels, val), part(test_images, test_labels, test)


def made_up_images() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """300 images of noise to train and validate and 30 to test, in the form of :func:`cifar10.load`."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (330, 3, 32, 32), dtype=torch.uint8, generator=generator)
    labels = torch.randint(10, (330,), generator=generator)
    return images[:300], labels[:300], images[300:], labels[300:]


def batches(
    part: Part, batch_size: int, order: torch.Tensor, draws: torch.Tensor | None
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield normalized images [B, 3, 32, 32] float32 and labels [B], in the given order.

    ``draws[i]`` augments the i-th image of ``order``; without ``draws`` none is.
    """
    scale, shift = 1 / (255 * part.std), -part.mean / part.std
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        images = part.images[rows]
        if draws is not None:
            images = augment(images, draws[start : start + batch_size])
        images = images.to(torch.float32).mul_(scale).add_(shift)  # in the order of memory, which is three times faster
        yield images.contiguous(memory_format=memory_format(images.device)), part.labels[rows]


# ---------------------------------------------------------------- augmentation


def draw_augmentation(n: int, generator: torch.Generator) -> torch.Tensor:
    """Parameters for ``n`` images, [n, 4] float32: crop offset to the right and down, flip (0 or 1), angle in degrees.

    The distributions are those of RandomCrop(32, padding=4), RandomHorizontalFlip(0.5) and RandomRotation(15).
    """
    offsets = torch.randint(-4, 5, (n, 2), generator=generator)
    flips = torch.rand(n, 1, generator=generator) < 0.5
    angles = torch.empty(n, 1).uniform_(-15, 15, generator=generator)
    return torch.cat([offsets, flips, angles], dim=1)


def augment(images: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
    """Crop, flip, then rotate counter-clockwise each image [N, 3, 32, 32] by its own draws [N, 4]; black comes in.

    All three only move pixels (rotation takes the nearest), so together they are one gather: for each pixel of the
    result, where in the original it comes from. The steps are undone in reverse, each with its check for black.
    """
    n, channels, size, _ = images.shape  # 32, so the bits of -32 tell a coordinate that is not between 0 and 31
    right, down, flip, angle = draws.view(n, 4, 1).unbind(1)  # [N, 1] each
    centre = (size - 1) / 2
    axis = torch.arange(size, device=images.device) - centre
    x, y = axis.repeat(size), axis.repeat_interleave(size)  # [1024] each, from the centre
    cos, sin = torch.deg2rad(angle).cos(), torch.deg2rad(angle).sin()
    x, y = (cos * x - sin * y + centre).round_().int(), (sin * x + cos * y + centre).round_().int()  # [N, 1024] each
    rotated = x | y
    x = (1 - 2 * flip).int() * x + ((size - 1) * flip + right).int()
    y = y + down.int()
    inside = ((rotated | x | y) & -size) == 0

    pixel = ((size * y + x) & (size * size - 1)).long()  # any pixel where not inside
    moved = images.view(n, channels, -1).gather(2, pixel[:, None].expand(-1, channels, -1))
    return moved.mul_(inside[:, None]).view_as(images)


# ---------------------------------------------------------------- training and evaluation


def train(
    model: nn.Module, train_part: Part, val_part: Part, config: dict, files: Files, state: dict | None
) -> list[dict]:
    """Train ``model`` as ``config`` says and return the history: one dict for each epoch.

    Adam, cross-entropy, StepLR (lab report, training configuration). After each epoch the best weights so far, the
    state to continue from, and the curves are on disk. With a ``state``, goes on from there.

    Raises:
        FloatingPointError: a loss is not finite.
        OSError: a file cannot be written.
    """
    faster.keep_memory()
    rebuilt = faster.rebuild(model, train_part.images.shape[1:])
    optimizer = torch.optim.Adam(rebuilt.parameters(), lr=config["lr"], fused=True)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=10, gamma=1.0 if config["constant_lr"] else 0.5)
    history = []
    if state:
        optimizer.load_state_dict(state["adam"])
        scheduler.load_state_dict(state["scheduler"])
        history = state["history"]
        if best_of(history) is history[-1]:  # a crash may have come between the two files of an epoch
            save_checkpoint(files.best, best_checkpoint(model, config, history[-1]), files.run)

    while len(history) < config["epochs"] and not out_of_patience(history, config["patience"]):
        started, epoch, lr = time.perf_counter(), len(history) + 1, scheduler.get_last_lr()[0]
        train_loss, train_accuracy = train_epoch(rebuilt, optimizer, train_part, config, epoch)
        _, draws = draw_epoch(val_part, config, epoch, VALIDATION)
        val_loss, val_accuracy = score(predict_logits(rebuilt, val_part, draws), val_part.labels)
        if not math.isfinite(val_loss):
            raise FloatingPointError(
                f"The validation loss is no longer finite ({val_loss:g}) after epoch {epoch} at learning rate {lr:g}."
            )
        metrics = {
            "epoch": epoch,
            "learning_rate": lr,
            "train_loss": train_loss,
            "train_accuracy": train_accuracy,
            "val_loss": val_loss,
            "val_accuracy": val_accuracy,
            "seconds": round(time.perf_counter() - started, 2),
        }
        history.append(metrics)
        scheduler.step()
        faster.copy_back(rebuilt, model)
        is_best = best_of(history) is metrics
        save_checkpoint(files.last, resume_state(model, optimizer, scheduler, config, history), files.run)
        if is_best:
            save_checkpoint(files.best, best_checkpoint(model, config, metrics), files.run)
        draw_curves({"run": files.run, "history": history}, files.live)
        print(
            f"Epoch {epoch:2}/{config['epochs']}  lr {lr:<10g} "
            f"train loss {train_loss:.4f}, accuracy {train_accuracy:.4f}  "
            f"val loss {val_loss:.4f}, accuracy {val_accuracy:.4f}  {metrics['seconds']:.1f} s{'  * best' * is_best}"
        )
    return history


def train_epoch(
    model: nn.Module, optimizer: torch.optim.Optimizer, part: Part, config: dict, epoch: int
) -> tuple[float, float]:
    """Train for one epoch; return mean loss and accuracy over the samples as they were trained on.

    The sums stay on the device, so that a GPU does not wait for the host at every step.

    Raises:
        FloatingPointError: a loss is not finite; noticed after about a second.
    """
    torch.manual_seed(seed_for(config["seed"], epoch, DROPOUT))
    order, draws = draw_epoch(part, config, epoch, TRAINING)
    if len(order) % config["batch_size"] == 1:
        order = order[:-1]  # batch norm has nothing to average in a batch of one image
    steps = math.ceil(len(order) / config["batch_size"])
    label = f"Epoch {epoch:2}/{config['epochs']}"
    model.train()
    losses, loss_sum, correct, checked = [], 0, 0, time.monotonic()
    for images, labels in with_progress(batches(part, config["batch_size"], order, draws), steps, label):
        loss, logits = train_step(model, optimizer, images, labels)
        losses.append(loss)
        loss_sum += loss * len(labels)
        correct += (logits.argmax(1) == labels).sum()
        if len(losses) == steps or time.monotonic() - checked > 1:
            checked = time.monotonic()
            finite = torch.stack(losses).isfinite().tolist()
            if not all(finite):
                step = 1 + finite.index(False)
                raise FloatingPointError(
                    f"The loss is no longer finite ({losses[step - 1]:g}) in epoch {epoch}, step {step} of {steps}, "
                    f"at learning rate {optimizer.param_groups[0]['lr']:g}."
                )
    return loss_sum.item() / len(order), correct.item() / len(order)


def train_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, images: torch.Tensor, labels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """One step of the optimizer; return the mean loss, and the logits [B, 10] as they were before it."""
    with autocast(images.device):
        logits = model(images)
        loss = F.cross_entropy(logits, labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.detach(), logits.detach()


def draw_epoch(part: Part, config: dict, epoch: int, purpose: int) -> tuple[torch.Tensor, torch.Tensor | None]:
    """All that is random in a pass over ``part``, on its device: an order, and the augmentation unless it is off."""
    generator = generator_for(config["seed"], epoch, purpose)
    order = torch.randperm(len(part.labels), generator=generator)
    draws = None if config["no_aug"] else draw_augmentation(len(order), generator).to(part.labels.device)
    return order.to(part.labels.device), draws


def with_progress(steps: Iterable, total: int, label: str) -> Iterator:
    """Pass ``steps`` on under a progress bar or, where there is no terminal, with a plain line every 30 seconds."""
    bar = tqdm(steps, label, total, leave=False, disable=None, unit="batch")
    told = time.monotonic()
    for number, step in enumerate(bar, 1):
        yield step
        if bar.disable and time.monotonic() - told > 30:
            told = time.monotonic()
            print(f"{label}: batch {number} of {total}")


@torch.inference_mode()
def predict_logits(model: nn.Module, part: Part, draws: torch.Tensor | None = None) -> torch.Tensor:
    """Logits [N, 10] float32 of ``part`` in evaluation mode, its images augmented if there are ``draws`` [N, 4]."""
    model.eval()
    logits = []
    for images, _ in batches(part, 500, torch.arange(len(part.labels), device=part.labels.device), draws):
        with autocast(images.device):
            logits.append(model(images).float())
    return torch.cat(logits)


def score(logits: torch.Tensor, labels: torch.Tensor) -> tuple[float, float]:
    """Mean cross-entropy and accuracy of logits [N, 10] for labels [N]."""
    return F.cross_entropy(logits, labels).item(), (logits.argmax(1) == labels).sum().item() / len(labels)


def evaluate(model: nn.Module, part: Part) -> dict:
    """Loss, accuracy, and the confusion matrix (row = true class, column = predicted class) on the test images."""
    logits = predict_logits(model, part)
    loss, accuracy = score(logits, part.labels)
    confusion = torch.bincount(10 * part.labels + logits.argmax(1), minlength=100).view(10, 10)
    return {"test_loss": loss, "test_accuracy": accuracy, "confusion_matrix": confusion.tolist()}


def autocast(device: torch.device) -> torch.autocast:
    """bfloat16 on a GPU that has it itself (NVIDIA since Ampere), else float32."""
    native = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.autocast(device.type, torch.bfloat16, enabled=native)


def memory_format(device: torch.device) -> torch.memory_format:
    """channels_last, which convolutions like best; but MPS cannot train batch norm in it (pytorch PR 188371)."""
    return torch.contiguous_format if device.type == "mps" else torch.channels_last


def best_of(history: list[dict]) -> dict:
    """The epoch with the highest validation accuracy, the earliest of equals (lab report, questions 3 and 6)."""
    return max(history, key=lambda epoch: epoch["val_accuracy"])


def out_of_patience(history: list[dict], patience: int | None) -> bool:
    """Whether the last ``patience`` epochs brought no new best; never if it is None."""
    return bool(patience and history) and len(history) - best_of(history)["epoch"] >= patience


def best_checkpoint(model: nn.Module, config: dict, metrics: dict) -> dict:
    """The weights, on the CPU and in plain layout so that they load anywhere, and where they come from."""
    weights = {name: tensor.cpu().contiguous() for name, tensor in model.state_dict().items()}
    return {"model": weights, "config": config, "epoch": metrics["epoch"], "val_accuracy": metrics["val_accuracy"]}


def resume_state(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    scheduler: torch.optim.lr_scheduler.LRScheduler,
    config: dict,
    history: list[dict],
) -> dict:
    """All that the next epoch depends on; random states are not in it, for each epoch seeds its own."""
    return {
        "model": model.state_dict(),
        "adam": optimizer.state_dict(),  # of the rebuilt network, whose weights have other shapes
        "scheduler": scheduler.state_dict(),
        "config": config,
        "history": history,
        "environment": environment(next(model.parameters()).device),
    }


def environment(device: torch.device) -> dict:
    """What the numbers of a run depend on beside its settings."""
    return {
        "torch": str(torch.__version__),  # a class of its own, which no weights_only load accepts
        "device": f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device),
        "threads": torch.get_num_threads(),
        "platform": platform.platform(),
    }


# ---------------------------------------------------------------- pictures


def draw_curves(record: dict, path: Path) -> None:
    """Draw loss and accuracy over the epochs from a run's record, and the test result once it is there."""
    history, best = record["history"], best_of(record["history"])["epoch"]
    epochs = [metrics["epoch"] for metrics in history]
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    for axes, metric in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for part, name in (("train", "training"), ("val", "validation")):
            values = [metrics[f"{part}_{metric}"] for metrics in history]
            axes.plot(epochs, values, label=name, linewidth=1.5, marker="o", markersize=2.5 if len(epochs) > 20 else 6)
        axes.axvline(best, color="0.5", linestyle=":", label=f"best epoch ({best})")
        if "test_accuracy" in record:
            test = record[f"test_{metric}"]
            axes.plot(best, test, "*", color="tab:red", markersize=12, label=f"test ({test:.3f})")
        axes.set(xlabel="epoch", ylabel=metric)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(alpha=0.3)
        axes.legend()
    figure.suptitle(record["run"])
    with whole_file(path, record["run"]) as file:
        figure.savefig(file, format="png", dpi=120)


def draw_confusion(record: dict, path: Path) -> None:
    """Draw how often each class is taken for which, and beside it the accuracy for each class, from a run's record."""
    counts = np.array(record["confusion_matrix"])
    shares = counts / counts.sum(1, keepdims=True).clip(1)  # of a true class
    figure = Figure(figsize=(11, 6.4), layout="constrained")
    matrix, bars = figure.subplots(1, 2, width_ratios=(3, 1), sharey=True)
    matrix.imshow(shares, cmap="Blues", norm=PowerNorm(0.5, 0, 1), aspect="auto")  # a root, so that errors show
    for (row, column), count in np.ndenumerate(counts):
        if count:
            colour = "white" if shares[row, column] > 0.3 else "black"
            matrix.text(column, row, f"{count:,}", ha="center", va="center", color=colour, fontsize=9)
    matrix.set_xticks(range(10), CLASSES, rotation=40, ha="right", rotation_mode="anchor")
    matrix.set_yticks(range(10), CLASSES)
    matrix.set(xlabel="predicted class", ylabel="true class", title=f"{counts.sum():,} test images")
    bars.barh(range(10), shares.diagonal())
    for row, accuracy in enumerate(shares.diagonal()):
        bars.text(accuracy + 0.03, row, f"{accuracy:.3f}", va="center", fontsize=9)
    bars.set_xticks([0, 0.25, 0.5, 0.75, 1])
    bars.set(xlabel="accuracy for each true class", xlim=(0, 1.25), title=f"all: {record['test_accuracy']:.3f}")
    bars.grid(axis="x", alpha=0.3)
    figure.suptitle(record["run"])
    with whole_file(path, record["run"]) as file:
        figure.savefig(file, format="png", dpi=120)
