"""DeviceSpec: the device that a model runs on, and the precision of its arithmetic."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from lxcompress.errors import RunError

CUBLAS_WORKSPACE, CUBLAS_WORKSPACE_SIZE = "CUBLAS_WORKSPACE_CONFIG", ":4096:8"
"""The environment variable with the size of cuBLAS's memory, and a size with which its results are repeatable."""
OUT_OF_MEMORY_MESSAGES = ("out of memory", "ALLOC_FAILED", "DefaultCPUAllocator")
"""Parts of the error messages of torch, CUDA and its libraries when memory runs out. Not all of these errors are an
OutOfMemoryError, so the message decides."""


@dataclass(frozen=True)
class DeviceSpec:
    """A device, and the precision of its arithmetic: fp32 or bf16."""

    torch_device: torch.device
    precision: str

    @property
    def is_cuda(self) -> bool:
        """Return whether the device is an NVIDIA GPU."""
        return self.torch_device.type == "cuda"

    def autocast(self) -> torch.autocast:
        """Return a context in which torch computes in bf16 if the precision is bf16; otherwise it changes nothing."""
        return torch.autocast(self.torch_device.type, torch.bfloat16, enabled=self.precision == "bf16")

    def wait(self) -> None:
        """Wait until the device has finished all queued work."""
        if self.is_cuda:
            torch.cuda.synchronize(self.torch_device)
        elif self.torch_device.type == "mps":
            torch.mps.synchronize()


def choose_device(device: str, precision: str, gpu_index: int | None = None) -> DeviceSpec:
    """Return the DeviceSpec of a recipe's `device` and `precision`; `gpu_index` selects one of several GPUs.

    The device `auto` is the first available of CUDA, MPS and CPU. The precision `auto` is bf16 on CUDA, else fp32.
    Raises RunError if the device is not available.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    kind = next(name for name in available if available[name]) if device == "auto" else device
    if not available[kind]:
        raise RunError(
            f"device {kind}: not available on this machine; use --set device=auto (lxcompress doctor shows what is)"
        )
    chosen = ("bf16" if kind == "cuda" else "fp32") if precision == "auto" else precision
    if kind != "cuda":
        return DeviceSpec(torch.device(kind), chosen)
    # Torch reads this once, at the first matrix product. A dense model is scored before it is trained, so a later
    # change has no effect on a study, but has one on a study that resumes; and the size decides which kernel runs.
    os.environ.setdefault(CUBLAS_WORKSPACE, CUBLAS_WORKSPACE_SIZE)
    if gpu_index is None:
        gpu_index = torch.cuda.current_device()  # a tensor's device has an index; without one here, == would be false
    if gpu_index >= torch.cuda.device_count():
        raise RunError(
            f"device cuda:{gpu_index}: this machine has {torch.cuda.device_count()} GPUs; start at most one process "
            "for each GPU"
        )
    torch.cuda.set_device(gpu_index)
    return DeviceSpec(torch.device("cuda", gpu_index), chosen)


@contextlib.contextmanager
def deterministic_algorithms(*, wanted: bool) -> Iterator[None]:
    """Make torch refuse operations whose result may differ between runs, until the block ends; if `wanted` is set."""
    if not wanted:
        yield
        return
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def move(module: nn.Module, device: DeviceSpec) -> nn.Module:
    """Move `module` to `device`, in place, and return it. Raises RunError if the memory is too small."""
    with explain_out_of_memory("end other programs that use the GPU, or give device=cpu"):
        return module.to(device.torch_device)


@contextlib.contextmanager
def explain_out_of_memory(remedy: str) -> Iterator[None]:
    """Raise RunError with `remedy` in its message if the memory runs out inside the block."""
    try:
        yield
    except RuntimeError as error:  # the base class of torch.OutOfMemoryError
        reason = find_memory_message(error)
        if reason is None:
            raise
        what = "the memory is too small" if "DefaultCPUAllocator" in reason else "the GPU is out of memory"
        raise RunError(f"{what} ({reason[max(0, reason.find('DefaultCPUAllocator')) :]}); {remedy}") from None


def find_memory_message(error: BaseException) -> str | None:
    """Return the line of `error`, or of an error before it, that says that memory ran out; None if none says so.

    If memory runs out while a CUDA graph is captured, the end of the capture fails too, and torch raises this second
    error. The first one is its context.
    """
    chain: BaseException | None = error
    while chain is not None:
        lines = str(chain).splitlines()
        reason = next((line for line in lines if any(text in line for text in OUT_OF_MEMORY_MESSAGES)), None)
        if reason is not None or isinstance(chain, torch.OutOfMemoryError):
            return reason or (lines or [""])[0]
        chain = chain.__cause__ or chain.__context__
    return None
