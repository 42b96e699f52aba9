"""The lines that a run prints: its configuration, each epoch, its result."""

from lab import checkpoint, claims
from lab.files import shown
from lab.flags import Run
from lab.progress import Progress
from lab.record import STEP_SIZE, best_of, conditions, epochs_left


def print_configuration(run: Run) -> None:
    mean, std = (" ".join(f"{value:.4f}" for value in run.config[name]) for name in ("mean", "std"))
    source = "first training image" if run.statistics == "first image" else "training images"
    pixels = "pixels in [0, 1]" if run.no_norm else f"normalized with mean {mean} and standard deviation {std}"
    pixels += f", of the {source}" * (not run.no_norm)
    if run.image_size > 32:
        pixels += f", enlarged to {run.image_size}×{run.image_size}"
        pixels += f", step by step until {run.growth:.0%} of the epochs are over" * (run.growth > 0)
    moves = "random crop, flip and rotation" if run.rotation else "random crop and flip"
    patience = f" (patience {run.patience})" if run.patience else ""
    schedule = "constant" if run.constant_lr else f"halved every {STEP_SIZE} epochs"
    if run.warmup:
        schedule = f"reached after {run.warmup:.0%} of the steps, and down to 0 at the end"
    print(f"Run:     {run.name}")
    print(f"Input:   {pixels}")
    print(f"Augment: {'no' if run.no_aug else f'{moves}, in training' + ' and validation' * run.augmented_validation}")
    print(f"Train:   {run.epochs} epochs{patience}, batches of {run.batch_size}, seed {run.seed}")
    print(f"{run.optimizer + ':':8} learning rate {run.lr:g}, {schedule}")
    if run.recipe:
        average = f"weights averaged (up to {run.average:g} a step)" if run.average else "no average"
        print(f"Recipe:  weight decay {run.weight_decay:g}, label smoothing {run.label_smoothing:g}, {average}")
    print(f"Device:  {conditions(checkpoint.environment(run))}")


def print_epoch(history: list[dict], run: Run) -> None:
    """Print the last epoch in a line of at most 80 columns, with the time that the run still takes at its pace."""
    it = history[-1]
    train, val = (f"{loss:.3f}" if loss < 10 else f"{loss:.3g}" for loss in (it["train_loss"], it["val_loss"]))
    left = Progress.format_interval(epochs_left(run.settings, it["epoch"]) * it["seconds"])
    print(
        f"Epoch {it['epoch']:2}/{run.epochs}  lr {it['learning_rate']:<8.3g}  "
        f"train {train} {it['train_accuracy']:5.1%}  val {val} {it['val_accuracy']:5.1%}  "
        f"{left} left{' *' * (best_of(history) is it)}"
    )


def print_model(run: Run) -> None:
    print(f"Model loaded from {shown(run.files.best)} ({run.files.best.stat().st_size / 1e6:.1f} MB)")


def print_test(result: dict, run: Run) -> None:
    """Print the result on the test images as the lab report does and, for its runs, its accuracy."""
    original = claims.original_accuracy(run.task, run.changes)
    beside = f" (original: {original:.3f})" if original else ""
    if run.recipe:
        beside = f" (with mirror images: {result['test_accuracy_mirrored']:.3f})"
    print(f"Test loss: {result['test_loss']:.3f}, Test accuracy: {result['test_accuracy']:.3f}{beside}")
