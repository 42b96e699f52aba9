"""Differences between accuracies, and what chance alone does to them."""

import math
from collections.abc import Iterable
from statistics import mean, stdev, variance
from typing import NamedTuple

from lab.curves import column
from lab.original import FIGURES, Experiment
from lab.record import conditions, title_of
from lab.report.runs import BATCH128, TWO_BLOCKS, Results

POOLED = (*FIGURES, BATCH128, TWO_BLOCKS)  # runs trained as the original's, so that their spread is about the same
ELSEWHERE = 0.0035  # of accuracy: the standard deviation of a ResNet29 on CIFAR-10 over 50 runs, measured by others
ENOUGH = 3  # degrees of freedom; with fewer, two seeds that happen to agree would make every difference large


class Difference(NamedTuple):
    """By how much one mean accuracy is higher than another, and by how much chance alone may part them."""

    gain: float
    chance: float

    @property
    def is_chance(self) -> bool:
        return abs(self.gain) <= self.chance

    def __str__(self) -> str:
        gain = round(self.gain, 3) + 0.0  # where it is nothing, +0.000 and not -0.000
        return f"{gain:+.3f}, {'within' if self.is_chance else 'more than'} chance (±{self.chance:.3f})"


def ours(results: Results, run: Experiment, metric: str = "test_accuracy") -> str:
    """The accuracy of a run over one or more seeds."""
    accuracies = column(results[run], metric)
    if len(accuracies) == 1:
        return f"{accuracies[0]:.3f}"
    return f"{mean(accuracies):.4f} ± {stdev(accuracies):.4f} (n = {len(accuracies)})"


def deviation(results: Results) -> tuple[float, int]:
    """The standard deviation of test accuracy from seed to seed, and its degrees of freedom; 0: measured by others."""
    samples = [results.accuracies(run) for run in POOLED if len(results[run]) > 1]
    freedom = sum(len(sample) - 1 for sample in samples)
    if freedom < ENOUGH:
        return ELSEWHERE, 0
    return math.sqrt(sum((len(sample) - 1) * variance(sample) for sample in samples) / freedom), freedom


def chance(results: Results, *numbers: int) -> float:
    """By how much two mean accuracies, over so many seeds each, differ by chance: 2 s √(1/n + 1/m)."""
    return 2 * deviation(results)[0] * math.sqrt(sum(1 / n for n in numbers))


def difference(results: Results, one: Experiment, two: Experiment) -> Difference:
    """By how much the accuracy of run ``one`` is higher than that of run ``two``."""
    return Difference(results.mean(one) - results.mean(two), chance(results, len(results[one]), len(results[two])))


def from_original(results: Results, run: Experiment) -> Difference:
    """By how much our accuracy is higher than the original's, which is of one run."""
    return Difference(results.mean(run) - run.accuracy, chance(results, len(results[run]), 1))


def yardstick(results: Results) -> str:
    """What is taken for chance, and where that comes from."""
    s, freedom = deviation(results)
    if not freedom:
        return f"s = {s:.4f} is what others measured for a ResNet29 on CIFAR-10: too few runs have several seeds here."
    spreads = ((title_of(results[run][0]), results.accuracies(run)) for run in POOLED if len(results[run]) > 1)
    runs = " and ".join(f"{title} ({stdev(accuracies):.4f})" for title, accuracies in spreads)
    return f"s = {s:.4f} is pooled over the seeds of {runs}, with {freedom} degrees of freedom."


def unlike(records: Iterable[dict]) -> str:
    """Which runs were trained under which conditions, if not all were under the same."""
    runs_of = {}
    for record in records:
        for it in record["environments"]:
            runs_of.setdefault(conditions(it), {})[title_of(record) + since(it)] = None
    lines = "\n".join(f"- {where}: {'; '.join(runs)}" for where, runs in runs_of.items())
    return f"Not all of these runs were trained under the same conditions:\n\n{lines}" if len(runs_of) > 1 else ""


def since(environment: dict) -> str:
    return f" from epoch {environment['from_epoch']} on" * (environment["from_epoch"] > 1)
