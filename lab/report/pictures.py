"""Pictures of several runs: their curves on the same axes, and all results beside the original's."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lab.curves import column
from lab.drawing import TOP, draw_curve, draw_legend, learning_axes
from lab.original import BASELINE, FIGURES, SIMPLECNN
from lab.record import title_of
from lab.report.chance import from_original, ours
from lab.report.runs import RECIPES, Results, minutes_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ["#1f3b73", "#d9480f", "#f2b134", *(f"C{number}" for number in range(2, 9))]  # the first three differ in grey
MINUTES = {  # the runs of the picture of accuracy over time
    "SimpleCNN": (SIMPLECNN,),
    "ResNet-18": (BASELINE,),
    "SimpleCNN, recipe": RECIPES[::2],
    "ResNet-18, recipe": RECIPES[1::2],
}


def draw_comparison(figure: "Figure", rows: Sequence[Sequence[dict]]) -> None:
    """Draw the curves of several runs, from their records, on the same axes; those of each row on axes of its own."""
    epochs = max(record["config"]["epochs"] for records in rows for record in records)
    figure.set_figheight(0.3 + sum(2.5 + 0.16 * len(records) for records in rows))
    figure.suptitle("solid: validation; dashed: training; in brackets: test accuracy")
    for records, part in zip(rows, figure.subfigures(len(rows), squeeze=False).flat, strict=True):
        pair = learning_axes(part, epochs)
        lowest = min(it["val_accuracy"] for record in records for it in record["history"])
        if lowest > 0.3:  # then the axis is broken off, to show what differs
            pair[1].set(ylabel="accuracy, from 0.3 on", ylim=(0.3, 1))
        for axes, metric in zip(pair, TOP, strict=True):
            for record, colour in zip(records, COLOURS, strict=False):
                draw_curve(axes, record["history"], f"train_{metric}", color=colour, alpha=0.5, linestyle="--")
                label = f"{title_of(record)} ({record['test_accuracy']:.3f})"
                draw_curve(axes, record["history"], f"val_{metric}", color=colour, label=label)
        draw_legend(part, pair)


def draw_minutes(figure: "Figure", results: Results) -> None:
    """Draw test accuracy over the minutes of training: what a reader gets for the time that they have."""
    figure.set_figheight(3.2)
    axes = figure.subplots()
    for number, (title, runs) in enumerate(MINUTES.items()):
        records = sorted((it for run in runs for it in results[run]), key=minutes_of)
        if records:
            how = {"color": COLOURS[number % 2], "fillstyle": "full" if number > 1 else "none", "markersize": 5}
            minutes = [minutes_of(it) for it in records]
            axes.plot(minutes, column(records, "test_accuracy"), "os^D"[number], label=title, **how)
    axes.set(xlabel="minutes of training and validation", ylabel="test accuracy", xscale="log")
    axes.set_xticks((minutes := [3, 5, 10, 20, 30, 60, 120, 240]), map(str, minutes), minor=False)
    axes.set_xticks([], minor=True)
    axes.grid(alpha=0.3)
    axes.legend()


def draw_silent_channels(figure: "Figure", records: Sequence[dict]) -> None:
    """Draw, for each batch normalization of a network, the share of its channels that have next to no scale."""
    figure.set_figheight(3)
    axes = figure.subplots()
    for record, marker, colour in zip(records, "os^", COLOURS, strict=False):
        silent = record["silent_channels"]
        axes.plot(silent.keys(), silent.values(), marker=marker, markersize=4, color=colour, label=title_of(record))
    axes.set(ylabel="share of channels", ylim=(-0.03, 1.03))
    axes.tick_params("x", rotation=90)
    axes.grid(alpha=0.3)
    axes.legend()


def draw_results(figure: "Figure", results: Results) -> None:
    """Draw the original's test accuracies beside ours; a bar is what chance may part them by."""
    figure.set_figheight(3)
    axes, ours_colour = figure.subplots(), COLOURS[0]

    def write(row: float, points: int, text: str, colour: str) -> None:
        """Write right of the axes, at the height of a row."""
        beside = {"xycoords": axes.get_yaxis_transform(), "textcoords": "offset points", "va": "center"}
        axes.annotate(text, (1, row), (points, 0), color=colour, annotation_clip=False, **beside)

    write(-1, 6, "◇ original", "0.4")
    write(-1, 60, "● ours, ├┤ chance", ours_colour)
    for row, run in enumerate(FIGURES):
        write(row, 6, f"{run.accuracy:.3f}", "0.4")
        write(
            row, 60, ours(results, run) if results[run] else "not trained yet", ours_colour if results[run] else "0.7"
        )
        if results[run]:
            here, chance = results.mean(run), from_original(results, run).chance
            axes.plot([run.accuracy, here], [row, row], color="0.7", linewidth=3)
            axes.errorbar(here, row, xerr=chance, fmt="o", color=ours_colour, capsize=3, markersize=4, zorder=3)
        axes.plot(run.accuracy, row, "D", markersize=8, markerfacecolor="none", color="0.4", zorder=4)
    axes.set_yticks(range(len(FIGURES)), [f"Figure {run.figure}: {run.title}" for run in FIGURES])
    axes.set(xlabel="test accuracy", ylim=(len(FIGURES) - 0.5, -0.5), xmargin=0.08)  # for whole diamonds
    axes.grid(axis="x", alpha=0.3)
