"""The same network, faster to train: fewer multiplications with zero, less memory traffic, cheaper random numbers.

A network is trained and validated through another one, from :func:`rebuild`, that computes the same.
``benchmarks/README.md`` tells what each step brought, and what else was tried.

- On a 1x1 map, eight of the nine taps of a 3x3 kernel meet nothing but padding: their gradient is zero. On 32x32
  images that is ResNet-18's last stage, and 6.9 of its 11.2 million weights. On 2x2 maps, more than half of the kernel
  lies beyond the edge wherever it stands. :class:`SmallMapConv2d` multiplies only the taps that meet pixels.
- Whether negative numbers become zero before or after a max-pooling, its result and its gradient are the same. So a
  ReLU that feeds a max-pooling moves behind it, where there are four times fewer numbers.
- On a CPU, dropout compares uniform random numbers with p (:class:`UniformDropout`).
- Under autocast, a convolution rounds to bfloat16, and the last layer computes in float32 (``lab/precision.py``).
"""

import copy
import ctypes
import functools
import itertools

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable

from lab.precision import LinearInFloat32

Pair = tuple[int, int]  # rows, columns
MAX_PIXELS = 4  # of the map a convolution leads to; onto larger ones PyTorch's own is faster


def rebuild(model: nn.Module, image_shape: tuple[int, int, int]) -> nn.Module:
    """A network that computes for images [N, *image_shape] what ``model`` computes, and is faster to train.

    For smaller images, too: what meets only padding in large ones does so in small ones. Its convolutions onto small
    maps have weights of their own; all other parameters, and all buffers, are those of ``model`` itself. It saves and
    loads the ``state_dict`` of ``model``: the same names, shapes and values.
    Raises ValueError: the outputs of the two networks differ; other networks may lead to any other error.
    """
    already_there = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    watched, rebuilt = (copy.deepcopy(model, {**already_there}) for _ in range(2))  # takes those, and copies the rest
    calls, first, names = [], next(model.parameters()), {layer: name for name, layer in watched.named_modules()}
    for layer in names:
        if not list(layer.children()):
            layer.register_forward_hook(lambda *call: calls.append(call))
    images = torch.rand(2, *image_shape, generator=torch.Generator().manual_seed(0)).to(first)
    with torch.no_grad():
        expected = watched.eval()(images)
    for layer, (x, *_), out in calls:
        small = isinstance(layer, nn.Conv2d) and layer.bias is None and out.shape[2:].numel() <= MAX_PIXELS
        usual = small and (layer.groups, layer.dilation, layer.padding_mode) == (1, (1, 1), "zeros")
        if usual and isinstance(layer.padding, tuple):  # not a word, such as "same"
            rebuilt.set_submodule(names[layer], SmallMapConv2d(layer, x.shape[2:]))
        if isinstance(layer, nn.Dropout) and layer.p < 1 and first.device.type == "cpu":
            rebuilt.set_submodule(names[layer], UniformDropout(layer.p))
        if type(layer) is nn.Linear:
            rebuilt.get_submodule(names[layer]).__class__ = LinearInFloat32  # all else is as it was
    for (before, _, out), (after, (x, *_), _) in itertools.pairwise(calls):
        if isinstance(before, nn.ReLU) and isinstance(after, nn.MaxPool2d) and x is out:
            relu, pool = rebuilt.get_submodule(names[before]), rebuilt.get_submodule(names[after])
            rebuilt.set_submodule(names[before], pool)
            rebuilt.set_submodule(names[after], relu)

    with torch.no_grad():
        found, largest = rebuilt.eval()(images), expected.abs().max().clamp(min=1e-9)
    if not torch.allclose(found / largest, expected / largest, atol=0.01):  # TF32 on a GPU has three digits
        raise ValueError("lab/faster.py does not know how to rebuild it")
    return rebuilt.train(model.training)


def keep_memory() -> None:
    """Let glibc keep the memory that a step frees: else the system clears it again, page by page, for the next one."""
    try:
        glibc = ctypes.CDLL("libc.so.6")
    except OSError:  # another system
        return
    m_trim_threshold, m_mmap_threshold = -1, -3  # <malloc.h>
    if glibc.mallopt(m_mmap_threshold, 1 << 30) or glibc.mallopt(m_mmap_threshold, 1 << 25):  # the most of older ones
        glibc.mallopt(m_trim_threshold, (1 << 31) - 1)


