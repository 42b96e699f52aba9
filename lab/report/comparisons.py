"""Runs held against each other: means, what another seed changes, and what follows, in words."""

import math
from collections.abc import Sequence
from statistics import mean, stdev, variance

from lab import diagnosis
from lab.curves import column, percent
from lab.original import (
    BASELINE,
    CONSTANT,
    FIGURES,
    HIGH,
    HIGH_CONSTANT,
    LOW,
    LOW_CONSTANT,
    NO_AUG,
    NO_NORM,
    Experiment,
)
from lab.record import conditions, title_of
from lab.report.claims import EARLY, LATE, findings, late, normalization_steadies, ups_and_downs
from lab.report.runs import BATCH128, TWO_BLOCKS, Records

ELSEWHERE = 0.0035  # of accuracy: the standard deviation of a ResNet29 on CIFAR-10 over 50 runs, measured by others
ENOUGH = 3  # degrees of freedom; with fewer, two seeds that happen to agree would make every difference large


def ours(accuracies: Sequence[float]) -> str:
    """A test accuracy over one or more seeds."""
    if len(accuracies) == 1:
        return f"{accuracies[0]:.3f}"
    return f"{mean(accuracies):.4f} ± {stdev(accuracies):.4f} (n = {len(accuracies)})"


# ---------------------------------------------------------------- chance


POOLED = (*FIGURES, BATCH128, TWO_BLOCKS)  # runs trained as the original's, so that their spread is about the same


def deviation(records: Records) -> tuple[float, int]:
    """The standard deviation of test accuracy from seed to seed, pooled over runs with several seeds; its freedom.

    With too few seeds that is what others have measured, and 0.
    """
    repeated = [column(records[run.name], "test_accuracy") for run in POOLED if len(records[run.name]) > 1]
    freedom = sum(len(accuracies) - 1 for accuracies in repeated)
    if freedom < ENOUGH:
        return ELSEWHERE, 0
    squares = sum((len(accuracies) - 1) * variance(accuracies) for accuracies in repeated)
    return math.sqrt(squares / freedom), freedom


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
        return (
            f"s = {s:.4f} is what others measured for a ResNet29 on CIFAR-10, for too few runs have several seeds here."
        )
    repeated = {run.name: records[run.name] for run in POOLED if len(records[run.name]) > 1}
    runs = " and ".join(f"{title_of(of[0])} ({stdev(column(of, 'test_accuracy')):.4f})" for of in repeated.values())
    mixed = any(unlike(of) for of in repeated.values())
    return (
        f"s = {s:.4f} is pooled over the seeds of {runs}"
        f"{', some of which differ in precision or threads, too' * mixed}. With {freedom} degrees of freedom, it is a "
        "weak estimate, so rather more than one of twenty is that large. For the other runs it was not measured; where "
        "training is wild, it may be larger."
    )


# ---------------------------------------------------------------- one conclusion for each comparison


def lacking(name: str, records: Records) -> list[Experiment]:
    """The runs of a comparison that have not finished."""
    return [run for row in COMPARISONS[name][0] for run in row if not records[run.name]]


def conclusion(name: str, records: Records) -> str:
    """What follows from a comparison, and what it suffers from."""
    rows, conclude = COMPARISONS[name]
    compared = [record for row in rows for run in row for record in records[run.name]]
    return "\n\n".join(filter(None, (f"**Conclusion.** {conclude(records)}", unlike(compared))))


def worth(what: str, records: Records, without: Experiment, words: tuple[str, str] = ("with it", "without")) -> str:
    """What the accuracy gains by that which the run ``without`` lacks: here, and in the original."""
    gain, may = difference(records, BASELINE, without)
    means = [ours(column(records[run.name], "test_accuracy")) for run in (BASELINE, without)]
    text = f"{what} {gained(gain, may)}: {means[0]} {words[0]}, {means[1]} {words[1]}."
    if without.accuracy:
        text += f" In the original it {gained(BASELINE.accuracy - without.accuracy, chance(records, 1, 1))}."
    return text


def gained(gain: float, may: float) -> str:
    """What a difference in accuracy is, and what chance may do to it."""
    if abs(gain) <= may:
        return f"makes no difference beyond chance: {100 * gain:+.2f} points of test accuracy (±{points(may)})"
    verb = "adds" if gain > 0 else "costs"
    return f"{verb} {points(abs(gain))} points of test accuracy, more than chance explains (±{points(may)})"


def points(accuracy: float) -> str:
    """An accuracy in percentage points."""
    return f"{100 * accuracy:.2f}"


