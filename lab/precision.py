"""In what numbers a run computes: bfloat16 (8 significant bits) where its device has it itself, else float32 (24)."""

import contextlib
import platform
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn


def precision_of(device: torch.device, float32: bool) -> str:
    """bfloat16 or float32: in what a run trains and validates. It is tested, and used, in float32."""
    return "bfloat16" if has_bfloat16(device) and not float32 else "float32"


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device computes in bfloat16 itself: NVIDIA GPUs since Ampere, CPUs with AVX-512 BF16 (or AMX).

    Without it, bfloat16 is many times slower than float32. So it may be on ARM, with it: on a Graviton 3E, a product
    took 27 times as long as in float32 (pytorch issue 151934). Therefore ARM computes in float32.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    # What computes in bfloat16 is oneDNN; and ATEN_CPU_CAPABILITY may forbid AVX-512.
    usable = torch.backends.mkldnn.is_available() and torch.backends.cpu.get_cpu_capability() == "AVX512"
    if device.type != "cpu" or not usable:
        return False
    if hasattr(torch.cpu, "get_capabilities"):
        return torch.cpu.get_capabilities().get("avx512_bf16", False)
    return torch.cpu._is_avx512_bf16_supported()  # of PyTorch 2.6


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The context in which a run trains and validates."""
    # There is another one around it, in which a cache would live on, with weights from before the last step.
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16", cache_enabled=False)


def memory_format(device: torch.device) -> torch.memory_format:
    """channels_last, which convolutions like best; but MPS cannot train batch norm in it (pytorch PR 188371)."""
    return torch.contiguous_format if device.type == "mps" else torch.channels_last


def environment(device: torch.device, precision: str) -> dict[str, object]:
    """What the numbers of a run depend on beside its settings."""
    return {
        "torch": str(torch.__version__),  # a class of its own, which no weights_only load accepts
        "device": f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device),
        "cpu": cpu_model(),
        "precision": precision,
        "threads": torch.get_num_threads(),
        "platform": platform.platform(),
    }


def cpu_model() -> str:
    with contextlib.suppress(OSError, StopIteration):  # not Linux, or not one of its usual CPUs
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(": ")[2] for line in lines if line.startswith("model name"))
    return platform.processor() or platform.machine()


@contextlib.contextmanager
def without_tf32(device: torch.device) -> Iterator[None]:
    """Inside, float32 is float32; else a GPU rounds what its convolutions multiply to 11 bits (TF32)."""
    if device.type != "cuda":
        yield
        return
    where, name, value = torch.backends.cudnn, "allow_tf32", False
    if hasattr(where, "conv"):  # where somebody has set this one, PyTorch refuses to read allow_tf32
        where, name, value = where.conv, "fp32_precision", "ieee"
    before = getattr(where, name)
    setattr(where, name, value)
    try:
        yield
    finally:
        setattr(where, name, before)


@contextlib.contextmanager
def without_denormals(device: torch.device) -> Iterator[None]:
    """Inside, a CPU takes numbers below 1e-38 for zero: L2 makes millions, many times slower (pytorch issue 51539)."""
    if device.type != "cpu":
        yield
        return
    np.finfo(np.float32), np.finfo(np.float64)  # else older versions of NumPy warn that there are no denormals
    torch.ones(1 << 20).exp_()  # a parallel operation: what is set reaches the worker threads that are there
    before = not (torch.tensor([1e-38]) * 0.01).item()
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


class LinearInFloat32(nn.Linear):
    """nn.Linear without autocast: with eight bits, the two largest logits of every hundredth image or so are equal."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.to(self.weight.dtype))
