"""Pictures of several runs: their curves on the same axes, and all results beside the original's."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lab.drawing import TOP, draw_curve, draw_legend, learning_axes
from lab.original import BASELINE, FIGURES, SIMPLECNN
from lab.report.chance import from_original
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


def draw_comparison(figure: "Figure", rows: Sequence[Sequence[tuple[str, dict]]]) -> None:
    """Draw the curves of several runs, each a title and a record, on the same axes; each row on axes of its own."""
    epochs = max(record["config"]["epochs"] for row in rows for _, record in row)
    figure.set_figheight(0.3 + sum(2.5 + 0.16 * len(row) for row in rows))
    figure.suptitle("solid: validation; dashed: training; in brackets: test accuracy")
    histories = [record["history"] for row in rows for _, record in row]
    lowest = min(min(it["train_accuracy"], it["val_accuracy"]) for history in histories for it in history)
    broken = int(10 * lowest) / 10  # where the axes of accuracy are broken off, to show what differs
    for row, part in zip(rows, figure.subfigures(len(rows), squeeze=False).flat, strict=True):
        pair = learning_axes(part, epochs)
        pair[1].set(ylabel=f"accuracy{f', from {broken} on' * bool(broken)}", ylim=(broken, 1))
        for axes, metric in zip(pair, TOP, strict=True):
            for (title, record), colour in zip(row, COLOURS, strict=False):
                draw_curve(axes, record["history"], f"train_{metric}", color=colour, alpha=0.5, linestyle="--")
                label = f"{title} ({record['test_accuracy']:.3f})"
                draw_curve(axes, record["history"], f"val_{metric}", color=colour, label=label)
        draw_legend(part, pair)


def draw_minutes(figure: "Figure", results: Results) -> None:
    """Draw test accuracy over the minutes of training: what a reader gets for the time that they have.

    A point is at the fastest seed; a line leads to the slowest.
    """
    figure.set_figheight(3.2)
    axes = figure.subplots()
    for number, (title, runs) in enumerate(MINUTES.items()):
        style = {"color": COLOURS[number % 2], "fillstyle": "full" if number > 1 else "none", "markersize": 5}
        for run in (run for run in runs if results[run]):
            minutes, accuracy = [minutes_of(record) for record in results[run]], results.mean(run)
            axes.plot(min(minutes), accuracy, "os^D"[number], label=title, **style)
            if len(minutes) > 1:
                axes.hlines(accuracy, min(minutes), max(minutes), color=style["color"], linewidth=0.8)
            epochs, at = f"{len(results[run][0]['history'])} epochs", (min(minutes), accuracy)
            axes.annotate(epochs, at, (4, -9), textcoords="offset points", color="0.4")
    axes.set(xlabel="minutes of training and validation", ylabel="test accuracy", xscale="log", ymargin=0.12)
    axes.set_xticks((minutes := [3, 5, 10, 20, 30, 60, 120, 240]), map(str, minutes), minor=False)
    axes.set_xticks([], minor=True)
    axes.grid(alpha=0.3)
    draw_legend(figure, [axes], ncols=4)


def draw_silent_channels(figure: "Figure", records: Sequence[dict]) -> None:
    """Draw, for each batch normalization of a network, the share of its channels that have next to no scale."""
    figure.set_figheight(3.2)
    axes = figure.subplots()
    for record, marker, colour in zip(records, "^os", (COLOURS[2], *COLOURS), strict=False):  # those of question 7c
        silent, rate = record["silent_channels"], f"from a rate of {record['config']['lr']:g}"
        size, fill = (4, "full") if marker == "o" else (8, "none")  # so that none covers another
        how = {"color": colour, "markersize": size, "fillstyle": fill, "label": rate}
        names = [name.replace("downsample.1", "shortcut") for name in silent]  # shorter
        axes.plot(names, silent.values(), marker, **how)
    axes.set(ylabel="share of silent channels", ylim=(-0.06, 1.06))
    axes.tick_params("x", rotation=90)
    axes.grid(alpha=0.3)
    draw_legend(figure, [axes], ncols=3)


def draw_results(figure: "Figure", results: Results) -> None:
    """Draw the original's test accuracies, and ours with what chance may part the two by."""
    figure.set_figheight(3.2)
    axes, rows = figure.subplots(), range(len(FIGURES))
    original = [run.accuracy for run in FIGURES]
    above = [row - 0.16 for row in rows]  # so that neither covers the other
    axes.plot(original, above, "D", markersize=5, markerfacecolor="none", color="0.3", label="the original")
    trained = [row for row in rows if results[FIGURES[row]]]
    here = [results.mean(FIGURES[row]) for row in trained]
    chance = [from_original(results, FIGURES[row]).chance for row in trained]
    how = {"color": COLOURS[0], "capsize": 3, "markersize": 4, "label": "ours, and what chance may do"}
    axes.errorbar(here, [row + 0.16 for row in trained], xerr=chance, fmt="o", **how)
    axes.set_yticks(rows, [run.label for run in FIGURES])
    axes.set(xlabel="test accuracy", ylim=(len(FIGURES) - 0.5, -0.5), xmargin=0.08)  # for whole diamonds
    axes.grid(axis="x", alpha=0.3)
    draw_legend(figure, [axes], ncols=2)
