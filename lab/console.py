"""What a run prints: its configuration, progress, each epoch, its result."""

import contextlib
import math
import os
import sys
import textwrap
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import NoReturn

import torch
from tqdm import tqdm

from lab import checkpoint
from lab.files import shown
from lab.original import original_accuracy
from lab.record import conditions
from lab.run import Run
from lab.schedule import best_of, epochs_left, images_of
from lab.settings import STEP_SIZE, Settings, run_name, titles

PAUSE = 30  # seconds between two lines where there is no bar


def print_configuration(run: Run, mean: torch.Tensor, std: torch.Tensor, environment: dict) -> None:
    """Print the statistics of the normalization, every setting that is not off, and the device."""
    it, numbers = run.settings, (" ".join(f"{value:.4f}" for value in values.flatten()) for values in (mean, std))
    pixels = "normalized with mean {} and standard deviation {}".format(*numbers)
    words = titles(run_name("", {name: value for name, value in asdict(it).items() if value or name == "seed"}))
    words += [f"the rate is halved every {STEP_SIZE} epochs"] * (not it.constant_lr and not it.warmup)
    print(f"Run:     {run.name}")
    print(f"Pixels:  {'in [0, 1], not normalized' if it.no_norm else pixels}")
    print(textwrap.fill(f"With:    {', '.join(words)}", 80, subsequent_indent=" " * 9))
    print(f"Device:  {conditions(environment)}")


def tell_what_is_there(run: Run) -> None:
    """Say what there is of a run to be trained; SystemExit: it is unfinished, and its user decides what comes of it."""
    if run.files.state.exists() and run.mode == "train":
        history = checkpoint.load_state(run.files.state, run.settings)["history"]
        best = f", the best validation accuracy is {best_of(history)['val_accuracy']:.4f}" if history else ""
        raise SystemExit(
            f"{run.name} is unfinished: {len(history)} of {run.settings.epochs} epochs are done{best}. To go on: "
            f"{run.command} --resume; to throw that away and begin again: {run.command} --restart"
        )
    if run.mode == "resume" and not run.files.state.exists():
        print(f"There is nothing to resume of {run.name}: it begins at epoch 1.")
    if run.files.record.exists():
        print(f"{run.name} has finished before. Its files are replaced when this run has finished, not before.")


def print_changes(environments: list[dict], now: dict) -> None:
    """Say in what the conditions of a run that goes on differ from those of its last epoch."""
    before = environments[-1] if environments else now
    if changes := [f"{name} {before[name]} -> {now[name]}" for name in now if before[name] != now[name]]:
        print(f"Resuming under other conditions, so the numbers may differ a little: {', '.join(changes)}")


def print_epoch(history: list[dict], settings: Settings) -> None:
    """Print the last epoch in a line of at most 80 columns, with the time that the run still takes at its pace."""
    it = history[-1]
    train, val = (f"{loss:.3f}" if loss < 10 else f"{loss:.3g}" for loss in (it["train_loss"], it["val_loss"]))
    losses = f"train {train} {it['train_accuracy']:5.1%}  val {val} {it['val_accuracy']:5.1%}"
    left = Progress.format_interval(epochs_left(settings, it["epoch"]) * it["seconds"])
    rest = f"{losses}  {left} left{' *' * (best_of(history) is it)}"
    print(f"Epoch {it['epoch']:2}/{settings.epochs}  lr {it['learning_rate']:<8.3g}  {rest}")


def print_written(*paths: Path) -> None:
    """Name the files that are there, one a line: a picture that could not be drawn is not."""
    for path in filter(Path.exists, paths):
        print(f"Written: {shown(path)}")


def print_sample_note(result: dict, run: Run, is_there: bool) -> None:
    """Say what a result on the sample of CIFAR-10 is worth, and how to train on all of it, if ``is_there`` or not."""
    train, test_images = images_of(run.settings)[0], sum(map(sum, result["confusion_matrix"]))
    on_all = replace(run, settings=replace(run.settings, sample=False, limit=None))
    print(
        f"This was the sample of CIFAR-10: {train:,} images to train instead of 45,000, and {test_images} to test, on "
        f"which\nan accuracy has a standard error of up to {0.5 / math.sqrt(test_images):.3f}.\n"
        f"On all of it{', after a download of 170 MB' * (not is_there)}: {on_all.command}"
    )


