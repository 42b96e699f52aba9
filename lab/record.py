"""The record of a run, ``plots/RUN.json``, and its table, ``RUN.csv``: written, read and checked. Without torch."""

import contextlib
import csv
import datetime
import io
import json
import math
import re
import subprocess
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

from lab.files import ROOT, atomic_write
from lab.schedule import best_of, images_of, out_of_patience, rate_of, size_of, steps_of
from lab.settings import Settings, settings_of, titles

FORMAT = 3
METRICS = ("learning_rate", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "seconds")
ENVIRONMENT = ("from_epoch", "torch", "device", "cpu", "precision", "threads", "platform")
CLASSES = "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"
MISTAKES = 25  # of the test images that are wrong, those with the highest confidence


def begin(run: str, settings: Settings, mean: Iterable, std: Iterable, network: dict) -> dict:
    """The record of a run that has no epoch yet; ``mean`` and ``std`` have one number for each channel."""
    statistics = {"mean": [float(value) for value in mean], "std": [float(value) for value in std]}
    config = asdict(settings) | statistics | {"network": network}
    return {"run": run, "config": config, "environments": [], "history": []}


def write_record(path: Path, record: dict) -> None:
    """Write the record of a run that has finished now; OSError if that cannot be done."""
    record = {"format": FORMAT, "run": record["run"], "finished": today(), "code": commit()} | record
    with atomic_write(path, record["run"]) as file:
        file.write(json.dumps(record, indent=1).encode())


