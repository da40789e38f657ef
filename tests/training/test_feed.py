"""Laws of batches: they are complete and in order, with and without prefetching."""

from __future__ import annotations

import threading

import pytest
import torch

from lxcompress.data.split import AnswerTask
from lxcompress.data.tasks import load_task
from lxcompress.errors import RunError
from lxcompress.recipe import ScenesData
from lxcompress.training.device import DeviceSpec
from lxcompress.training.feed import (
    PREFETCHED_BATCHES,
    feed,
    make_batch,
    move_to_device_if_it_fits,
    needs_prefetch,
    prefetch,
    reserve_bytes,
)

CPU = DeviceSpec(torch.device("cpu"), "fp32")


@pytest.fixture(scope="module")
def task() -> AnswerTask:
    return load_task(ScenesData(kind="scenes", train=60, valid=30))


def test_what_is_made_ahead_comes_in_order() -> None:
    assert list(prefetch(range(50), lambda each: each * each)) == [index * index for index in range(50)]
    assert list(prefetch([], str)) == []


def test_no_more_is_made_than_is_about_to_be_used() -> None:
    made = []
    lock = threading.Lock()

    def make(each: int) -> int:
        with lock:
            made.append(each)
        return each

    for used, each in enumerate(prefetch(range(40), make), start=1):
        assert each == used - 1
        assert len(made) <= used + PREFETCHED_BATCHES


def test_what_fails_ahead_fails_where_it_is_used() -> None:
    def make(each: int) -> int:
        if each == 3:
            raise ValueError("the fourth")
        return each

    source = prefetch(range(10), make)
    assert [next(source) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="the fourth"):
        next(source)


def test_ahead_may_be_left_early() -> None:
    before = threading.active_count()
    source = prefetch(range(1000), lambda each: each)
    assert next(source) == 0
    source.close()
    assert threading.active_count() == before


def test_a_padded_batch_says_the_same_at_the_full_width(task) -> None:
    rows = torch.tensor([5, 0, 7])
    cut, padded = (make_batch(task.train, rows, len(task.labels), padded=each) for each in (False, True))
    assert torch.equal(cut.targets, padded.targets)
    for name, short in cut.inputs._asdict().items():
        whole = getattr(padded.inputs, name)
        width = task.train.input_ids.shape[1] if name in ("input_ids", "attention_mask") else None
        assert whole.shape[1] == (width or task.train.regions.features.shape[1])
        assert torch.equal(whole[:, : short.shape[1]], short)
    assert int(padded.inputs.attention_mask.sum()) == int(cut.inputs.attention_mask.sum())
    assert int(padded.inputs.visual_attention_mask.sum()) == int(cut.inputs.visual_attention_mask.sum())


def test_the_feed_gives_each_list_of_rows_its_batch(task) -> None:
    lists = list(torch.randperm(60, generator=torch.Generator().manual_seed(0)).split(7))
    fed = list(feed(task.train, lists, len(task.labels), CPU, padded=False))
    assert len(fed) == len(lists)
    for rows, batch in zip(lists, fed, strict=True):
        assert torch.equal(batch.targets, task.train.targets(rows, len(task.labels)))
        assert torch.equal(batch.inputs.visual_feats, task.train.inputs(rows).visual_feats)


def test_half_precision_features_are_read_as_single(task) -> None:
    from dataclasses import replace

    regions = task.train.regions
    half = replace(task.train, regions=replace(regions, features=regions.features.half()))
    rows = torch.arange(8)
    features = half.inputs(rows).visual_feats
    assert features.dtype == torch.float32
    assert torch.equal(features, task.train.inputs(rows).visual_feats.half().float())


def test_on_the_cpu_the_data_stays_where_it_is(task) -> None:
    assert move_to_device_if_it_fits(task, CPU, "auto") is task
    assert move_to_device_if_it_fits(task, CPU, "off") is task
    with pytest.raises(RunError, match=r"train\.data_on_device=on has no effect on the CPU"):
        move_to_device_if_it_fits(task, CPU, "on")


def test_data_is_moved_to_cuda_devices_only(task) -> None:
    mps = DeviceSpec(torch.device("mps"), "fp32")
    assert move_to_device_if_it_fits(task, mps, "auto") is task
    with pytest.raises(RunError, match=r"train\.data_on_device=on has no effect on mps .*; leave it at auto"):
        move_to_device_if_it_fits(task, mps, "on")


def test_more_rows_at_a_time_leave_less_room_for_data() -> None:
    """Full-size LXMERT needs 4.2 GB for weights, moments and masks before its first batch."""
    needed = [reserve_bytes(rows) for rows in (1, 32, 33, 64, 256)]
    assert needed[0] == needed[1] > 2 * 3_500_000_000
    assert needed[2] - needed[1] == (needed[3] - needed[1]) / 32 == (needed[4] - needed[3]) / 192


def test_batches_are_prefetched_if_the_data_is_not_on_the_gpu(task) -> None:
    assert not needs_prefetch(task.valid, CPU)
    assert not needs_prefetch(task.valid, DeviceSpec(torch.device("mps"), "fp32"))
    assert needs_prefetch(task.valid, DeviceSpec(torch.device("cuda", 0), "bf16"))
