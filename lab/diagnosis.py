"""Reading learning curves: what a run's record shows, and which setting to turn next.

Every rule looks at the numbers of one run, as a teacher would at its picture, and gives the evidence with the finding.
"""

import math
import textwrap
from collections.abc import Sequence
from statistics import mean, median
from typing import NamedTuple

from lab.curves import GAIN, SHORT, WINDOW, column, last_gain, roughness, smooth
from lab.record import best_of, images_of, out_of_patience
from lab.rules import (
    APART,
    FEW,
    FOLLOWED,
    GUESSING,
    INSTEAD,
    LEARNED,
    LONG,
    LOST,
    PATIENCE,
    RISE,
    RULES,
    SWING,
    TURNED,
    UNLEARNED,
)


class Finding(NamedTuple):
    """What the curves show, the numbers that say so, and what to turn next, if anything."""

    name: str
    evidence: str
    advice: str = ""


def diagnose(record: dict) -> list[Finding]:
    """Read the curves of a run (lab report, questions 2, 5 and 8): what is well, what is not, what only looks odd.

    ``record`` is a run's, as :mod:`lab.record` describes it; its test result may be missing.
    """
    config, size = record["config"], record["history"][-1].get("image_size")
    history = [it for it in record["history"] if it.get("image_size") == size]  # losses on two sizes do not compare
    evidence = faults_of(history, config)
    faults = [Finding(name, text, advice_for(name, history, config)) for name, text in evidence.items() if text]
    names = {fault.name for fault in faults}
    if names & {"too short to read", "nothing learned"}:
        return faults
    if "a quick look" in names:  # nothing else is to be turned yet
        keep = "a quick look", "overfitting"
        faults = [fault._replace(advice=fault.advice * (fault.name in keep)) for fault in faults]
    elif "a cycle cut short" in names:  # nor here, for what else is found may be gone at small rates
        faults = [fault._replace(advice=fault.advice * (fault.name == "a cycle cut short")) for fault in faults]
    elif "no convergence" not in names and (praise := praise_of(history, config, names)):
        faults.insert(0, Finding("good", praise))
    return faults + oddities_of(record)


def faults_of(history: Sequence[dict], config: dict) -> dict[str, str | None]:
    """For the name of each fault that is looked for, the evidence; None if there is none."""
    if len(history) < SHORT:
        full = " with images of the full size" * (history[-1]["epoch"] > len(history))
        return {"too short to read": f"{len(history)} of at least {SHORT} epochs{full}."}
    if (lowest := min(column(history, "train_loss"))) > LEARNED:
        evidence = f"The training loss has never been below {lowest:.2f}, and guessing costs {GUESSING:.2f}."
        return {"nothing learned": evidence}
    faults, (train, val) = {}, images_of(config)
    if train < FEW:
        error = standard_error(config)
        faults["a quick look"] = (
            f"{train:,} images to train are few, and on {val} to validate, an accuracy has a standard error of up to "
            f"{error:.3f}."
        )
    faults["oscillation"] = oscillation_of(history, config)
    cycle = config.get("warmup")  # its rate falls to nothing, and the losses with it, however many epochs it has
    if cycle:
        faults["a cycle cut short"] = cut_of(history[-1], config)
    elif fall := fall_of(history):
        return faults | {"still falling": fall}
    if failure := failure_of(history):
        return faults | {"no convergence": failure}
    faults["overfitting"] = overfitting_of(history, config)
    if not cycle and not faults["overfitting"]:
        faults["underfitting"] = underfitting_of(history)
    if not cycle and train >= FEW:
        faults["plateau"] = plateau_of(history, config)
    return faults


def advice_for(name: str, history: Sequence[dict], config: dict) -> str:
    """What to turn next where this fault was found."""
    given = {flag for flag, value in config.items() if value}
    if history[-1]["epoch"] == config["epochs"]:
        given.discard("patience")  # it has stopped nothing
    if images_of(config)[0] >= FEW:
        given -= {"limit", "sample"}
    return next((advice for flag, advice in INSTEAD.get(name, {}).items() if flag in given), RULES[name][1])


def standard_error(config: dict) -> float:
    """The largest standard error of a run's validation accuracy, that at 0.5."""
    return 0.5 / math.sqrt(images_of(config)[1])


