"""Pictures of several runs, their results and their curves; and the axes of all learning curves."""

import itertools
from collections.abc import Sequence
from statistics import mean, stdev
from typing import TYPE_CHECKING

from lab import flags
from lab.claims import FIGURES
from lab.comparisons import Records, ours
from lab.curves import column
from lab.record import GAMMA

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

TOP = {"loss": 2.5, "accuracy": 1.0}  # of the axis, in all pictures; guessing costs 2.3


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


def draw_legend(figure: "Figure | SubFigure", pair: Sequence["Axes"], **style: object) -> None:
    """Draw one legend below both axes, of what is in one or the other."""
    entries = {label: handle for axes in pair for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(entries.values(), entries.keys(), loc="outside lower center", **style)


def mark_changes(axes: "Axes", history: Sequence[dict]) -> None:
    """Mark the end of each epoch after which the learning rate was halved, or the images grew."""
    pairs = list(enumerate(itertools.pairwise(history), 1))
    halved = [epoch + 0.5 for epoch, (it, after) in pairs if after["learning_rate"] == GAMMA * it["learning_rate"]]
    grown = [epoch + 0.5 for epoch, (it, after) in pairs if after.get("image_size") != it.get("image_size")]
    for ends, colour, label in ((halved, "0.88", "rate halved"), (grown, "tab:green", "images grow")):
        if ends:
            axes.vlines(ends, *axes.get_ylim(), color=colour, linewidth=0.8, zorder=0, label=label)


def draw_comparison(figure: "Figure", rows: Sequence[Sequence[dict]]) -> None:
    """Draw the curves of several runs, from their records, on the same axes; those of each row on axes of its own."""
    epochs = max(record["config"]["epochs"] for records in rows for record in records)
    figure.set_figheight(0.3 + sum(2.5 + 0.16 * len(records) for records in rows))
    figure.suptitle("solid: validation; dashed: training; in brackets: test accuracy")
    for records, part in zip(rows, figure.subfigures(len(rows), squeeze=False).flat, strict=True):
        pair = learning_axes(part, epochs)
        for axes, metric in zip(pair, TOP, strict=True):
            for number, record in enumerate(records):
                draw_curve(axes, record["history"], f"train_{metric}", color=f"C{number}", alpha=0.5, linestyle="--")
                label = f"{flags.title(record['run'])} ({record['test_accuracy']:.3f})"
                draw_curve(axes, record["history"], f"val_{metric}", color=f"C{number}", label=label)
        draw_legend(part, pair)


def draw_results(figure: "Figure", records: Records) -> None:
    """Draw the original's test accuracies beside ours, with the standard deviation where there are several seeds."""
    figure.set_figheight(3)
    axes = figure.subplots()

    def write(row: float, points: int, text: str, colour: str) -> None:
        """Write right of the axes, at the height of a row."""
        beside = {"xycoords": axes.get_yaxis_transform(), "textcoords": "offset points", "va": "center"}
        axes.annotate(text, (1, row), (points, 0), color=colour, annotation_clip=False, **beside)

    write(-1, 6, "◇ original", "0.4")
    write(-1, 60, "● ours", "tab:blue")
    for row, run in enumerate(FIGURES):
        accuracies = column(records[run.name], "test_accuracy")
        write(row, 6, f"{run.accuracy:.3f}", "0.4")
        write(row, 60, ours(accuracies) if accuracies else "not run yet", "tab:blue" if accuracies else "0.7")
        if accuracies:
            spread = stdev(accuracies) if len(accuracies) > 1 else None
            axes.plot([run.accuracy, mean(accuracies)], [row, row], color="0.7", linewidth=3)
            axes.errorbar(
                mean(accuracies), row, xerr=spread, fmt="o", color="tab:blue", capsize=3, markersize=4, zorder=3
            )
        axes.plot(run.accuracy, row, "D", markersize=8, markerfacecolor="none", color="0.4", zorder=4)
    axes.set_yticks(range(len(FIGURES)), [f"Figure {run.figure}: {run.title}" for run in FIGURES])
    axes.set(xlabel="test accuracy", ylim=(len(FIGURES) - 0.5, -0.5), xmargin=0.08)  # for whole diamonds
    axes.grid(axis="x", alpha=0.3)
