"""A run: its settings, its places, what is to be done with it; its files, and the command that repeats it."""

import argparse
import contextlib
import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

from lab import precision
from lab.files import ROOT, Files, shown
from lab.schedule import SAMPLE_IMAGES
from lab.settings import Settings, flags_for, run_name


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


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a command line asks a task script to do. A run is never changed, only replaced (``dataclasses.replace``)."""

    script: Path
    base: Settings  # the script's TASK or, with --recipe, its RECIPE
    settings: Settings
    device: torch.device
    data_dir: Path | None = None  # where the user says that CIFAR-10 is
    output_dir: Path = ROOT
    mode: str = "train"  # or resume, restart, test, predict, dry-run
    images: tuple[Path, ...] = ()  # the files of --predict
    weights: Path | None = None  # the file to test or use in place of its own best weights

    @property
    def task(self) -> str:
        return self.script.stem

    @property
    def changes(self) -> dict[str, object]:
        """The settings that its flags have changed."""
        changes = self.settings.changes(self.base)
        return {"recipe": True} | changes if self.settings.recipe else changes

    @property
    def name(self) -> str:
        return run_name(self.task, self.changes)

    @property
    def files(self) -> Files:
        return Files(self.output_dir, self.name)

    @property
    def network_picture(self) -> Path:
        """That of its task's network, which all runs on images of this size share."""
        size = f"_size{self.settings.image_size}" if self.settings.image_size != 32 else ""
        return self.output_dir / "plots" / f"{self.task}{size}_model.png"

    @property
    def precision(self) -> str:
        """In what it trains and validates. It is tested, and used, in float32."""
        return "bfloat16" if precision.has_bfloat16(self.device) and not self.settings.float32 else "float32"

    @property
    def trains(self) -> bool:
        """Whether there is something to train: not with --test and --predict, nor to --resume what has finished."""
        return self.mode not in ("test", "predict") and not (self.mode == "resume" and self.files.finished)

    @property
    def goes_on(self) -> bool:
        """Whether it goes on from the state of an unfinished run."""
        return self.mode == "resume" and self.files.state.exists()

    @property
    def command(self) -> str:
        """What to type here to train it."""
        usual = {"device": device("auto"), "data_dir": None, "output_dir": ROOT}
        places = {name: str(getattr(self, name)) for name in usual if getattr(self, name) != usual[name]}
        return command_line([interpreter(), called(self.script), *flags_for(self.changes | places)])


def contradictions(it: Settings, task: Settings, recipe: Settings) -> dict[str, str]:
    """For each setting that has no place beside the others, or in the network of ``task``, the reason."""
    grows_from_32_to_32 = it.growth and it.image_size == 32
    reasons = [
        ("constant_lr", it.constant_lr and it.warmup, "the rate rises and falls (--warmup 0 ends that)"),
        ("growth", grows_from_32_to_32, "images grow only to an --image-size above 32"),
        ("image_size", grows_from_32_to_32, "images that grow need one above 32 (or --growth 0)"),
        ("image_size", it.image_size > recipe.image_size == 32, "this network takes 32x32 only"),
        ("dropout", it.dropout and not task.dropout, "this network has none"),
        ("decayed", not it.weight_decay, "nothing decays (see --weight-decay)"),
        ("rotation", it.no_aug, "nothing is augmented (--no-aug)"),
        ("validation", it.no_aug, "nothing is augmented (--no-aug)"),
        ("statistics", it.no_norm, "nothing is normalized (--no-norm)"),
        ("limit", it.sample and (it.limit or 0) > SAMPLE_IMAGES, f"the sample has {SAMPLE_IMAGES:,} training images"),
    ]
    return {name: reason for name, wrong, reason in reasons if wrong}


def command_line(words: Iterable[str]) -> str:
    """A command as one line for a POSIX shell or, on Windows, for cmd, which knows no single quotes."""
    if os.name != "nt":
        return shlex.join(words)
    return " ".join(word if re.fullmatch(r"[\w.:\\/+=@~-]+", word) else f'"{word}"' for word in words)


def interpreter() -> str:
    """The Python that runs this, as it can be called from here."""
    name = os.path.basename(sys.executable)
    if os.path.normcase(shutil.which(name) or "") == os.path.normcase(sys.executable):
        return name
    path = shown(Path(sys.executable))
    return path if os.path.dirname(path) else os.path.join(os.curdir, path)  # a bare name is not looked up here


def called(script: Path) -> str:
    """``script`` as its user has called it or, in a process of another script, as it can be called from here."""
    with contextlib.suppress(OSError):  # the folder where the process stands is gone
        if Path(sys.argv[0]).resolve() == script:
            return sys.argv[0]
    return shown(script)
