"""Task 1: a CNN of three convolutional blocks on CIFAR-10 (lab report, questions 1 to 3).

    python task1_simplecnn.py                  the original's configuration: 80 epochs, batches of 128, Adam, StepLR
    python task1_simplecnn.py --test           the test accuracy of the saved model again
    python task1_simplecnn.py --predict a.jpg  what a picture shows, by the saved model
    python task1_simplecnn.py --help           every flag

Test accuracy: 0.812 (the original's: 0.817). One run, seed 0, 100 minutes in float32 on one core of an AMD EPYC
(Zen 3), PyTorch 2.14.1.
"""

import torch
from torch import nn

import common
from lab.opening import open_run

DEFAULTS = {"task": "task1_simplecnn", "epochs": 80, "batch_size": 128, "lr": 0.001}


def conv_block(in_channels: int, out_channels: int) -> nn.Sequential:
    """[N, in_channels, H, W] to [N, out_channels, H/2, W/2]."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
        nn.MaxPool2d(2),
    )


class SimpleCNN(nn.Module):
    """Images [N, 3, 32, 32] to logits [N, 10]; 114,186 parameters (lab report, question 1)."""

    def __init__(self):
        super().__init__()
        self.block1 = conv_block(3, 32)
        self.block2 = conv_block(32, 64)
        self.block3 = conv_block(64, 128)
        self.dropout = nn.Dropout(0.5)
        self.fc = nn.Linear(128 * 4 * 4, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.block1(x)  # [N, 32, 16, 16]
        x = self.block2(x)  # [N, 64, 8, 8]
        x = self.block3(x)  # [N, 128, 4, 4]
        x = self.dropout(x)
        return self.fc(torch.flatten(x, 1))


def main(argv: list[str] | None = None) -> None:
    """Train, validate and test the network, or reuse a finished run, as the flags say."""
    with open_run(__doc__, DEFAULTS, argv) as run:
        model = common.build(SimpleCNN, run)
        if run.needs_no_training:
            return common.reuse(model, run)
        train_set, val_set, test_set = common.load_data(run)
        common.describe(model, run)
        history = common.train(model, train_set, val_set, run)
        result = common.evaluate(model, test_set)
        common.finish(model, history, result, test_set, run)


if __name__ == "__main__":
    main()