class UniformDropout(nn.Dropout):
    """nn.Dropout, which on an AMD CPU draws numbers of 53 bits, one after the other; 24 bits and a comparison do."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return x
        kept = torch.rand_like(x, dtype=torch.float32) >= self.p
        return x * kept.to(x.dtype).div_(1 - self.p)


class SmallMapConv2d(nn.Module):
    """A convolution without bias, with only those taps that meet its input: [N, C, H, W] to [N, D, H', W'].

    ``weight`` is [D, rows, columns, C]: with channels last, taps and pixels that lie beside each other in a row are one
    matrix as they stand in memory. In a ``state_dict`` it has all taps, as the convolution has them.
    """

    def __init__(self, conv: nn.Conv2d, size: Pair):
        super().__init__()
        geometry = zip(size, conv.kernel_size, conv.stride, conv.padding, strict=True)
        rows, columns = (taps_that_meet(*along_one_axis) for along_one_axis in geometry)
        self.taps = slice(None), slice(None), rows, columns
        self.whole = conv.weight.detach().clone()  # [D, C, H, W], for the taps that only ever meet padding
        weight = self.whole[self.taps].permute(0, 2, 3, 1)
        self.weight = nn.Parameter(weight.clone(memory_format=torch.contiguous_format))
        self.stride = conv.stride
        self.padding = conv.padding[0] - rows.start, conv.padding[1] - columns.start

    def _save_to_state_dict(self, destination: dict, prefix: str, keep_vars: bool) -> None:
        whole = self.whole.clone()
        whole[self.taps] = self.weight.detach().permute(0, 3, 1, 2)
        destination[f"{prefix}weight"] = whole

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *how: object) -> None:
        whole = state_dict.get(f"{prefix}weight")
        if whole is not None and whole.shape == self.whole.shape:
            self.whole.copy_(whole)
            state_dict = state_dict | {f"{prefix}weight": whole[self.taps].permute(0, 2, 3, 1)}
        super()._load_from_state_dict(state_dict, prefix, *how)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.device.type == "cpu":
            return RowByRow.apply(x, self.weight, self.stride, self.padding)
        weight = self.weight.permute(0, 3, 1, 2)
        if x.device.type == "mps":  # else the result is channels last there, too (see common.memory_format)
            weight = weight.clone(memory_format=torch.contiguous_format)
        return F.conv2d(x, weight, None, self.stride, self.padding)


class RowByRow(torch.autograd.Function):
    """A convolution on a CPU as matrix products, one for each row of the kernel that meets each pixel of the result.

    With channels last, a row of ``weight`` [D, rows, columns, C] and what it meets in the input [N, H, W, C] are
    matrices as they stand in memory: nothing is copied.
    """

    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.bfloat16)  # autocast casts for PyTorch's own only
    def forward(ctx, x: torch.Tensor, weight: torch.Tensor, stride: Pair, padding: Pair):
        ctx.meetings, height, width = meetings(x.shape[2:], weight.shape[1:3], stride, padding)
        pixels = x.permute(0, 2, 3, 1).contiguous()
        ctx.save_for_backward(pixels, weight)
        out = x.new_zeros(len(x), height, width, len(weight))
        for pixel, met, taps in ctx.meetings:
            out[pixel].addmm_(pixels[met].flatten(1), weight[taps].flatten(1).T)
        return out.permute(0, 3, 1, 2)

    @staticmethod
    @torch.amp.custom_bwd(device_type="cpu")
    @once_differentiable
    def backward(ctx, grad: torch.Tensor):
        pixels, weight = ctx.saved_tensors
        grad = grad.permute(0, 2, 3, 1).contiguous()
        grad_pixels, grad_weight = pixels.new_zeros(pixels.shape), weight.new_zeros(weight.shape)
        for pixel, met, taps in ctx.meetings:
            grad_pixels[met].flatten(1).addmm_(grad[pixel], weight[taps].flatten(1))
            grad_weight[taps].flatten(1).addmm_(grad[pixel].T, pixels[met].flatten(1))
        return grad_pixels.permute(0, 3, 1, 2), grad_weight, None, None


@functools.cache
def meetings(size: Pair, kernel: Pair, stride: Pair, padding: Pair) -> tuple[list, int, int]:
    """Every meeting of a row of taps with pixels, and height and width of the result.

    A meeting is three indices: of the pixel of the result to which the product is added, of the input, and of the
    weight. A 3x3 kernel on a 2x2 map has eight: at its first position, its middle row meets the first two pixels with
    its second and third tap, its last row the other two pixels with the same taps; and so on for four positions.
    """
    by_row, by_column = (windows(*along_one_axis) for along_one_axis in zip(size, kernel, stride, padding, strict=True))
    found = []
    for r, (rows, row_taps) in enumerate(by_row):
        for c, (columns, column_taps) in enumerate(by_column):
            for i, t in zip(rows, row_taps, strict=True):
                met, taps = slice(columns.start, columns.stop), slice(column_taps.start, column_taps.stop)
                found.append(((slice(None), r, c), (slice(None), i, met), (slice(None), t, taps)))
    return found, len(by_row), len(by_column)


def windows(size: int, kernel: int, stride: int, padding: int) -> list[tuple[range, range]]:
    """For each position of a kernel along one axis, the pixels that it meets and the taps that meet them."""
    starts = range(-padding, size + padding - kernel + 1, stride)
    return [(range(max(at, 0), min(at + kernel, size)), range(max(-at, 0), min(size - at, kernel))) for at in starts]


def taps_that_meet(size: int, kernel: int, stride: int, padding: int) -> slice:
    """The taps along one axis that meet a pixel at any position of the kernel; the others meet padding only."""
    taps = [taps for _, taps in windows(size, kernel, stride, padding)]
    return slice(min(each.start for each in taps), max(each.stop for each in taps))