def print_reading(record: dict) -> None:
    """Print what the curves show, and what to turn next."""
    for finding in diagnose(record):
        text = f"{finding.name.capitalize()}: {finding.evidence} {finding.advice}"
        print(textwrap.fill(text, width=80, subsequent_indent="  ", break_on_hyphens=False))


# ---------------------------------------------------------------- one rule each


def oscillation_of(history: Sequence[dict], config: dict) -> str | None:
    val = column(history, "val_loss")
    windows = [roughness(val[first : first + SHORT]) for first in range(len(val) - SHORT + 1)]
    worst = max(windows, default=0)
    if worst <= SWING * math.sqrt(5000 / images_of(config)[1]):  # on fewer images, chance moves it more
        return None
    first = history[windows.index(worst)]["epoch"]
    return (
        f"Between epochs {first} and {first + SHORT - 1} the validation loss goes up and down by {100 * worst:.0f} % "
        f"an epoch; in the last {SHORT} epochs by {100 * windows[-1]:.0f} %."
    )


def cut_of(last: dict, config: dict) -> str | None:
    """Where --patience has stopped one cycle before its end."""
    if last["epoch"] == config["epochs"]:
        return None
    return (
        f"The run has stopped after {last['epoch']} of {config['epochs']} epochs, the last of which began at a "
        f"learning rate of {last['learning_rate']:.2g}; the whole cycle ends at almost 0."
    )


def fall_of(history: Sequence[dict]) -> str | None:
    val = column(history, "val_loss")
    before, after, noise = median(val[-SHORT:-WINDOW]), median(val[-WINDOW:]), roughness(val[-SHORT:])
    turned = min(val[-2:]) > (1 + max(TURNED, 2 * noise)) * min(val)
    if turned or after >= (1 - max(GAIN, noise)) * before:
        return None
    when = f"from epochs {len(val) - SHORT + 1} to {len(val) - WINDOW} to the last {WINDOW}"
    return f"The median of the validation loss has fallen from {before:.2f} to {after:.2f}, {when}."


def failure_of(history: Sequence[dict]) -> str | None:
    """Where no convergence can be seen."""
    train, val, end = smooth(column(history, "train_loss")), column(history, "val_loss"), history[-1]["train_loss"]
    if train[-1] - min(train) > RISE * train[0]:
        lowest = min(history, key=lambda epoch: epoch["train_loss"])
        return f"The training loss was {lowest['train_loss']:.2f} in epoch {lowest['epoch']}, and ends at {end:.2f}."
    gained = last_gain(val)
    level = train[-1] >= (1 - FOLLOWED) * train[gained - 1]
    if not level or len(val) - gained < SHORT or train[-1] <= GUESSING / 2:
        return None
    return (
        f"The losses have hardly fallen since epoch {history[gained - 1]['epoch']}, and that of training ends at "
        f"{end:.2f}, more than half of what guessing costs ({GUESSING:.2f})."
    )


def overfitting_of(history: Sequence[dict], config: dict) -> str | None:
    losses = column(history, "val_loss")
    train, val, gained = smooth(column(history, "train_loss")), smooth(losses), last_gain(losses)
    if train[gained - 1] - train[-1] <= (FOLLOWED + 2 * roughness(losses[gained - 1 :])) * train[gained - 1]:
        return None
    start, lowest, end = history[gained - 1], min(history[gained - 1 :], key=lambda it: it["val_loss"]), history[-1]
    risen = val[-1] > (1 + TURNED) * min(val) or mean(losses[-2:]) > (1 + 2 * TURNED) * lowest["val_loss"]
    if not risen and config.get("warmup"):  # one cycle, at whose end the training loss always falls far
        return None
    if not risen:
        return (
            f"Since epoch {start['epoch']} the training loss has fallen from {start['train_loss']:.2f} to "
            f"{end['train_loss']:.2f}, and the validation loss has hardly moved: {start['val_loss']:.2f} then, "
            f"{lowest['val_loss']:.2f} at its lowest (epoch {lowest['epoch']}), {end['val_loss']:.2f} at the end."
        )
    evidence = (
        f"The validation loss was lowest in epoch {lowest['epoch']}: {lowest['val_loss']:.2f}, with a training loss of "
        f"{lowest['train_loss']:.2f}. At the end they are {end['val_loss']:.2f} and {end['train_loss']:.2f}."
    )
    if end["val_accuracy"] >= lowest["val_accuracy"]:
        risen = end["val_accuracy"] > (1 + TURNED) * lowest["val_accuracy"]
        change, often = ("even risen", "wrong less") if risen else ("not fallen", "not wrong more")
        evidence += (
            f" The validation accuracy has {change} ({lowest['val_accuracy']:.3f} then, {end['val_accuracy']:.3f} at "
            f"the end): the network is {often} often, but surer of its mistakes."
        )
    return evidence


