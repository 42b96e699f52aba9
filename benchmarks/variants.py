"""Runs with something changed that no flag changes, for two_blocks.py, l2_penalty.py and ingredients.py."""

import argparse
import json
from pathlib import Path
from types import ModuleType
from unittest import mock

from lab import cifar10, flags, shell
from lab.files import atomic_write
from lab.record import best_of


def passed_on(description: str, argv: list[str]) -> list[str]:
    """The flags that a script passes on to the task: those that change no settings, for its results are kept."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--resume", action="store_true", help="go on with an interrupted run")
    mode.add_argument("--restart", action="store_true", help="throw an interrupted run away")
    parser.add_argument("--device", help="where to train")
    parser.parse_args(argv)
    return argv


def results_in(path: Path) -> dict:
    """What a script has found so far, for it takes hours, and may be stopped between two runs."""
    return json.loads(path.read_text()) if path.exists() else {"runs": []}


def train(task: ModuleType, script: str, argv: list[str], words: list[str], folder: Path, **changed) -> dict:
    """Run a task with other contents of its module; returns what a result needs of the record.

    ``argv`` are the flags of the script, ``words`` further ones. The run's files go to ``folder``, which is its own.
    """
    repeated = [word for word in argv if word not in ("--resume", "--restart")]  # which a message may add
    command = property(lambda run: shell.line([shell.interpreter(), shell.called(Path(script)), *repeated]))
    places = ["--output-dir", str(folder), "--data-dir", str(cifar10.find(flags.ROOT))]  # so never the sample
    with mock.patch.multiple(task, **changed), mock.patch.object(flags.Run, "command", command):
        task.main([*places, *words, *argv])
    (path,) = (folder / "plots").glob("*.json")
    record = json.loads(path.read_text())
    best = {"epochs": len(record["history"]), "val_accuracy": best_of(record["history"])["val_accuracy"]}
    return best | {name: record[name] for name in ("environments", "test_loss", "test_accuracy")}


def keep(run: dict, results: dict, path: Path) -> None:
    """Add the result of a run to the others, and write them all."""
    results["runs"].append(run)
    with atomic_write(path, path.stem) as file:
        file.write(f"{json.dumps(results, indent=1)}\n".encode())
    print(f"Written: {path}")