def of_normalization(records: Records) -> str:
    """What normalization does to accuracy, and to the first epochs (lab report, question 7a)."""
    with_, without = (ups_and_downs(*records[run.name], epochs=EARLY) for run in (BASELINE, NO_NORM))
    _, steadies = normalization_steadies(records[BASELINE.name][0], records[NO_NORM.name][0])
    steadier = "steadier" if steadies and min(without) > max(with_) else "not clearly steadier"
    return (
        f"{worth('Normalization', records, NO_NORM)} Early training is {steadier} with it: in the first {EARLY} "
        f"epochs, the validation loss goes up and down by {between(with_)} an epoch, without it by {between(without)}."
    )


def between(shares: Sequence[float]) -> str:
    """The range of a share over the seeds."""
    low, high = percent(min(shares)), percent(max(shares))
    return low if low == high else f"{low.split()[0]} to {high}"


def of_augmentation(records: Records) -> str:
    """What augmentation does to accuracy, and against overfitting (lab report, question 7b).

    Training loss is held against the test's: without augmentation, validation is on other images than with it.
    """
    with_, without = (
        [mean(late(record, "train_loss") for record in runs), mean(column(runs, "test_loss"))]
        for runs in (records[BASELINE.name], records[NO_AUG.name])
    )
    overfits = diagnosis.overfitting in findings(records[NO_AUG.name][0])
    keeps = "keeps" if overfits and without[1] - without[0] > 2 * (with_[1] - with_[0]) else "does not keep"
    return (
        f"{worth('Augmentation', records, NO_AUG)} It {keeps} the network from learning its images by heart: the "
        f"training loss (of the last {LATE} epochs) and the test loss are {with_[0]:.2f} and {with_[1]:.2f} with it, "
        f"{without[0]:.2f} and {without[1]:.2f} without."
    )


def of_learning_rates(records: Records) -> str:
    """Which rate and schedule is best, what the others cost, and how rough each is (lab report, question 7c)."""
    pairs = (HIGH, HIGH_CONSTANT), (BASELINE, CONSTANT), (LOW, LOW_CONSTANT)
    runs = [run for pair in pairs for run in pair]
    best = max(runs, key=lambda run: mean(column(records[run.name], "test_accuracy")))
    best_rate = best.changes.get("lr", 0.001)
    best_there = max(run.accuracy for pair in pairs if best in pair for run in pair)
    near, costs, halving, rough = [], [], [], []
    for run in runs:
        less, may = difference(records, best, run)
        if run is not best and less <= may:
            near.append(run.title)
    for step, constant in pairs:
        rate, there = step.changes.get("lr", 0.001), 100 * (step.accuracy - constant.accuracy)
        if best not in (step, constant):
            lost, may = min(difference(records, best, run) for run in (step, constant))
            within, lost_there = ", within chance" * (lost <= may), best_there - max(step.accuracy, constant.accuracy)
            costs.append(f"{rate:g} ends {100 * lost:.1f} points lower{within} (original: {100 * lost_there:.1f})")
        gain, may = difference(records, step, constant)
        within = ", within chance" * (abs(gain) <= may)
        halving.append(f"{100 * gain:+.1f} points at {rate:g}{within} (original: {there:+.1f})")
        swings = (between(ups_and_downs(*records[run.name])) for run in (step, constant))
        rough.append("{} and {} at {:g}".format(*swings, rate))
    accuracy, near = ours(column(records[best.name], "test_accuracy")), " and ".join(near) or "none of the others"
    return (
        f"The best is {best.title}, with {accuracy}; within chance of it: {near}. With the better schedule of each "
        f"rate, as against {best_rate:g}, {' and '.join(costs)}. Halving the rate every 10 epochs, instead of keeping "
        f"it, changes the test accuracy by {', '.join(halving)}. "
        f"With Step LR and with a constant rate, the validation loss goes up and down by {', '.join(rough)}."
    )


def of_batch_size(records: Records) -> str:
    """What batches of 64 are worth against batches of 128 (lab report, question 8)."""
    return worth("A batch size of 64", records, BATCH128, ("with batches of 64", "with 128"))


def unlike(records: Sequence[dict]) -> str:
    """Which runs were trained under which conditions, if not all were under the same."""
    runs_of = {}
    for record in records:
        for it in record["environments"]:
            start = f" from epoch {it['from_epoch']} on" * (it["from_epoch"] > 1)
            runs_of.setdefault(conditions(it), {})[title_of(record) + start] = None
    if len(runs_of) < 2:
        return ""
    kinds = "\n".join(f"- {kind}: {'; '.join(runs)}" for kind, runs in runs_of.items())
    return f"Not all of these runs were trained under the same conditions:\n\n{kinds}"


COMPARISONS = {  # for each picture: the runs on each of its rows, and the function that says what follows
    "normalization": ([(BASELINE, NO_NORM)], of_normalization),
    "augmentation": ([(BASELINE, NO_AUG)], of_augmentation),
    "learning_rate": ([(HIGH, BASELINE, LOW), (HIGH_CONSTANT, CONSTANT, LOW_CONSTANT)], of_learning_rates),
    "batch_size": ([(BASELINE, BATCH128)], of_batch_size),
}
