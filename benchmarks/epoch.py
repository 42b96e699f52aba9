"""Where the time of a real run goes: until its first step, and in an epoch: training, validation, checkpoint, picture.

    python benchmarks/epoch.py                 both networks, and by their recipes, four epochs each
    python benchmarks/epoch.py --states DIR    unfinished runs with their checkpoints/RUN.last.pt in DIR go on for four
                                               epochs, in turns: with denormal numbers flushed to zero, and with them

The states have denormal numbers only if their runs kept them, and these scripts do not. So train them like this:

    python -c "import torch; torch.set_flush_denormal = lambda on: False; import task2_resnet18; task2_resnet18.main()"

Each script runs whole, in a process of its own, on the real images; its functions are timed from outside. The first
epoch is left out: in it, libraries are loaded. Figures are means over the others, in seconds.
"""

import argparse
import contextlib
import functools
import importlib
import itertools
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

TASKS = "task1_simplecnn", "task2_resnet18"
EPOCHS = 4
DENORMALS = "with-denormals"
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


class EnoughError(Exception):
    """A run has had its epochs."""


def run(name: str, started: float, state: str, *words: str) -> dict:
    """Run a task script; seconds from ``started`` to the end of its first step, and of each part of an epoch.

    With the path of a ``state``, it goes on from there; DENORMALS among the words: without flushing them to zero.
    """
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
        if state and len(epochs) == EPOCHS:
            raise EnoughError

    if DENORMALS in words:
        torch.set_flush_denormal = lambda on: False
    common.train_step, console.print_epoch = first_step, one_more_epoch
    data = cifar10.find(commandline.parse(task.__file__, "", task.TASK, task.RECIPE, []).data_dir)  # not the sample
    with tempfile.TemporaryDirectory() as directory, contextlib.redirect_stdout(sys.stderr):
        flags = ["--data-dir", str(data), "--output-dir", directory, *(word for word in words if word != DENORMALS)]
        (Path(directory) / "checkpoints").mkdir()
        if state:
            shutil.copy(state, Path(directory) / "checkpoints")
        with contextlib.suppress(EnoughError):
            task.main([*flags, *(["--resume"] if state else ["--epochs", str(EPOCHS)])])
    for part in PARTS.values():
        found[part] = sum(epoch.get(part, 0) for epoch in epochs[1:]) / (EPOCHS - 1)
    found["whole"] = (epochs[-1]["whole"] - epochs[0]["whole"]) / (EPOCHS - 1)
    return found


def commands(states: Path | None) -> Iterator[list[str]]:
    """What comes behind the name of a script: the path of a state or nothing, and flags."""
    from lab.settings import flags_for, settings_of

    if not states:
        for name, words in itertools.product(TASKS, ([], ["--recipe"])):
            yield [name, "", *words]
        return
    for path in sorted(states.glob("checkpoints/*.last.pt")) * 2:
        name = next(name for name in TASKS if path.name.startswith(name))
        settings = settings_of(torch.load(path)["config"])
        words = flags_for(settings.changes(importlib.import_module(name).TASK))
        yield [name, str(path), *words]
        yield [name, str(path), *words, DENORMALS]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--states", type=Path, metavar="DIR")
    for name, state, *words in commands(parser.parse_args().states):
        command = [sys.executable, __file__, name, str(time.time()), state, *words]
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
