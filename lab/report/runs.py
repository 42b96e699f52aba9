"""The runs of the report, in groups, each a command of a script; what has finished of them, and how."""

import contextlib
import hashlib
import itertools
import json
import os
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import NamedTuple

import torch
from torch import nn

from lab.checkpoint import check_network, load
from lab.curves import column
from lab.files import ROOT, Files, seen_from
from lab.original import FIGURES, HIGH_CONSTANT, LOW, SIMPLECNN, TASK1, TASK2, Experiment
from lab.record import read_record, short_commit
from lab.settings import Settings, flags_for

BATCH128 = Experiment("ResNet-18 with batches of 128", TASK2, {"batch_size": 128})  # lab report, question 8
TWO_BLOCKS = Experiment("SimpleCNN with two blocks", "experiments/two_blocks.py", {})  # lab report, question 8
SIMPLECNN_RECIPE = Experiment("SimpleCNN, recipe", TASK1, {"recipe": True})
RESNET18_RECIPE = Experiment("ResNet-18, recipe", TASK2, {"recipe": True})
SIMPLECNN_SHORT = Experiment("SimpleCNN, recipe, 10 epochs", TASK1, {"recipe": True, "epochs": 10})
RESNET18_SHORT = Experiment("ResNet-18, recipe, 10 epochs", TASK2, {"recipe": True, "epochs": 10})
RECIPES = SIMPLECNN_RECIPE, RESNET18_RECIPE, SIMPLECNN_SHORT, RESNET18_SHORT


def but(recipe: Experiment, **settings: object) -> Experiment:
    """A recipe without one of its ingredients: it has these plain ``settings`` in its place."""
    title = f"{recipe.title}, {' '.join(flags_for(settings))}"
    return recipe._replace(title=title, changes={**recipe.changes, **settings})


PLAIN = dict(warmup=0.0, weight_decay=0.0, label_smoothing=0.0, average=0.0, rotation=15.0, statistics="first")
INGREDIENTS = (
    *(but(SIMPLECNN_RECIPE, **{name: value}) for name, value in {**PLAIN, "lr": 0.001, "dropout": 0.5}.items()),
    *(but(RESNET18_SHORT, **{name: value}) for name, value in PLAIN.items()),
    but(RESNET18_SHORT, image_size=32, growth=0.0),
)
UNSAID = {  # what the lab report does not say: two settings in all four combinations, and more of the second
    "He's, no penalty": {"first_weights": "he", "weight_decay": 0.0},
    "He's, penalty": {"first_weights": "he"},
    "PyTorch's, no penalty": {"weight_decay": 0.0},
    "PyTorch's, penalty": {},
    "PyTorch's, penalty on kernels and matrices only": {"decayed": "kernels"},
    "PyTorch's, penalty of 0.0001": {"weight_decay": 0.0001},
    "PyTorch's, penalty of 0.001": {"weight_decay": 0.001},
}


def unsaid(run: Experiment, which: str, **settings: object) -> Experiment:
    """A run of the original with other settings of those that it does not say, and with these ``settings``."""
    return Experiment(f"{run.title}: {which}", run.script, {**run.changes, **UNSAID[which], **settings})


EVIDENCE = (
    *(unsaid(LOW, which, epochs=20) for which in [*UNSAID][:4]),
    *(unsaid(HIGH_CONSTANT, which, epochs=20) for which in UNSAID),
)
BEFORE = (  # the original's runs without these settings; SimpleCNN's first weights are PyTorch's in any case
    unsaid(SIMPLECNN, "PyTorch's, no penalty"),
    *(unsaid(run, "He's, no penalty") for run in (*FIGURES[1:], BATCH128)),
)
GROUPS = {
    "original": FIGURES,
    "batches": (BATCH128,),
    "two-blocks": (TWO_BLOCKS,),
    "recipe": RECIPES,
    "ingredients": INGREDIENTS,
    "unsaid": (*EVIDENCE, *BEFORE),
}
RUNS = {run.name: run for group in GROUPS.values() for run in group}


class Task(NamedTuple):
    """What the report needs of a task script: its network for given settings, and its two bases."""

    network: Callable[[Settings], nn.Module]
    task: Settings
    recipe: Settings

    def base(self, changes: Mapping[str, object]) -> Settings:
        """What the flags that make these ``changes`` change."""
        return self.recipe if "recipe" in changes else self.task

    def settings(self, changes: Mapping[str, object]) -> Settings:
        """The settings of the run whose flags make these ``changes``."""
        return replace(self.base(changes), **changes)