def write_table(path: Path, record: dict) -> None:
    """Write the history as CSV, a row for each epoch; OSError if that cannot be done."""
    text = io.StringIO()
    writer = csv.DictWriter(text, record["history"][0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(record["history"])
    with atomic_write(path, record["run"]) as file:
        file.write(text.getvalue().encode())


def note_conditions(record: dict, now: dict) -> None:
    """Add to the environments of a record those ``now``, if its last epoch is the first one trained under them."""
    before = record["environments"][-1] if record["environments"] else {}
    if now.items() - before.items():
        record["environments"].append({"from_epoch": len(record["history"])} | now)


def today() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


def commit() -> str | None:
    """The commit of the scripts, marked where they differ from it; None without git."""
    git = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    with contextlib.suppress(OSError):
        found = subprocess.run(git, capture_output=True, text=True)
        return found.stdout.strip() or None
    return None


def title_of(record: dict) -> str:
    """What a picture calls a run: its network (ResNet18 is "ResNet-18"), and the settings in its name."""
    network = re.sub(r"(?<=[a-z])(?=\d)", "-", record["config"]["network"]["class"])
    return ", ".join([network, *titles(record["run"])])


def conditions(environment: dict) -> str:
    """What epochs were trained on, in words; a precision that was not recorded is left out."""
    threads = f"{environment['threads']} thread{'s' * (environment['threads'] != 1)}"
    parts = environment["device"], environment["precision"], threads, f"torch {environment['torch']}"
    return ", ".join(filter(None, parts))


# ---------------------------------------------------------------- reading


def read_record(path: Path, run: str, settings: Settings | None = None) -> dict:
    """The record of the run with this name and, if they are given, with these settings.

    Raises ValueError: that is not what is in the file; the message is the reason; OSError: it cannot be read.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        raise ValueError("it is cut short, or no JSON") from None
    if problem := first_problem(problem_of_record, record, run, settings):
        raise ValueError(problem)
    return record


def first_problem(check: Callable[..., str | None], *what: object) -> str | None:
    """What ``check(*what)`` returns, or which value it did not find, or found to be of another kind."""
    try:
        return check(*what)
    except KeyError as error:
        return f"it has no {error.args[0]}"
    except (TypeError, AttributeError, ValueError, IndexError, ArithmeticError):
        return "a value is of another kind"


def problem_of_record(record: dict, run: str, settings: Settings | None) -> str | None:
    """What does not fit together in a record, or None."""
    if record["format"] != FORMAT:
        return f"its format is {record['format']}, not {FORMAT}: it is of another version of these scripts"
    if record["run"] != run:
        return f"it is of the run {record['run']}"
    config, history, found = record["config"], record["history"], settings_of(record["config"])
    if settings and (other := other_setting(found, settings)):
        return f"it is of a run with another {other}"
    if not config["network"]["class"]:
        return "it has no network"
    if problem := problem_of_statistics(config) or problem_of_history(history, found):
        return problem
    if len(history) != found.epochs and not out_of_patience(history, found):
        return f"its history has {len(history)} of {found.epochs} epochs"
    if problem := problem_of_environments(record["environments"], history):
        return problem
    if record["best_epoch"] != best_of(history)["epoch"]:
        return "its best epoch is not the best of its history"
    return problem_of_test(record)


def other_setting(found: Settings, wanted: Settings) -> str | None:
    """The first setting that is not as wanted, with both values; None if there is none.

    A run's name tells which flags it had. So where the name is right, TASK or RECIPE have been changed since.
    """
    for name, value in wanted.changes(found).items():
        return f"{name}: {getattr(found, name)!r}, not {value!r}"
    return None


def problem_of_statistics(config: dict) -> str | None:
    """Mean and standard deviation have a finite number for each of the three channels of an image."""
    mean, std = config["mean"], config["std"]
    if len(mean) != 3 or len(std) != 3 or not all(math.isfinite(value) for value in mean + std) or min(std) <= 0:
        return "its mean or std is not three numbers"
    return None


def problem_of_history(history: Sequence[dict], settings: Settings) -> str | None:
    steps = steps_of(images_of(settings)[0], settings.batch_size)
    for number, epoch in enumerate(history, 1):
        if epoch["epoch"] != number:
            return f"in its history, epoch {number} is missing"
        if not math.isclose(epoch["learning_rate"], rate_of(settings, steps * (number - 1), steps)):
            return f"in its history, the learning rate of epoch {number} is not that of its settings"
        if settings.growth and epoch["image_size"] != size_of(settings, number):
            return f"in its history, the image size of epoch {number} is not that of its settings"
        if not all(math.isfinite(epoch[name]) and epoch[name] >= 0 for name in METRICS):
            return f"in its history, a value of epoch {number} is negative or not finite"
        if max(epoch["train_accuracy"], epoch["val_accuracy"]) > 1:
            return f"in its history, an accuracy of epoch {number} is above 1"
    return None


def problem_of_environments(environments: list[dict], history: Sequence[dict]) -> str | None:
    starts = [environment["from_epoch"] for environment in environments]
    if starts[:1] != [1][: len(history)] or starts != sorted(set(starts)) or max(starts, default=0) > len(history):
        return "its environments are not those of its epochs"
    missing = [name for environment in environments for name in ENVIRONMENT if name not in environment]
    return f"it has no {missing[0]}" if missing else None


def problem_of_test(record: dict) -> str | None:
    confusion, mistakes = record["confusion_matrix"], record["mistakes"]
    if [len(row) for row in confusion] != [10] * 10 or min(map(min, confusion)) < 0 or not max(map(max, confusion)):
        return "its confusion matrix is not one of 10 classes"
    right, total = sum(confusion[i][i] for i in range(10)), sum(map(sum, confusion))
    if not math.isclose(record["test_accuracy"], right / total):
        return "its test accuracy is not that of its confusion matrix"
    if not math.isfinite(record["test_loss"]) or not 0 <= (record["test_accuracy_mirrored"] or 0) <= 1:
        return "its test loss is not finite, or its test accuracy with mirror images not between 0 and 1"
    fit = len(mistakes) == min(MISTAKES, total - right)
    if not fit or not all(it["index"] < total and it["predicted"] < 10 and it["probability"] <= 1 for it in mistakes):
        return "its mistakes are not those of its confusion matrix"
    return None
