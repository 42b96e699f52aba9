"""The record of a run: best epoch, patience, schedule; read from ``plots/RUN.json``, and checked. Without torch."""

import json
import math
from collections.abc import Callable
from pathlib import Path

FORMAT = 2  # 1 had one environment, and no mistakes
STEP_SIZE, GAMMA = 10, 0.5  # of StepLR: every 10 epochs, the learning rate is halved (lab report)
START, END = 1 / 25, 1 / 250_000  # of the highest rate: with --recipe, what the first and the last step have
SAMPLE_IMAGES = 2_250  # to train, in the sample of CIFAR-10
METRICS = ("learning_rate", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "seconds")
ENVIRONMENT = ("from_epoch", "torch", "device", "threads", "platform")
MISTAKES = 25  # of the test images that are wrong, those with the highest confidence


def best_of(history: list[dict]) -> dict:
    """The epoch with the highest validation accuracy, the earliest of equals (lab report, questions 3 and 6).

    Where images grow, it is one of those with the largest, for accuracies on images of two sizes do not compare.
    """
    return max(history, key=lambda epoch: (epoch.get("image_size", 0), epoch["val_accuracy"]))


def out_of_patience(history: list[dict], config: dict) -> bool:
    """Whether the last epochs, as many as ``config["patience"]`` says, brought no new best; never if it is None.

    Where images grow, not before they have: a new size is what brings the next best.
    """
    patience = config["patience"]
    if not patience or not history or size_of(config, len(history)) < size_of(config, config["epochs"]):
        return False
    return len(history) - best_of(history)["epoch"] >= patience


