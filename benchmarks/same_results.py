"""Do bfloat16 and the fast paths change results? Three epochs, three seeds, both networks, on the real images.

    python benchmarks/same_results.py           about an hour and a half on two cores

- plain: a network as it stands in its script (all its convolutions, PyTorch's dropout, ReLU before pooling), in float32
- fast: rebuilt, in float32
- bfloat16: rebuilt, in bfloat16. A CPU that lacks it computes in float32 what a convolution takes and gives in bfloat16

The same seed gives the same first weights, order of images and augmentation.
"""

import contextlib
import io
import json
import statistics
import sys
import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import task1_simplecnn
import task2_resnet18
from lab import cifar10, faster, flags, precision

SEEDS = 0, 1, 2


def train(task: object, seed: int, variant: str) -> dict:
    """The record of a run of three epochs."""
    with tempfile.TemporaryDirectory() as directory, contextlib.redirect_stdout(io.StringIO()):
        words = ["--epochs", "3", "--seed", str(seed), "--data-dir", str(cifar10.find(flags.ROOT))]  # not the sample
        task.main([*words, "--output-dir", directory, *["--float32"] * (variant != "bfloat16")])
        (record,) = Path(directory, "plots").glob("*.json")
        return json.loads(record.read_text())


def as_it_stands(model: nn.Module, image_shape: tuple[int, int, int]) -> nn.Module:
    return model


def emulate_bfloat16() -> torch.library.Library:
    """Compute products of bfloat16 in float32, and round the result, as long as what is returned lives.

    CPUs that have bfloat16 do the same: they multiply in bfloat16, but add in float32. PyTorch's own way on other CPUs
    gives these results, too, ten times slower.
    """

    def addmm(out, a, b, beta=1, alpha=1):
        if out.dtype is not torch.bfloat16:
            return torch.addmm(out, a, b, beta=beta, alpha=alpha, out=out)
        return out.copy_(torch.addmm(out.float(), a.float(), b.float(), beta=beta, alpha=alpha))

    def forward(x, weight, kernel_size, bias, stride, padding):
        return F.conv2d(x.float(), weight.float(), None if bias is None else bias.float(), stride, padding).to(x.dtype)

    def backward(grad, x, weight, kernel_size, stride, padding, wanted):
        geometry = [weight.shape[0]], stride, padding, [1, 1], False, [0, 0], 1
        found = torch.ops.aten.convolution_backward(grad.float(), x.float(), weight.float(), *geometry, wanted)
        return tuple(None if tensor is None else tensor.to(x.dtype) for tensor in found)

    library = torch.library.Library("aten", "IMPL", "CPU")
    library.impl("addmm_", addmm)
    library.impl("_slow_conv2d_forward", forward)
    library.impl("_slow_conv2d_backward.output_mask", backward)
    return library


def main() -> None:
    rebuild, emulation = faster.rebuild, None
    if not precision.has_bfloat16(flags.device("auto")):
        precision.has_bfloat16 = lambda device: True
        emulation = emulate_bfloat16()
    print(f"bfloat16 {'emulated' if emulation else 'as the device has it'}")
    for task in (task1_simplecnn, task2_resnet18):
        for variant in ("fast", "bfloat16", "plain"):
            faster.rebuild = as_it_stands if variant == "plain" else rebuild
            rows = []
            for seed in SEEDS:
                record = train(task, seed, variant)
                *_, last = record["history"]
                row = last["train_loss"], last["val_loss"], last["val_accuracy"]
                rows.append((*row, record["test_loss"], record["test_accuracy"]))
                print(f"{record['config']['task']:16} {variant:9} seed {seed} ", *(f"{it:.4f}" for it in rows[-1]))
            columns = [f"{statistics.mean(it):.4f} ± {statistics.stdev(it):.4f}" for it in zip(*rows, strict=True)]
            print(f"{record['config']['task']:16} {variant:9} mean   ", *columns, flush=True)


if __name__ == "__main__":
    main()
