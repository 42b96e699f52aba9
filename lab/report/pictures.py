"""Pictures of several runs: their curves on the same axes, and all results beside the original's."""

from collections.abc import Sequence
from statistics import stdev
from typing import TYPE_CHECKING

from lab.curves import column
from lab.drawing import TOP, draw_curve, draw_legend, learning_axes
from lab.original import BASELINE, FIGURES, SIMPLECNN
from lab.record import title_of
from lab.report.chance import ours
from lab.report.runs import RECIPES, Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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
        for axes, metric in zip(pair, TOP, strict=True):
            for number, record in enumerate(records):
                draw_curve(axes, record["history"], f"train_{metric}", color=f"C{number}", alpha=0.5, linestyle="--")
                label = f"{title_of(record)} ({record['test_accuracy']:.3f})"
                draw_curve(axes, record["history"], f"val_{metric}", color=f"C{number}", label=label)
        draw_legend(part, pair)


def draw_rule(figure: "Figure", record: dict) -> None:
    """Draw loss and accuracy of a run, small: an example of what a rule finds."""
    figure.set_figheight(2)
    pair = learning_axes(figure, record["config"]["epochs"])
    for axes, metric in zip(pair, TOP, strict=True):
        draw_curve(axes, record["history"], f"train_{metric}", label="training", linestyle="--")
        draw_curve(axes, record["history"], f"val_{metric}", label="validation")
    draw_legend(figure, pair, ncols=2)


def draw_minutes(figure: "Figure", results: Results) -> None:
    """Draw test accuracy over the minutes of training: what a reader gets for the time that they have."""
    figure.set_figheight(3.2)
    axes = figure.subplots()
    for number, (title, runs) in enumerate(MINUTES.items()):
        records = sorted((it for run in runs for it in results[run]), key=minutes_of)
        axes.plot(
            [minutes_of(it) for it in records],
            column(records, "test_accuracy"),
            "os^D"[number] + ("-" if number > 1 else ""),
            markersize=5,
            color=f"C{number % 2}",
            fillstyle="full" if number > 1 else "none",
            label=title,
        )
    axes.set(xlabel="minutes of training and validation", ylabel="test accuracy", xscale="log")
    axes.grid(alpha=0.3, which="both")
    axes.legend()


def minutes_of(record: dict) -> float:
    return sum(column(record["history"], "seconds")) / 60


def draw_silent_channels(figure: "Figure", records: Sequence[dict]) -> None:
    """Draw, for each batch normalization of a network, the share of its channels that have next to no scale."""
    figure.set_figheight(3)
    axes = figure.subplots()
    for record, marker in zip(records, "os^", strict=True):
        silent = record["silent_channels"]
        axes.plot(silent.keys(), silent.values(), marker=marker, markersize=4, label=title_of(record))
    axes.set(ylabel="share of channels", ylim=(-0.03, 1.03))
    axes.tick_params("x", rotation=90)
    axes.grid(alpha=0.3)
    axes.legend()


def draw_results(figure: "Figure", results: Results) -> None:
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
        accuracies = results.accuracies(run)
        write(row, 6, f"{run.accuracy:.3f}", "0.4")
        write(row, 60, ours(results, run) if accuracies else "not finished yet", "tab:blue" if accuracies else "0.7")
        if accuracies:
            here, spread = results.mean(run), stdev(accuracies) if len(accuracies) > 1 else None
            axes.plot([run.accuracy, here], [row, row], color="0.7", linewidth=3)
            axes.errorbar(here, row, xerr=spread, fmt="o", color="tab:blue", capsize=3, markersize=4, zorder=3)
        axes.plot(run.accuracy, row, "D", markersize=8, markerfacecolor="none", color="0.4", zorder=4)
    axes.set_yticks(range(len(FIGURES)), [f"Figure {run.figure}: {run.title}" for run in FIGURES])
    axes.set(xlabel="test accuracy", ylim=(len(FIGURES) - 0.5, -0.5), xmargin=0.08)  # for whole diamonds
    axes.grid(axis="x", alpha=0.3)
