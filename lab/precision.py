"""In what numbers a run computes: bfloat16 (8 significant bits) where its device has it itself, else float32 (24)."""

import contextlib
import os
import platform
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device computes in bfloat16 itself: NVIDIA GPUs since Ampere, CPUs with AVX-512 BF16 (or AMX).

    Elsewhere it is emulated, many times slower than float32. ARM computes in float32, too: even where it has bfloat16,
    that may be as slow (on a Graviton 3E, 27 times: pytorch issue 151934).
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type != "cpu" or not (torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled):
        return False
    # What computes in bfloat16 is oneDNN, which may have been told to do without what the CPU has; so may PyTorch.
    usable = torch.ops.mkldnn._is_mkldnn_bf16_supported() and torch.backends.cpu.get_cpu_capability() == "AVX512"
    without = os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper() in ("AVX512_CORE", "AVX512_CORE_VNNI")
    return usable and not without and torch.cpu._is_avx512_bf16_supported()


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The context in which a run trains and validates."""
    # There is another one around it, in which a cache would live on, with weights from before the last step.
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16", cache_enabled=False)


def memory_format(device: torch.device) -> torch.memory_format:
    """channels_last, which convolutions like best; but MPS cannot train batch norm in it (pytorch PR 188371)."""
    return torch.contiguous_format if device.type == "mps" else torch.channels_last


def environment(device: torch.device, precision: str) -> dict[str, object]:
    """What the numbers of a run depend on beside its settings."""
    rounding = os.environ.get("ONEDNN_DEFAULT_FPMATH_MODE") or os.environ.get("DNNL_DEFAULT_FPMATH_MODE", "strict")
    if device.type == "cpu" and rounding.lower() != "strict":  # of what is float32, and PyTorch cannot undo it
        precision += f" (ONEDNN_DEFAULT_FPMATH_MODE={rounding.upper()})"
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
def torch_as_it_comes(device: torch.device) -> Iterator[None]:
    """Inside, PyTorch has its own settings, not those of somebody's program, and float32 is float32 (no TF32).

    A CPU takes numbers below 1e-38 for zero: L2 makes millions of them, many times slower (pytorch issue 51539).
    """
    of, on_gpu = torch.backends, device.type == "cuda"
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))  # which also turns gradients on
        stack.enter_context(torch.autocast(device.type, enabled=False))
        stack.enter_context(torch.random.fork_rng([device] * on_gpu))
        if device.index is not None:
            stack.enter_context(torch.cuda.device(device))
        if torch._C._len_torch_function_stack():  # a default device may be set; one of our own would cost time
            theirs = getattr(torch._GLOBAL_DEVICE_CONTEXT, "device_context", None)
            stack.callback(torch.set_default_device, theirs and theirs.device)
            torch.set_default_device("cpu")
        stack.callback(torch.set_default_dtype, torch.get_default_dtype())
        torch.set_default_dtype(torch.float32)
        if hasattr(of.cudnn, "conv"):  # where somebody has set one of these, PyTorch refuses to read what 2.6 has
            gpu, cpu = (of.cudnn.conv, of.cudnn.rnn, of.cuda.matmul), (of.mkldnn.conv, of.mkldnn.rnn, of.mkldnn.matmul)
            for products in gpu if on_gpu else cpu:
                stack.callback(setattr, products, "fp32_precision", products.fp32_precision)
                products.fp32_precision = "ieee"
        else:
            stack.callback(setattr, of.cudnn, "allow_tf32", of.cudnn.allow_tf32)
            stack.callback(torch.set_float32_matmul_precision, torch.get_float32_matmul_precision())
            of.cudnn.allow_tf32 = False
            torch.set_float32_matmul_precision("highest")
        if device.type == "cpu":
            np.finfo(np.float32), np.finfo(np.float64)  # else older versions of NumPy warn that there are no denormals
            torch.ones(1 << 20).exp_()  # a parallel operation: what is set reaches the worker threads that are there
            stack.callback(torch.set_flush_denormal, not (torch.tensor([1e-38]) * 0.01).item())
            torch.set_flush_denormal(True)
        yield


class LinearInFloat32(nn.Linear):
    """nn.Linear without autocast: with eight bits, the two largest logits of every hundredth image or so are equal."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.to(self.weight.dtype))
