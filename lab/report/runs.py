"""The runs of the report, in groups, each a command of a task script; and their records."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from torch import nn

from lab.checkpoint import check_network
from lab.original import FIGURES, TASK1, TASK2, Experiment
from lab.record import read_record
from lab.settings import Settings, run_name

Records = dict[str, list[dict]]  # for the name of each run, its records with ascending seeds

BATCH128 = Experiment("ResNet-18 with batches of 128", TASK2, {"batch_size": 128})  # lab report, question 8
TWO_BLOCKS = Experiment("SimpleCNN with two blocks", "experiments/two_blocks.py", {})  # lab report, question 8
SIMPLECNN_RECIPE = Experiment("SimpleCNN", TASK1, {"recipe": True})
RESNET18_RECIPE = Experiment("ResNet-18", TASK2, {"recipe": True})
SIMPLECNN_SHORT = Experiment("SimpleCNN", TASK1, {"recipe": True, "epochs": 10})
RESNET18_SHORT = Experiment("ResNet-18", TASK2, {"recipe": True, "epochs": 10})
RECIPES = (SIMPLECNN_RECIPE, RESNET18_RECIPE, SIMPLECNN_SHORT, RESNET18_SHORT)
TAKEN_AWAY = {  # from a recipe: an ingredient, and the settings that the original has in its place
    "a highest rate above the original's": {"lr": 0.001},
    "a rate that rises and falls in one cycle": {"warmup": 0.0},
    "weight decay": {"weight_decay": 0.0},
    "label smoothing": {"label_smoothing": 0.0},
    "no dropout": {"dropout": 0.5},
    "the average of the weights": {"average": 0.0},
    "no rotation": {"rotation": 15.0},
    "normalization by all training images": {"statistics": "first"},
    "enlarged images": {"image_size": 32, "growth": 0.0},
}
OF_RESNET18 = [it for it in TAKEN_AWAY if it not in ("no dropout", "a highest rate above the original's")]
OF_SIMPLECNN = [it for it in TAKEN_AWAY if it != "enlarged images"]


def without(ingredient: str, recipe: Experiment) -> Experiment:
    return Experiment(f"all but {ingredient}", recipe.script, recipe.changes | TAKEN_AWAY[ingredient])


GROUPS = {
    "original": FIGURES,
    "batches": (BATCH128,),
    "two-blocks": (TWO_BLOCKS,),
    "recipe": RECIPES,
    "ingredients": (
        *(without(it, SIMPLECNN_RECIPE) for it in OF_SIMPLECNN),
        *(without(it, RESNET18_SHORT) for it in OF_RESNET18),
    ),
}
RUNS = {run.name: run for group in GROUPS.values() for run in group}


class Task(NamedTuple):
    """What the report needs of a task script: its network for given settings, and its two bases."""

    network: Callable[[Settings], nn.Module]
    task: Settings
    recipe: Settings

    def settings(self, changes: dict[str, object]) -> Settings:
        """The settings of the run whose flags make these ``changes``."""
        return replace(self.recipe if "recipe" in changes else self.task, **changes)


def collect(output_dir: Path, tasks: dict[str, Task]) -> tuple[Records, dict[str, str]]:
    """The records of the report's runs, with ascending seeds, and for each file that cannot be used the reason."""
    records, skipped = {name: [] for name in RUNS}, {}
    for run in RUNS.values():
        for path in sorted((output_dir / "plots").glob(f"{run.name}*.json")):
            seed = path.stem.removeprefix(run.name).removeprefix("_seed")
            changes = run.changes | ({"seed": int(seed)} if seed.isdecimal() and seed != "0" else {})
            if run_name(run.task, changes) != path.stem:
                continue  # a run of other settings
            settings = tasks[run.task].settings(changes)
            try:
                record = read_record(path, path.stem, settings)
                check_network(tasks[run.task].network(settings), record["config"]["network"])
                records[run.name].append(record)
            except ValueError as error:
                skipped[path.name] = f"{error}. To train this run again, remove the file."
            except OSError as error:
                skipped[path.name] = f"{error.strerror}."
        records[run.name].sort(key=lambda record: record["config"]["seed"])
    return records, skipped
