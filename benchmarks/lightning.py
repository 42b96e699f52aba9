"""How fast, by what a user would pick instead: the same two networks, on the same work, with Lightning's Trainer.

    pip install lightning && python benchmarks/lightning.py     three rounds; about an hour on two CPU cores

Written as Lightning's CIFAR-10 tutorial goes about it: torchvision's CIFAR10 with its transforms, a DataLoader, a
LightningModule with Adam and StepLR. In each round, Lightning with its default number of workers, Lightning with the
best one for this machine, and the task script take turns; each trains two epochs on IMAGES images and validates on a
tenth of these, augmented too. What counts is the second epoch, with its validation. Printed: images per second, the
median over the rounds, and the median of the rounds' ratios.
"""

import argparse
import contextlib
import io
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, Subset
from torchvision import datasets, transforms

ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)  # instead of this folder, in which this file has the name of the package

import task1_simplecnn
import task2_resnet18
from lab import cifar10, commandline

IMAGES, EPOCHS, ROUNDS = 9000, 2, 3
WORKERS = 0, 1, 2  # the first is the DataLoader's default
DATA = cifar10.find(commandline.parse(__file__, "", task1_simplecnn.TASK, task1_simplecnn.RECIPE, []).data_dir)
TASKS = {
    "task1_simplecnn": (task1_simplecnn.SimpleCNN, task1_simplecnn.TASK),
    "task2_resnet18": (task2_resnet18.ResNet18, task2_resnet18.TASK),
}


def with_lightning(task: str, workers: int) -> float:
    """Images per second in the second epoch."""
    import lightning

    network, settings = TASKS[task]
    seconds = []

    class Classifier(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.network = network()

        def training_step(self, batch, number):
            images, labels = batch
            logits = self.network(images)
            loss = F.cross_entropy(logits, labels)
            self.log("train_loss", loss, on_epoch=True)
            self.log("train_accuracy", (logits.argmax(1) == labels).float().mean(), on_epoch=True)
            return loss

        def validation_step(self, batch, number):
            images, labels = batch
            logits = self.network(images)
            self.log("val_loss", F.cross_entropy(logits, labels))
            self.log("val_accuracy", (logits.argmax(1) == labels).float().mean())

        def configure_optimizers(self):
            optimizer = torch.optim.Adam(self.parameters(), settings.lr, weight_decay=settings.weight_decay)
            return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 10, 0.5)]

        def on_train_epoch_start(self):
            self.started = time.perf_counter()

        def on_train_epoch_end(self):  # after the validation
            seconds.append(time.perf_counter() - self.started)

    steps = [
        transforms.RandomCrop(32, padding=4),
        transforms.RandomHorizontalFlip(),
        transforms.RandomRotation(15),
        transforms.ToTensor(),
        transforms.Normalize((0.554, 0.412, 0.251), (0.159, 0.166, 0.160)),
    ]
    images = datasets.CIFAR10(DATA, train=True, transform=transforms.Compose(steps))
    how = {"num_workers": workers, "persistent_workers": workers > 0}
    train = DataLoader(Subset(images, range(IMAGES)), settings.batch_size, shuffle=True, **how)
    val = DataLoader(Subset(images, range(IMAGES, IMAGES + IMAGES // 10)), 500, **how)
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        trainer = lightning.Trainer(
            max_epochs=EPOCHS, num_sanity_val_steps=0, default_root_dir=folder, logger=False, accelerator="auto"
        )
        trainer.fit(Classifier(), train, val)
    return IMAGES / seconds[-1]


def with_the_script(task: str) -> float:
    short = ["--limit", str(IMAGES), "--epochs", str(EPOCHS), "--data-dir", str(DATA)]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, ROOT / f"{task}.py", *short, "--output-dir", folder]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        (record,) = Path(folder).glob("plots/*.json")
        return IMAGES / json.loads(record.read_text())["history"][-1]["seconds"]


def alone(task: str, workers: int) -> float:
    """Lightning in a process of its own."""
    command = [sys.executable, __file__, task, str(workers)]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    print(f"{torch.get_num_threads()} threads, {os.cpu_count()} cores, torch {torch.__version__}")
    for task in TASKS:
        best = max(WORKERS[1:], key=lambda workers: alone(task, workers))
        rounds = [(alone(task, WORKERS[0]), alone(task, best), with_the_script(task)) for _ in range(ROUNDS)]
        default, tuned, ours = (statistics.median(column) for column in zip(*rounds, strict=True))
        ratios = [statistics.median(it[2] / it[number] for it in rounds) for number in (0, 1)]
        print(f"{task}, images per second: Lightning {default:.0f}; with {best} workers {tuned:.0f}; this {ours:.0f}")
        print(f"  that is {ratios[0]:.2f} and {ratios[1]:.2f} times as fast", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] in ([task] for task in TASKS):
        print(with_lightning(sys.argv[1], int(sys.argv[2])))
    else:
        main()
