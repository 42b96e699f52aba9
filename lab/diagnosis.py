"""Reading learning curves: what a run's history shows, and which setting to turn next.

Every rule looks at the numbers of one run, as a teacher would at its picture, and gives the evidence with the finding.
"""

import math
import textwrap
from collections.abc import Sequence
from statistics import mean, median
from typing import NamedTuple

from lab.record import STEP_SIZE, best_of, out_of_patience

SHORT = STEP_SIZE  # epochs: in fewer than one stage of StepLR, noise looks like a trend
WINDOW = 5  # epochs, whose median stands for the middle one: two wild epochs in a row change nothing
GAIN = 0.02  # of a loss: on 5,000 validation images it moves by 1 to 2 % from epoch to epoch, even at tiny rates
FOLLOWED = 0.15  # of a loss: the training loss always gets a little further than validation
RISE = 0.1  # of the first training loss: over 45,000 images, chance moves it by less than 1 %
SWING = 0.05  # of a loss: in the committed runs, whose rates are right, no ten epochs are above 0.04
GUESSING = math.log(10)  # the loss of a network that finds all ten classes equally likely
FALLING = 0.01  # of a loss, in one epoch: at that pace, ten more epochs would bring a tenth
SLOWED = 2 / 3  # a fall that goes on undisturbed keeps more of its pace over the 2.5 epochs that are compared
PATIENCE = STEP_SIZE  # epochs: one stage of StepLR, so that every rate gets its chance
LOST = 0.005  # of accuracy: less than its standard error on 5,000 images, 0.006

RULES = {  # for each finding, what it is found by, and what to turn next
    "too short to read": (
        f"There are fewer than {SHORT} epochs.",
        "Train for more --epochs before you change anything.",
    ),
    "oscillation": (
        f"Over {SHORT} epochs, the validation loss goes up and down by more than {100 * SWING:.0f} % an epoch.",
        "Lower the learning rate (--lr), or take larger batches (--batch-size). If only the beginning is rough, the "
        "schedule has cured it, and it costs little.",
    ),
    "no convergence": (
        f"The validation loss has not fallen for {SHORT} epochs, and the training loss is above {GUESSING / 2:.2f}, "
        f"half of what guessing costs; or the training loss rises again, by {100 * RISE:.0f} % of its first value.",
        "Lower the learning rate (--lr) by a factor of 3 to 10. If the losses then fall smoothly, but end as high, the "
        "network is too small, or something is wrong with the data.",
    ),
    "still falling": (
        f"In the last {SHORT} epochs, the validation loss has fallen by more than {100 * GAIN:.0f} %, and by more than "
        "it goes up and down.",
        "Train for more --epochs. If it falls slowly and smoothly, a higher --lr gets there sooner.",
    ),
    "overfitting": (
        f"The validation loss does not fall any more, and the training loss falls by another {100 * FOLLOWED:.0f} %.",
        "Make the training images more varied (augmentation), or the network less free (dropout, weight decay, fewer "
        "weights). Another learning rate does not cure it. Until then, stop early (--patience).",
    ),
    "decayed too early": (
        "Most times that the rate was lowered while the training loss was falling, it fell more slowly from then on. "
        "(Where the rate is high enough, lowering it makes the loss drop at once.)",
        "Begin with a higher rate (--lr), or lower it later: --constant-lr shows how far this rate gets.",
    ),
    "plateau": (
        f"--patience {PATIENCE} would have saved {PATIENCE} epochs or more, and cost at most {LOST:g} of validation "
        "accuracy.",
        f"Stop early (--patience {PATIENCE}), and spend the time on another setting or another seed.",
    ),
    "healthy": ("None of the above.", "Nothing to complain about. To get further, change the network or the data."),
}


class Finding(NamedTuple):
    """What the curves show, the numbers that say so, and what to turn next."""

    name: str  # a key of RULES
    evidence: str

    @property
    def advice(self) -> str:
        return RULES[self.name][1]


def diagnose(history: Sequence[dict]) -> list[Finding]:
    """Read the curves of a run (lab report, question 8: what to turn when). Never empty: at least "healthy".

    ``history`` has for each epoch, from 1 on, ``learning_rate``, and loss and accuracy as ``train_loss``,
    ``train_accuracy``, ``val_loss``, ``val_accuracy``.
    """
    if len(history) < SHORT:
        return [Finding("too short to read", f"{len(history)} of at least {SHORT} epochs.")]
    findings = [oscillation_of(history), convergence_of(history), overfitting_of(history)]
    names = {finding.name for finding in findings if finding}
    if "overfitting" not in names:  # who overfits has arrived, and further than wished
        findings.append(early_decay_of(history))
    if "still falling" not in names:
        findings.append(plateau_of(history))
    last = history[-1]
    healthy = (
        f"Training and validation loss have come down together, to {last['train_loss']:.2f} and {last['val_loss']:.2f}."
    )
    return [finding for finding in findings if finding] or [Finding("healthy", healthy)]


def print_reading(history: Sequence[dict]) -> None:
    """Print what the curves show, and what to turn next."""
    for finding in diagnose(history):
        text = f"{finding.name.capitalize()}: {finding.evidence} {finding.advice}"
        print(textwrap.fill(text, width=100, subsequent_indent="  ", break_on_hyphens=False))


