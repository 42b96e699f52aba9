"""The original's nine runs, with the accuracies that it reports (lab report, figures 1 to 9)."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from lab.settings import flags_for, run_name


class Experiment(NamedTuple):
    """A run that the report is about: one command of a task script."""

    title: str
    script: str  # seen from the folder of the scripts
    changes: Mapping[str, object]  # the settings that its flags change
    figure: int | None = None  # its number in the original
    accuracy: float | None = None  # its test accuracy there
    loss: float | None = None  # its test loss there

    @property
    def label(self) -> str:
        """What a picture of several runs calls it."""
        return f"Figure {self.figure}: {self.title}" if self.figure else self.title

    @property
    def task(self) -> str:
        return Path(self.script).stem

    @property
    def name(self) -> str:
        return run_name(self.task, self.changes)

    def command(self, *words: str) -> str:
        """What to type, in the folder of the scripts, to train it."""
        return shlex.join(["python", self.script, *flags_for(self.changes), *words])


TASK1, TASK2 = "task1_simplecnn.py", "task2_resnet18.py"
SIMPLECNN = Experiment("SimpleCNN", TASK1, {}, 1, 0.817)
BASELINE = Experiment("ResNet-18 baseline", TASK2, {}, 2, 0.853, 0.464)
NO_NORM = Experiment("Without data normalization", TASK2, {"no_norm": True}, 3, 0.845)
NO_AUG = Experiment("Without data augmentation", TASK2, {"no_aug": True}, 4, 0.783)
HIGH = Experiment("Step LR with initial value 0.01", TASK2, {"lr": 0.01}, 5, 0.715)
LOW = Experiment("Step LR with initial value 0.0001", TASK2, {"lr": 0.0001}, 6, 0.796)
HIGH_CONSTANT = Experiment("Constant LR 0.01", TASK2, {"lr": 0.01, "constant_lr": True}, 7, 0.521)
CONSTANT = Experiment("Constant LR 0.001", TASK2, {"constant_lr": True}, 8, 0.797)
LOW_CONSTANT = Experiment("Constant LR 0.0001", TASK2, {"lr": 0.0001, "constant_lr": True}, 9, 0.820)
FIGURES = (SIMPLECNN, BASELINE, NO_NORM, NO_AUG, HIGH, LOW, HIGH_CONSTANT, CONSTANT, LOW_CONSTANT)


def original_accuracy(task: str, changes: Mapping[str, object]) -> float | None:
    """The original's test accuracy of the run with these ``changes``, whatever seed and precision; None for others."""
    changes = {name: value for name, value in changes.items() if name not in ("seed", "float32")}
    return next((run.accuracy for run in FIGURES if (run.task, run.changes) == (task, changes)), None)
