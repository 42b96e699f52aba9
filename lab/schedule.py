"""Pure functions of the settings and an epoch or a step: learning rate, size of the images, patience, best epoch."""

import math
from collections.abc import Sequence

from lab.settings import STEP_SIZE, Settings

GAMMA = 0.5  # of StepLR: the learning rate is halved (lab report, training configuration)
START, END = 1 / 25, 1 / 250_000  # of the highest rate of a cycle: the rates of its first and of its last step
SAMPLE_IMAGES = 2_250  # to train, in the sample of CIFAR-10


def best_of(history: Sequence[dict]) -> dict:
    """The epoch with the highest validation accuracy, the earliest of equals (lab report, questions 3 and 6).

    Where images grow, only epochs with the largest images count: accuracies on two sizes do not compare.
    """
    return max(history, key=lambda epoch: (epoch.get("image_size", 0), epoch["val_accuracy"]))


def out_of_patience(history: Sequence[dict], settings: Settings) -> bool:
    """Whether the last epochs, as many as ``settings.patience`` says, brought no new best; never if it is None."""
    if not settings.patience or not history or size_of(settings, len(history)) < settings.image_size:
        return False  # where images still grow, larger ones bring the next best
    return len(history) - best_of(history)["epoch"] >= settings.patience


def images_of(settings: Settings) -> tuple[int, int]:
    """How many images a run has to train and to validate."""
    train = settings.limit or (SAMPLE_IMAGES if settings.sample else 45_000)
    return train, (train // 10 if settings.limit else train // 9)


def steps_of(images: int, batch_size: int) -> int:
    """How many steps an epoch has: a last batch of one image is left out, for batch norm cannot average over it."""
    return math.ceil((images - (images % batch_size == 1)) / batch_size)


def rate_of(settings: Settings, step: int, steps: int) -> float:
    """The learning rate of a step, counted from 0 over the whole run, if an epoch has so many ``steps``.

    StepLR (lab report, training configuration) or, with a warmup, one cycle: the rate rises in a line, then falls in a
    line to almost nothing. Smith and Topin, "Super-Convergence" (2019); the numbers are those of ``OneCycleLR``.
    """
    if not settings.warmup:
        return settings.lr * (1 if settings.constant_lr else GAMMA ** (step // steps // STEP_SIZE))
    last = steps * settings.epochs - 1
    top = max(1, settings.warmup * (last + 1) - 1)  # the step with the highest rate, which may lie between two
    share = START + (1 - START) * step / top if step <= top else 1 + (END - 1) * (step - top) / (last - top)
    return settings.lr * share


def size_of(settings: Settings, epoch: int) -> int:
    """Height and width of the images in an epoch. They may grow from 32, in steps of 16.

    The smaller sizes have about equally many epochs, and the last epoch always has the largest.
    Howard, "Training Imagenet in 3 hours for $25; and CIFAR10 for $0.26" (2018), calls it progressive resizing.
    """
    if not settings.growth:
        return settings.image_size
    smaller = range(32, settings.image_size, 16)
    passed = int(epoch / (settings.growth * settings.epochs) * len(smaller))
    return smaller[passed] if passed < len(smaller) else settings.image_size


def epochs_left(settings: Settings, epoch: int) -> float:
    """How long all epochs after this one take, in units of this one: their time grows with the pixels."""
    following = range(epoch + 1, settings.epochs + 1)
    return sum(size_of(settings, number) ** 2 for number in following) / size_of(settings, epoch) ** 2
