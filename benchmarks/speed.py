"""How fast: whole training steps of this project beside those of plain PyTorch, in one run, on the real images.

    python benchmarks/speed.py                  both networks, on all that the machine has; 20 minutes a precision
    python benchmarks/speed.py --threads 1      with one thread

Four variants take turns, A A+ B C, then C B A+ A, and so on; who has no turn sleeps:

    A   plain PyTorch, as most scripts do it: torchvision's CIFAR10 with its transforms on PIL images, a DataLoader with
        the number of workers that is best here, torchvision's resnet18 (or the same SimpleCNN), all else as by default
    A+  plain PyTorch with what its tuning guide says: bfloat16 by autocast where the device has it, channels last,
        fused Adam, no bias before a batch norm, an allocator that keeps memory, the faster of transforms on PIL images
        and v2 on tensors, each with its best number of workers; and torch.compile, if there is a C++ compiler and it is
        faster. But no thread is bound to a core: with two runs at once, both would have the same one
    B   this project, through the functions that the scripts call
    C   its ceiling: B's training step again and again on one batch that is augmented and in place; without the data,
        and without what an epoch adds to it (sums of loss and accuracy, the progress bar)

A, A+ and B have a process each; C is in B's, with its network and its memory. B also goes through its batches without
training, for the share of the data path, and runs one large convolution, for the floor: the time that the arithmetic of
a step takes at the rate of that convolution.

Where the device has bfloat16, all of this is measured twice: A+, B and C in bfloat16, then in float32. A is always in
float32. Every figure is a median over the rounds; every ratio is one of images per second, and the median of the
rounds' ratios. They are printed, and written as JSON. Workers may use other cores than those of --threads.
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
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import torch
import torch.nn.functional as F
import torchvision
from torch import nn
from torchvision import transforms
from torchvision.transforms import v2

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import common
import task1_simplecnn
import task2_resnet18
from lab import cifar10, commandline, faster, precision
from lab.files import atomic_write
from lab.learner import learner_for
from lab.run import Run, device
from lab.settings import count
from task1_simplecnn import SimpleCNN
from task2_resnet18 import ResNet18

TASKS = {  # the script, its network, and A's
    "task1_simplecnn": (task1_simplecnn, SimpleCNN, SimpleCNN),
    "task2_resnet18": (task2_resnet18, ResNet18, lambda: torchvision.models.resnet18(num_classes=10)),
}
WARM_UP, STEPS = 5, 30  # of each turn
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
AUGMENTATION = {
    "PIL": [
        transforms.RandomCrop(32, padding=4),
        transforms.RandomHorizontalFlip(),
        transforms.RandomRotation(15),
        transforms.ToTensor(),
        transforms.Normalize(MEAN, STD),
    ],
    "v2": [
        v2.ToImage(),
        v2.RandomCrop(32, padding=4),
        v2.RandomHorizontalFlip(),
        v2.RandomRotation(15),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(MEAN, STD),
    ],
}
Variant = dict[str, Callable[[int], None]]  # what can be timed, each for a number of steps


def batches_of(run: Run, workers: int, kind: str) -> Iterable:
    """The training images, again and again, by a DataLoader."""
    images = torchvision.datasets.CIFAR10(run.data_dir, transform=transforms.Compose(AUGMENTATION[kind]))
    loader = torch.utils.data.DataLoader(
        images,
        run.settings.batch_size,
        shuffle=True,
        num_workers=workers,
        drop_last=True,
        pin_memory=run.device.type == "cuda",
        persistent_workers=workers > 0,
    )
    return itertools.chain.from_iterable(itertools.repeat(loader))


def plain(run: Run, workers: int) -> Variant:
    """A."""
    batches = batches_of(run, workers, "PIL")
    model = TASKS[run.task][2]().to(run.device)
    optimizer = torch.optim.Adam(model.parameters(), run.settings.lr, weight_decay=run.settings.weight_decay)

    def train(steps: int) -> None:
        model.train()
        for images, labels in itertools.islice(batches, steps):
            images, labels = images.to(run.device, non_blocking=True), labels.to(run.device, non_blocking=True)
            optimizer.zero_grad()
            F.cross_entropy(model(images), labels).backward()
            optimizer.step()

    return {"train": train}


def tuned(run: Run, workers: int, kind: str, compiled: bool) -> Variant:
    """A+."""
    torch.backends.cudnn.benchmark = True
    faster.keep_memory()  # as jemalloc or tcmalloc do, which the guide names
    batches = batches_of(run, workers, kind)
    model = TASKS[run.task][2]().to(run.device, memory_format=torch.channels_last)
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):  # in both networks, a batch norm follows
            layer.bias = None
    rate, penalty = run.settings.lr, run.settings.weight_decay
    optimizer = torch.optim.Adam(model.parameters(), rate, weight_decay=penalty, fused=True)
    network = torch.compile(model) if compiled else model

    def train(steps: int) -> None:
        network.train()
        for images, labels in itertools.islice(batches, steps):
            images = images.to(run.device, non_blocking=True, memory_format=torch.channels_last)
            labels = labels.to(run.device, non_blocking=True)
            optimizer.zero_grad()
            with precision.autocast(run.device, run.precision):
                loss = F.cross_entropy(network(images), labels)
            loss.backward()
            optimizer.step()

    return {"train": train}


def project(run: Run) -> Variant:
    """B, set up as ``common.train`` does it, C, and the convolution that gives the floor."""
    train_set, _, _ = common.load_data(run)
    batch_size, autocast = run.settings.batch_size, precision.autocast(run.device, run.precision)
    faster.keep_memory()
    model = faster.rebuild(common.build(TASKS[run.task][1], run), train_set.images.shape[1:])
    learner = learner_for(model, run.settings, STEPS)
    epochs = itertools.count(1)

    def epoch_of(steps: int) -> common.Dataset:
        images = steps * batch_size
        apart = len(train_set.labels) // images
        spread = slice(None, images * apart, apart)  # over all of memory
        return train_set._replace(images=train_set.images[spread], labels=train_set.labels[spread])

    def batches(steps: int) -> Iterable:
        epoch = epoch_of(steps)
        order, augmentation = common.sample_epoch(epoch, run.settings, next(epochs), common.TRAINING)
        return common.batches(epoch, batch_size, order, augmentation)

    def train(steps: int) -> None:
        common.train_epoch(learner._replace(steps=steps), epoch_of(steps), run, next(epochs))

    def data(steps: int) -> None:
        for _ in batches(steps):
            pass

    images, labels = next(iter(batches(1)))

    def step(steps: int) -> None:
        model.train()
        for _ in range(steps):
            common.train_step(learner, images, labels, autocast)

    convolution = nn.Conv2d(64, 64, 3, padding=1, bias=False).to(run.device, memory_format=torch.channels_last)
    maps = torch.rand(128, 64, 16, 16, device=run.device).contiguous(memory_format=torch.channels_last)

    @torch.no_grad()
    def convolve(steps: int) -> None:
        with autocast:
            for _ in range(steps):
                convolution(maps)

    return {"train": train, "data": data, "step": step, "convolve": convolve}


def arithmetic(network: nn.Module, images: torch.Tensor) -> float:
    """The floating-point operations of the convolutions in a training step: forward pass and both gradients.

    The images need no gradient. Taps count where they meet a pixel, not where they meet padding.
    """
    found = []

    def add(layer: nn.Conv2d, inputs: tuple[torch.Tensor], out: torch.Tensor) -> None:
        (x,) = inputs
        axes = zip(x.shape[2:], layer.kernel_size, layer.stride, layer.padding, strict=True)
        taps = math.prod(sum(len(pixels) for pixels, _ in faster.windows(*axis)) for axis in axes)
        passes = 3 if x.requires_grad else 2
        found.append(2.0 * passes * len(x) * taps * layer.in_channels * layer.out_channels)

    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(add)
    network(images)
    return sum(found)


def serve(connection: Connection, threads: int, setup: Callable[..., Variant], run: Run, *more) -> None:
    """In a process of its own: set a variant up, then time what is asked for, until ``peak`` is."""
    torch.set_num_threads(threads)
    on_cpu = run.device.type == "cpu"
    with contextlib.ExitStack() as stack:
        if setup is project:  # as in lab.commandline.open_run
            stack.enter_context(precision.torch_as_it_comes(run.device))
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


def start(setup: Callable[..., Variant], run: Run, *more) -> Callable[[str], float]:
    """Start a variant; the result asks it for the seconds of a step, or for the most bytes that it has had at once."""
    ours, theirs = multiprocessing.Pipe()
    threads = torch.get_num_threads()
    process = multiprocessing.Process(target=serve, args=(theirs, threads, setup, run, *more))
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


def fastest(rivals: dict[tuple, Callable[[str], float]]) -> tuple:
    """The key of the variant with the shortest step; the others end."""
    trials = {}
    for key, ask in rivals.items():
        with contextlib.suppress(EOFError):  # torch.compile does not work everywhere
            trials[key] = min(ask("train") for _ in range(2))
    best = min(trials, key=trials.get)
    for key in trials:
        if key != best:
            rivals[key]("peak")
    return best


def compare(run: Run, rounds: int) -> dict:
    """Seconds and ratios of one task in one precision, printed and as a dict."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    numbers = [workers for workers in (0, 1, 2, 4, 8, 16) if workers <= cores]
    rivals = {(workers,): start(plain, run, workers) for workers in numbers}
    best = fastest(rivals)
    a = rivals[best]
    rivals = {choice: start(tuned, run, *choice) for choice in itertools.product(numbers, AUGMENTATION, (False,))}
    best_tuned = fastest(rivals)
    if shutil.which(os.environ.get("CXX", "g++")):
        compiled = (*best_tuned[:2], True)
        rivals[compiled] = start(tuned, run, *compiled)
        best_tuned = fastest({choice: rivals[choice] for choice in (best_tuned, compiled)})
    a_plus, b = rivals[best_tuned], start(project, run)

    turns = {"A": (a, "train"), "A+": (a_plus, "train"), "B": (b, "train"), "C": (b, "step")}
    turns |= {"data": (b, "data"), "convolution": (b, "convolve")}
    seconds = {name: [] for name in turns}
    for number in range(rounds):
        for name in turns if number % 2 == 0 else reversed(turns):
            ask, wanted = turns[name]
            seconds[name].append(ask(wanted))
    peaks = {name: ask("peak") / 1e6 for name, ask in (("A", a), ("A+", a_plus), ("B", b))}

    def ratio(name: str) -> float:
        return statistics.median(other / ours for other, ours in zip(seconds[name], seconds["B"], strict=True))

    work = arithmetic(TASKS[run.task][1](), torch.zeros(run.settings.batch_size, 3, 32, 32))
    once = arithmetic(nn.Sequential(nn.Conv2d(64, 64, 3, padding=1)), torch.zeros(128, 64, 16, 16)) / 2
    seconds["floor"] = [work / once * convolution for convolution in seconds["convolution"]]
    found = {"batch_size": run.settings.batch_size, "A": {"workers": best[0]}}
    found["A+"] = dict(zip(("workers", "transforms", "compiled"), best_tuned, strict=True))
    found["milliseconds"] = {
        name: 1000 * statistics.median(seconds[name]) for name in ("A", "A+", "B", "C", "data", "floor")
    }
    found |= {f"B/{name}": ratio(name) for name in ("A", "A+", "C", "floor")}
    found |= {"gigaflop": work / 1e9, "gigaflop_per_second": once / statistics.median(seconds["convolution"]) / 1e9}
    found["peak_megabytes"] = peaks
    print_comparison(run, found)
    return found


