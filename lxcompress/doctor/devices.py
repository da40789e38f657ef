"""Find the devices of this machine: processor, memory and accelerators."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable
from dataclasses import dataclass

from lxcompress.doctor.requirements import reinstall


@dataclass(frozen=True)
class Device:
    """A device: whether this machine has it, and the command that would make it usable, if there is one."""

    name: str
    is_here: bool
    detail: str
    remedy: str | None = None


def find_devices() -> tuple[Device, ...]:
    """Return the processor, the memory, and the accelerators that torch and ONNX Runtime can use."""
    return tuple(_look(name, find) for name, find in FINDERS.items())


def _look(name: str, find: Callable[[str], Device]) -> Device:
    """Return what `find` returns; a missing or broken library becomes the detail."""
    try:
        return find(name)
    except Exception as problem:
        return Device(name, False, f"unknown ({type(problem).__name__}: {problem})")


def _processor(name: str) -> Device:
    import psutil

    from lxcompress.machine import processor_name, usable_cores

    physical, threads = psutil.cpu_count(logical=False), psutil.cpu_count()
    return Device(
        name, True, f"{processor_name()}, {physical} cores, {threads} threads, {len(usable_cores())} of them usable"
    )


def _memory(name: str) -> Device:
    import psutil

    memory = psutil.virtual_memory()
    return Device(name, True, f"{memory.total / 1e9:.1f} GB, {memory.available / 1e9:.1f} GB free")


def _cuda(name: str) -> Device:
    import torch

    if torch.cuda.is_available():
        cards = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        return Device(name, True, ", ".join(cards))
    if shutil.which("nvidia-smi") is None:
        return Device(name, False, "no NVIDIA driver found")
    if torch.version.cuda:
        return Device(name, False, f"torch for CUDA {torch.version.cuda} cannot use the driver; see nvidia-smi")
    return Device(
        name,
        False,
        f"a driver is installed, but torch {torch.__version__} is built without CUDA",
        f"{reinstall('torch')} --index-url https://download.pytorch.org/whl/cu128",
    )


def _mps(name: str) -> Device:
    import torch

    if torch.backends.mps.is_available():
        return Device(name, True, "Apple GPU")
    return Device(name, False, "not on this Mac" if platform.system() == "Darwin" else "only on Apple computers")


def _providers(name: str) -> Device:
    from lxcompress.runtimes.onnxruntime import providers

    return Device(name, True, ", ".join(providers()))


FINDERS: dict[str, Callable[[str], Device]] = {
    "processor": _processor,
    "memory": _memory,
    "CUDA": _cuda,
    "MPS": _mps,
    "ONNX Runtime": _providers,
}
