"""Every setting once, the command line of both scripts, and the name that it gives a run."""

import argparse
import difflib
import math
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

from lab import exits, shell
from lab.files import Files
from lab.record import SAMPLE_IMAGES, STEP_SIZE

ROOT = Path(__file__).resolve().parent.parent  # the folder of the scripts
TITLES = {"task1_simplecnn": "SimpleCNN", "task2_resnet18": "ResNet-18"}


def number(kind: type, text: str) -> int | float:
    """``text`` as an int or a float, as ``kind`` says; refused as argparse refuses a value."""
    try:
        return kind(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a {'whole ' * (kind is int)}number") from None


def integer(low: int, high: int) -> Callable[[str], int]:
    """An argparse type: whole numbers from ``low`` to ``high``."""

    def parse(text: str) -> int:
        value = number(int, text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{value} is not between {low} and {high}")
        return value

    return parse


def learning_rate(text: str) -> float:
    """An argparse type: positive, finite, and of at most six digits, which is what the name of a run tells apart."""
    value = number(float, text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    if value != float(f"{value:g}"):
        raise argparse.ArgumentTypeError(f"{text} has more than six digits")
    return value


def device(text: str) -> torch.device:
    """An argparse type: a device that this machine has."""
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    present = ["cuda"] * (gpus > 0) + ["mps"] * torch.backends.mps.is_available() + ["cpu"]
    choices = ["auto", *present, *(f"cuda:{index}" for index in range(gpus))]
    if text not in choices:
        raise argparse.ArgumentTypeError(f"{text!r} is not a device of this machine, which has {', '.join(choices)}")
    return torch.device(present[0] if text == "auto" else text)


def path(text: str) -> Path:
    """An argparse type: a path, in which ~ is the home directory, also where no shell has replaced it."""
    if not text:
        raise argparse.ArgumentTypeError("an empty name is no path")
    expanded = os.path.expanduser(text)
    if expanded.startswith("~"):
        raise argparse.ArgumentTypeError(f"there is no home directory {text.partition(os.sep)[0]} (./~ is a folder)")
    return Path(expanded)


class Setting(NamedTuple):
    """A setting that changes a run's numbers."""

    word: str  # for it in a run's name
    title: str  # for it above a picture
    default: object  # where a task has none of its own
    help: str
    type: Callable[[str], object] | None = None  # None: a switch


SETTINGS = {  # in the order of a run's name
    "recipe": Setting("recipe", "recipe", False, "train the network as one would today, with the task's RECIPE"),
    "no_norm": Setting("no-norm", "no normalization", False, "leave pixels in [0, 1] instead of normalizing them"),
    "no_aug": Setting("no-aug", "no augmentation", False, "train and validate on the images as they are"),
    "lr": Setting(
        "lr", "learning rate {}", None, f"learning rate of the first {STEP_SIZE} epochs, or highest rate", learning_rate
    ),
    "constant_lr": Setting(
        "constant-lr", "constant rate", False, f"never halve the learning rate (else every {STEP_SIZE} epochs)"
    ),
    "batch_size": Setting("batch", "batches of {}", None, "images a step", integer(2, 45_000)),
    "epochs": Setting("epochs", "{} epochs", None, "passes over the data", integer(1, 100_000)),
    "patience": Setting(
        "patience",
        "patience {}",
        None,
        "stop after N epochs without a new best; not while images grow",
        integer(1, 100_000),
    ),
    "seed": Setting("seed", "seed {}", 0, "seed of everything random", integer(0, 2**31 - 1)),
    "limit": Setting(
        "limit", "{} images", None, "a quick look: N images, N/10 to validate, N/10 to test", integer(10, 45_000)
    ),
    "sample": Setting(
        "sample", "sample", False, "train on the sample of CIFAR-10 that comes with the scripts: no download"
    ),
    "float32": Setting("float32", "float32", False, "train in float32, also where the device has bfloat16"),
}
PLAIN = {  # what a RECIPE may change, and no flag: as the original has it, or as we chose where it is silent
    "optimizer": "Adam",
    "weight_decay": 0.0,
    "warmup": 0.0,  # the share of all steps in which the rate of a one-cycle schedule rises
    "label_smoothing": 0.0,
    "dropout": 0.5,
    "average": 0.0,  # what an average of the weights keeps of itself in each step
    "rotation": 15.0,  # degrees at most
    "augmented_validation": True,
    "statistics": "first image",
    "image_size": 32,
    "growth": 0.0,  # the share of all epochs after which images have grown from 32 to that size
}


class Run(argparse.Namespace):
    """A run as the command line describes it. Every flag is an attribute, and so is what a recipe may change.

    ``task``    the name of its script
    ``usual``   the settings of that script without flags, or with --recipe alone
    ``places``  the flags that are no settings, but that a command needs to repeat it: device and directories
    ``state``   what an interrupted process left of it to go on from, or None
    ``config``  once the data are loaded: all that decides its numbers, the settings and ``mean`` and ``std``
    """

    state = config = None

    @property
    def settings(self) -> dict:
        return {"task": self.task} | {name: getattr(self, name) for name in self.usual}

    @property
    def changes(self) -> dict:
        """The settings that are not as usual."""
        return {name: value for name, value in self.settings.items() if value != self.usual[name]}

    @property
    def name(self) -> str:
        return run_name(self.task, self.changes)

    @property
    def command(self) -> str:
        """What to type here to repeat it."""
        return self.command_without()

    def command_without(self, *settings: str) -> str:
        """What to type here to repeat it, but with the defaults of these ``settings``."""
        changes = {name: value for name, value in self.changes.items() if name not in settings}
        return shell.line([shell.interpreter(), shell.called(ROOT / f"{self.task}.py"), *words(changes | self.places)])

    @property
    def files(self) -> Files:
        return Files(self.output_dir, self.task, self.name)

    @property
    def needs_no_training(self) -> bool:
        """Whether there is nothing to train: --test, --predict, or --resume of a run that has finished."""
        return bool(self.test or self.predict or (self.resume and self.files.finished))


def parse(description: str, defaults: dict, argv: list[str] | None = None, recipe: dict | None = None) -> Run:
    """Read the flags, of ``argv`` or the command line; ``defaults`` are the task's name, epochs, batch_size and lr.

    ``recipe`` is what --recipe changes: some of these, and of :data:`PLAIN`.

    Raises SystemExit: a value is wrong. The exit code is 2, after one line on standard error.
    """
    parser, recipe = parser_for(description), recipe or {}
    flag = parser.add_argument
    for name, setting in SETTINGS.items():
        how = {"dest": name, "default": argparse.SUPPRESS, "help": setting.help}
        if setting.type is None:
            flag(option(name), action="store_true", **how)
            continue
        default = defaults.get(name, setting.default)
        how["help"] += f" ({'off' if default is None else value_text(default)}"
        how["help"] += f"; with --recipe {value_text(recipe[name])})" if name in recipe else ")"
        flag(option(name), type=setting.type, metavar="LR" if name == "lr" else "N", **how)
    auto = device("auto")
    flag("--device", type=device, default=auto, help="auto, cpu, cuda, cuda:1 or mps (auto: cuda, else mps, else cpu)")
    flag("--data-dir", type=path, metavar="DIR", help="holds CIFAR-10, or gets it ($CIFAR10_DIR, else data)")
    flag("--output-dir", type=path, default=ROOT, metavar="DIR", help="gets plots/ and checkpoints/ (here)")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--resume", action="store_true", help="continue this run from its last finished epoch")
    mode.add_argument("--restart", action="store_true", help="throw this run's unfinished state away and begin again")
    mode.add_argument("--test", action="store_true", help="test the saved best checkpoint; train and write nothing")
    mode.add_argument(
        "--predict", nargs="+", type=path, metavar="FILE", help="name what these images show (of a folder: all)"
    )
    mode.add_argument("--dry-run", action="store_true", help="two epochs on made-up images; need and leave nothing")

    run = parsed(parser, argv, Run(recipe=False))
    if run.recipe and "constant_lr" in run:
        parser.error("argument --constant-lr: not allowed with argument --recipe, whose rate rises and falls")
    run.usual = usual_settings(defaults, recipe if run.recipe else None)
    for name, value in (PLAIN | run.usual).items():
        setattr(run, name, getattr(run, name, value))
    if run.dry_run:
        run.epochs = min(run.epochs, 2)
    if run.sample and (run.limit or 0) > SAMPLE_IMAGES:
        parser.error(f"argument --limit: {run.limit} is more than the {SAMPLE_IMAGES:,} training images of the sample")
    places = {name: getattr(run, name) for name in ("device", "data_dir", "output_dir")}
    run.places = {name: value for name, value in places.items() if value != parser.get_default(name)}
    if "data_dir" not in run.places and os.environ.get("CIFAR10_DIR"):  # which another shell may not have
        run.places["data_dir"] = Path(os.path.expanduser(os.environ["CIFAR10_DIR"]))
    return run


def parser_for(description: str) -> argparse.ArgumentParser:
    """A parser that refuses wrong flags in one line, with exit code 2."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.error = exits.refuse
    return parser


def parsed(
    parser: argparse.ArgumentParser, argv: list[str] | None, namespace: argparse.Namespace | None = None
) -> argparse.Namespace:
    """What ``parser`` reads from ``argv``; of a flag that it does not know, its error names the one that was meant."""
    values, unknown = parser.parse_known_args(argv, namespace)
    if unknown:
        known = re.findall(r"--[\w-]+", parser.format_usage())
        similar = [match for word in unknown for match in difflib.get_close_matches(word.partition("=")[0], known, 1)]
        hint = f" Did you mean {similar[0]}?" if similar else ""
        parser.error(f"unrecognized arguments: {' '.join(unknown)}.{hint}")
    return values


def all_settings(defaults: dict, changes: dict) -> dict:
    """All settings of a run of which only the ``changes`` to the task's ``defaults`` are known."""
    return {name: setting.default for name, setting in SETTINGS.items()} | defaults | changes


def usual_settings(defaults: dict, recipe: dict | None) -> dict:
    """The settings of a script without flags, or with --recipe alone, where ``recipe`` is given."""
    return all_settings(defaults if recipe is None else PLAIN | defaults | recipe, {})


def older(usual: dict) -> dict:
    """The value that each setting has in a record, a state or a checkpoint that lacks it.

    That is older than the setting, so the recipe of its day left this as it is without a recipe.
    """
    return {name: PLAIN.get(name, value) for name, value in usual.items()}


def run_name(task: str, changes: dict) -> str:
    """A run's name: its task and all settings that are not the task's defaults."""
    return "_".join([task, *(SETTINGS[name].word + value_text(value) for name, value in changes.items())])


def title(name: str) -> str:
    """A run's name in words, for a picture: ``task2_resnet18_no-aug_seed1`` is "ResNet-18, no augmentation, seed 1"."""
    task = next((task for task in TITLES if name.startswith(task)), name)
    texts = [TITLES.get(task, task)]
    for part in name.removeprefix(task).split("_")[1:]:
        setting = next((setting for setting in SETTINGS.values() if part.startswith(setting.word)), None)
        texts.append(setting.title.format(part.removeprefix(setting.word)) if setting else part)
    return ", ".join(texts)


def words(changes: dict) -> list[str]:
    """The flags that make these changes to a run."""
    pairs = [(option(name), value_text(value)) for name, value in changes.items()]
    return [word for pair in pairs for word in pair if word]


def option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def value_text(value: object) -> str:
    """A setting's value, in a run's name and behind its flag; for a switch that is nothing."""
    if isinstance(value, Path) and str(value).startswith(("-", "~")):
        return os.path.join(os.curdir, value)  # neither a flag nor a home directory
    return "" if value is True else f"{value:g}" if isinstance(value, float) else str(value)
