"""Reading learning curves: one list of rules says what they show, and which setting to change next."""

import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from lab import curves
from lab.curves import GAIN, STAGE, WINDOW, Curves


@dataclass(frozen=True, eq=False)
class Rule:
    """One thing that the curves of a run may show."""

    name: str
    sign: str  # how it is found
    evidence: Callable[[Curves], str | None]  # a sentence with the numbers that show it; None: they do not
    advice: str = ""  # what to change next, where something is wrong
    exceptions: Mapping[str, str] = field(default_factory=dict)  # for a setting that the run has: other advice
    unless: tuple["Rule", ...] = ()  # where one of these was found, this rule is not looked for
    in_cycle: bool = True  # whether it is looked for with --warmup, too: in one cycle, losses fall until the end
    ends: bool = False  # whether nothing else is looked for where this was found
    mutes: bool = False  # whether this has to be changed before anything else, so that no other advice is given


class Finding(NamedTuple):
    """A rule that applies to a run."""

    rule: Rule
    evidence: str
    advice: str  # what to change next, if anything


def diagnose(record: dict) -> list[Finding]:
    """Read the curves of a run (lab report, questions 2, 5 and 8): what is well, what is not, what only looks odd.

    ``record`` has at least ``config`` and ``history``; its test result may be missing.
    """
    it, found = curves.curves_of(record), {}
    for rule in RULES:
        left_out = found.keys() & rule.unless or (it.settings.warmup and not rule.in_cycle)
        if not left_out and (sentence := rule.evidence(it)):
            found[rule] = sentence
            if rule.ends:
                break
    muting = next((rule for rule in found if rule.mutes), None)
    advice = {rule: advice_for(rule, it) if muting in (None, rule) else "" for rule in found}
    return [Finding(rule, found[rule], advice[rule]) for rule in sorted(found, key=lambda rule: rule is not GOOD)]


def advice_for(rule: Rule, it: Curves) -> str:
    """What to change next in a run to which this rule applies."""
    stopped = it.history[-1]["epoch"] < it.settings.epochs  # if not, --patience has changed nothing
    given = (name for name in rule.exceptions if getattr(it.settings, name) and (stopped or name != "patience"))
    return next((rule.exceptions[name] for name in given), rule.advice)


def print_reading(record: dict) -> None:
    for rule, sentence, advice in diagnose(record):
        text = f"{rule.name.capitalize()}: {sentence} {advice}"
        print(textwrap.fill(text, width=80, subsequent_indent="  ", break_on_hyphens=False))


TOO_SHORT = Rule(
    "too short to read",
    f"There are fewer than {STAGE} epochs.",
    curves.too_short,
    "Train for more --epochs before you change anything.",
    {"patience": "Train for more epochs (more --patience, or none) before you change anything."},
    ends=True,
)
NOTHING_LEARNED = Rule(
    "nothing learned",
    f"The training loss has never been below {curves.LEARNED:.2f}; guessing costs {curves.GUESSING:.2f}.",
    curves.nothing_learned,
    "The learning rate is far too high, or far too low: try a tenth of it, and ten times as much (--lr).",
    ends=True,
)
QUICK_LOOK = Rule(
    "a quick look",
    "The run has --limit or --sample, and so fewer than half of the training images.",
    curves.quick_look,
    "Train on all images before you change anything. What helps with few need not help with many, and more images are "
    "the best cure for overfitting.",
    mutes=True,
)
CUT_SHORT = Rule(
    "a cycle cut short",
    "--patience has stopped a run with a --warmup (which --recipe has) before its last epoch.",
    curves.cut_short,
    "Leave out --patience, or give the whole cycle fewer --epochs: its last ones, at small rates, bring a lot.",
    mutes=True,
)

