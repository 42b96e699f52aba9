"""In what numbers a run computes: bfloat16 (8 significant bits) where its device has it itself, else float32 (24)."""

import contextlib

import torch
from torch import nn

from lab.flags import Run


def precision_of(run: Run) -> str:
    """bfloat16 or float32: in what a run trains and validates; it is tested, and used, in float32."""
    exact = run.float32 or run.test or run.predict
    return "bfloat16" if has_bfloat16(run.device) and not exact else "float32"


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device computes in bfloat16 itself: NVIDIA GPUs since Ampere, CPUs with AVX-512 BF16 (or AMX).

    Without it, bfloat16 is ten times slower than float32. That may happen on ARM, too: PyTorch tells which CPUs have
    bfloat16, but not which of its operations use it (pytorch issue 180447).
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    onednn = torch.backends.mkldnn.is_available() and torch.backends.cpu.get_cpu_capability() == "AVX512"
    if device.type != "cpu" or not onednn:
        return False
    if hasattr(torch.cpu, "get_capabilities"):
        return torch.cpu.get_capabilities().get("avx512_bf16", False)
    return torch.cpu._is_avx512_bf16_supported()  # of PyTorch 2.6


def autocast(run: Run) -> torch.autocast:
    """The context in which a run trains and validates."""
    return torch.autocast(run.device.type, torch.bfloat16, enabled=precision_of(run) == "bfloat16")


def without_tf32(device: torch.device) -> contextlib.AbstractContextManager:
    """A context in which the convolutions of a GPU, too, compute in float32; else it may round their input (TF32)."""
    on_gpu = device.type == "cuda"
    return torch.backends.cudnn.flags(enabled=True, allow_tf32=False) if on_gpu else contextlib.nullcontext()


class InFloat32(nn.Sequential):
    """A layer that computes as without autocast: of logits with eight bits, many would be equal."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.to(self[0].weight.dtype))
