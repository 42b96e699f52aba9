"""What the original says about its curves and accuracies, and whether our runs say the same.

A claim is checked by a function. It gets the records of the claim's runs (of one seed, in the order of ``CLAIMS``) and
returns what they measure, and whether that is what the original says.
"""

from statistics import mean

from lab import diagnosis
from lab.curves import RISE, column, levels_off_at, percent, roughness
from lab.diagnosis import Rule, diagnose
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
)
from lab.report.runs import BATCH128
from lab.schedule import best_of

NOISE = 0.012  # of accuracy: two standard errors on 5,000 images; what is closer may be chance
CLEARLY = 1.25  # times as much: less may be chance, with one run of each
ROUGHER = 1.9  # times as rough: between seeds of the baseline, in their first 20 epochs, it is 1.5 to 2.8
ABOUT = 1.5  # "about epoch 8" is an epoch from 8 / 1.5 to 8 * 1.5
EARLY = 20  # epochs: the first quarter of a run
LATE = 10  # epochs at the end


def findings(record: dict) -> dict[Rule, str]:
    """The rules of the diagnosis that apply to a run, each with its evidence."""
    return {finding.rule: finding.evidence for finding in diagnose(record)}


def is_about(epoch: int, claimed: int) -> bool:
    return claimed / ABOUT <= epoch <= claimed * ABOUT


def late(record: dict, metric: str) -> float:
    return mean(column(record["history"], metric)[-LATE:])


def late_losses(record: dict) -> str:
    losses = f"training loss {late(record, 'train_loss'):.2f}, validation loss {late(record, 'val_loss'):.2f}"
    return f"in the last {LATE} epochs {losses}"


def ups_and_downs(*records: dict, metric: str = "val_loss", epochs: int | None = None) -> list[float]:
    return [roughness(column(record["history"][:epochs], metric)) for record in records]


def at_each_rate(rough: list[float]) -> str:
    return ", ".join(
        f"{percent(share)} at {rate}" for share, rate in zip(rough, ("0.01", "0.001", "0.0001"), strict=True)
    )


def simplecnn_is_steady(record: dict) -> tuple[str, bool]:
    unmentioned = diagnosis.plateau, diagnosis.underfitting  # which the original does not speak of
    against = sorted(rule.name for rule in findings(record) if rule.advice and rule not in unmentioned)
    measured = ", ".join(against) or "no oscillation, no overfitting, and the losses level off"
    return f"{measured}; {late_losses(record)}", not against


def resnet18_is_steady(record: dict) -> tuple[str, bool]:
    return f"validation loss up and down: {percent(ups_and_downs(record)[0])}", diagnosis.oscillation not in findings(
        record
    )


def validation_stays_behind(record: dict) -> tuple[str, bool]:
    evidence = findings(record).get(diagnosis.overfitting)
    return evidence or f"no overfitting; {late_losses(record)}", bool(evidence)


def normalization_steadies(baseline: dict, no_norm: dict) -> tuple[str, bool]:
    loss = ups_and_downs(baseline, no_norm, epochs=EARLY)
    accuracy = ups_and_downs(baseline, no_norm, metric="val_accuracy", epochs=EARLY)
    measured = (
        f"up and down in the first {EARLY} epochs: loss {percent(loss[0])} with, {percent(loss[1])} without; "
        f"accuracy {percent(accuracy[0])} with, {percent(accuracy[1])} without"
    )
    return measured, all(without > ROUGHER * with_ for with_, without in (loss, accuracy))


def loss_stops_falling(record: dict) -> tuple[str, bool]:
    losses = column(record["history"], "val_loss")
    lowest, end = min(losses), losses[-1]
    epoch, last = losses.index(lowest) + 1, max(i for i, loss in enumerate(losses, 1) if loss <= (1 + RISE) * lowest)
    measured = (
        f"lowest in epoch {epoch} ({lowest:.2f}), and within {100 * RISE:.0f} % of that for the last time in epoch "
        f"{last}; at the end {end:.2f}"
    )
    return measured, is_about(epoch, 8) and end > CLEARLY * lowest


def training_alone_gets_good(record: dict) -> tuple[str, bool]:
    best = best_of(record["history"])
    passed = next((epoch["epoch"] for epoch in record["history"] if epoch["train_accuracy"] > 0.9), None)
    training = f"first above 0.9 in epoch {passed}" if passed else "never above 0.9"
    measured = f"training accuracy {training}; best validation accuracy {best['val_accuracy']:.3f}"
    return measured, passed is not None and best["val_accuracy"] < 0.8


def test_is_easier(simplecnn: dict, baseline: dict, no_aug: dict) -> tuple[str, bool]:
    one, two, without = (
        record["test_accuracy"] - best_of(record["history"])["val_accuracy"] for record in (simplecnn, baseline, no_aug)
    )
    measured = (
        f"test minus best validation accuracy: {one:+.3f} (figure 1), {two:+.3f} (figure 2); "
        f"where validation is not augmented either: {without:+.3f} (figure 4)"
    )
    return measured, min(one, two) > NOISE and without < NOISE


