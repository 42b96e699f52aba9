"""Two convolutional blocks instead of three: do they stay below 80 %, as the lab report says (question 8)?

    python benchmarks/two_blocks.py      three runs of 80 epochs; about two hours on two cores

It trains SimpleCNN without its third block, as task 1 trains SimpleCNN, and writes benchmarks/two_blocks.json, which
REPORT.md quotes. Its runs are in checkpoints/two_blocks; if it is stopped, the same command goes on.
"""

import argparse
import json
import sys
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import task1_simplecnn
from lab import cifar10, flags
from lab.curves import column
from lab.record import best_of

SEEDS = 0, 1, 2
RUNS = flags.ROOT / "checkpoints" / "two_blocks"


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


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    task1_simplecnn.SimpleCNN = TwoBlocks
    task1_simplecnn.DEFAULTS = task1_simplecnn.DEFAULTS | {"task": "two_blocks"}
    places = ["--output-dir", str(RUNS), "--data-dir", str(cifar10.find(flags.ROOT))]  # so never the sample
    records = []
    for seed in SEEDS:
        task1_simplecnn.main([*places, "--seed", str(seed), "--resume"])
        name = flags.run_name("two_blocks", {"seed": seed} if seed else {})
        records.append(json.loads((RUNS / "plots" / f"{name}.json").read_text()))
    results = {
        "parameters": sum(parameter.numel() for parameter in TwoBlocks().parameters()),
        "epochs": records[0]["config"]["epochs"],
        "environments": [record["environments"] for record in records],
        "seeds": list(SEEDS),
        "val_accuracy": [best_of(record["history"])["val_accuracy"] for record in records],
        "test_accuracy": column(records, "test_accuracy"),
    }
    path = Path(__file__).with_suffix(".json")
    path.write_text(json.dumps(results, indent=1) + "\n")
    print(f"Written: {path}")


if __name__ == "__main__":
    main()
