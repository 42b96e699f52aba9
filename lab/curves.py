"""What the curves of a run show: numbers that describe a curve, and for each rule a sentence with the evidence."""

import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean, median
from typing import NamedTuple

from lab.schedule import best_of, images_of, out_of_patience
from lab.settings import STEP_SIZE, Settings, settings_of

STAGE = STEP_SIZE  # epochs, one stage of StepLR: in fewer, noise looks like a trend
WINDOW = 5  # epochs, whose median stands for the middle one: two wild epochs in a row change nothing
GAIN = 0.02  # of a loss: on 5,000 validation images it moves by 1 to 2 % from epoch to epoch, even at tiny rates
FEW = 22_500  # images: half of those to train
GUESSING = math.log(10)  # the loss of a network that finds all ten classes equally likely
LEARNED = 0.95 * GUESSING  # a training loss: the first epoch of any run that learns is far below
HALF = GUESSING / 2  # a training loss: where it stands still above this, the network has hardly begun to learn
FITTED = GUESSING / 5  # a training loss: ResNet-18 ends at 0.3, from too low a rate at 0.4, and SimpleCNN at 0.63
TRAIN_RISE = 0.1  # of the first training loss: over 45,000 images, chance moves it by less than 1 %
VAL_RISE = 0.05  # of the lowest validation loss: one this far above it has turned; chance does less to a smoothed one
ROUGH = 0.07  # of a loss: ten steep but smooth epochs (SimpleCNN's first) have 0.044, unsteady ones (figure 3) 0.17
GAP = 0.25  # of the training loss: in SimpleCNN, which does not overfit, validation is never as far above it
GAP_GROWTH = 0.15  # of the training loss: it always falls a little further than that of validation
LEVEL = 2 * STAGE  # epochs, two stages of StepLR: after one without a gain, the next halving may bring one
PATIENCE = STAGE  # epochs, one stage of StepLR: so every rate gets its chance
COST = 0.005  # of accuracy: less than its standard error on 5,000 images, 0.006


class Curves(NamedTuple):
    """The curves of a run. With a warmup it is one cycle: the rate falls to nothing, and the losses until the end."""

    settings: Settings
    history: list[dict]  # all epochs
    full_size: list[dict]  # the epochs with images of the full size: losses on two sizes do not compare
    train: list[float]  # the losses of these
    val: list[float]
    test_accuracy: float  # 0: not known


def curves_of(record: dict) -> Curves:
    history = record["history"]
    full_size = [epoch for epoch in history if epoch.get("image_size") == history[-1].get("image_size")]
    losses = column(full_size, "train_loss"), column(full_size, "val_loss")
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
    """The median of how far an epoch lies above or below the line between its neighbours, relative to its height."""
    neighbours = zip(values, values[1:], values[2:], strict=False)
    off = [abs(here - (before + after) / 2) / (fmean((before, here, after)) or 1) for before, here, after in neighbours]
    return median(off) if off else 0.0  # a median: neither the bend at the beginning nor a wild epoch counts


def stages(values: Sequence[float]) -> list[Sequence[float]]:
    """All :data:`STAGE` epochs in a row: the first ones, those one epoch later, and so on; all, if there are fewer."""
    return [values[start : start + STAGE] for start in range(max(len(values) - STAGE, 0) + 1)]


def levels_off_at(losses: Sequence[float]) -> int:
    """The epoch, from 1, after which no median of :data:`STAGE` is lower by :data:`GAIN` and by twice the roughness."""
    medians = [median(stage) for stage in stages(losses)]  # one lucky epoch is no gain
    for start, loss in enumerate(smooth(losses)):
        gain = max(GAIN, 2 * roughness(losses[start:]))
        if min(medians[min(start, len(medians) - 1) :]) >= (1 - gain) * loss:
            return start + 1
    return len(losses)


def patient_until(history: Sequence[dict], settings: Settings) -> int:
    """The epoch after which --patience :data:`PATIENCE` would have stopped this run: its last one if it would not."""
    patient = replace(settings, patience=PATIENCE)
    return next((n for n in range(1, len(history)) if out_of_patience(history[:n], patient)), len(history))


def too_short(curves: Curves) -> str | None:
    epochs = len(curves.full_size)
    full = " with images of the full size" * (epochs < len(curves.history))
    return f"{epochs} of at least {STAGE} epochs{full}." if epochs < STAGE else None


