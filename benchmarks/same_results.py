"""Do bfloat16 and the fast paths change results? Three epochs, three seeds, both networks, on the real images.

    python benchmarks/same_results.py           one to two hours on two cores

- plain: a network as it stands in its script (all its convolutions, PyTorch's dropout, ReLU before pooling), in float32
- fast: rebuilt, in float32
- bfloat16: rebuilt, in bfloat16. A CPU that lacks it computes in float32 what a convolution takes and gives in bfloat16

The same seed gives the same first weights, order of images and augmentation.
"""

import argparse
import contextlib
import io
import json
import statistics
import sys
import tempfile
from pathlib import Path
from types import ModuleType

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import task1_simplecnn
import task2_resnet18
from lab import cifar10, commandline, faster, precision
from lab.run import device

SEEDS = 0, 1, 2
aten = torch.ops.aten
PRODUCTS = aten.conv2d, aten.convolution, aten.convolution_backward, aten.addmm_  # conv2d in inference mode


def train(task: ModuleType, seed: int, variant: str) -> dict:
    """The record of a run of three epochs."""
    data = cifar10.find(commandline.parse(task.__file__, "", task.TASK, task.RECIPE, []).data_dir)  # not the sample
    with tempfile.TemporaryDirectory() as directory, contextlib.redirect_stdout(io.StringIO()):
        words = ["--epochs", "3", "--seed", str(seed), *["--float32"] * (variant != "bfloat16")]
        task.main([*words, "--data-dir", str(data), "--output-dir", directory])
        (record,) = Path(directory, "plots").glob("*.json")
        return json.loads(record.read_text())


def as_it_stands(model: nn.Module, image_shape: tuple[int, int, int]) -> nn.Module:
    return model


class ProductsInFloat32(TorchDispatchMode):
    """Computes products of bfloat16 in float32, and rounds the result.

    CPUs that have bfloat16 do the same: they multiply in bfloat16, but add in float32. PyTorch's own way on other CPUs
    is ten times slower or more, and its gradients of the weights are several times less exact.
    """

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        product = operation.overloadpacket in PRODUCTS
        if not product or args[0].dtype is not torch.bfloat16:
            return operation(*args, **(kwargs or {}))
        with torch.autocast(args[0].device.type, enabled=False):  # else conv2d would be cast back
            result = operation(*tree_map_only(torch.Tensor, torch.Tensor.float, args), **(kwargs or {}))
        if operation.overloadpacket is aten.addmm_:
            return args[0].copy_(result)
        return tree_map_only(torch.Tensor, torch.Tensor.bfloat16, result)


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    rebuild, native = faster.rebuild, precision.has_bfloat16(device("auto"))
    precision.has_bfloat16 = lambda device: True
    print(f"bfloat16 {'as the device has it' if native else 'by way of float32'}")
    for task in (task1_simplecnn, task2_resnet18):
        for variant in ("fast", "bfloat16", "plain"):
            faster.rebuild = as_it_stands if variant == "plain" else rebuild
            rows = []
            for seed in SEEDS:
                with contextlib.nullcontext() if native or variant != "bfloat16" else ProductsInFloat32():
                    record = train(task, seed, variant)
                *_, last = record["history"]
                row = last["train_loss"], last["val_loss"], last["val_accuracy"]
                rows.append((*row, record["test_loss"], record["test_accuracy"]))
                print(f"{task.__name__:16} {variant:9} seed {seed} ", *(f"{it:.4f}" for it in rows[-1]))
            columns = [f"{statistics.mean(it):.4f} ± {statistics.stdev(it):.4f}" for it in zip(*rows, strict=True)]
            print(f"{task.__name__:16} {variant:9} mean   ", *columns, flush=True)


if __name__ == "__main__":
    main()
