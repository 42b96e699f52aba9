"""Two convolutional blocks instead of three: do they stay below 80 %, as the lab report says (question 8)?

    python benchmarks/two_blocks.py              three runs of 80 epochs; about two hours on two cores
    python benchmarks/two_blocks.py --resume     the same, but goes on with the runs in checkpoints/two_blocks

It trains SimpleCNN without its third block, as task 1 trains SimpleCNN, and writes each result into
benchmarks/two_blocks.json, which REPORT.md quotes. A seed that is there already is not trained again. Other flags are
those of task 1.
"""

import json
import sys
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import task1_simplecnn
from lab import cifar10, flags, shell
from lab.files import atomic_write
from lab.record import best_of

SEEDS = 0, 1, 2
RUNS = flags.ROOT / "checkpoints" / "two_blocks"
RESULTS = Path(__file__).with_suffix(".json")


class TwoBlocks(nn.Module):
    """Images [N, 3, 32, 32] to logits [N, 10]."""

    def __init__(self):
        super().__init__()
        self.block1 = task1_simplecnn.conv_block(3, 32)
        self.block2 = task1_simplecnn.conv_block(32, 64)
        self.dropout = nn.Dropout(0.5)
        self.fc = nn.Linear(64 * 8 * 8, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.block2(self.block1(x))  # [N, 64, 8, 8]
        return self.fc(torch.flatten(self.dropout(x), 1))


def main(argv: list[str]) -> None:
    task1_simplecnn.__doc__ = __doc__
    task1_simplecnn.SimpleCNN = TwoBlocks
    task1_simplecnn.DEFAULTS = task1_simplecnn.DEFAULTS | {"task": "two_blocks"}
    flags.Run.command = property(lambda run: shell.line([shell.interpreter(), shell.called(Path(__file__)), *argv]))
    places = ["--output-dir", str(RUNS), "--data-dir", str(cifar10.find(flags.ROOT))]  # so never the sample
    results = {"parameters": sum(parameter.numel() for parameter in TwoBlocks().parameters()), "runs": []}
    if RESULTS.exists():
        results = json.loads(RESULTS.read_text())
    for seed in SEEDS:
        if seed in [run["seed"] for run in results["runs"]]:
            continue
        task1_simplecnn.main([*places, "--seed", str(seed), *argv])
        name = "two_blocks" + f"_seed{seed}" * (seed > 0)
        record = json.loads((RUNS / "plots" / f"{name}.json").read_text())
        run = {"run": "SimpleCNN with two blocks", "seed": seed, "environments": record["environments"]}
        run |= {"val_accuracy": best_of(record["history"])["val_accuracy"], "test_accuracy": record["test_accuracy"]}
        results["runs"].append(run)
        with atomic_write(RESULTS, "two_blocks") as file:
            file.write(f"{json.dumps(results, indent=1)}\n".encode())
        print(f"Written: {RESULTS}")


if __name__ == "__main__":
    main(sys.argv[1:])
