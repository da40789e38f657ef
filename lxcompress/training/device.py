"""DeviceSpec: where a fit runs, and in which arithmetic."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from lxcompress.errors import RunError

CUBLAS_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
SHORT_OF_MEMORY = ("out of memory", "ALLOC_FAILED", "DefaultCPUAllocator")
"""What torch, CUDA and its libraries say when memory runs out, of which not all say it with an error of its own."""


@dataclass(frozen=True)
class DeviceSpec:
    """A device, and the precision of what runs there."""

    torch_device: torch.device
    precision: str

    @property
    def is_cuda(self) -> bool:
        return self.torch_device.type == "cuda"

    def autocast(self) -> torch.autocast:
        """bf16 arithmetic where the precision says so."""
        return torch.autocast(self.torch_device.type, torch.bfloat16, enabled=self.precision == "bf16")

    def wait(self) -> None:
        """Returns when the device has done all that it was given."""
        if self.is_cuda:
            torch.cuda.synchronize(self.torch_device)
        elif self.torch_device.type == "mps":
            torch.mps.synchronize()


def choose_device(device: str, precision: str, number: int | None = None) -> DeviceSpec:
    """`auto` is CUDA, then MPS, then CPU; and bf16 on CUDA, fp32 elsewhere; `number` is that of the GPU.

    Raises RunError if the device is absent.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    name = next(each for each in available if available[each]) if device == "auto" else device
    if not available[name]:
        raise RunError(
            f"device {name}: not available on this machine; use --set device=auto (lxcompress doctor shows what is)"
        )
    chosen = ("bf16" if name == "cuda" else "fp32") if precision == "auto" else precision
    if name != "cuda":
        return DeviceSpec(torch.device(name), chosen)
    if number is None:
        number = torch.cuda.current_device()  # a tensor's device has a number, and is compared with this one
    if number >= torch.cuda.device_count():
        raise RunError(
            f"device cuda:{number}: this machine has {torch.cuda.device_count()} GPUs; start as many processes at most"
        )
    torch.cuda.set_device(number)
    return DeviceSpec(torch.device("cuda", number), chosen)


@contextlib.contextmanager
def deterministic_algorithms(*, wanted: bool) -> Iterator[None]:
    """Inside, torch refuses what may differ from run to run, if `wanted`; outside, all is as it was."""
    if not wanted:
        yield
        return
    before = torch.are_deterministic_algorithms_enabled()
    os.environ.setdefault(CUBLAS_WORKSPACE, ":4096:8")  # cuBLAS reads it when it first starts
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def move(module: nn.Module, device: DeviceSpec) -> nn.Module:
    """`module`, moved to where it is to run. Raises RunError if it does not fit there."""
    with explain_out_of_memory("end what else runs on the GPU, or give device=cpu"):
        return module.to(device.torch_device)


@contextlib.contextmanager
def explain_out_of_memory(remedy: str) -> Iterator[None]:
    """Turns running out of memory into one sentence that ends in `remedy`. Raises RunError."""
    try:
        yield
    except RuntimeError as error:  # torch.OutOfMemoryError is one, too
        lines = str(error).splitlines()
        said = next((line for line in lines if any(words in line for words in SHORT_OF_MEMORY)), None)
        if said is None:
            if not isinstance(error, torch.OutOfMemoryError):
                raise
            said = (lines or [""])[0]
        what = "the memory is too small" if "DefaultCPUAllocator" in said else "the GPU is out of memory"
        raise RunError(f"{what} ({said[max(0, said.find('DefaultCPUAllocator')) :]}); {remedy}") from None
