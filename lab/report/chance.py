"""Differences between accuracies, and what chance alone does to them."""

import math
from statistics import mean, stdev, variance
from typing import NamedTuple

from lab.curves import column
from lab.original import (
    BASELINE,
    CONSTANT,
    HIGH,
    HIGH_CONSTANT,
    LOW,
    LOW_CONSTANT,
    NO_AUG,
    NO_NORM,
    SIMPLECNN,
    Experiment,
)
from lab.record import title_of
from lab.report.runs import (
    BATCH128,
    INGREDIENTS,
    RESNET18_RECIPE,
    RESNET18_SHORT,
    SIMPLECNN_RECIPE,
    TWO_BLOCKS,
    Results,
)

KINDS = {  # of runs, whose accuracies scatter about equally from seed to seed
    "SimpleCNN": (SIMPLECNN, TWO_BLOCKS),
    "ResNet-18": (BASELINE, NO_NORM, NO_AUG, LOW, CONSTANT, LOW_CONSTANT, BATCH128),
    "ResNet-18 with a rate of 0.01": (HIGH, HIGH_CONSTANT),
    "SimpleCNN, recipe": (SIMPLECNN_RECIPE, *INGREDIENTS[:8]),
    "ResNet-18, recipe": (RESNET18_RECIPE, RESNET18_SHORT, *INGREDIENTS[8:]),
}
LEAST = 0.003  # of accuracy: two or three seeds may agree by luck, and no deviation is taken to be smaller than this
ELSEWHERE = 0.0035, 49  # deviation and degrees of freedom of 50 runs of a ResNet (see SOURCE)
SOURCE = "[50 runs of a ResNet on CIFAR-10](https://github.com/miguelmorin/reproducibility)"
STUDENT = (  # t of 95 % for 1 to 20 degrees of freedom; for more, it is almost that of 20
    *(12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23),
    *(2.20, 2.18, 2.16, 2.14, 2.13, 2.12, 2.11, 2.10, 2.09, 2.09),
)
CLOSE = 0.012  # of accuracy: this near to the original's counts as the same
NARROW = 0.03  # of accuracy: what is within chance of the original's counts as the same where chance is at most this


class Difference(NamedTuple):
    """By how much one mean accuracy is higher than another, and by how much chance alone may part them."""

    gain: float
    chance: float

    @property
    def is_chance(self) -> bool:
        return abs(self.gain) <= self.chance

    def __str__(self) -> str:
        gain = round(self.gain, 4) + 0.0  # where it is nothing, +0.0000 and not -0.0000
        return f"{gain:+.4f}, {'within' if self.is_chance else 'more than'} chance (±{self.chance:.3f})"


def ours(results: Results, run: Experiment, metric: str = "test_accuracy") -> str:
    """The accuracy of a run over one or more seeds."""
    accuracies = column(results[run], metric)
    if len(accuracies) == 1:
        return f"{accuracies[0]:.3f}"
    return f"{mean(accuracies):.4f} ± {stdev(accuracies):.4f} (n = {len(accuracies)})"


def deviation(results: Results, kind: str) -> tuple[float, int]:
    """The standard deviation of test accuracy from seed to seed in this kind of runs, and its degrees of freedom."""
    samples = [results.accuracies(run) for run in KINDS[kind] if len(results[run]) > 1]
    freedom = sum(len(sample) - 1 for sample in samples)
    if not freedom:
        return ELSEWHERE
    return max(LEAST, math.sqrt(sum((len(sample) - 1) * variance(sample) for sample in samples) / freedom)), freedom


def chance(results: Results, *means: tuple[Experiment, int]) -> float:
    """By how much two mean accuracies, each of a run over so many seeds, differ by chance: t √(s²/n + s²/m).

    Student's t is that of the fewest degrees of freedom: 95 % of differences with nothing behind them are smaller.
    """
    square, freedom = 0.0, len(STUDENT)
    for run, seeds in means:
        s, free = deviation(results, next(kind for kind, runs in KINDS.items() if run in runs))
        square, freedom = square + s**2 / seeds, min(freedom, free)
    return STUDENT[freedom - 1] * math.sqrt(square)


def difference(results: Results, one: Experiment, two: Experiment) -> Difference:
    """By how much the accuracy of run ``one`` is higher than that of run ``two``."""
    by_chance = chance(results, (one, len(results[one])), (two, len(results[two])))
    return Difference(results.mean(one) - results.mean(two), by_chance)


def from_original(results: Results, run: Experiment, ran: Experiment | None = None) -> Difference:
    """By how much the accuracy of ``run``, or of the one ``ran`` in its place, is above the original's of one run."""
    ran = ran or run
    return Difference(results.mean(ran) - run.accuracy, chance(results, (run, len(results[ran])), (run, 1)))


def is_reproduced(it: Difference) -> bool:
    """Whether an accuracy that differs by this from the original's is the same."""
    return round(abs(it.gain), 6) <= CLOSE or (it.is_chance and it.chance <= NARROW)


def yardstick(results: Results) -> str:
    """The deviation of each kind of runs, and where it comes from: the items of a list."""
    items = {}
    for kind, runs in KINDS.items():
        s, freedom = deviation(results, kind)
        spreads = [(title_of(results[run][0]), results.accuracies(run)) for run in runs if len(results[run]) > 1]
        seeds = " and ".join(f"{title} ({stdev(accuracies):.4f})" for title, accuracies in spreads)
        pooled = f"pooled over the seeds of {seeds}" + f", but taken to be no less than {LEAST}" * (s == LEAST)
        source = pooled if spreads else f"that of {SOURCE}, measured by others: none of these runs has several seeds"
        text = f"s = {s:.4f}, with {freedom} degree{'s' * (freedom > 1)} of freedom, {source}"
        items.setdefault(text, []).append(kind)
    return "\n".join(f"- {'; '.join(kinds)}: {text}" for text, kinds in items.items())
