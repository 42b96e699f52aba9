"""Every setting once: its flag, its word in a run's name, its title, its help and its line in a record."""

import argparse
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from typing import NamedTuple

STEP_SIZE = 10  # epochs from one halving of the learning rate to the next (lab report, training configuration)
LEAST = 1e-9  # of a number that is not 0: far smaller ones are 0 while a run trains (lab/precision.py)


class Number(NamedTuple):
    """What stands behind a flag: a number in a range; a float has at most six digits, which a run's name can show."""

    metavar: str
    kind: type
    low: float
    high: float

    def holds(self, value: object) -> bool:
        return type(value) in (int, self.kind) and self.low <= value <= self.high and not 0 < value < LEAST

    def parse(self, text: str) -> int | float:
        try:
            value = self.kind(text) + 0  # which makes 0 of -0
        except ValueError:
            whole = "whole " * (self.kind is int)
            raise argparse.ArgumentTypeError(f"{text!r} is not a {whole}number") from None
        if not self.holds(value):
            low = f"0, nor between {LEAST}" if self.low == 0 and 0 < value < LEAST else f"between {self.low}"
            raise argparse.ArgumentTypeError(f"{text} is not {low} and {self.high}")
        if self.kind is float and value != float(f"{value:g}"):
            raise argparse.ArgumentTypeError(f"{text} has more than six digits")
        return value


class Word(NamedTuple):
    """What stands behind a flag: one of the words of ``metavar``."""

    metavar: str

    def holds(self, value: object) -> bool:
        return value in self.metavar.split("|")

    def parse(self, text: str) -> str:
        if not self.holds(text):
            raise argparse.ArgumentTypeError(f"{text!r} is not {self.metavar.replace('|', ' or ')}")
        return text


def setting(default: object, word: str, title: str, help: str, kind: Number | Word | None = None, **more) -> object:
    """A field of :class:`Settings`.

    ``word`` stands for it in a run's name, ``title`` above a picture; ``{}`` in both is its value. A setting without a
    ``kind`` is a switch. ``unsaid=True``: the lab report does not mention it. ``before=...``: the value to assume for
    records that are older than the setting; it never changes, whatever the default becomes.
    """
    return field(default=default, metadata={"word": word, "title": title, "help": help, "kind": kind, **more})


unsaid = partial(setting, unsaid=True)
SHARE, P, X = (Number(metavar, float, 0, 1) for metavar in ("SHARE", "P", "X"))
RATE, DECAY, DEGREES = Number("LR", float, 1e-9, 1000), Number("X", float, 0, 10), Number("DEGREES", float, 0, 180)
EPOCHS, count = Number("N", int, 1, 100_000), partial(Number, "N", int)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What decides a run's numbers, in the order of a run's name. None and 0 switch off (but seed 0)."""

    recipe: bool = setting(False, "recipe", "recipe", "train the network as one would today, with the task's RECIPE")
    no_norm: bool = setting(False, "no-norm", "no normalization", "leave pixels in [0, 1] instead of normalizing them")
    no_aug: bool = setting(False, "no-aug", "no augmentation", "train and validate on the images as they are")
    lr: float = setting(0.001, "lr{}", "learning rate {}", "initial learning rate; with --warmup the highest", RATE)
    constant_lr: bool = setting(False, "constant-lr", "constant rate", f"rate not halved every {STEP_SIZE} epochs")
    batch_size: int = setting(64, "batch{}", "batches of {}", "images in a step", count(2, 45_000))
    first_weights: str = unsaid("pytorch", "first-{}", "first weights: {}", "PyTorch's, or He's", Word("pytorch|he"))
    optimizer: str = unsaid("Adam", "opt{}", "{}", "SGD has Nesterov's momentum, 0.9", Word("Adam|AdamW|SGD"))
    weight_decay: float = unsaid(0.0, "decay{}", "weight decay {}", "in Adam and SGD an L2 penalty", DECAY)
    decayed: str = unsaid("all", "decayed-{}", "decay of {}", "all, or kernels and matrices", Word("all|kernels"))
    warmup: float = unsaid(0.0, "warmup{}", "warmup {}", "share of steps in which the rate rises; 0: StepLR", SHARE)
    label_smoothing: float = unsaid(0.0, "smooth{}", "label smoothing {}", "share that is spread over all classes", X)
    dropout: float = unsaid(0.0, "dropout{}", "dropout {}", "chance of each input of the last layer to be left out", P)
    average: float = unsaid(0.0, "average{}", "average {}", "decay of the moving average of the weights; 0: none", X)
    rotation: float = unsaid(15.0, "rotation{}", "rotation {}", "largest random rotation", DEGREES)
    validation: str = unsaid("augmented", "{}-val", "{} validation", "validate on such images", Word("augmented|plain"))
    statistics: str = unsaid("first", "stats-{}", "statistics: {}", "normalize by one image, or all", Word("first|all"))
    image_size: int = unsaid(32, "size{}", "size {}", "height and width that images are enlarged to", count(32, 256))
    growth: float = unsaid(0.0, "growth{}", "growth {}", "share of the epochs in which images grow to that size", SHARE)
    epochs: int = setting(80, "epochs{}", "{} epochs", "passes over the training images", EPOCHS)
    patience: int | None = setting(None, "patience{}", "patience {}", "stop after N epochs without a new best", EPOCHS)
    seed: int = setting(0, "seed{}", "seed {}", "seed of everything random", count(0, 2**31 - 1))
    limit: int | None = setting(None, "limit{}", "{} images", "a quick look: train on N images only", count(10, 45_000))
    sample: bool = setting(False, "sample", "sample", "train on the sample of CIFAR-10 that is here: no download")
    float32: bool = setting(False, "float32", "float32", "train in float32, also where the device has bfloat16")

    def changes(self, base: "Settings") -> dict[str, object]:
        """The settings that differ from those of ``base``, in the order of a run's name."""
        return {name: value for name, value in asdict(self).items() if value != getattr(base, name)}


def settings_of(config: Mapping[str, object]) -> Settings:
    """The settings in a record's configuration; KeyError: it lacks one that was always there."""
    before = {it.name: it.metadata["before"] for it in fields(Settings) if "before" in it.metadata}
    return Settings(**{it.name: (before | config)[it.name] for it in fields(Settings)})


def option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def value_text(value: object) -> str:
    return "off" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def flags_for(changes: Mapping[str, object]) -> list[str]:
    """The words of a command line that make these changes."""
    pairs = ([option(name)] + [value_text(value)] * (value is not True) for name, value in changes.items())
    return [word for pair in pairs for word in pair]


def run_name(task: str, changes: Mapping[str, object]) -> str:
    """A run's name: its task and all settings that differ from the task's, such as ``task2_resnet18_no-aug_seed1``."""
    words = (it.metadata["word"].format(value_text(changes[it.name])) for it in fields(Settings) if it.name in changes)
    return "_".join([task, *words])


def titles(name: str, config: Mapping[str, object]) -> list[str]:
    """The settings in a run's name, in words, where ``config`` says the same: a task may be called ``net_recipe``."""
    found = []
    for it in reversed(fields(Settings)):
        value = value_text(config.get(it.name))
        word = "_" + it.metadata["word"].format(value)
        if name.endswith(word) and value != "False":
            name = name.removesuffix(word)
            found.insert(0, it.metadata["title"].format(value))
    return found
