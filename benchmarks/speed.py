"""How fast: whole training steps of this project beside those of plain PyTorch, in one run, on the real images.

    python benchmarks/speed.py                  both networks, on all that the machine has; about 5 minutes
    python benchmarks/speed.py --threads 1      with one thread

Three variants, each in a process of its own, take turns, A B C A B C ...; the others sleep meanwhile:

    A  plain PyTorch, as most scripts do it: torchvision's CIFAR10 with its transforms on PIL images, a DataLoader with
       the number of workers that is best here, torchvision's resnet18 (or the same SimpleCNN), everything as by default
    B  this project, through the functions that the scripts call
    C  its ceiling: B's training step again and again on one batch that is augmented and in place

B also goes through its batches without training, for the share of the data path. Every figure is a median over the
rounds, every ratio the median of the rounds' ratios. They are printed, and written as JSON. A's workers may use other
cores than those of --threads. On a GPU that has bfloat16, B uses it, as the scripts do, and A does not.
"""

import argparse
import contextlib
import io
import itertools
import json
import math
import multiprocessing
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import torch
import torchvision
from torch import nn
from torchvision import transforms

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))


import common
import task1_simplecnn
import task2_resnet18
from lab import cifar10, faster, flags
from lab.checkpoint import environment
from lab.files import atomic_write
from task1_simplecnn import SimpleCNN
from task2_resnet18 import ResNet18

TASKS = {  # the network, A's, and the settings
    "task1_simplecnn": (SimpleCNN, SimpleCNN, task1_simplecnn.DEFAULTS),
    "task2_resnet18": (ResNet18, lambda: torchvision.models.resnet18(num_classes=10), task2_resnet18.DEFAULTS),
}
WARM_UP, STEPS = 5, 40  # of each turn
Variant = dict[str, Callable[[int], None]]  # what can be timed, each for a number of steps


def plain(run: flags.Run, workers: int) -> Variant:
    """A."""
    augmentation = [
        transforms.RandomCrop(32, padding=4),
        transforms.RandomHorizontalFlip(),
        transforms.RandomRotation(15),
        transforms.ToTensor(),
        transforms.Normalize((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    ]
    images = torchvision.datasets.CIFAR10(run.data_dir, transform=transforms.Compose(augmentation))
    loader = torch.utils.data.DataLoader(
        images,
        run.batch_size,
        shuffle=True,
        num_workers=workers,
        drop_last=True,
        pin_memory=run.device.type == "cuda",
        persistent_workers=workers > 0,
    )
    batches = itertools.chain.from_iterable(itertools.repeat(loader))
    model = TASKS[run.task][1]().to(run.device)
    optimizer = torch.optim.Adam(model.parameters(), lr=run.lr)

    def train(steps: int) -> None:
        model.train()
        for images, labels in itertools.islice(batches, steps):
            images, labels = images.to(run.device, non_blocking=True), labels.to(run.device, non_blocking=True)
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images), labels).backward()
            optimizer.step()

    return {"train": train}


