"""Task 1 with two convolutional blocks: does it stay below 80 %, as the lab report says (question 8)?

python experiments/two_blocks.py           a third task in one file, with the flags of the others
"""

import sys
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the folder of the scripts

import common
from lab.commandline import open_run
from task1_simplecnn import RECIPE, TASK, conv_block


class TwoBlocks(nn.Module):
    """Images [N, 3, 32, 32] to logits [N, 10]; 60,554 parameters."""

    def __init__(self, dropout: float = 0.5):
        super().__init__()
        self.block1 = conv_block(3, 32)
        self.block2 = conv_block(32, 64)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(64 * 8 * 8, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.block2(self.block1(x))  # [N, 64, 8, 8]
        return self.fc(torch.flatten(self.dropout(x), 1))


def main(argv: list[str] | None = None) -> None:
    """Train, validate and test the network, or reuse a finished run, as the flags say."""
    with open_run(__file__, __doc__, TASK, RECIPE, argv) as run:
        model = common.build(lambda: TwoBlocks(run.settings.dropout), run)
        if not run.trains:
            return common.reuse(model, run)
        train_set, val_set, test_set = common.load_data(run)
        common.describe(model, train_set, run)
        record = common.train(model, train_set, val_set, run)
        record |= common.evaluate(model, test_set)
        common.finish(model, record, test_set, run)


if __name__ == "__main__":
    main()
