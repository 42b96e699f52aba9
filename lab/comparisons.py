"""Runs held against each other: means, what another seed changes, and what follows, in words. Without torch."""

import math
from collections.abc import Sequence
from statistics import mean, stdev, variance

from lab import flags
from lab.claims import (
    BASELINE,
    BATCH128,
    CLEARLY,
    CONSTANT,
    EARLY,
    HIGH,
    HIGH_CONSTANT,
    LATE,
    LOW,
    LOW_CONSTANT,
    NO_AUG,
    NO_NORM,
    SIMPLECNN,
    Experiment,
    late,
    ups_and_downs,
)
from lab.curves import column
from lab.record import conditions

Records = dict[str, list[dict]]  # for the name of each run of the report, its records with ascending seeds
ELSEWHERE = 0.0035  # of accuracy: the standard deviation of a ResNet29 on CIFAR-10 over 50 runs, measured by others


def ours(accuracies: Sequence[float]) -> str:
    """A test accuracy over one or more seeds."""
    if len(accuracies) == 1:
        return f"{accuracies[0]:.3f}"
    return f"{mean(accuracies):.3f} ± {stdev(accuracies):.3f} (n = {len(accuracies)})"


# ---------------------------------------------------------------- chance


def deviation(records: Records) -> tuple[float, int]:
    """The standard deviation of test accuracy from seed to seed, pooled over runs with several seeds; its freedom."""
    repeated = [column(runs, "test_accuracy") for runs in records.values() if len(runs) > 1]
    freedom = sum(len(accuracies) - 1 for accuracies in repeated)
    squares = sum((len(accuracies) - 1) * variance(accuracies) for accuracies in repeated)
    return (math.sqrt(squares / freedom) if freedom else ELSEWHERE), freedom


def chance(records: Records, *numbers: int) -> float:
    """By how much two mean accuracies, over so many seeds each, may differ with nothing behind it: 2 s √(1/n + 1/m)."""
    return 2 * deviation(records)[0] * math.sqrt(sum(1 / n for n in numbers))


def difference(records: Records, one: Experiment, two: Experiment) -> tuple[float, float]:
    """How much higher the mean accuracy of run ``one`` is than that of run ``two``, and what chance may do to that."""
    first, second = (column(records[run.name], "test_accuracy") for run in (one, two))
    return mean(first) - mean(second), chance(records, len(first), len(second))


def from_original(records: Records, run: Experiment) -> tuple[float, float]:
    """How much higher our mean accuracy is than the original's, which is of one run, and what chance may do to that."""
    accuracies = column(records[run.name], "test_accuracy")
    return mean(accuracies) - run.accuracy, chance(records, len(accuracies), 1)


def yardstick(records: Records) -> str:
    """What is taken for chance, and where that comes from."""
    s, freedom = deviation(records)
    if not freedom:
        return f"s = {s:.4f} is that of another ResNet on CIFAR-10, for no run has several seeds here."
    runs = " and ".join(flags.title(name) for name, of in records.items() if len(of) > 1)
    return (
        f"s = {s:.4f} is pooled over the seeds of {runs}: with {freedom} degrees of freedom, a weak estimate. For the "
        "other runs it was not measured; where training is wild, it may be larger."
    )


# ---------------------------------------------------------------- one conclusion for each comparison


def lacking(name: str, records: Records) -> list[Experiment]:
    """The runs of a comparison that have not finished."""
    return [run for row in COMPARISONS[name][0] for run in row if not records[run.name]]


def conclusion(name: str, records: Records) -> str:
    """What follows from a comparison, and what it suffers from."""
    rows, conclude = COMPARISONS[name]
    compared = [record for row in rows for run in row for record in records[run.name]]
    return "\n\n".join(filter(None, (f"**{conclude(records)}**", unlike(compared))))


def worth(what: str, records: Records, without: Experiment) -> str:
    """What the accuracy gains by that which the run ``without`` lacks, held against chance."""
    gain, may = difference(records, BASELINE, without)
    means = (ours(column(records[run.name], "test_accuracy")) for run in (BASELINE, without))
    measured = "{} with it, {} without".format(*means)
    if abs(gain) <= may:
        found = f"changes the test accuracy by {points(gain):+.1f} points ({measured}). That is within chance"
    else:
        verb = "adds" if gain > 0 else "costs"
        found = f"{verb} {points(abs(gain)):.1f} points of test accuracy ({measured}). That is more than chance"
    there = f" The original: {points(BASELINE.accuracy - without.accuracy):+.1f} points." if without.accuracy else ""
    return f"{what} {found}: with other seeds alone, such a difference may be {points(may):.1f} points.{there}"


def points(accuracy: float) -> float:
    """An accuracy in percentage points; 0, not -0, where that is what is printed."""
    return round(100 * accuracy, 1) + 0.0