def project(run: flags.Run) -> Variant:
    """B, set up as ``common.train`` does it, and C."""
    train_set, _, _ = common.load_data(run)
    faster.keep_memory()
    model = faster.rebuild(common.build(TASKS[run.task][0], run), train_set.images.shape[1:])
    optimizer = torch.optim.Adam(model.parameters(), lr=run.lr, fused=True)
    epochs = itertools.count(1)

    def epoch_of(steps: int) -> common.Dataset:
        images = steps * run.batch_size
        apart = len(train_set.labels) // images
        spread = slice(None, images * apart, apart)  # over all of memory
        return train_set._replace(images=train_set.images[spread], labels=train_set.labels[spread])

    def batches(steps: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        epoch = epoch_of(steps)
        order, augmentation = common.sample_epoch(epoch, run, next(epochs), common.TRAINING)
        return common.batches(epoch, run.batch_size, order, augmentation)

    def train(steps: int) -> None:
        common.train_epoch(model, optimizer, epoch_of(steps), run, next(epochs))

    def data(steps: int) -> None:
        for _ in batches(steps):
            pass

    images, labels = next(batches(1))

    def step(steps: int) -> None:
        model.train()
        for _ in range(steps):
            common.train_step(model, optimizer, images, labels)

    return {"train": train, "data": data, "step": step}


def serve(connection: Connection, setup: Callable[..., Variant], run: flags.Run, *more: int) -> None:
    """In a process of its own: set a variant up, then time what is asked for, until ``peak`` is."""
    torch.set_num_threads(run.threads)
    on_cpu = run.device.type == "cpu"
    with contextlib.redirect_stdout(io.StringIO()):
        variant = setup(run, *more)
    connection.send("ready")
    while (wanted := connection.recv()) != "peak":
        for steps in (WARM_UP, STEPS):
            started = time.perf_counter()
            variant[wanted](steps)
            on_cpu or torch.accelerator.synchronize(run.device)
        connection.send((time.perf_counter() - started) / STEPS)
    on_gpu = run.device.type == "cuda"
    connection.send(torch.cuda.max_memory_allocated(run.device) if on_gpu else peak_memory())


def peak_memory() -> float:
    """The most bytes that this process has had in memory at once; those of its workers do not count."""
    try:
        import resource
    except ImportError:  # Windows
        return math.nan
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def start(setup: Callable[..., Variant], run: flags.Run, *more: int) -> Callable[[str], float]:
    """Start a variant; the result asks it for the seconds of a step, or for the most bytes that it has had at once."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.Process(target=serve, args=(theirs, setup, run, *more))
    process.start()
    theirs.close()  # so that an error over there is an EOFError here
    ours.recv()  # when it is set up, and no longer takes time from the others

    def ask(wanted: str) -> float:
        ours.send(wanted)
        answer = ours.recv()
        if wanted == "peak":
            process.join()
        return answer

    return ask


def compare(run: flags.Run, rounds: int) -> dict:
    """Seconds and ratios of one task, printed and as a dict."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    rivals = {workers: start(plain, run, workers) for workers in (0, 1, 2, 4, 8, 16) if workers <= cores}
    trials = {workers: min(ask("train") for _ in range(2)) for workers, ask in rivals.items()}
    workers = min(trials, key=trials.get)
    for other, ask in rivals.items():
        if other != workers:
            ask("peak")
    a, b, c = rivals[workers], start(project, run), start(project, run)
    seconds = [(a("train"), b("train"), c("step"), b("data")) for _ in range(rounds)]
    peak_a, peak_b, _ = a("peak"), b("peak"), c("peak")

    names = {"A": f"plain PyTorch ({workers} workers)", "B": "this project", "C": "its ceiling"}
    found = {"batch_size": run.batch_size, "workers": workers}
    found["milliseconds"] = {
        name: 1000 * statistics.median(times) for name, times in zip(names, zip(*seconds, strict=True), strict=False)
    }
    found["B/A"] = statistics.median(a / b for a, b, _, _ in seconds)
    found["B/C"] = statistics.median(c / b for _, b, c, _ in seconds)
    found["data"] = statistics.median(data / b for _, b, _, data in seconds)
    found["peak_megabytes"] = {"A": peak_a / 1e6, "B": peak_b / 1e6}
    print(f"{run.task}, batches of {run.batch_size}")
    for name, what in names.items():
        milliseconds = found["milliseconds"][name]
        print(
            f"  {name}  {what:27} {1000 * run.batch_size / milliseconds:8.0f} images/s  {milliseconds:7.2f} ms a step"
        )
    print(f"  B/A {found['B/A']:.2f}   B/C {found['B/C']:.2f}   data path {100 * found['data']:.1f} % of B")
    print(f"  peak memory: A {peak_a / 1e6:.0f} MB{' and its workers' if workers else ''}, B {peak_b / 1e6:.0f} MB")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    threads = torch.get_num_threads()
    flag = parser.add_argument
    flag("--threads", type=flags.integer(1, 1024), default=threads, metavar="N", help=f"threads of the CPU ({threads})")
    flag("--rounds", type=flags.integer(1, 1000), default=7, metavar="N", help="turns of each variant (7)")
    flag("--device", type=flags.device, default="auto", help="as of the task scripts (auto)")
    flag(
        "--json", type=Path, default=HERE / "speed.json", metavar="FILE", help="where the figures go (beside this file)"
    )
    chosen = parser.parse_args()
    if not os.access(chosen.json.parent, os.W_OK):
        parser.error(f"argument --json: cannot write to {chosen.json.parent}")
    directory = cifar10.find(flags.ROOT)
    if cifar10.damaged(directory):
        sys.exit(f"The real CIFAR-10 is not in {directory}; the task scripts download it.")
    multiprocessing.set_start_method("spawn")

    machine = environment(chosen.device) | {
        "threads": chosen.threads,
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "torchvision": torchvision.__version__,
        "python": platform.python_version(),
    }
    print(", ".join(f"{name} {value}" for name, value in machine.items()))
    found = {}
    try:
        for task, (_, _, defaults) in TASKS.items():
            run = flags.parse("", defaults, ["--device", str(chosen.device)])
            run.threads, run.data_dir = chosen.threads, directory
            found[task] = compare(run, chosen.rounds)
    finally:
        for process in multiprocessing.active_children():  # after an error in one, the others would wait forever
            process.terminate()
    record = {"machine": machine, "rounds": chosen.rounds, "tasks": found}
    with atomic_write(chosen.json, "speed") as file:
        file.write(f"{json.dumps(record, indent=1)}\n".encode())


if __name__ == "__main__":
    main()
