"""What the original says about its curves and accuracies, and whether our runs say the same.

A function checks a claim with a record of each of its runs: it returns what they measure, and whether the claim holds.
"""

from collections.abc import Callable, Sequence
from math import nan
from statistics import mean, median

from lab import diagnosis
from lab.curves import (
    GUESSING,
    ROUGH,
    STAGE,
    column,
    levels_off_at,
    percent,
    roughness,
    smooth,
    stages,
)
from lab.original import BASELINE, CONSTANT, HIGH, HIGH_CONSTANT, LOW, LOW_CONSTANT, NO_AUG, NO_NORM, SIMPLECNN
from lab.report.runs import Experiment
from lab.schedule import best_of

NOISE = 0.015  # of accuracy: two standard errors of the difference of two accuracies, each on 5,000 images
CLEARLY = 1.25  # times as much: less may be chance, with one run of each
ROUGHER = 1.9  # times as rough: the baseline's seeds differ by 1.4 in 20 epochs, but by up to 2.8 without the penalty
FLOOR = 1.05  # times the lowest validation loss: up to this, a loss is still near it
ABOUT = 1.5  # "about epoch 8" is an epoch from 8 / 1.5 to 8 * 1.5
EARLY = 20  # epochs: the first quarter of a run
LATE = 10  # epochs at the end

Verdict = tuple[str, bool]
CLAIMS: list[tuple[str, tuple[Experiment, ...], Callable[..., Verdict]]] = []


def claim(text: str, *runs: Experiment) -> Callable:
    """Make a claim of the function below, which gets a record of each of these runs."""

    def add(check: Callable[..., Verdict]) -> Callable[..., Verdict]:
        CLAIMS.append((text, runs, check))
        return check

    return add


def findings(record: dict) -> dict[diagnosis.Rule, str]:
    """The rules of the diagnosis that apply to a run, each with its evidence."""
    return {finding.rule: finding.evidence for finding in diagnosis.diagnose(record)}


def is_about(epoch: int, claimed: int) -> bool:
    return claimed / ABOUT <= epoch <= claimed * ABOUT


def late(record: dict, metric: str) -> float:
    return mean(column(record["history"], metric)[-LATE:])


def rough(records: Sequence[dict], epochs: int | None = None, metric: str = "val_loss") -> list[float]:
    """By what share each run goes up and down an epoch, in its first ``epochs`` or in all."""
    return [roughness(column(record["history"][:epochs], metric)) for record in records]


@claim("SimpleCNN trains steadily, does not overfit, and converges.", SIMPLECNN)
def simplecnn_is_steady(record: dict) -> Verdict:
    unmentioned = diagnosis.PLATEAU, diagnosis.UNDERFITTING  # which the original does not speak of
    against = sorted(rule.name for rule in findings(record) if rule.advice and rule not in unmentioned)
    measured = ", ".join(against) or "no oscillation, no overfitting, losses level off"
    losses = f"late training loss {late(record, 'train_loss'):.2f}, validation loss {late(record, 'val_loss'):.2f}"
    return f"{measured}; {losses}", not against


@claim("ResNet-18 trains steadily, without violent oscillation.", BASELINE)
def resnet18_is_steady(record: dict) -> Verdict:
    worst = max(map(roughness, stages(column(record["history"], "val_loss"))))
    measured = f"validation loss up and down: {percent(worst)} in its roughest {STAGE} epochs (limit: {percent(ROUGH)})"
    return measured, worst <= ROUGH


@claim("ResNet-18: late in the training the training loss still falls, and validation does not follow.", BASELINE)
def validation_stays_behind(record: dict) -> Verdict:
    losses = [column(record["history"], metric) for metric in ("train_loss", "val_loss")]
    since = levels_off_at(losses[1])
    (train, train_end), (val, val_end) = ((of[since - 1], of[-1]) for of in losses)
    measured = f"from epoch {since} on: training loss {train:.2f} to {train_end:.2f}, validation loss {val:.2f} to "
    return f"{measured}{val_end:.2f}", diagnosis.OVERFITTING in findings(record)


@claim(
    "Test accuracy is higher than validation accuracy, because validation is augmented and the test is not.",
    *(SIMPLECNN, BASELINE),
)
def test_is_easier(*records: dict) -> Verdict:
    best = [best_of(it["history"])["val_accuracy"] for it in records]
    plain = [it or nan for it in column(records, "val_accuracy_plain")]  # nan: not measured
    test = [it - val for it, val in zip(column(records, "test_accuracy"), best, strict=True)]
    gain = [it - val for it, val in zip(plain, best, strict=True)]
    measured = "test {:+.3f} and {:+.3f} from best validation accuracy; the same validation images ".format(*test)
    measured += "unaugmented: {:+.3f} and {:+.3f}".format(*gain)
    return measured, all(it > NOISE for it in (*test, *gain))