OSCILLATION = Rule(
    "oscillation",
    f"Over {STAGE} epochs, the validation loss goes up and down by more than {100 * curves.ROUGH:.0f} % an epoch "
    "(with N validation images instead of 5,000: √(5,000 / N) times as much).",
    curves.oscillation,
    "Lower the learning rate (--lr), or take larger batches (--batch-size).",
    {
        "no_norm": "Leave out --no-norm, which may be what makes the first epochs unsteady.",
        "constant_lr": "Let the rate fall (leave out --constant-lr), or begin with a lower one (--lr).",
    },
)
STILL_FALLING = Rule(
    "still falling",
    f"In the last {STAGE} epochs, the validation loss has fallen by more than {100 * GAIN:.0f} %, and by more than it "
    "goes up and down.",
    curves.still_falling,
    "Train for more --epochs. If the loss falls slowly and smoothly, a higher --lr gets there sooner.",
    {"patience": "Train for more epochs: more --patience, or none."},
    in_cycle=False,
)
NO_CONVERGENCE = Rule(
    "no convergence",
    f"For {STAGE} epochs or more, the validation loss has not clearly fallen, nor the training loss by "
    f"{100 * curves.GAP_GROWTH:.0f} %, and it is above {curves.HALF:.2f}, half of what guessing costs; or the training "
    f"loss rises again, by {100 * curves.TRAIN_RISE:.0f} % of its first value.",
    curves.no_convergence,
    "Lower the learning rate (--lr) by a factor of 3 to 10. If the losses then fall smoothly, but end as high, the "
    "--weight-decay is too large, the network is too small, or something is wrong with the data.",
    {"constant_lr": OSCILLATION.exceptions["constant_lr"]},
    unless=(STILL_FALLING,),
)
OVERFITTING = Rule(
    "overfitting",
    "The validation loss does not fall any more, and the training loss falls by another "
    f"{100 * curves.GAP_GROWTH:.0f} %. With a --warmup: the validation loss rises again.",
    curves.overfitting,
    "Try a third and three times the rate first (--lr). If they bring nothing, regularize more (--weight-decay, or "
    "--dropout where the network has it). Other augmentations and fewer channels take a change in the code.",
    {"no_aug": "Leave out --no-aug. Images that are moved and mirrored anew in every epoch are the cure."},
    unless=(STILL_FALLING, NO_CONVERGENCE),
)
UNDERFITTING = Rule(
    "underfitting",
    f"The median training loss of the last {WINDOW} epochs is within {100 * GAIN:.0f} % of that of the {WINDOW} "
    f"before, and between {curves.FITTED:.2f} and {curves.HALF:.2f}, a fifth and half of what guessing costs; and "
    f"there is neither *{STILL_FALLING.name}* nor *{OVERFITTING.name}*.",
    curves.underfitting,
    "The network could learn more. Try a third and three times the rate (--lr), and less --weight-decay, which holds a "
    "network down most where the rate is high. If they bring nothing, augment and regularize less (--rotation, "
    "--dropout). More channels take a change in the code.",
    {"constant_lr": "Let the rate fall (leave out --constant-lr), and try a third and three times the rate (--lr)."},
    unless=(STILL_FALLING, NO_CONVERGENCE, OVERFITTING),
    in_cycle=False,
)
PLATEAU = Rule(
    "plateau",
    f"--patience {curves.PATIENCE} would have saved {curves.PATIENCE} epochs or more, and cost at most "
    f"{curves.COST:g} of validation accuracy.",
    curves.plateau,
    f"Stop early (--patience {curves.PATIENCE}), and spend the time on another setting or another seed.",
    unless=(QUICK_LOOK, STILL_FALLING, NO_CONVERGENCE),
    in_cycle=False,
)

GOOD = Rule(
    "good",
    "Steady: no oscillation, and a validation loss that ends near its lowest. No overfitting: it ends near the "
    f"training loss, too. Levelled off: it has hardly moved for {curves.LEVEL} epochs (with --recipe, it falls to the "
    "end).",
    curves.good,
    unless=(QUICK_LOOK, CUT_SHORT, NO_CONVERGENCE),
)
VALIDATION_BETTER = Rule(
    "validation better than training",
    "In more than two thirds of all epochs, validation has the higher accuracy and the lower loss.",
    curves.validation_better,
)
TEST_BETTER = Rule(
    "test better than validation",
    "Validation images are augmented, and the test accuracy is above the highest validation accuracy by more than "
    "two standard errors.",
    curves.test_better,
)

RULES = (  # in the order in which they are looked for
    *(TOO_SHORT, NOTHING_LEARNED, QUICK_LOOK, CUT_SHORT),  # what has to be changed before anything else
    *(OSCILLATION, STILL_FALLING, NO_CONVERGENCE, OVERFITTING, UNDERFITTING, PLATEAU),  # what is wrong
    *(GOOD, VALIDATION_BETTER, TEST_BETTER),  # what is well, and what only looks odd
)