def higher_rate_is_rougher(high: dict, baseline: dict, low: dict) -> tuple[str, bool]:
    rough = ups_and_downs(high, baseline, low, epochs=EARLY)
    measured = f"validation loss up and down in the first {EARLY} epochs: {at_each_rate(rough)}"
    return measured, rough[0] > ROUGHER * rough[1] > ROUGHER**2 * rough[2]


def low_rate_stops_early(low: dict, low_constant: dict) -> tuple[str, bool]:
    step, constant = late(low, "train_loss"), late(low_constant, "train_loss")
    measured = (
        f"training loss in the last {LATE} epochs: {step:.2f}; without decay it goes on to {constant:.2f}. "
        f"Test accuracy {low['test_accuracy']:.3f}; without decay {low_constant['test_accuracy']:.3f}"
    )
    return measured, step > CLEARLY * constant and low["test_accuracy"] < low_constant["test_accuracy"] - NOISE


def higher_constant_rate_is_rougher(high: dict, middle: dict, low: dict) -> tuple[str, bool]:
    rough = ups_and_downs(high, middle, low)
    measured = f"validation loss up and down: {at_each_rate(rough)}"
    return measured, rough[0] > ROUGHER * rough[1] > ROUGHER**2 * rough[2]


def high_constant_fails(record: dict) -> tuple[str, bool]:
    gained, end = levels_off_at(column(record["history"], "val_loss")), late(record, "train_loss")
    measured = f"last gain in validation loss: epoch {gained}; training loss in the last {LATE} epochs: {end:.2f}"
    return measured, is_about(gained, 16) and bool(
        {diagnosis.no_convergence, diagnosis.nothing_learned} & findings(record).keys()
    )


def constant_stands_still(record: dict) -> tuple[str, bool]:
    gained = levels_off_at(column(record["history"], "val_loss"))
    return f"last gain in validation loss: epoch {gained}", is_about(gained, 40)


def low_constant_is_slow(low_constant: dict, baseline: dict) -> tuple[str, bool]:
    ends = [late(record, "val_accuracy") for record in (low_constant, baseline)]
    goal = 0.95 * min(ends)
    reached = [
        next(epoch["epoch"] for epoch in record["history"] if epoch["val_accuracy"] >= goal)
        for record in (low_constant, baseline)
    ]
    measured = (
        f"validation accuracy in the last {LATE} epochs: {ends[0]:.3f}, baseline {ends[1]:.3f}; "
        f"{goal:.3f} first reached in epoch {reached[0]}, baseline in epoch {reached[1]}"
    )
    return measured, reached[0] > reached[1]


def reaches_85(record: dict) -> tuple[str, bool]:
    return f"test accuracy {record['test_accuracy']:.4f}", record["test_accuracy"] >= 0.85


def smaller_batches_do_better(baseline: dict, batch128: dict) -> tuple[str, bool]:
    small, large = baseline["test_accuracy"], batch128["test_accuracy"]
    measured = f"test accuracy {small:.4f} with batches of 64, {large:.4f} with 128: {small - large:+.4f}"
    return measured, small - large > NOISE


CLAIMS = {  # what the original says: the function that checks it, and the runs whose records that gets
    "SimpleCNN trains steadily, does not overfit, and converges.": (simplecnn_is_steady, (SIMPLECNN,)),
    "ResNet-18 trains steadily, without violent oscillation.": (resnet18_is_steady, (BASELINE,)),
    "ResNet-18: late in the training the training loss still falls, and validation does not follow.": (
        validation_stays_behind,
        (BASELINE,),
    ),
    "Test accuracy is higher than validation accuracy, because validation is augmented and the test is not.": (
        test_is_easier,
        (SIMPLECNN, BASELINE, NO_AUG),
    ),
    "Normalization makes early training steadier.": (normalization_steadies, (BASELINE, NO_NORM)),
    "Without augmentation, validation loss stops falling near epoch 8.": (loss_stops_falling, (NO_AUG,)),
    "Without augmentation, training accuracy passes 90 %, and validation stays under 80 %.": (
        training_alone_gets_good,
        (NO_AUG,),
    ),
    "A higher initial rate oscillates more. (Whether 0.01 ends lower is said in 7c.)": (
        higher_rate_is_rougher,
        (HIGH, BASELINE, LOW),
    ),
    "0.0001 with StepLR stops before it arrives.": (low_rate_stops_early, (LOW, LOW_CONSTANT)),
    "With constant rates, too, a higher one oscillates more.": (
        higher_constant_rate_is_rougher,
        (HIGH_CONSTANT, CONSTANT, LOW_CONSTANT),
    ),
    "Constant 0.01 does not converge: no gain in validation loss after about epoch 16.": (
        high_constant_fails,
        (HIGH_CONSTANT,),
    ),
    "Constant 0.001 gains nothing in validation loss after about epoch 40.": (constant_stands_still, (CONSTANT,)),
    "Constant 0.0001 converges more slowly than the baseline, whose early steps are larger.": (
        low_constant_is_slow,
        (LOW_CONSTANT, BASELINE),
    ),
    "With batches of 64, ResNet-18 reaches 85 %.": (reaches_85, (BASELINE,)),
    "Smaller batches do better. (What it had before 64, the original does not say; here it is 128.)": (
        smaller_batches_do_better,
        (BASELINE, BATCH128),
    ),
}