@claim("Normalization makes early training steadier.", BASELINE, NO_NORM)
def normalization_steadies(*records: dict) -> Verdict:
    loss, accuracy = (rough(records, EARLY, metric) for metric in ("val_loss", "val_accuracy"))
    measured = "loss {} with, {} without; accuracy {}, {}".format(*map(percent, loss + accuracy))
    steadier = all(without > ROUGHER * with_ for with_, without in (loss, accuracy))
    return f"up and down, {EARLY} epochs: {measured}", steadier


@claim("Without augmentation, validation loss stops falling near epoch 8.", NO_AUG)
def loss_stops_falling(record: dict) -> Verdict:
    losses = column(record["history"], "val_loss")
    lowest, end = min(losses), losses[-1]
    first = losses.index(lowest) + 1
    last = max(epoch for epoch, loss in enumerate(losses, 1) if loss <= FLOOR * lowest)
    near = f", near that until epoch {last}" * (last > first)
    measured = f"lowest in epoch {first} ({lowest:.2f}){near}; at the end {end:.2f}"
    return measured, any(is_about(epoch, 8) for epoch in range(first, last + 1)) and end > CLEARLY * lowest


@claim("Without augmentation, training accuracy passes 90 %, and validation stays under 80 %.", NO_AUG)
def training_alone_gets_good(record: dict) -> Verdict:
    best = best_of(record["history"])["val_accuracy"]
    passed = next((it["epoch"] for it in record["history"] if it["train_accuracy"] > 0.9), None)
    training = f"first above 0.9 in epoch {passed}" if passed else "never above 0.9"
    return f"training accuracy {training}; best validation accuracy {best:.3f}", bool(passed) and best < 0.8


@claim("With constant rates, too, a high one oscillates more than a low one.", HIGH_CONSTANT, CONSTANT, LOW_CONSTANT)
@claim("A high initial rate oscillates more than a low one.", HIGH, BASELINE, LOW)
def higher_rate_is_rougher(*records: dict) -> Verdict:
    epochs = None if records[0]["config"]["constant_lr"] else EARLY  # later, the rates are others
    high, middle, low = rough(records, epochs)
    measured = f"validation loss up and down{f', {EARLY} epochs' * bool(epochs)}: {percent(high)} at 0.01, "
    measured += f"{percent(middle)} at 0.001, {percent(low)} at 0.0001"
    return measured, high > ROUGHER * low


@claim("0.0001 with StepLR stops before it arrives.", LOW, LOW_CONSTANT)
def low_rate_stops_early(*records: dict) -> Verdict:
    losses = [late(it, "train_loss") for it in records]
    measured = "late training loss {:.2f}; without decay it goes on to {:.2f}".format(*losses)
    return measured, losses[0] > CLEARLY * losses[1]


@claim("Constant 0.01 does not converge.", HIGH_CONSTANT)
def high_constant_fails(record: dict) -> Verdict:
    fails = {diagnosis.NO_CONVERGENCE, diagnosis.NOTHING_LEARNED} & findings(record).keys()
    train, val = (late(record, metric) for metric in ("train_loss", "val_loss"))
    return f"late training loss {train:.2f}, validation loss {val:.2f} (guessing costs {GUESSING:.2f})", bool(fails)


def last_gain_is_near(epoch: int, record: dict) -> Verdict:
    losses = column(record["history"], "val_loss")
    gained = levels_off_at(losses)
    there, after = smooth(losses)[gained - 1], losses[gained - 1 :]
    lowest = min(map(median, stages(after)))
    measured = f"last clear gain: epoch {gained} (median loss {there:.2f}); later {lowest:.2f} at its lowest, up and "
    return f"{measured}down by {percent(roughness(after))}", is_about(gained, epoch)


@claim("Constant 0.01: the validation loss has its last gain near epoch 16.", HIGH_CONSTANT)
def high_constant_stands_still(record: dict) -> Verdict:
    return last_gain_is_near(16, record)


@claim("Constant 0.001: the validation loss has its last gain near epoch 40.", CONSTANT)
def constant_stands_still(record: dict) -> Verdict:
    return last_gain_is_near(40, record)


@claim("Constant 0.0001 converges more slowly than the baseline, whose early steps are larger.", LOW_CONSTANT, BASELINE)
def low_constant_is_slow(*records: dict) -> Verdict:
    ends = [late(it, "val_accuracy") for it in records]
    goal = 0.95 * min(ends)
    reached = [next(it["epoch"] for it in of["history"] if it["val_accuracy"] >= goal) for of in records]
    measured = "validation accuracy {:.3f} first in epoch {}, baseline {}; late ".format(goal, *reached)
    measured += "{:.3f}, baseline {:.3f}".format(*ends)
    return measured, reached[0] > reached[1]


@claim("With batches of 64, ResNet-18 reaches 85 %.", BASELINE)
def reaches_85(record: dict) -> Verdict:
    return f"test accuracy {record['test_accuracy']:.4f}", record["test_accuracy"] >= 0.85