def nothing_learned(curves: Curves) -> str | None:
    evidence = f"The training loss has never been below {min(curves.train):.2f}, and guessing costs {GUESSING:.2f}."
    return evidence if min(curves.train) > LEARNED else None


def quick_look(curves: Curves) -> str | None:
    train, val = images_of(curves.settings)
    few = f"{train:,} images to train are few, and on {val} to validate, an accuracy has a standard error of up to"
    return f"{few} {0.5 / math.sqrt(val):.3f}." if train < FEW else None  # that of an accuracy of 0.5: the largest


def cut_short(curves: Curves) -> str | None:
    last, epochs = curves.history[-1], curves.settings.epochs
    stopped = f"The run has stopped after {last['epoch']} of {epochs} epochs. The last of them began at a learning rate"
    evidence = f"{stopped} of {last['learning_rate']:.2g}, and the whole cycle ends at almost 0."
    return evidence if curves.settings.warmup and last["epoch"] < epochs else None


def oscillation(curves: Curves) -> str | None:
    rough, (_, images) = [roughness(stage) for stage in stages(curves.val)], images_of(curves.settings)
    first = curves.full_size[rough.index(worst := max(rough))]["epoch"]
    moves = f"Between epochs {first} and {first + STAGE - 1} the validation loss goes up and down by"
    evidence = f"{moves} {100 * worst:.0f} % an epoch; in the last {STAGE} epochs by {100 * rough[-1]:.0f} %."
    return evidence if worst > ROUGH * math.sqrt(5000 / images) else None  # on fewer images, chance moves it more


def still_falling(curves: Curves) -> str | None:
    val, noise = curves.val, roughness(curves.val[-STAGE:])
    before, after = median(val[-STAGE:-WINDOW]), median(val[-WINDOW:])
    turned = min(val[-2:]) > (1 + max(VAL_RISE, 2 * noise)) * min(val)
    first, last = curves.full_size[-STAGE]["epoch"], curves.full_size[-WINDOW - 1]["epoch"]
    was = f"The median validation loss was {before:.2f} in epochs {first} to {last}, and"
    falls = not turned and after < (1 - max(GAIN, noise)) * before
    return f"{was} is {after:.2f} in the last {WINDOW}." if falls else None


def no_convergence(curves: Curves) -> str | None:
    train, since, end = smooth(curves.train), levels_off_at(curves.val), curves.train[-1]
    if train[-1] - min(train) > TRAIN_RISE * train[0]:
        lowest = min(curves.full_size, key=lambda epoch: epoch["train_loss"])
        return f"The training loss was {lowest['train_loss']:.2f} in epoch {lowest['epoch']}, and ends at {end:.2f}."
    still = train[-1] > HALF and len(train) - since >= STAGE and train[-1] >= (1 - GAP_GROWTH) * train[since - 1]
    first = curves.full_size[since - 1]
    evidence = f"Since epoch {first['epoch']}, the validation loss has not clearly fallen; that of training only from"
    ends = f"{first['train_loss']:.2f} to {end:.2f}. Half of what guessing costs is {HALF:.2f}."
    return f"{evidence} {ends}" if still else None


def overfitting(curves: Curves) -> str | None:
    start = levels_off_at(curves.val) - 1
    train, val, level = smooth(curves.train), smooth(curves.val), curves.full_size[start:]
    if train[start] - train[-1] <= (GAP_GROWTH + 2 * roughness(curves.val[start:])) * train[start]:
        return None
    first, lowest, last = level[0], min(level, key=lambda epoch: epoch["val_loss"]), level[-1]
    risen = val[-1] > (1 + VAL_RISE) * min(val) or fmean(curves.val[-2:]) > (1 + 2 * VAL_RISE) * lowest["val_loss"]
    if not risen:
        fell = f"the training loss has fallen from {first['train_loss']:.2f} to {last['train_loss']:.2f}"
        moved = f"{first['val_loss']:.2f} then, {lowest['val_loss']:.2f} at its lowest (epoch {lowest['epoch']})"
        evidence = f"Since epoch {first['epoch']} {fell}, and the validation loss has hardly moved: {moved}"
        evidence += f", {last['val_loss']:.2f} at the end."
        return None if curves.settings.warmup else evidence  # in a cycle, the training loss always falls far
    turned = f"The validation loss was lowest in epoch {lowest['epoch']}: {lowest['val_loss']:.2f}"
    ends = f"At the end they are {last['val_loss']:.2f} and {last['train_loss']:.2f}."
    evidence = f"{turned}, with a training loss of {lowest['train_loss']:.2f}. {ends}"
    then, now = lowest["val_accuracy"], last["val_accuracy"]
    if now < then:
        return evidence
    change, often = ("even risen", "wrong less") if now > (1 + VAL_RISE) * then else ("not fallen", "not wrong more")
    accuracy = f"The validation accuracy has {change} ({then:.3f} then, {now:.3f} at the end)"
    return f"{evidence} {accuracy}: the network is {often} often, but surer of its mistakes."


