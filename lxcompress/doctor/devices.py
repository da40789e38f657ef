"""What there is to compute on."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable
from dataclasses import dataclass

from lxcompress.doctor.requirements import reinstall


@dataclass(frozen=True)
class Device:
    """Something to compute on: whether it is here, and the one command that would add it, if one would."""

    name: str
    is_here: bool
    detail: str
    remedy: str | None = None


def find_devices() -> tuple[Device, ...]:
    """The processor, the memory, and the accelerators that torch and ONNX Runtime offer."""
    return tuple(_look(name, find) for name, find in FINDERS.items())


def _look(name: str, find: Callable[[str], Device]) -> Device:
    """What `find` returns; a library that is missing or broken is no reason to stop looking."""
    try:
        return find(name)
    except Exception as problem:
        return Device(name, False, f"cannot tell ({type(problem).__name__}: {problem})")


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
        f"there is a driver, but torch {torch.__version__} is built without CUDA",
        f"{reinstall('torch')} --index-url https://download.pytorch.org/whl/cu128",
    )


def _mps(name: str) -> Device:
    import torch

    if torch.backends.mps.is_available():
        return Device(name, True, "Apple GPU")
    return Device(name, False, "not on this Mac" if platform.system() == "Darwin" else "of Apple computers only")


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
