"""The rules for reading learning curves: thresholds, each with its reason; what a fault is found by, and its cure."""

import math

from lab.curves import GAIN, SHORT, WINDOW
from lab.record import STEP_SIZE

FOLLOWED = 0.15  # of a loss: the training loss always gets a little further than validation
APART = 0.25  # of the training loss: in SimpleCNN, which does not overfit, validation is never as far above it
RISE = 0.1  # of the first training loss: over 45,000 images, chance moves it by less than 1 %
SWING = 0.07  # of a loss: ten steep but smooth epochs (SimpleCNN's first) have 0.055, unsteady ones (figure 3) 0.1
TURNED = 0.05  # of a loss: one this far above its lowest has turned; chance does less to a smoothed loss
GUESSING = math.log(10)  # the loss of a network that finds all ten classes equally likely
LEARNED = 0.95 * GUESSING  # the first epoch of any run that learns is far below
LONG = 2 * STEP_SIZE  # epochs: two stages of StepLR without a gain, for the next halving may bring one
FEW = 22_500  # images: half of those to train
UNLEARNED = (
    GUESSING / 5
)  # ResNet-18 ends at 0 without augmentation, at 0.3 with it; from too low a rate at 0.5, and SimpleCNN at 0.65
PATIENCE = STEP_SIZE  # epochs: one stage of StepLR, so that every rate gets its chance
LOST = 0.005  # of accuracy: less than its standard error on 5,000 images, 0.006


RULES = {  # for each fault that is looked for: what it is found by, and what to turn next
    "too short to read": (
        f"There are fewer than {SHORT} epochs.",
        "Train for more --epochs before you change anything.",
    ),
    "a quick look": (
        "The run has --limit or --sample, and so fewer than half of the training images.",
        "Train on all images before you change anything: what helps with few need not help with many.",
    ),
    "nothing learned": (
        f"The training loss has never been below {LEARNED:.2f}; guessing costs {GUESSING:.2f}.",
        "The learning rate is far too high, or far too low: try a tenth of it, and ten times as much (--lr).",
    ),
    "oscillation": (
        f"Over {SHORT} epochs, the validation loss goes up and down by more than {100 * SWING:.0f} % an epoch (with N "
        "validation images instead of 5,000: √(5,000 / N) times as much).",
        "Lower the learning rate (--lr), or take larger batches (--batch-size).",
    ),
    "no convergence": (
        f"Neither loss has fallen for {SHORT} epochs, and the training loss is above {GUESSING / 2:.2f}, half of what "
        f"guessing costs; or the training loss rises again, by {100 * RISE:.0f} % of its first value.",
        "Lower the learning rate (--lr) by a factor of 3 to 10. If the losses then fall smoothly, but end as high, the "
        "network is too small, or something is wrong with the data.",
    ),
    "a cycle cut short": (
        "--patience has stopped a run with --recipe before its last epoch.",
        "Leave out --patience, or give the whole cycle fewer --epochs: its last ones, at small rates, bring a lot.",
    ),
    "still falling": (
        f"In the last {SHORT} epochs, the validation loss has fallen by more than {100 * GAIN:.0f} %, and by more than "
        "it goes up and down.",
        "Train for more --epochs. If it falls slowly and smoothly, a higher --lr gets there sooner.",
    ),
    "overfitting": (
        f"The validation loss does not fall any more, and the training loss falls by another {100 * FOLLOWED:.0f} %.",
        "Compare other rates first (--lr). If they bring nothing, it takes more varied images (a stronger "
        "augmentation), or a network that is less free (dropout, fewer channels), and so a change in the code.",
    ),
    "underfitting": (
        f"The median training loss of the last {WINDOW} epochs is within {100 * GAIN:.0f} % of that of the {WINDOW} "
        f"before, and between {UNLEARNED:.2f} and {GUESSING / 2:.2f}, a fifth and half of what guessing costs; and "
        "there is neither *still falling* nor *overfitting*.",
        "The network could learn more: begin with a higher rate (--lr), or let it fall later (--constant-lr shows how "
        "far this rate gets). If that brings nothing, it takes a larger network or less dropout, and so a change in "
        "the code.",
    ),
    "plateau": (
        f"--patience {PATIENCE} would have saved {PATIENCE} epochs or more, and cost at most {LOST:g} of validation "
        "accuracy.",
        f"Stop early (--patience {PATIENCE}), and spend the time on another setting or another seed.",
    ),
}
FALL_AGAIN = "Let the rate fall (leave out --constant-lr), or begin with a lower one (--lr)."
MORE_IMAGES = "More images are the best cure: take all of them."
INSTEAD = {  # what to turn next in a run that has one of these flags
    "too short to read": {"patience": "Train for more epochs (more --patience, or none) before you change anything."},
    "oscillation": {
        "no_norm": "Leave out --no-norm: with normalized images, training is steadier.",
        "constant_lr": FALL_AGAIN,
    },
    "no convergence": {"constant_lr": FALL_AGAIN},
    "underfitting": {
        "constant_lr": "Begin with a higher rate (--lr). If the losses then jump about, let it fall (leave out "
        "--constant-lr)."
    },
    "still falling": {"patience": "Train for more epochs: more --patience, or none."},
    "overfitting": {
        "no_aug": "Leave out --no-aug: images that are moved, mirrored and turned anew in every epoch are the cure.",
        "limit": MORE_IMAGES,
        "sample": MORE_IMAGES,
    },
}