def print_comparison(run: Run, found: dict) -> None:
    workers, kind, compiled = found["A+"].values()
    names = {
        "A": f"plain PyTorch ({found['A']['workers']} workers)",
        "A+": f"tuned ({workers} workers, {kind}{', compiled' * compiled})",
        "B": "this project",
        "C": "its ceiling",
        "floor": f"{found['gigaflop']:.1f} GFLOP at {found['gigaflop_per_second']:.0f} a second",
    }
    print(f"{run.task}, batches of {run.settings.batch_size}, {run.precision}")
    for name, what in names.items():
        milliseconds = found["milliseconds"][name]
        rate = 1000 * run.settings.batch_size / milliseconds
        print(f"  {name:5}  {what:32} {rate:8.0f} images/s  {milliseconds:7.2f} ms a step")
    ratios = "   ".join(f"B/{name} {found[f'B/{name}']:.2f}" for name in ("A", "A+", "C", "floor"))
    share = found["milliseconds"]["data"] / found["milliseconds"]["B"]
    print(f"  {ratios}   data path {share:.1%} of B")
    print(
        f"  peak memory, without workers: {', '.join(f'{n} {mb:.0f} MB' for n, mb in found['peak_megabytes'].items())}"
    )


def describe_machine(run: Run) -> dict:
    """What the figures depend on; of the CPU also all that it can do, as far as PyTorch tells."""
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()
    environment = precision.environment(run.device, run.precision)
    return {name: value for name, value in environment.items() if name != "precision"} | {
        "torchvision": torchvision.__version__,
        "python": platform.python_version(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "capabilities": sorted(name for name, value in capabilities.items() if value is True),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    threads = torch.get_num_threads()
    flag = parser.add_argument
    number = count(1, 1024)
    flag("--threads", type=number.parse, default=threads, metavar="N", help=f"threads of the CPU ({threads})")
    flag("--rounds", type=number.parse, default=9, metavar="N", help="turns of each variant (9)")
    flag("--device", type=device, default="auto", help="as of the task scripts (auto)")
    flag(
        "--json", type=Path, default=HERE / "speed.json", metavar="FILE", help="where the figures go (beside this file)"
    )
    chosen = parser.parse_args()
    if not os.access(chosen.json.parent, os.W_OK):
        parser.error(f"argument --json: cannot write to {chosen.json.parent}")
    torch.set_num_threads(chosen.threads)
    multiprocessing.set_start_method("spawn")

    runs = []
    for (task, _, _), words in itertools.product(TASKS.values(), ([], ["--float32"])):
        words = ["--device", str(chosen.device), *words]
        run = commandline.parse(task.__file__, "", task.TASK, task.RECIPE, words)
        if words[-1] == "--float32" or run.precision == "bfloat16":  # else both would be in float32
            runs.append(replace(run, data_dir=cifar10.find(run.data_dir)))
    if cifar10.damaged(runs[0].data_dir):
        sys.exit(f"The real CIFAR-10 is not in {runs[0].data_dir}; the task scripts download it.")
    machine = describe_machine(runs[0])
    print(", ".join(f"{name} {value}" for name, value in machine.items() if name != "capabilities"))
    found = {task: {} for task in TASKS}
    try:
        for run in runs:
            found[run.task][run.precision] = compare(run, chosen.rounds)
    finally:
        for process in multiprocessing.active_children():  # after an error in one, the others would wait forever
            process.terminate()
    record = {"machine": machine, "rounds": chosen.rounds, "tasks": found}
    atomic_write(chosen.json, f"{json.dumps(record, indent=1)}\n".encode(), "speed")


if __name__ == "__main__":
    main()
