"""The GPU memory, utilisation and energy of a run; NVIDIA's management library (NVML) counts the last two."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

import torch

from lxcompress.records import Usage
from lxcompress.training.device import DeviceSpec

PERIOD_S = 0.5
"""The seconds between two readings of the utilisation."""


class Sampler:
    """A thread that reads a percentage every `period_s` seconds, until `stop` or until the reading is None."""

    def __init__(self, read: Callable[[], int | None], *, period_s: float = PERIOD_S) -> None:
        self.read, self.period_s = read, period_s
        self.percents: list[int] = []
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._sample, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self.thread.start()

    def stop(self) -> None:
        """Stop the thread; it is safe to call this again."""
        self.over.set()
        self.thread.join()

    def _sample(self) -> None:
        """Read until the end: the work of the thread."""
        while not self.over.wait(self.period_s):
            percent = self.read()
            if percent is None:
                return
            self.percents.append(percent)


class UsageMeter:
    """A meter of what a run uses of its GPU, from `start` to `stop`.

    Without NVML, utilisation and energy are None. `with UsageMeter(device) as meter` starts the meter, and stops its
    thread even if the block fails.
    """

    def __init__(self, device: DeviceSpec) -> None:
        self.device = device
        self.energy_mj: int | None = None
        self.handle = _find_handle(device) if device.is_cuda else None
        self.sampler: Sampler | None = None
        self.started = 0.0

    def __enter__(self) -> UsageMeter:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop_sampler()

    def start(self) -> UsageMeter:
        """Start measuring."""
        self.started = time.perf_counter()
        if self.device.is_cuda:
            torch.cuda.empty_cache()  # memory that an earlier run left reserved must not count for this one
            torch.cuda.reset_peak_memory_stats(self.device.torch_device)
        if self.handle is not None:
            self.energy_mj = _read_energy_mj(self.handle)
            self.sampler = Sampler(lambda: _read_utilisation(self.handle))
            self.sampler.start()
        return self

    def stop(self) -> Usage | None:
        """Stop measuring; return the Usage since `start`, or None without a GPU."""
        self._stop_sampler()
        if not self.device.is_cuda:
            return None
        after = _read_energy_mj(self.handle) if self.handle is not None else None
        return Usage(
            gpu=torch.cuda.get_device_name(self.device.torch_device),
            peak_bytes=torch.cuda.max_memory_reserved(self.device.torch_device),
            utilisation=mean_share(self.sampler.percents if self.sampler else ()),
            energy_j=_joules(self.energy_mj, after),
            duration_s=time.perf_counter() - self.started,
        )

    def _stop_sampler(self) -> None:
        """Stop the thread, if it was started."""
        if self.sampler:
            self.sampler.stop()


def mean_share(percents: Sequence[int]) -> float | None:
    """Return the mean of percentages as a fraction, 0-1; None if there are no percentages."""
    return sum(percents) / len(percents) / 100 if percents else None


def _joules(before: int | None, after: int | None) -> float | None:
    """Return the joules between two readings, which are in millijoules; None without both, or after a counter reset."""
    return None if before is None or after is None or after < before else (after - before) / 1000


def _find_handle(device: DeviceSpec) -> Any:
    """Return NVML's handle of the GPU, or None without NVML.

    The GPU is found by its UUID, because NVML and CUDA number GPUs differently if CUDA sees only some of them.
    """
    import pynvml

    try:
        pynvml.nvmlInit()
        uuid = str(torch.cuda.get_device_properties(device.torch_device).uuid)
        return pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid.removeprefix('GPU-')}")
    except pynvml.NVMLError:
        return None


def _read_utilisation(handle: Any) -> int | None:
    """Return the percentage of the last moment in which a kernel ran; None if the GPU (a MIG slice) has no counter."""
    import pynvml

    try:
        return pynvml.nvmlDeviceGetUtilizationRates(handle).gpu
    except pynvml.NVMLError:
        return None


def _read_energy_mj(handle: Any) -> int | None:
    """Return the millijoules since the driver was loaded; None if the GPU is older than Volta, which has no counter."""
    import pynvml

    try:
        return pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except pynvml.NVMLError:
        return None
