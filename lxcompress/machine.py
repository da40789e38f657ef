"""Describe the machine that a result was made on, and the versions of its libraries."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path

import psutil

from lxcompress import __version__
from lxcompress.records import Machine

# The libraries whose version can change a score, a file or a timing.
PACKAGES = (
    "torch",
    "transformers",
    "onnx",
    "onnxruntime",
    "torch-pruning",
    "numpy",
    "safetensors",
    "openvino",
    "nncf",
    "executorch",
    "torchao",
    "coremltools",
    "litert-torch",
    "ai-edge-litert",
    "ai-edge-quantizer",
)

GPU_FILES = ("nvidia", "nvhost", "nvgpu", "nvmap", "dxg", "kfd")
"""How the names of a GPU's device files in /dev begin on Linux: NVIDIA (Jetson too), Windows' own (WSL), AMD."""


def describe_machine() -> Machine:
    """Describe the machine of this process; `cores` counts those that the process may use."""
    return Machine(
        system=platform.platform(),
        processor=processor_name(),
        cores=len(usable_cores()),
        memory_bytes=psutil.virtual_memory().total,
        python=platform.python_version(),
        accelerator=accelerator_name(),
        packages=_versions(),
    )


def processor_name() -> str:
    """Return the name of the processor, or its architecture where the system does not say."""
    if platform.system() == "Linux":
        name = _linux_processor()
    elif platform.system() == "Darwin":
        name = _mac_processor()
    else:
        name = platform.processor()
    return name or platform.machine() or "unknown"


def usable_cores() -> tuple[int, ...]:
    """Return the indices of the logical cores that this process may use, which may be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def accelerator_name() -> str | None:
    """Return the name of the GPU that torch would use, or None."""
    if not _may_have_gpu():  # the import of torch takes a second
        return None
    try:
        import torch
    except (ImportError, OSError):  # OSError: torch is installed, but its libraries cannot be loaded
        return None
    if torch.cuda.is_available():
        return torch.cuda.get_device_name(0)
    return f"{processor_name()} (MPS)" if torch.backends.mps.is_available() else None


def _may_have_gpu() -> bool:
    """Return False where no GPU is possible: on Linux without the device files of a GPU driver."""
    return sys.platform != "linux" or any(name.startswith(GPU_FILES) for name in os.listdir("/dev"))


def _versions() -> dict[str, str]:
    versions = {"lxcompress": __version__}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _linux_processor() -> str:
    """Return the `model name` of the first core; kernels for ARM give none."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else ""


def _mac_processor() -> str:
    try:
        reply = subprocess.run(
            ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"],
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return reply.stdout.strip()