@dataclass(frozen=True)
class Results:
    """What has finished of the report's runs."""

    output_dir: Path
    records: Mapping[str, list[dict]]  # for the name of each run, with ascending seeds
    left_out: Mapping[Path, str]  # for each file that cannot be used, the reason
    others: Sequence[str] = ()  # the names of those that are of none of these runs

    def __getitem__(self, run: Experiment) -> list[dict]:
        return self.records[run.name]

    def accuracies(self, run: Experiment) -> list[float]:
        """Its test accuracies, one for each seed."""
        return column(self[run], "test_accuracy")

    def mean(self, run: Experiment) -> float:
        return mean(self.accuracies(run))

    @property
    def place(self) -> str:
        """What a command has to end with, in the folder of the scripts, to read and write in ``output_dir``."""
        there = seen_from(ROOT, self.output_dir)
        there = str(self.output_dir.absolute()) if there.startswith(os.pardir) else there
        return "" if there == os.curdir else f" --output-dir {shlex.quote(there)}"

    def command(self, run: Experiment, *words: str) -> str:
        """What to type, in the folder of the scripts, to train a run there."""
        return run.command(*words) + self.place

    def missing(self, *runs: Experiment) -> str:
        """That not all of these runs are trained yet; "" if they are."""
        return "" if all(self[run] for run in runs) else "not trained yet"

    def training(self, *groups: str) -> str:
        """The command that trains what is missing of these groups of runs; "" if nothing is."""
        words = [name for name in groups if self.missing(*GROUPS[name])]
        return f"`python report.py --run {' '.join(words)}{self.place}`" if words else ""

    def digest(self, *names: str) -> str:
        """Of the results of these runs, all seeds: by it, a paragraph knows the records on which it was written."""
        results = [[it["run"], it["test_loss"], it["confusion_matrix"]] for name in names for it in self.records[name]]
        return hashlib.sha256(json.dumps(results).encode()).hexdigest()[:8]


def minutes_of(record: dict) -> float:
    """The time of its training and validation."""
    return sum(column(record["history"], "seconds")) / 60


def collect(output_dir: Path, tasks: Mapping[str, Task]) -> Results:
    """Read the records of the report's runs; one of another network, or of other settings, is left out."""
    records, left_out, others = {name: [] for name in RUNS}, {}, []
    for path in sorted((output_dir / "plots").glob("*.json")):
        name, seed = re.fullmatch(r"(.+?)(?:_seed([1-9][0-9]*))?", path.stem).groups()
        if name not in RUNS:
            others.append(path.stem)
            continue
        task = tasks[RUNS[name].task]
        settings = task.settings({**RUNS[name].changes, "seed": int(seed or 0)})
        try:
            record = read_record(path, path.stem, settings)
            with torch.device("meta"):  # its layers, without their weights
                network = task.network(settings)
                if any(map(nn.parameter.is_lazy, network.parameters())):
                    network(torch.zeros(2, 3, settings.image_size, settings.image_size))
            check_network(network, record["config"]["network"])
            with contextlib.suppress(SystemExit, RuntimeError):  # where there are no weights for it
                best = load(Files(output_dir, path.stem).best, {"model": dict, "config": dict}, "")
                if best["config"] == record["config"]:  # else they are of another run of this name
                    network.load_state_dict(best["model"], assign=True)
                    check_network(network, record["config"]["network"], settings.image_size)
            records[name].append(record)
        except ValueError as error:
            left_out[path] = f"{error}. To train this run again, remove the file."
        except OSError as error:
            left_out[path] = f"{error.strerror}."
    for of in records.values():
        of.sort(key=lambda record: record["config"]["seed"])
    return Results(output_dir, records, left_out, others)


def conditions(results: Results) -> str:
    """The rows of a table: every run, with what its numbers depend on beside its settings."""
    rows, keys = [], ("device", "cpu", "torch", "precision", "threads")
    for record in itertools.chain(*results.records.values()):
        told = {key: over_epochs(record["environments"], key) for key in keys}
        machine = f"{told['cpu'] if told['device'] == 'cpu' else told['device']}, torch {told['torch']}"
        commit = short_commit(record) or "not recorded"
        how = f"{machine} | {told['precision']} | {told['threads']} | {minutes_of(record):.0f} | {commit}"
        rows.append(f"| `{record['run']}` | {record['test_accuracy']:.4f} | {how} |")
    return "\n".join(rows)


def over_epochs(environments: Sequence[dict], key: str) -> str:
    """What an environment's ``key`` was, and from which epoch on, if it changed."""
    found = []
    for value, group in itertools.groupby(environments, lambda it: str(it[key] or "not recorded")):
        first = next(group)["from_epoch"]
        found.append(value + f" (from epoch {first} on)" * (first > 1))
    return ", ".join(found)
