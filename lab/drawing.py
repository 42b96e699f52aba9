"""Pictures: how one is saved; the axes of learning curves, and the curves; which class is taken for which."""

import contextlib
import io
import itertools
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lab.curves import column
from lab.files import atomic_write, remove, shown
from lab.record import CLASSES, title_of
from lab.schedule import GAMMA

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

PAGE_WIDTH = 16 / 2.54  # inches: the 16 cm between the margins of a page of A4, where letters have 8 points
TOP = {"loss": 2.5, "accuracy": 1.0}  # of the axis, in all pictures; guessing costs 2.3
TOLD: set[str] = set()  # what could not be done, and this process has told


def save_figure(path: Path, owner: str, draw: Callable[..., None], *what: object) -> None:
    """Save what ``draw(figure, *what)`` draws on an empty figure as PNG, complete or not at all.

    ``draw`` sets the figure's height. If it cannot draw, or the file cannot be written, that is told in one line, once
    for each picture: a training does not end for that.
    """
    drawn = False
    with only_told(f"{shown(path)} could not be drawn"), matplotlib_as_it_comes():
        from matplotlib.figure import Figure

        draw(figure := Figure((PAGE_WIDTH, PAGE_WIDTH / 2), dpi=200, layout="constrained"), *what)
        figure.savefig(picture := io.BytesIO(), format="png")
        drawn = True
        atomic_write(path, picture.getvalue(), owner)
    if not drawn:
        remove(path)  # an earlier one, which would show something else


@contextlib.contextmanager
def only_told(what: str) -> Iterator[None]:
    """Inside, an error costs one line: ``what`` could not be done, and why; not again until it could be done."""
    try:
        yield
        TOLD.discard(what)
    except Exception as error:  # whatever it is
        if what not in TOLD:
            reason = getattr(error, "strerror", "") or " ".join(str(error).split())[:300] or type(error).__name__
            print(f"{what}: {reason}", file=sys.stderr)
        TOLD.add(what)


@contextlib.contextmanager
def matplotlib_as_it_comes() -> Iterator[None]:
    """Inside, matplotlib has its own settings, not those of somebody's matplotlibrc; afterwards it has them again.

    It is imported here, and not before, because it needs a folder to write into, and fails where ``MPLBACKEND`` names
    something that is not installed here, as in a process that was started from a notebook.
    """
    backend = None if "matplotlib" in sys.modules else os.environ.pop("MPLBACKEND", None)
    try:
        import matplotlib.style
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend
    if backend:
        with contextlib.suppress(ValueError):
            matplotlib.rcParams["backend"] = backend  # as matplotlib itself does it when it is imported
    with matplotlib.style.context(["default", {"font.size": 8, "axes.titlesize": 8, "figure.titlesize": 9}]):
        yield


def learning_axes(figure: "Figure | SubFigure", epochs: int) -> tuple["Axes", "Axes"]:
    """Axes for loss and for accuracy, the same for all runs, so that two pictures can be compared by eye."""
    pair = figure.subplots(1, 2)
    for axes, (metric, top) in zip(pair, TOP.items(), strict=True):
        axes.set(xlabel="epoch", ylabel=metric, xlim=(0, epochs + 1), ylim=(0, top))
        axes.locator_params("x", integer=True, min_n_ticks=1)
        axes.grid(axis="y", alpha=0.3)
    return tuple(pair)


def draw_curve(axes: "Axes", history: Sequence[dict], metric: str, **style: object) -> None:
    """Draw a metric over the epochs; where it is above the axes, a triangle points up."""
    epochs, values = column(history, "epoch"), column(history, metric)
    (line,) = axes.plot(epochs, values, linewidth=1.2, markersize=3, marker="." if len(epochs) < 5 else None, **style)
    top = axes.get_ylim()[1]
    above = [epoch for epoch, value in zip(epochs, values, strict=True) if value > top]
    if above:
        style = {"color": line.get_color(), "markersize": 4, "clip_on": False}
        axes.plot(above, [top] * len(above), "^", label="above the axis", **style)


