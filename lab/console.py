"""What a run prints: its configuration, progress, each epoch, its result."""

import contextlib
import math
import os
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import NoReturn

import torch
from tqdm import tqdm

from lab import checkpoint, drawing
from lab.files import shown
from lab.original import original_accuracy
from lab.record import conditions, short_commit
from lab.run import Run, contradictions
from lab.schedule import best_of, epochs_left, images_of
from lab.settings import STEP_SIZE, Settings, run_name, titles

DRAWN, PAUSE = 1, 30  # seconds from one drawing of a bar to the next and, where there is none, between two lines
STOPPED = 10  # seconds; a step that takes longer, and ten times as long as usual, was a pause: Ctrl-Z, a closed lid


def print_configuration(run: Run, mean: torch.Tensor, std: torch.Tensor, environment: dict) -> None:
    """Print the statistics of the normalization, every setting that is not off and does something, and the device."""
    it, numbers = run.settings, (" ".join(f"{value:.4f}" for value in values.flatten()) for values in (mean, std))
    pixels = "normalized with mean {} and standard deviation {}".format(*numbers)
    idle = contradictions(it, task=it, recipe=it)  # what does nothing beside the other settings
    on = {name: value for name, value in asdict(it).items() if name == "seed" or (value and name not in idle)}
    words = titles(run_name("", on), on)
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
    usual = replace(run, settings=replace(run.settings, epochs=run.base.epochs))
    if run.files.record.exists():
        print(f"{run.name} has finished before. Its files are replaced when this run has finished, not before.")
    elif usual.files.finished and run.settings.epochs > run.base.epochs and not run.goes_on:
        print(f"{usual.name} has finished, but {run.name} is another run, from epoch 1 on: more --epochs can only be")
        print("planned at the start of a run. (Plan many, with --patience N, and it stops when nothing gets better.)")


def tell_of_the_sample(run: Run) -> None:
    """SystemExit: there is nothing to --resume, but for the same run on the sample, as which it may have begun."""
    on_sample = replace(run, settings=replace(run.settings, sample=True))
    if run.mode == "resume" and not run.files.state.exists() and on_sample.files.state.exists():
        raise SystemExit(
            f"{run.name} has no unfinished run here, but one on the sample of CIFAR-10. To go on with that: "
            f"{on_sample.command} --resume; to train on all of CIFAR-10: {run.command}"
        )


def origin(record: dict) -> str:
    """When, on what and by which scripts a run was trained, as far as its record tells."""
    last = record["environments"][-1]
    commit = f"commit {short_commit(record)}" if record.get("code") else ""
    return ", ".join(filter(None, [(record.get("finished") or "")[:10], last["cpu"] or last["device"], commit]))


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
    """Name the files that are there, one a line, but no picture that could not be drawn."""
    for path in paths:
        if path.exists() and f"{shown(path)} could not be drawn" not in drawing.TOLD:
            print(f"Written: {shown(path)}")


def print_sample_note(run: Run, is_there: bool) -> None:
    """Say that this was the sample of CIFAR-10, and how to train on all of it, if ``is_there`` or not."""
    on_all = replace(run, settings=replace(run.settings, sample=False, limit=None))
    print(f"This was the sample of CIFAR-10: {images_of(run.settings)[0]:,} images to train instead of 45,000.")
    print(f"On all of it{', after a download of 170 MB' * (not is_there)}: {on_all.command}")


def print_test(result: dict, run: Run) -> None:
    """Print the result on the test images as the lab report does, and how exact it is where they are few."""
    original, best = not run.weights and original_accuracy(run.task, run.changes), run.weights or run.files.best
    if (tested := sum(map(sum, result["confusion_matrix"]))) < 10_000:
        print(f"Of {tested:,} test images, an accuracy has a standard error of up to {0.5 / math.sqrt(tested):.3f}.")
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
        return f"{advice}{shown(run.files.state)} has all that was saved. To go on: {run.command} --resume"
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
    """A tqdm bar that tells in plain lines what it cannot draw; ``to_follow`` times as much is still to come after it.

    ``sums()`` gives the sums of losses and right answers. A GPU waits for it, so only a bar asks, once a second.
    """

    def __init__(self, label: str, unit: str, total: int, to_follow: float = 0, sums: Callable[[], tuple] = tuple):
        disable = bool(os.environ.get("TQDM_DISABLE")) or None  # None: where there is no terminal
        with contextlib.suppress(OSError, ValueError, AttributeError):  # no terminal, or no file
            disable = disable or not all(os.get_terminal_size(sys.stderr.fileno())) or None  # of no columns, no lines
        self.label, self.piece, self.to_follow, self.sums = label, unit, to_follow, sums
        self.started = self.last = self.told = time.monotonic()
        self.done, self.pace, self.pause = 0, 0.0, 0.0  # pieces; seconds for one, of late; seconds of standing still
        how = {"unit_scale": True, "mininterval": DRAWN, "leave": False, "disable": disable}
        super().__init__(desc=label, unit=unit, total=total, bar_format="{l_bar}{bar}| {rate_fmt}{postfix}", **how)

    def update(self, n: float = 1) -> None:
        now, self.done = time.monotonic(), self.done + n
        seconds, self.last = now - self.last, now
        if self.done > n and seconds > max(STOPPED, 10 * n * self.pace):
            self.pause += seconds
        elif n:  # the mean, later a moving one, in which one slow step is soon forgotten
            self.pace += (seconds / n - self.pace) * max(n / self.done, min(1, 20 * n / max(self.total, 1)))
        super().update(n)
        if self.disable and now - self.told > PAUSE:
            self.told = now
            print(f"{self.label}: {self.done:,} of {self.total:,}{self.piece}, {self.left()}")

    @property
    def format_dict(self) -> dict:
        means = [it / self.done for it in self.sums()] if self.done else []
        return super().format_dict | {"postfix": ("loss {:.3f} {:.1%}, " if means else "").format(*means) + self.left()}

    def left(self) -> str:
        """The time that everything still takes at the pace of late, as "[hours:]minutes:seconds left"."""
        seconds = self.pace * max(0, self.total * (1 + self.to_follow) - self.done)
        return f"{self.format_interval(seconds) if self.total and self.done else '?'} left"
