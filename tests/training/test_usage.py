"""Laws of the usage meter: its thread ends with the run, even if that fails; without a GPU it counts nothing."""

from __future__ import annotations

import itertools
import threading

import pytest
import torch

from lxcompress.training.device import DeviceSpec
from lxcompress.training.usage import Sampler, UsageMeter, mean_share

CPU = DeviceSpec(torch.device("cpu"), "fp32")


def test_without_a_gpu_nothing_is_counted_and_no_thread_is_begun() -> None:
    before = threading.active_count()
    with UsageMeter(CPU) as meter:
        assert threading.active_count() == before
        assert meter.stop() is None
    assert UsageMeter(CPU).start().stop() is None


def test_a_failure_within_comes_out_as_it_is() -> None:
    with pytest.raises(ZeroDivisionError), UsageMeter(CPU):
        raise ZeroDivisionError


def test_the_sampler_reads_until_it_is_stopped() -> None:
    enough = threading.Event()
    numbers = itertools.count()

    def read() -> int:
        number = next(numbers)
        if number >= 5:
            enough.set()
        return number

    sampler = Sampler(read, period_s=0.001)
    sampler.start()
    assert enough.wait(10)
    sampler.stop()
    assert not sampler.thread.is_alive()
    assert sampler.percents == list(range(len(sampler.percents)))
    assert len(sampler.percents) >= 5
    sampler.stop()


def test_the_sampler_ends_where_there_is_nothing_to_read() -> None:
    numbers = iter([7, 9, None])
    sampler = Sampler(lambda: next(numbers), period_s=0.001)
    sampler.start()
    sampler.thread.join(10)
    assert not sampler.thread.is_alive()
    assert sampler.percents == [7, 9]


def test_a_meter_ends_its_thread_when_the_run_fails() -> None:
    """The thread of a GPU's meter is started by hand, since there is no GPU."""
    meter = UsageMeter(CPU)
    meter.sampler = Sampler(lambda: 50, period_s=0.001)
    meter.sampler.start()
    with pytest.raises(ZeroDivisionError), meter:
        raise ZeroDivisionError
    assert not meter.sampler.thread.is_alive()


def test_the_share_is_the_mean_of_the_percentages() -> None:
    assert mean_share([]) is None
    assert mean_share([0, 50, 100]) == 0.5