def column(rows: Sequence[dict], name: str) -> list[float]:
    return [row[name] for row in rows]


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


def last_gain(losses: Sequence[float]) -> int:
    """The epoch from which on a loss gains nothing any more.

    A gain lasts: the median over :data:`SHORT` later epochs is lower by more than :data:`GAIN`, and by more than twice
    what the curve goes up and down anyway. So a lucky epoch is none.
    """
    smoothed, last_start = smooth(losses), max(len(losses) - SHORT, 0)

    def is_last(epoch: int) -> bool:
        later = min(median(losses[i : i + SHORT]) for i in range(min(epoch - 1, last_start), last_start + 1))
        return later >= (1 - max(GAIN, 2 * roughness(losses[epoch - 1 :]))) * smoothed[epoch - 1]

    return next((epoch for epoch in range(1, len(losses) + 1) if is_last(epoch)), len(losses))


def oscillation_of(history: Sequence[dict]) -> Finding | None:
    val = column(history, "val_loss")
    windows = [roughness(val[first : first + SHORT]) for first in range(len(val) - SHORT + 1)]
    worst = max(windows)
    if worst <= SWING:
        return None
    first = windows.index(worst) + 1
    evidence = (
        f"Between epochs {first} and {first + SHORT - 1} the validation loss goes up and down by {100 * worst:.0f} % "
        f"an epoch; in the last {SHORT} epochs by {100 * windows[-1]:.0f} %."
    )
    return Finding("oscillation", evidence)


def convergence_of(history: Sequence[dict]) -> Finding | None:
    train, val = smooth(column(history, "train_loss")), column(history, "val_loss")
    before, after = median(val[-SHORT:-WINDOW]), median(val[-WINDOW:])
    if after < (1 - max(GAIN, roughness(val[-SHORT:]))) * before:
        evidence = f"In the last {SHORT} epochs the validation loss has fallen from {before:.2f} to {after:.2f}."
        return Finding("still falling", evidence)
    if train[-1] - (low := min(train)) > RISE * train[0]:
        evidence = f"The training loss was {low:.2f} in epoch {train.index(low) + 1}, and is {train[-1]:.2f}."
        return Finding("no convergence", evidence)
    gained = last_gain(val)
    if len(val) - gained >= SHORT and train[-1] > GUESSING / 2:
        evidence = (
            f"The validation loss has not fallen since epoch {gained}, and the training loss is still {train[-1]:.2f}, "
            f"more than half of what guessing costs ({GUESSING:.2f})."
        )
        return Finding("no convergence", evidence)
    return None


def overfitting_of(history: Sequence[dict]) -> Finding | None:
    train, val = smooth(column(history, "train_loss")), smooth(column(history, "val_loss"))
    gained = last_gain(column(history, "val_loss"))
    fallen = train[gained - 1] - train[-1]
    if fallen <= (FOLLOWED + 2 * roughness(column(history, "val_loss")[gained - 1 :])) * train[gained - 1]:
        return None
    follows = "has risen" if val[-1] > (1 + SWING) * val[gained - 1] else "has hardly moved"
    evidence = (
        f"Since epoch {gained} the training loss has fallen by {100 * fallen / train[gained - 1]:.0f} %, from "
        f"{train[gained - 1]:.2f} to {train[-1]:.2f}; the validation loss {follows}, from {val[gained - 1]:.2f} to "
        f"{val[-1]:.2f}."
    )
    return Finding("overfitting", evidence)


def early_decay_of(history: Sequence[dict]) -> Finding | None:
    """Whether it was the step size that held the training loss up.

    Where a rate is high enough, halving it makes the loss drop at once, for the weights stop jumping about. Where it is
    too low for that, the loss was falling as fast as the steps allowed, and half the step makes it fall more slowly.
    """
    train, rates = column(history, "train_loss"), column(history, "learning_rate")
    falling = []
    for cut in range(4, len(history) - 1):
        if rates[cut] >= rates[cut - 1]:
            continue
        before, after = (train[cut - 4] - train[cut - 1]) / 3, (train[cut - 1] - train[cut + 1]) / 2  # an epoch
        if before > FALLING * train[cut - 1]:
            falling.append((cut, before, after))
    slower = [(cut, before, after) for cut, before, after in falling if after <= SLOWED * before]
    if 2 * len(slower) <= len(falling):
        return None
    cut, before, after = slower[0]
    evidence = (
        f"When the rate was lowered to {rates[cut]:g}, after epoch {cut}, the training loss was still falling by "
        f"{before:.3f} an epoch; then only by {after:.3f}. It ended at {train[-1]:.2f}."
    )
    return Finding("decayed too early", evidence)


def plateau_of(history: Sequence[dict]) -> Finding | None:
    epochs = range(1, len(history) + 1)
    stop = next((epoch for epoch in epochs if out_of_patience(history[:epoch], PATIENCE)), len(history))
    early, best = best_of(history[:stop])["val_accuracy"], best_of(history)["val_accuracy"]
    if len(history) - stop < PATIENCE or best - early > LOST:
        return None
    evidence = (
        f"--patience {PATIENCE} would have stopped after epoch {stop}, {len(history) - stop} epochs earlier, with a "
        f"validation accuracy of {early:.4f} instead of {best:.4f}."
    )
    return Finding("plateau", evidence)
