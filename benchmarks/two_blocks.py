"""Two convolutional blocks instead of three: do they stay below 80 %, as the lab report says (question 8)?

    python benchmarks/two_blocks.py              three runs of 80 epochs; about two hours on two cores
    python benchmarks/two_blocks.py --resume     the same, but goes on with the runs in checkpoints/two_blocks

It trains SimpleCNN without its third block, as task 1 trains SimpleCNN, and writes each result into
benchmarks/two_blocks.json, which REPORT.md quotes. A seed that is there already is not trained again.
"""

import sys
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import task1_simplecnn
from benchmarks.variants import keep, passed_on, results_in, train
from lab import flags
from task1_simplecnn import DEFAULTS, conv_block

SEEDS = 0, 1, 2
RUNS = flags.ROOT / "checkpoints" / "two_blocks"
RESULTS = Path(__file__).with_suffix(".json")


class TwoBlocks(nn.Module):
    """Images [N, 3, 32, 32] to logits [N, 10]."""

    def __init__(self, dropout: float = 0.5):
        super().__init__()
        self.block1 = conv_block(3, 32)
        self.block2 = conv_block(32, 64)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(64 * 8 * 8, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.block2(self.block1(x))  # [N, 64, 8, 8]
        return self.fc(torch.flatten(self.dropout(x), 1))


def main(argv: list[str]) -> None:
    argv = passed_on(__doc__, argv)
    changed = {"__doc__": __doc__, "SimpleCNN": TwoBlocks, "DEFAULTS": DEFAULTS | {"task": "two_blocks"}}
    results = {"parameters": sum(parameter.numel() for parameter in TwoBlocks().parameters())} | results_in(RESULTS)
    for seed in SEEDS:
        if seed not in [run["seed"] for run in results["runs"]]:
            found = train(task1_simplecnn, __file__, argv, ["--seed", str(seed)], RUNS / str(seed), **changed)
            keep({"run": "SimpleCNN with two blocks", "seed": seed} | found, results, RESULTS)


if __name__ == "__main__":
    main(sys.argv[1:])