def underfitting_of(history: Sequence[dict]) -> str | None:
    losses = column(history, "train_loss")
    before, after = median(losses[-SHORT:-WINDOW]), median(losses[-WINDOW:])
    if not UNLEARNED < after <= GUESSING / 2 or abs(after - before) > GAIN * before:
        return None
    accuracy = history[-1]["train_accuracy"]
    return f"The training loss stands still at {after:.2f}, with a training accuracy of {accuracy:.3f}."


def plateau_of(history: Sequence[dict], config: dict) -> str | None:
    epochs, config = range(1, len(history) + 1), config | {"patience": PATIENCE}
    stop = next((epoch for epoch in epochs if out_of_patience(history[:epoch], config)), len(history))
    early, best = best_of(history[:stop])["val_accuracy"], best_of(history)["val_accuracy"]
    if len(history) - stop < PATIENCE or best - early > LOST:
        return None
    kept = f"a validation accuracy of {early:.4f} instead of {best:.4f}" if early < best else "the same best epoch"
    saved = f"would have stopped after epoch {stop}, {len(history) - stop} epochs earlier"
    return f"--patience {PATIENCE} {saved}, with {kept}."


def praise_of(history: Sequence[dict], config: dict, faults: set[str]) -> str | None:
    """What is well with a run that has these faults, as the lab report says it of its runs; None if that is nothing."""
    val, qualities = column(history, "val_loss"), []
    end = history[-1:] if config.get("warmup") else history[-WINDOW:]  # of one cycle, the losses fall until the last
    train_end, val_end = (median(column(end, f"{part}_loss")) for part in ("train", "val"))
    if "oscillation" not in faults and val_end <= (1 + 2 * TURNED) * min(smooth(val)):
        qualities.append(f"steady (the validation loss goes up and down by {100 * roughness(val):.1f} % an epoch)")
    if "overfitting" not in faults and val_end <= (1 + APART) * train_end:
        qualities.append(f"no overfitting (training and validation loss end at {train_end:.2f} and {val_end:.2f})")
    since = history[last_gain(val) - 1]["epoch"]
    if not faults & {"oscillation", "overfitting", "still falling"} and history[-1]["epoch"] - since >= LONG:
        qualities.append(f"levelled off (the validation loss has hardly moved since epoch {since})")
    first = history[0]["epoch"]
    where = f"from epoch {first} on, with images of the full size: " if first > 1 else ""
    return f"{where}{'; '.join(qualities)}.".capitalize() if qualities else None


def oddities_of(record: dict) -> list[Finding]:
    """What every reader asks about, and is no mistake."""
    history, config, best = record["history"], record["config"], best_of(record["history"])
    findings, augmented, dropout = [], config.get("augmented_validation", True), config.get("dropout", 0.5) > 0
    apart = ["without dropout"] * dropout
    apart += ["on images that are not augmented"] * (not augmented and not config["no_aug"])
    apart += ["by the average of the weights"] * bool(config.get("average"))
    ahead = [it["val_accuracy"] > it["train_accuracy"] and it["val_loss"] < it["train_loss"] for it in history]
    if sum(ahead) > 2 / 3 * len(history):
        evidence = (
            f"This holds in {sum(ahead)} of {len(history)} epochs, and is no mistake: training is measured during an "
            f"epoch, while the weights still improve{', and with dropout, where a network has it' * dropout}; "
            f"validation comes after the epoch{''.join(f', {how}' for how in apart)}."
        )
        findings.append(Finding("validation better than training", evidence))
    test = record.get("test_accuracy", 0)
    chance = 2 * math.sqrt(2 * test * (1 - test) / images_of(config)[1])  # two standard errors, of a difference of two
    if test - best["val_accuracy"] > chance and augmented and not config["no_aug"]:
        evidence = (
            f"Test accuracy is {test:.3f}, validation {best['val_accuracy']:.3f}, training {best['train_accuracy']:.3f}"
            ". That is no mistake: training and validation images are augmented; test images are not, and are easier."
        )
        findings.append(Finding("test better than validation", evidence))
    return findings
