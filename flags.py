"""The flags of both scripts, and the name that they give a run."""

import argparse
import math
import shlex
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

HERE = Path(__file__).resolve().parent

# Every setting that changes a run's numbers, in the order of a run's name, and what the name calls it.
SETTINGS = {
    "no_norm": "no-norm",
    "no_aug": "no-aug",
    "lr": "lr",
    "constant_lr": "constant-lr",
    "batch_size": "batch",
    "epochs": "epochs",
    "patience": "patience",
    "seed": "seed",
    "limit": "limit",
}
USUAL = {"no_norm": False, "no_aug": False, "constant_lr": False, "patience": None, "seed": 0, "limit": None}


def parse_arguments(description: str, task: str, defaults: dict, argv: list[str] | None = None) -> argparse.Namespace:
    """Read the flags, of ``argv`` or the command line; ``defaults`` are the task's epochs, batch_size and lr.

    Beside the flags, the result has ``task``, ``run`` (the run's name) and ``command`` (what to type to repeat it).

    Raises:
        SystemExit: a value is wrong. The exit code is 2, after one line on standard error.
    """
    parser = parser_for(description)
    flag = parser.add_argument
    epochs, batch_size, lr = defaults["epochs"], defaults["batch_size"], defaults["lr"]
    flag("--epochs", type=whole(1, 100_000), default=epochs, metavar="N", help=f"passes over the data ({epochs})")
    flag("--batch-size", type=whole(2, 45_000), default=batch_size, metavar="N", help=f"images a step ({batch_size})")
    flag("--lr", type=learning_rate, default=lr, metavar="LR", help=f"learning rate of the first 10 epochs ({lr:g})")
    flag("--constant-lr", action="store_true", help="never halve the learning rate (else every 10 epochs)")
    flag("--no-norm", action="store_true", help="leave pixels in [0, 1] instead of normalizing them")
    flag("--no-aug", action="store_true", help="train and validate on the images as they are")
    flag("--seed", type=whole(0, 2**31 - 1), default=0, metavar="N", help="seed of everything random (0)")
    flag("--patience", type=whole(1, 100_000), metavar="N", help="stop after N epochs without a new best (off)")
    flag("--limit", type=whole(10, 45_000), metavar="N", help="a quick look: N images, N/10 to validate, N/10 to test")
    auto = device("auto")
    flag("--device", type=device, default=auto, help="auto, cpu, cuda, cuda:1 or mps (auto: cuda, else mps, else cpu)")
    flag("--data-dir", type=Path, metavar="DIR", help="holds CIFAR-10, or gets it ($CIFAR10_DIR, else data)")
    flag("--output-dir", type=Path, default=HERE, metavar="DIR", help="gets plots/ and checkpoints/ (here)")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--resume", action="store_true", help="continue this run from its last finished epoch")
    mode.add_argument("--restart", action="store_true", help="throw this run's unfinished state away and begin again")
    mode.add_argument("--test", action="store_true", help="test the saved best checkpoint; train and write nothing")
    mode.add_argument("--predict", nargs="+", type=Path, metavar="FILE", help="name what these images show")
    mode.add_argument("--dry-run", action="store_true", help="two epochs on made-up images; need and leave nothing")
    args = parser.parse_args(argv)

    if args.dry_run:
        args.epochs = min(args.epochs, 2)
    elif not args.test and not args.predict:
        try:
            for folder in (args.output_dir / "plots", args.output_dir / "checkpoints"):
                folder.mkdir(parents=True, exist_ok=True)
                tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            parser.error(f"argument --output-dir: cannot write to {args.output_dir}: {error.strerror}")

    args.task = task
    changed = changed_settings(vars(args), defaults)
    args.run = run_name(task, changed)
    places = {name: getattr(args, name) for name in ("device", "data_dir", "output_dir")}
    places = {name: value for name, value in places.items() if value != parser.get_default(name)}
    args.command = shlex.join(["python", f"{task}.py", *words(changed | places)])
    return args


def parser_for(description: str) -> argparse.ArgumentParser:
    """A parser that refuses wrong flags in one line, with exit code 2."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.error = lambda message: parser.exit(2, f"{parser.prog}: error: {message} (--help lists the flags)\n")
    return parser


def changed_settings(settings: dict, defaults: dict) -> dict:
    """Those of a run's ``settings`` that differ from the task's ``defaults``, in the order of its name."""
    usual = USUAL | defaults
    return {name: settings[name] for name in SETTINGS if settings[name] != usual[name]}


def run_name(task: str, changed: dict) -> str:
    """A run's name: its task and all settings that are not the task's defaults."""
    return "_".join([task, *(SETTINGS[name] + shown_value(value) for name, value in changed.items())])


def words(changed: dict) -> list[str]:
    """The flags that change these settings of a run."""
    pairs = [(f"--{name.replace('_', '-')}", shown_value(value)) for name, value in changed.items()]
    return [word for pair in pairs for word in pair if word]


def shown_value(value: object) -> str:
    """A setting's value, in a run's name and behind its flag; for a switch that is nothing."""
    return "" if value is True else f"{value:g}" if isinstance(value, float) else str(value)


def whole(low: int, high: int) -> Callable[[str], int]:
    """An argparse type: whole numbers from ``low`` to ``high``."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{value} is not between {low} and {high}")
        return value

    return parse


def learning_rate(text: str) -> float:
    """An argparse type: positive, finite, and of at most six digits, which is what the name of a run tells apart."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
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
