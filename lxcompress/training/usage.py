"""What a run took of its GPU: memory, utilisation and energy, as NVIDIA's management library counts them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType

import torch

from lxcompress.records import Usage
from lxcompress.training.device import DeviceSpec

PERIOD_S = 0.5


class Sampler:
    """A thread that reads a percentage every so often, from `start` to `stop`, or until there is none to be read."""

    def __init__(self, read: Callable[[], int | None], *, period_s: float = PERIOD_S) -> None:
        self.read, self.period_s = read, period_s
        self.percents: list[int] = []
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._sample, daemon=True)

    def start(self) -> None:
        """Begins to read."""
        self.thread.start()

    def stop(self) -> None:
        """Ends the thread; again is no harm."""
        self.over.set()
        self.thread.join()

    def _sample(self) -> None:
        while not self.over.wait(self.period_s):
            percent = self.read()
            if percent is None:
                return
            self.percents.append(percent)


class UsageMeter:
    """Watches a GPU from `start` to `stop`; where there is none, or NVML is not to be had, it says so with None.

    `with UsageMeter(device) as meter` starts it, and ends its thread however the run within ends.
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
        self._end()

    def start(self) -> UsageMeter:
        """Begins to count."""
        self.started = time.perf_counter()
        if self.device.is_cuda:
            torch.cuda.empty_cache()  # what the last run's memory left reserved is none of this one's
            torch.cuda.reset_peak_memory_stats(self.device.torch_device)
        if self.handle is not None:
            self.energy_mj = _energy_mj(self.handle)
            self.sampler = Sampler(lambda: _busy_percent(self.handle))
            self.sampler.start()
        return self

    def stop(self) -> Usage | None:
        """What was counted; None without a GPU."""
        self._end()
        if not self.device.is_cuda:
            return None
        after = _energy_mj(self.handle) if self.handle is not None else None
        return Usage(
            gpu=torch.cuda.get_device_name(self.device.torch_device),
            peak_bytes=torch.cuda.max_memory_reserved(self.device.torch_device),
            utilisation=mean_share(self.sampler.percents if self.sampler else ()),
            energy_j=_joules(self.energy_mj, after),
            duration_s=time.perf_counter() - self.started,
        )

    def _end(self) -> None:
        if self.sampler:
            self.sampler.stop()


def _joules(before: int | None, after: int | None) -> float | None:
    """Return the energy between two readings of a counter in millijoules; None if it was reset, or does not tell."""
    return None if before is None or after is None or after < before else (after - before) / 1000


def mean_share(percents: Sequence[int]) -> float | None:
    """The mean of percentages as a share, 0-1; None of none."""
    return sum(percents) / len(percents) / 100 if percents else None


def _find_handle(device: DeviceSpec) -> object | None:
    """NVML's handle of the GPU of `device`, found by its UUID: numbers differ where CUDA sees only some GPUs."""
    import pynvml

    try:
        pynvml.nvmlInit()
        uuid = str(torch.cuda.get_device_properties(device.torch_device).uuid)
        return pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid.removeprefix('GPU-')}")
    except pynvml.NVMLError:
        return None


def _busy_percent(handle: object) -> int | None:
    """The share of the last moment in which some kernel ran; a GPU that does not count (a MIG slice) never will."""
    import pynvml

    try:
        return pynvml.nvmlDeviceGetUtilizationRates(handle).gpu
    except pynvml.NVMLError:
        return None


def _energy_mj(handle: object) -> int | None:
    """Millijoules since the driver was loaded; older GPUs than Volta do not count them."""
    import pynvml

    try:
        return pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except pynvml.NVMLError:
        return None
