"""The record of a run: best epoch, patience, schedule; read from ``plots/RUN.json``, and checked. Without torch."""

import json
import math
from pathlib import Path

FORMAT = 1
STEP_SIZE, GAMMA = 10, 0.5  # of StepLR: every 10 epochs, the learning rate is halved (lab report)
METRICS = ("learning_rate", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "seconds")
ENVIRONMENT = ("torch", "device", "threads", "platform")


def best_of(history: list[dict]) -> dict:
    """The epoch with the highest validation accuracy, the earliest of equals (lab report, questions 3 and 6)."""
    return max(history, key=lambda epoch: epoch["val_accuracy"])


def out_of_patience(history: list[dict], patience: int | None) -> bool:
    """Whether the last ``patience`` epochs brought no new best; never if it is None."""
    return bool(patience and history) and len(history) - best_of(history)["epoch"] >= patience


def read_record(path: Path, run: str, settings: dict) -> dict:
    """The record of the run with this name and these settings.

    Raises ValueError: that is not what is in the file; the message is the reason; OSError: it cannot be read.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        raise ValueError("it is cut short, or no JSON") from None
    try:
        problem = problem_of(record, run, settings)
    except KeyError as error:
        problem = f"it has no {error.args[0]}"
    except (TypeError, AttributeError, ValueError, OverflowError):
        problem = "a value is of another kind"
    if problem:
        raise ValueError(problem)
    return record


def problem_of(record: dict, run: str, settings: dict) -> str | None:
    """What does not fit together in a record, or None; an exception if a value is missing or of another kind."""
    if record["format"] != FORMAT:
        return f"its format is {record['format']}, not {FORMAT}"
    if record["run"] != run:
        return f"it is of the run {record['run']}"
    config, history, confusion = record["config"], record["history"], record["confusion_matrix"]
    if missing := [name for name in ENVIRONMENT if name not in record["environment"]]:
        return f"it has no {missing[0]}"
    for name, value in settings.items():
        if config[name] != value:
            return f"its {name} is {config[name]}, not {value}"
    for number, epoch in enumerate(history, 1):
        rate = config["lr"] * (1 if config["constant_lr"] else GAMMA ** ((number - 1) // STEP_SIZE))
        if epoch["epoch"] != number:
            return f"in its history, epoch {number} is missing"
        if not math.isclose(epoch["learning_rate"], rate):
            return f"in its history, the learning rate of epoch {number} is not that of its settings"
        if not all(math.isfinite(epoch[name]) and epoch[name] >= 0 for name in METRICS):
            return f"in its history, a value of epoch {number} is negative or not finite"
        if max(epoch["train_accuracy"], epoch["val_accuracy"]) > 1:
            return f"in its history, an accuracy of epoch {number} is above 1"
    stopped_early = len(history) < config["epochs"] and out_of_patience(history, config["patience"])
    if len(history) != config["epochs"] and not stopped_early:
        return f"its history has {len(history)} of {config['epochs']} epochs"
    if record["best_epoch"] != best_of(history)["epoch"]:
        return "its best epoch is not the best of its history"
    if [len(row) for row in confusion] != [10] * 10 or min(map(min, confusion)) < 0 or not max(map(max, confusion)):
        return "its confusion matrix is not one of 10 classes"
    right, total = sum(confusion[i][i] for i in range(10)), sum(map(sum, confusion))
    if not math.isclose(record["test_accuracy"], right / total):
        return "its test accuracy is not that of its confusion matrix"
    if not math.isfinite(record["test_loss"]):
        return "its test loss is not finite"
    return None
