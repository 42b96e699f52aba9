"""Pictures of several runs; those of a single one are in common.py."""

from statistics import mean, stdev
from typing import TYPE_CHECKING

from lab.claims import FIGURES
from lab.page import Records, ours

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_results(figure: "Figure", records: Records) -> None:
    """Draw the report's test accuracies beside ours, with the standard deviation where there are several seeds."""
    figure.set(figwidth=11, figheight=4.8, dpi=120)
    axes = figure.subplots(gridspec_kw={"left": 0.29, "right": 0.76, "bottom": 0.12, "top": 0.92})
    beside = {"transform": axes.get_yaxis_transform(), "va": "center"}  # right of the axes, at the height of a row
    axes.text(1.02, -0.8, "◇ report", color="0.4", **beside)
    axes.text(1.15, -0.8, "● ours", color="tab:blue", **beside)
    for row, run in enumerate(FIGURES):
        accuracies = [record["test_accuracy"] for record in records[run.name]]
        axes.text(1.02, row, f"{run.accuracy:.3f}", color="0.4", **beside)
        if accuracies:
            spread = stdev(accuracies) if len(accuracies) > 1 else None
            axes.plot([run.accuracy, mean(accuracies)], [row, row], color="0.7", linewidth=3)
            axes.errorbar(
                mean(accuracies), row, xerr=spread, fmt="o", color="tab:blue", capsize=5, markersize=7, zorder=3
            )
            axes.text(1.15, row, ours(records[run.name]), color="tab:blue", **beside)
        else:
            axes.text(1.15, row, "not finished", color="0.7", **beside)
        axes.plot(run.accuracy, row, "D", markersize=9, markerfacecolor="none", color="0.4", zorder=4)
    axes.set_yticks(range(len(FIGURES)), [f"Figure {run.figure}: {run.title}" for run in FIGURES])
    axes.set(xlabel="test accuracy", ylim=(len(FIGURES) - 0.5, -0.5))
    axes.grid(axis="x", alpha=0.3)