def print_test(result: dict, run: Run) -> None:
    """Print the checkpoint and the result on the test images as the lab report does and, for its runs, its accuracy."""
    original, best = original_accuracy(run.task, run.changes), run.files.best
    if best.exists():
        print(f"Model loaded from {shown(best)} ({best.stat().st_size / 1e6:.1f} MB)")
    beside = f" (original: {original:.3f})" if original else ""
    if run.settings.recipe and result["test_accuracy_mirrored"]:
        beside = f" (with mirror images: {result['test_accuracy_mirrored']:.3f})"
    print(f"Test loss: {result['test_loss']:.3f}, Test accuracy: {result['test_accuracy']:.3f}{beside}")


def refuse(message: str) -> NoReturn:
    """End the script because of a wrong flag."""
    print(f"{Path(sys.argv[0]).name}: error: {message} (--help lists the flags)", file=sys.stderr)
    raise SystemExit(2)


def what_next(run: Run, error: BaseException) -> str:
    """What is on the disk of a run that an error has ended, and how to go on."""
    if isinstance(error, FloatingPointError):
        return "Try a smaller --lr."
    full_memory = isinstance(error, (RuntimeError, MemoryError)) and run.trains
    advice = f"Try a --batch-size below {run.settings.batch_size}. " * full_memory
    if run.mode in ("test", "predict", "dry-run"):
        return advice.rstrip()
    if run.files.state.exists():
        return f"{advice}{shown(run.files.state)} has all finished epochs. To go on as before: {run.command} --resume"
    if run.files.record.exists():  # the signal came after the last file, or before the first of a second run
        return f"{advice}There is nothing to resume; {shown(run.files.record)} is of a run that has finished."
    return f"{advice}There is nothing to resume; to begin: {run.command}"


@contextlib.contextmanager
def safe_output() -> Iterator[None]:
    """Replace closed streams; inside, let standard output print paths that it cannot encode."""
    # The next file to be opened would get the number of a stream that the shell closed (2>&-), and its text.
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)
    sys.stdout, sys.stderr = (stream or open(os.devnull, "w") for stream in (sys.stdout, sys.stderr))  # noqa: SIM115
    change = getattr(sys.stdout, "reconfigure", lambda **how: None)  # a notebook has none
    before = {name: getattr(sys.stdout, name, None) for name in ("line_buffering", "errors")}
    change(line_buffering=True, errors="backslashreplace")
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # nobody reads it any more
            change(**before)


def drop_output() -> None:
    """Discard what is left of standard output; Python would complain about it once more at its exit."""
    with contextlib.suppress(OSError):  # in a notebook it has no number
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Progress(tqdm):
    """A tqdm bar that tells in plain lines what it cannot draw; the time left includes ``to_follow`` further steps."""

    def __init__(self, label: str, unit: str, total: int | None = None, to_follow: int = 0, **how):
        drawn = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{rate_fmt}{postfix}]"
        disable = None  # where there is no terminal
        with contextlib.suppress(OSError, ValueError, AttributeError):  # no terminal, or no file
            if not all(os.get_terminal_size(sys.stderr.fileno())):  # a terminal of no columns or no lines
                disable = True
        super().__init__(desc=label, unit=unit, total=total, leave=False, bar_format=drawn, disable=disable, **how)
        self.label, self.piece, self.done = label, unit, 0  # a bar that draws nothing keeps neither label nor unit
        self.to_follow, self.started = to_follow, time.monotonic()
        self.told = self.started

    def update(self, n: float = 1) -> None:
        self.done += n
        self.set_postfix_str(f"{self.left()} left", refresh=False)
        super().update(n)
        if self.disable and time.monotonic() - self.told > PAUSE:
            self.told = time.monotonic()
            print(f"{self.label}: {self.piece} {self.done:,} of {self.total:,}, {self.left()} left")

    def left(self) -> str:
        """The time that everything still takes at the pace until now, as [hours:]minutes:seconds."""
        if not (self.total and self.done):
            return "?"
        seconds = (time.monotonic() - self.started) / self.done
        return self.format_interval(seconds * max(0, self.total - self.done + self.to_follow))
