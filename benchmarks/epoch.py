"""Where the time of a real run goes: until its first step, and in an epoch: training, validation, checkpoint, picture.

    python benchmarks/epoch.py                 both networks, and by their recipes, four epochs each

Each script runs whole, in a process of its own, on the real images; its functions are timed from outside. The first
epoch is left out: in it, libraries are loaded. Figures are means over the others, in seconds.
"""

import argparse
import contextlib
import functools
import importlib
import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

TASKS = "task1_simplecnn", "task2_resnet18"
EPOCHS = 4
PARTS = {  # where each function is looked up, and the part that its time is counted to
    ("common", "train_epoch"): "training",
    ("common", "predict_logits"): "validation",
    ("lab.checkpoint", "copy_of_weights"): "checkpoint",
    ("lab.checkpoint", "save_state"): "checkpoint",
    ("common", "save_figure"): "picture",
}


def timed(function: Callable, part: str, seconds: Counter) -> Callable:
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        started = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            seconds[part] += time.perf_counter() - started

    return wrapper


def run(name: str, started: float, *words: str) -> dict:
    """Run a task script; seconds from ``started`` to the end of its first step, and of each part of an epoch."""
    import common
    from lab import cifar10, commandline, console

    task, found, epochs, seconds = importlib.import_module(name), {}, [], Counter()
    for (module, function), part in PARTS.items():
        wrapped = timed(getattr(sys.modules[module], function), part, seconds)
        setattr(sys.modules[module], function, wrapped)

    def first_step(*args, step=common.train_step):
        result = step(*args)
        found.setdefault("first_step", time.time() - started)
        return result

    def one_more_epoch(*args, print_epoch=console.print_epoch):
        print_epoch(*args)
        epochs.append(dict(seconds) | {"whole": time.perf_counter()})
        seconds.clear()

    common.train_step, console.print_epoch = first_step, one_more_epoch
    data = cifar10.find(commandline.parse(task.__file__, "", task.TASK, task.RECIPE, []).data_dir)  # not the sample
    with tempfile.TemporaryDirectory() as directory, contextlib.redirect_stdout(sys.stderr):
        places = ["--data-dir", str(data), "--output-dir", directory]
        task.main(["--epochs", str(EPOCHS), *places, *words])
    for part in PARTS.values():
        found[part] = sum(epoch.get(part, 0) for epoch in epochs[1:]) / (EPOCHS - 1)
    found["whole"] = (epochs[-1]["whole"] - epochs[0]["whole"]) / (EPOCHS - 1)
    return found


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    for name, words in itertools.product(TASKS, ([], ["--recipe"])):
        command = [sys.executable, __file__, name, str(time.time()), *words]
        found = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout)
        parts = ", ".join(f"{part} {found[part]:.2f}" for part in dict.fromkeys(PARTS.values()))
        share = 1 - found["training"] / found["whole"]
        print(f"{' '.join([name, *words])}: first step after {found['first_step']:.1f} s")
        print(f"  an epoch of {found['whole']:.2f} s: {parts}; {share:.1%} is not training", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] in ([name] for name in TASKS):  # the process of one script
        print(json.dumps(run(sys.argv[1], float(sys.argv[2]), *sys.argv[3:])))
    else:
        main()