def underfitting(curves: Curves) -> str | None:
    before, after = median(curves.train[-STAGE:-WINDOW]), median(curves.train[-WINDOW:])
    if not FITTED < after <= HALF or abs(after - before) > GAIN * before:
        return None
    accuracy = curves.full_size[-1]["train_accuracy"]
    return f"The training loss stands still at {after:.2f}, with a training accuracy of {accuracy:.3f}."


def plateau(curves: Curves) -> str | None:
    history, stop = curves.history, patient_until(curves.history, curves.settings)
    early, best = best_of(history[:stop])["val_accuracy"], best_of(history)["val_accuracy"]
    if (saved := len(history) - stop) < PATIENCE or best - early > COST:
        return None
    kept = f"a validation accuracy of {early:.4f} instead of {best:.4f}" if early < best else "the same best epoch"
    return f"--patience {PATIENCE} would have stopped after epoch {stop}, {saved} epochs earlier, with {kept}."


def good(curves: Curves) -> str | None:
    """What is well, as the lab report says it of its runs."""
    cycle, val, qualities = curves.settings.warmup, curves.val, []
    first, since, last = (curves.full_size[at]["epoch"] for at in (0, levels_off_at(val) - 1, -1))
    end = slice(-1 if cycle else -WINDOW, None)  # in one cycle, the losses fall until the last epoch
    train_end, val_end = median(curves.train[end]), median(val[end])
    oscillates, falls = oscillation(curves), not cycle and still_falling(curves)
    overfits = not falls and overfitting(curves)  # what still falls is not read as overfitting
    if not oscillates and val_end <= (1 + 2 * VAL_RISE) * min(smooth(val)):
        qualities.append(f"steady (the validation loss goes up and down by {percent(roughness(val))} an epoch)")
    if not overfits and val_end <= (1 + GAP) * train_end:
        qualities.append(f"no overfitting (training and validation loss end at {train_end:.2f} and {val_end:.2f})")
    if not (oscillates or overfits or falls) and last - since >= LEVEL:
        qualities.append(f"levelled off (the validation loss has hardly moved since epoch {since})")
    where = f"from epoch {first} on, with images of the full size: " * (first > 1)
    return f"{where}{'; '.join(qualities)}.".capitalize() if qualities else None


def validation_better(curves: Curves) -> str | None:
    history, settings, dropout = curves.history, curves.settings, bool(curves.settings.dropout)
    ahead = sum(it["val_accuracy"] > it["train_accuracy"] and it["val_loss"] < it["train_loss"] for it in history)
    how = ", without dropout" * dropout
    how += ", on images that are not augmented" * (settings.validation == "plain" and not settings.no_aug)
    how += ", by the average of the weights" * bool(settings.average)
    holds = f"This holds in {ahead} of {len(history)} epochs, and is no mistake: training is measured during an epoch, "
    during = f"while the weights still improve{', and with dropout' * dropout}; validation comes after the epoch"
    return f"{holds}{during}{how}." if ahead > 2 / 3 * len(history) else None


def test_better(curves: Curves) -> str | None:
    settings, test, val = curves.settings, curves.test_accuracy, best_of(curves.history)["val_accuracy"]
    chance = 2 * math.sqrt(2 * test * (1 - test) / images_of(settings)[1])  # two standard errors, of a difference
    better = test - val > chance and settings.validation != "plain" and not settings.no_aug
    numbers = f"Test accuracy is {test:.3f}, and the highest validation accuracy {val:.3f}. That is no mistake:"
    return f"{numbers} validation images are augmented; test images are not, and are easier." if better else None