def draw_legend(figure: "Figure | SubFigure", axes: Sequence["Axes"], **style: object) -> None:
    """Draw one legend below all axes, of what is in any of them, each label once."""
    entries = {label: handle for it in axes for handle, label in zip(*it.get_legend_handles_labels(), strict=True)}
    figure.legend(entries.values(), entries.keys(), loc="outside lower center", **style)


def mark_changes(axes: "Axes", history: Sequence[dict]) -> None:
    """Mark the end of each epoch after which the learning rate was halved, or the images grew."""
    pairs = list(itertools.pairwise(history))
    halved = [it["epoch"] + 0.5 for it, after in pairs if after["learning_rate"] == GAMMA * it["learning_rate"]]
    grown = [it["epoch"] + 0.5 for it, after in pairs if after.get("image_size") != it.get("image_size")]
    for ends, colour, label in ((halved, "0.75", "rate halved"), (grown, "tab:green", "images grow")):
        if ends:
            axes.vlines(ends, *axes.get_ylim(), color=colour, linewidth=0.8, zorder=0, label=label)


def draw_confusion(figure: "Figure", record: dict) -> None:
    """Draw how often each class is taken for which, and beside it the accuracy for each class, from a run's record."""
    from matplotlib.colors import PowerNorm  # here: matplotlib_as_it_comes says why

    counts = np.array(record["confusion_matrix"])
    shares = counts / counts.sum(1, keepdims=True).clip(1)  # of a true class
    figure.set_figheight(3.8)
    matrix, bars = figure.subplots(1, 2, width_ratios=(4, 1), sharey=True)
    image = matrix.imshow(shares, cmap="Blues", norm=PowerNorm(0.5, 0, 1), aspect="auto")  # a root: errors show
    for (true, guess), count in np.ndenumerate(counts):
        colour = "white" if shares[true, guess] > 0.3 else "black"
        matrix.text(guess, true, f"{count:,}", ha="center", va="center", color=colour)
    matrix.set_xticks(range(10), CLASSES, rotation=40, ha="right", rotation_mode="anchor")
    matrix.set_yticks(range(10), CLASSES)
    matrix.set(xlabel="predicted class", ylabel="true class", title=f"{counts.sum():,} test images")
    bars.barh(range(10), shares.diagonal(), color="#9ecae1")
    for row, accuracy in enumerate(shares.diagonal()):
        bars.text(0.05, row, f"{accuracy:.3f}", va="center")
    bars.set(xlabel="accuracy", xlim=(0, 1), xticks=(0, 0.5, 1), title=f"all: {record['test_accuracy']:.3f}")
    label = "share of the true class (a square-root scale)"
    figure.colorbar(image, ax=bars, fraction=0.2, label=label, ticks=(0, 0.01, 0.05, 0.2, 0.5, 1))
    figure.suptitle(title_of(record), wrap=True)


def draw_mistakes(figure: "Figure", record: dict, images: np.ndarray, labels: Sequence[int]) -> None:
    """Draw the mistakes in a run's record; ``images`` [N, 32, 32, 3] and ``labels`` [N] are all that were tested."""
    figure.set_figheight(8.2)
    grid = figure.subplots(5, 5).flat
    for axes, mistake in zip(grid, record["mistakes"], strict=False):
        true, predicted = CLASSES[labels[mistake["index"]]], CLASSES[mistake["predicted"]]
        axes.imshow(images[mistake["index"]], interpolation="nearest")
        axes.set_title(f"{true}\n→ {predicted} {mistake['probability']:.1%}")
    for axes in figure.axes:
        axes.axis("off")
    figure.suptitle(f"{title_of(record)}\nwrong with the highest confidence (true → predicted class)", wrap=True)