def images_of(config: dict) -> tuple[int, int]:
    """How many images a run has to train and to validate."""
    train = config["limit"] or (SAMPLE_IMAGES if config["sample"] else 45_000)
    return train, (train // 10 if config["limit"] else train // 9)


def steps_of(images: int, batch_size: int) -> int:
    """How many steps an epoch has: a last batch of one image is left out, for batch norm cannot average over it."""
    return math.ceil((images - (images % batch_size == 1)) / batch_size)


def phases_of(config: dict, steps: int) -> tuple[int, float]:
    """Of a one-cycle schedule: how many steps it has, and with which of them (a fraction, perhaps) it is highest."""
    total = max(3, steps * config["epochs"])  # with fewer, OneCycleLR divides by zero
    return total, max(1, config["warmup"] * total - 1)


def rate_of(config: dict, epoch: int) -> float:
    """The learning rate of the first step of an epoch."""
    if not config.get("warmup"):
        return config["lr"] * (1 if config["constant_lr"] else GAMMA ** ((epoch - 1) // STEP_SIZE))
    steps = steps_of(images_of(config)[0], config["batch_size"])
    total, top = phases_of(config, steps)
    step = steps * (epoch - 1)
    share = START + (1 - START) * step / top if step <= top else 1 + (END - 1) * (step - top) / (total - 1 - top)
    return config["lr"] * share


def size_of(config: dict, epoch: int) -> int:
    """Height and width of the images in an epoch, where they may grow from 32, in steps of 16.

    No size has more epochs than the next, and the last epoch always has the largest.
    Howard, "Training Imagenet in 3 hours for $25; and CIFAR10 for $0.26" (2018), calls it progressive resizing.
    """
    largest, growth = config.get("image_size", 32), config.get("growth")
    if not growth:
        return largest
    sizes = range(32, largest, 16)
    return next(iter(sizes[int(epoch / (growth * config["epochs"]) * len(sizes)) :]), largest)


def epochs_left(config: dict, epoch: int) -> float:
    """How long all epochs after this one take, in units of this one: their time grows with the pixels."""
    later = range(epoch + 1, config["epochs"] + 1)
    return sum(size_of(config, number) ** 2 for number in later) / size_of(config, epoch) ** 2


def read_record(path: Path, run: str, settings: dict, usual: dict) -> dict:
    """The record of the run with this name and these settings, in today's format.

    A setting that it lacks, because it is older than the flag, has its ``usual`` value.
    Raises ValueError: that is not what is in the file; the message is the reason; OSError: it cannot be read.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        raise ValueError("it is cut short, or no JSON") from None
    if problem := first_problem(upgrade, record, usual) or first_problem(problem_of_record, record, run, settings):
        raise ValueError(problem)
    return record


def upgrade(record: dict, usual: dict) -> None:
    """Bring a record to today's format."""
    record["config"] = usual | record["config"]
    if record["format"] == 1:
        record["environments"] = environments_of(record.pop("environment"))


def environments_of(environment: dict) -> list[dict]:
    """The list of environments for an older run, which has one; it lacks the precision, which was float32 on a CPU."""
    precision = {"precision": "float32"} if environment["device"] == "cpu" else {}
    return [{"from_epoch": 1} | precision | environment]


def conditions(environment: dict) -> str:
    """What epochs were trained on, in words; a precision that was not recorded is left out."""
    threads = f"{environment['threads']} thread{'s' * (environment['threads'] != 1)}"
    parts = environment["device"], environment.get("precision"), threads, f"torch {environment['torch']}"
    return ", ".join(filter(None, parts))


def first_problem(check: Callable[..., str | None], *what) -> str | None:
    """What ``check(*what)`` returns, or what it stumbled over: a value that is missing, or of another kind."""
    try:
        return check(*what)
    except KeyError as error:
        return f"it has no {error.args[0]}"
    except (TypeError, AttributeError, ValueError, IndexError, ArithmeticError):
        return "a value is of another kind"


def problem_of_record(record: dict, run: str, settings: dict) -> str | None:
    """What does not fit together in a record, or None."""
    if record["format"] not in (1, FORMAT):
        return f"its format is {record['format']}, not {FORMAT}"
    if record["run"] != run:
        return f"it is of the run {record['run']}"
    config, history = record["config"], record["history"]
    for name, value in settings.items():
        if config[name] != value:
            return f"its {name} is {config[name]}, not {value}"
    if problem := problem_of_statistics(config) or problem_of_history(history, config):
        return problem
    stopped_early = len(history) < config["epochs"] and out_of_patience(history, config)
    if len(history) != config["epochs"] and not stopped_early:
        return f"its history has {len(history)} of {config['epochs']} epochs"
    if problem := problem_of_environments(record["environments"], history):
        return problem
    if record["best_epoch"] != best_of(history)["epoch"]:
        return "its best epoch is not the best of its history"
    return problem_of_test(record)


def problem_of_statistics(config: dict) -> str | None:
    """Mean and standard deviation have a finite number for each of the three channels of an image."""
    mean, std = config["mean"], config["std"]
    three = isinstance(mean, list) and isinstance(std, list) and len(mean) == len(std) == 3
    finite = three and all(type(value) in (int, float) and math.isfinite(value) for value in mean + std)
    return None if finite and min(std) > 0 else "its mean or std is not three numbers"


def problem_of_history(history: list[dict], config: dict) -> str | None:
    for number, epoch in enumerate(history, 1):
        if epoch["epoch"] != number:
            return f"in its history, epoch {number} is missing"
        if not math.isclose(epoch["learning_rate"], rate_of(config, number)):
            return f"in its history, the learning rate of epoch {number} is not that of its settings"
        if config.get("growth") and epoch["image_size"] != size_of(config, number):
            return f"in its history, the image size of epoch {number} is not that of its settings"
        if not all(math.isfinite(epoch[name]) and epoch[name] >= 0 for name in METRICS):
            return f"in its history, a value of epoch {number} is negative or not finite"
        if max(epoch["train_accuracy"], epoch["val_accuracy"]) > 1:
            return f"in its history, an accuracy of epoch {number} is above 1"
    return None


def problem_of_environments(environments: list[dict], history: list[dict]) -> str | None:
    starts = [environment["from_epoch"] for environment in environments]
    if starts[0] != 1 or starts != sorted(set(starts)) or starts[-1] > len(history):
        return "its environments are not those of its epochs"
    missing = [name for environment in environments for name in ENVIRONMENT if name not in environment]
    return f"it has no {missing[0]}" if missing else None


def problem_of_test(record: dict) -> str | None:
    confusion = record["confusion_matrix"]
    if [len(row) for row in confusion] != [10] * 10 or min(map(min, confusion)) < 0 or not max(map(max, confusion)):
        return "its confusion matrix is not one of 10 classes"
    right, total = sum(confusion[i][i] for i in range(10)), sum(map(sum, confusion))
    if not math.isclose(record["test_accuracy"], right / total):
        return "its test accuracy is not that of its confusion matrix"
    if not math.isfinite(record["test_loss"]):
        return "its test loss is not finite"
    if record["config"].get("recipe") and not 0 <= record["test_accuracy_mirrored"] <= 1:
        return "its test accuracy with mirror images is not between 0 and 1"
    if record["format"] == 1:
        return None
    mistakes = record["mistakes"]
    probabilities = [mistake["probability"] for mistake in mistakes]
    fit = len(mistakes) == min(MISTAKES, total - right) == len({mistake["index"] for mistake in mistakes})
    fit = fit and all(0 <= it["index"] < total and it["predicted"] in range(10) for it in mistakes)
    if not (fit and probabilities == sorted(probabilities, reverse=True) and all(0 <= p <= 1 for p in probabilities)):
        return "its mistakes are not those of its confusion matrix"
    return None
