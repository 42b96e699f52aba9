"""Numbers that describe a learning curve: how rough it is, and from where on it gains nothing. Without torch."""

from collections.abc import Sequence
from statistics import mean, median

from lab.settings import STEP_SIZE

SHORT = STEP_SIZE  # epochs: in fewer than one stage of StepLR, noise looks like a trend
WINDOW = 5  # epochs, whose median stands for the middle one: two wild epochs in a row change nothing
GAIN = 0.02  # of a loss: on 5,000 validation images it moves by 1 to 2 % from epoch to epoch, even at tiny rates


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
    off = [abs(here - (before + after) / 2) / (mean((before, here, after)) or 1) for before, here, after in neighbours]
    return median(off) if off else 0.0


def levels_off_at(losses: Sequence[float]) -> int:
    """The epoch from which on a loss gains nothing any more.

    A gain lasts: the median over :data:`SHORT` later epochs is lower by more than :data:`GAIN`, and by more than twice
    what the curve goes up and down anyway. So a lucky epoch is none.
    """
    smoothed, last_start = smooth(losses), max(len(losses) - SHORT, 0)

    def is_last(epoch: int) -> bool:
        later = min(median(losses[i : i + SHORT]) for i in range(min(epoch - 1, last_start), last_start + 1))
        return later >= (1 - max(GAIN, 2 * roughness(losses[epoch - 1 :]))) * smoothed[epoch - 1]

    return next((epoch for epoch in range(1, len(losses) + 1) if is_last(epoch)), len(losses))


RISE = 0.05