def of_normalization(records: Records) -> str:
    """What normalization does to accuracy, and to the first epochs (lab report, question 7a)."""
    with_, without = (ups_and_downs(*records[run.name], epochs=EARLY) for run in (BASELINE, NO_NORM))
    verdict = "does not make early training steadier"
    if mean(without) > CLEARLY * mean(with_) and min(without) > max(with_):
        verdict = "makes early training steadier"
    elif mean(with_) > CLEARLY * mean(without) and min(with_) > max(without):
        verdict = "makes early training rougher"
    return (
        f"{worth('Normalization', records, NO_NORM)} It {verdict}: in the first {EARLY} epochs, the validation loss "
        f"goes up and down by {between(with_)} an epoch with it, by {between(without)} without."
    )


def between(shares: Sequence[float]) -> str:
    """The range of a share over the seeds."""
    low, high = f"{100 * min(shares):.1f}", f"{100 * max(shares):.1f}"
    return f"{low} %" if low == high else f"{low} to {high} %"


def of_augmentation(records: Records) -> str:
    """What augmentation does to accuracy, and against overfitting (lab report, question 7b)."""
    with_, without = (
        [late(records[run.name][0], f"{part}_loss") for part in ("train", "val")] for run in (BASELINE, NO_AUG)
    )
    keeps = "keeps" if without[1] - without[0] > CLEARLY * (with_[1] - with_[0]) else "does not keep"
    return (
        f"{worth('Augmentation', records, NO_AUG)} It {keeps} the network from learning its images by heart: in the "
        f"last {LATE} epochs, training and validation loss are {with_[0]:.2f} and {with_[1]:.2f} with it, "
        f"{without[0]:.2f} and {without[1]:.2f} without."
    )


def of_learning_rates(records: Records) -> str:
    """Which of the six learning rates and schedules is best, and what halving is worth (lab report, question 7c)."""
    pairs = (HIGH, HIGH_CONSTANT), (BASELINE, CONSTANT), (LOW, LOW_CONSTANT)
    runs = [run for pair in pairs for run in pair]
    best = max(runs, key=lambda run: mean(column(records[run.name], "test_accuracy")))
    near = []
    for run in runs:
        less, may = difference(records, best, run)
        if run is not best and less <= may:
            near.append(run.title)
    halving = []
    for step, constant in pairs:
        gain, may = difference(records, step, constant)
        within = " (within chance)" * (abs(gain) <= may)
        there = points(step.accuracy - constant.accuracy)
        rate = step.changes.get("lr", 0.001)
        halving.append(f"by {points(gain):+.1f} points from {rate:g}{within}, in the original by {there:+.1f}")
    accuracy = ours(column(records[best.name], "test_accuracy"))
    near = " and ".join(near) or "none of the others"
    return (
        f"The best of the six is {best.title}, with {accuracy}; within chance of it: {near}. Halving the rate every 10 "
        f"epochs, instead of keeping it, changes the test accuracy {'; '.join(halving)}."
    )


def of_batch_size(records: Records) -> str:
    """What batches of 64 are worth against batches of 128 (lab report, question 8)."""
    return worth("A batch size of 64 instead of 128", records, BATCH128)


def of_third_block(records: Records, two_blocks: Sequence[float]) -> str:
    """What the third block of SimpleCNN is worth, whose test accuracies without it are ``two_blocks`` (question 8)."""
    three = column(records[SIMPLECNN.name], "test_accuracy")
    gain, may = mean(three) - mean(two_blocks), chance(records, len(three), len(two_blocks))
    reached = f"{sum(accuracy > 0.8 for accuracy in two_blocks)} of {len(two_blocks)} runs reach 80 %"
    within = "within" if abs(gain) <= may else "more than"
    return (
        f"With two blocks, the test accuracy is {ours(two_blocks)}, and {reached}; with three it is {ours(three)}. The "
        f"third block changes it by {points(gain):+.1f} points, which is {within} chance ({points(may):.1f} points)."
    )


def unlike(records: Sequence[dict]) -> str:
    """Which runs were trained under which conditions, if not all were under the same."""
    runs_of = {}
    for record in records:
        for environment in record["environments"]:
            runs_of.setdefault(conditions(environment), {})[flags.title(record["run"])] = None
    if len(runs_of) < 2:
        return ""
    kinds = "; ".join(f"{kind}: {' and '.join(runs)}" for kind, runs in runs_of.items())
    return f"Not all of these runs were trained under the same conditions. {kinds}."


COMPARISONS = {  # for each picture: the runs on each of its rows, and the function that says what follows
    "normalization": ([(BASELINE, NO_NORM)], of_normalization),
    "augmentation": ([(BASELINE, NO_AUG)], of_augmentation),
    "learning_rate": ([(HIGH, BASELINE, LOW), (HIGH_CONSTANT, CONSTANT, LOW_CONSTANT)], of_learning_rates),
    "batch_size": ([(BASELINE, BATCH128)], of_batch_size),
}
