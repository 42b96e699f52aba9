"""The curves of a run, and numbers that describe a curve: how rough it is, and from where on it gains nothing."""

from collections.abc import Sequence
from statistics import fmean, median
from typing import NamedTuple

from lab.settings import STEP_SIZE, Settings, settings_of

STAGE = STEP_SIZE  # epochs, one stage of StepLR: in fewer, noise looks like a trend
WINDOW = 5  # epochs, whose median stands for the middle one: two wild epochs in a row change nothing
GAIN = 0.02  # of a loss: on 5,000 validation images it moves by 1 to 2 % from epoch to epoch, even at tiny rates


class Curves(NamedTuple):
    """The curves of a run.

    With a warmup it is one cycle, in which the rate falls to nothing, and the losses fall with it until the last epoch.
    """

    settings: Settings
    history: list[dict]  # all epochs
    full_size: list[dict]  # the epochs with images of the full size: losses on two sizes do not compare
    train: list[float]  # the losses of these
    val: list[float]
    test_accuracy: float  # 0: not known


def curves_of(record: dict) -> Curves:
    history = record["history"]
    full_size = [epoch for epoch in history if epoch.get("image_size") == history[-1].get("image_size")]
    losses = (column(full_size, name) for name in ("train_loss", "val_loss"))
    return Curves(settings_of(record["config"]), history, full_size, *losses, record.get("test_accuracy") or 0)


def column(rows: Sequence[dict], name: str) -> list[float]:
    return [row[name] for row in rows]


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def smooth(values: Sequence[float]) -> list[float]:
    """The running median over :data:`WINDOW` values; at both ends that of the first and of the last ones."""
    starts = [min(max(i - WINDOW // 2, 0), max(len(values) - WINDOW, 0)) for i in range(len(values))]
    return [median(values[start : start + WINDOW]) for start in starts]


def roughness(values: Sequence[float]) -> float:
    """How far an epoch lies above or below the line between its neighbours, relative to its height.

    It is the median over the epochs: neither the bend of a curve at its beginning nor a wild epoch counts.
    """
    neighbours = zip(values, values[1:], values[2:], strict=False)
    off = [abs(here - (before + after) / 2) / (fmean((before, here, after)) or 1) for before, here, after in neighbours]
    return median(off) if off else 0.0


def levels_off_at(losses: Sequence[float]) -> int:
    """The epoch, counted from 1, from which on a loss gains nothing any more.

    A gain lasts: the median over :data:`STAGE` epochs in a row is lower by more than :data:`GAIN`, and by more than
    twice what the curve goes up and down anyway. So one lucky epoch is no gain.
    """
    last_start = max(len(losses) - STAGE, 0)
    medians = [median(losses[start : start + STAGE]) for start in range(last_start + 1)]
    for start, loss in enumerate(smooth(losses)):
        gain = max(GAIN, 2 * roughness(losses[start:]))
        if min(medians[min(start, last_start) :]) >= (1 - gain) * loss:
            return start + 1
    return len(losses)
