"""Do the fast paths change results? Three epochs with them and without, for two seeds each.

    python benchmarks/same_results.py           both networks, on the real images; about half an hour on two cores

Without them, a network is trained as it stands in its script: all its convolutions, PyTorch's dropout, ReLU before
pooling. The same seed gives the same first weights, order of images and augmentation.
"""

import contextlib
import io
import json
import sys
import tempfile
from pathlib import Path

from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import task1_simplecnn
import task2_resnet18
from lab import cifar10, faster, flags

SEEDS = 0, 1


def train(task: object, seed: int) -> dict:
    """The record of a run of three epochs."""
    with tempfile.TemporaryDirectory() as directory, contextlib.redirect_stdout(io.StringIO()):
        words = ["--epochs", "3", "--seed", str(seed), "--data-dir", str(cifar10.find(flags.ROOT))]  # not the sample
        task.main([*words, "--output-dir", directory])
        (record,) = Path(directory, "plots").glob("*.json")
        return json.loads(record.read_text())


def as_it_stands(model: nn.Module, image_shape: tuple[int, int, int]) -> nn.Module:
    return model


def main() -> None:
    rebuild = faster.rebuild
    for task in (task1_simplecnn, task2_resnet18):
        for seed in SEEDS:
            for name, function in (("fast", rebuild), ("plain", as_it_stands)):
                faster.rebuild = function
                record = train(task, seed)
                losses = " ".join(f"{epoch['train_loss']:.4f}" for epoch in record["history"])
                last = record["history"][-1]
                print(
                    f"{record['config']['task']:16} seed {seed} {name:6} train loss {losses}   "
                    f"val loss {last['val_loss']:.4f} accuracy {last['val_accuracy']:.4f}   "
                    f"test loss {record['test_loss']:.4f} accuracy {record['test_accuracy']:.4f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
