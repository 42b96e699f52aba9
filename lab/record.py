"""The record of a run, ``plots/RUN.json``, and its table, ``RUN.csv``: written, read and checked. Without torch."""

import contextlib
import csv
import datetime
import io
import json
import math
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

from lab.files import ROOT, atomic_write
from lab.schedule import best_of, images_of, out_of_patience, rate_of, size_of, steps_of
from lab.settings import SHARE, Number, Settings, Word, settings_of, titles

FORMAT = 3
CLASSES = "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"
MISTAKES = 25  # of the test images that are wrong, those with the highest confidence

EPOCH = {"epoch": int} | dict.fromkeys(("learning_rate", "train_loss", "val_loss", "seconds"), float)
HISTORY = [EPOCH | dict.fromkeys(("train_accuracy", "val_accuracy"), SHARE)]
ENVIRONMENT = dict.fromkeys(("torch", "device", "platform"), str) | {"from_epoch": int, "threads": int}
ENVIRONMENT |= dict.fromkeys(("cpu", "precision"), str | None)  # as old records do not tell them
SHAPE = {  # of a record, beside its settings; None, or missing: not measured
    "environments": [ENVIRONMENT],
    "history": HISTORY,
    "best_epoch": int,
    "test_loss": float,
    "test_accuracy": SHARE,
    "test_accuracy_mirrored": {SHARE, type(None)},
    "val_accuracy_plain": {SHARE, type(None)},
    "silent_channels": dict | None,
    "confusion_matrix": [[int]],
    "mistakes": [{"index": int, "predicted": int, "probability": SHARE}],
}


def write_record(path: Path, record: dict) -> None:
    """Write the record of a run that has finished now; OSError if that cannot be done."""
    finished = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    record = {"format": FORMAT, "run": record["run"], "finished": finished, "code": commit()} | record
    atomic_write(path, json.dumps(record, indent=1).encode(), record["run"])


def write_table(path: Path, record: dict) -> None:
    """Write the history as CSV, a row for each epoch; OSError if that cannot be done."""
    text = io.StringIO()
    writer = csv.DictWriter(text, record["history"][0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(record["history"])
    atomic_write(path, text.getvalue().encode(), record["run"])


def commit() -> str | None:
    """The commit of the scripts, marked where they differ from it; None without git."""
    git = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    with contextlib.suppress(OSError):
        return subprocess.run(git, capture_output=True, text=True).stdout.strip() or None


def short_commit(record: dict) -> str:
    """The first seven digits of a record's commit, and whether the scripts differed from it; "" without a commit."""
    code, mark, _ = (record.get("code") or "").partition("-dirty")
    return code[:7] + mark


def title_of(record: dict) -> str:
    """What a picture calls a run: its network (ResNet18 is "ResNet-18"), and the settings in its name."""
    network = re.sub(r"(?<=[a-z])(?=\d)", "-", record["config"]["network"]["class"])
    return ", ".join([network, *titles(record["run"], record["config"])])


def conditions(environment: dict) -> str:
    """What epochs were trained on, in words; a precision that was not recorded is left out."""
    threads = f"{environment['threads']} thread{'s' * (environment['threads'] != 1)}"
    parts = environment["device"], environment["precision"], threads, f"torch {environment['torch']}"
    return ", ".join(filter(None, parts))


def read_record(path: Path, run: str, settings: Settings | None = None) -> dict:
    """The record of the run with this name and, if they are given, with these settings.

    Raises ValueError: that is not what is in the file; the message is the reason; OSError: it cannot be read.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8-sig"))  # an editor of Windows may have put a BOM first
    except (ValueError, RecursionError):
        raise ValueError("it is cut short, or no JSON") from None
    if misfit(record, {"format": int}) or record["format"] != FORMAT:
        raise ValueError(f"its format is not {FORMAT}: it is of another version of these scripts")
    if record.get("run") != run:
        raise ValueError(f"it is of the run {record.get('run')}")
    check_config(record.get("config"), settings)
    if missing := [name for name, shape in SHAPE.items() if misfit(record.get(name), shape)]:
        raise ValueError(f"its {missing[0]} is missing or of another kind")
    check_history(record)
    found, history, confusion = settings_of(record["config"]), record["history"], record["confusion_matrix"]
    if not history or (len(history) < found.epochs and not out_of_patience(history, found)):
        raise ValueError(f"its history has {len(history)} of {found.epochs} epochs")
    if record["best_epoch"] != best_of(history)["epoch"]:
        raise ValueError("its best epoch is not the best of its history")
    right = [row[i] for i, row in enumerate(confusion) if len(row) == len(confusion) == 10]
    if len(right) != 10 or not math.isclose(record["test_accuracy"] * sum(map(sum, confusion)), sum(right)):
        raise ValueError("its test accuracy is not that of its confusion matrix")
    return record


def misfit(value: object, shape: object) -> bool:
    """Whether a value is not of this shape: a type or what a setting takes; a list, a dict, or a set of choices."""
    if isinstance(shape, dict):
        return not isinstance(value, dict) or any(misfit(value.get(name), part) for name, part in shape.items())
    if isinstance(shape, list):
        return not isinstance(value, list) or any(misfit(it, shape[0]) for it in value)
    if isinstance(shape, set):
        return all(misfit(value, choice) for choice in shape)
    if isinstance(shape, (Number, Word)):
        return not shape.holds(value)
    if shape in (int, float):  # finite, not negative; a float may be whole
        return type(value) not in (int, shape) or not 0 <= value <= sys.float_info.max
    return not isinstance(value, shape)


def check_config(config: object, wanted: Settings | None = None) -> None:
    """ValueError: this is no configuration of a record or of a checkpoint, or of other settings than are ``wanted``."""
    if misfit(config, {"mean": [float], "std": [float], "network": {"class": str, "parameters": int, "printed": str}}):
        raise ValueError("its mean, std or network is missing")
    if not len(config["mean"]) == len(config["std"]) == 3 or min(config["std"]) <= 0:
        raise ValueError("its mean or std is not three numbers")
    try:
        found = settings_of(config)
    except KeyError as error:
        raise ValueError(f"it has no {error.args[0]}") from None
    for it in fields(Settings):
        if (value := getattr(found, it.name)) is not it.default and misfit(value, it.metadata["kind"] or bool):
            raise ValueError(f"its {it.name} is of another kind, or out of range")
    for name, value in (wanted or found).changes(found).items():  # TASK or RECIPE has been changed since
        raise ValueError(f"it is of a run with another {name}: {getattr(found, name)!r}, not {value!r}")


def check_history(record: dict) -> None:
    """ValueError: the epochs of a record or of a state do not fit together, or not its settings."""
    history, settings = record["history"], settings_of(record["config"])
    steps = steps_of(images_of(settings)[0], settings.batch_size)
    if len(history) > settings.epochs:
        raise ValueError(f"its history has {len(history)} of {settings.epochs} epochs")
    for number, epoch in enumerate(history, 1):
        if epoch["epoch"] != number:
            raise ValueError(f"in its history, epoch {number} is missing")
        if not math.isclose(epoch["learning_rate"], rate_of(settings, steps * (number - 1), steps)):
            raise ValueError(f"in its history, the learning rate of epoch {number} is not that of its settings")
        if epoch.get("image_size") != (size_of(settings, number) if settings.growth else None):
            raise ValueError(f"in its history, the image size of epoch {number} is not that of its settings")
    starts = [environment["from_epoch"] for environment in record["environments"]]
    if starts[:1] != [1][: len(history)] or starts != sorted(set(starts)) or max(starts, default=0) > len(history):
        raise ValueError("its environments are not those of its epochs")
