"""Feed: how batches come to the device that trains on them.

Where a GPU has room for the whole split, it lives there, and a batch is gathered where it is used. Elsewhere the CPU
gathers batches into pinned memory ahead of the step that needs them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from lxcompress.data.split import AnswerTask, Inputs, Regions, Split
from lxcompress.errors import RunError
from lxcompress.recipe import Switch
from lxcompress.training.device import DeviceSpec, explain_out_of_memory

AHEAD, GATHERERS = 4, 2
"""Batches that wait gathered, and the threads that gather them."""
RESERVE_BYTES, RESERVED_ROWS, ROW_BYTES = 8_000_000_000, 32, 50_000_000
"""What training full-size LXMERT takes on a GPU beside its data, estimated: weights, gradients, two moments and masks
(4.2 GB), and the activations of so many rows at a time; and those of each row more."""

Item = TypeVar("Item")
Made = TypeVar("Made")


class Batch(NamedTuple):
    """Inputs [B, ...] and their soft targets [B, A]."""

    inputs: Inputs
    targets: Tensor

    def to(self, device: torch.device) -> Batch:
        """The same batch on `device`."""
        return Batch(self.inputs.to(device), self.targets.to(device, non_blocking=device.type == "cuda"))

    def pin(self) -> Batch:
        """The same batch in memory that a GPU copies from on its own."""
        return Batch(pinned(self.inputs), self.targets.pin_memory())


def move_to_device_if_it_fits(
    task: AnswerTask, device: DeviceSpec, resident: Switch, *, rows: int = RESERVED_ROWS
) -> AnswerTask:
    """`task` on the GPU if `resident` is on, or auto and it fits beside training on `rows` at a time; else as it is.

    Both splits' regions are moved once if they are the same. Raises RunError.
    """
    if not device.is_cuda:
        if resident == "on":
            here = (
                "the CPU, where the data is already"
                if device.torch_device.type == "cpu"
                else f"{device.torch_device.type} (CUDA has)"
            )
            raise RunError(f"train.data_on_device=on has no effect on {here}; leave it at auto")
        return task
    distinct = {id(split.regions): split.regions for split in (task.train, task.valid)}
    size = sum(regions.size_bytes for regions in distinct.values())
    free, _ = torch.cuda.mem_get_info(device.torch_device)
    if resident == "off" or (resident == "auto" and size + reserve_bytes(rows) > free):
        return task
    with explain_out_of_memory("give train.data_on_device=off"):
        moved: dict[int, Regions] = {key: regions.to(device.torch_device) for key, regions in distinct.items()}
        return AnswerTask(
            train=task.train.to(device.torch_device, moved[id(task.train.regions)]),
            valid=task.valid.to(device.torch_device, moved[id(task.valid.regions)]),
            labels=task.labels,
            vocabulary=task.vocabulary,
        )


def reserve_bytes(rows: int) -> int:
    """What training on `rows` at a time (train.batch_size / train.accumulate) needs of a GPU beside its data."""
    return RESERVE_BYTES + max(0, rows - RESERVED_ROWS) * ROW_BYTES


def make_batch(split: Split, rows: Tensor, answers: int, *, padded: bool) -> Batch:
    """The Batch of `rows` (on the CPU) where the split is; `padded` ones have the split's full width."""
    indices = rows.to(split.scene.device, non_blocking=True)
    inputs = split.padded_inputs(indices) if padded else split.inputs(indices)
    return Batch(inputs, split.targets(indices, answers))


def feed(split: Split, batches: Iterable[Tensor], answers: int, device: DeviceSpec, *, padded: bool) -> Iterator[Batch]:
    """A Batch on the device for each of `batches`, in their order."""
    if not is_fetched(split, device):
        for rows in batches:
            yield make_batch(split, rows, answers, padded=padded).to(device.torch_device)
        return
    for batch in ahead(batches, lambda rows: make_batch(split, rows, answers, padded=padded).pin()):
        yield batch.to(device.torch_device)


def pinned(inputs: Inputs) -> Inputs:
    """`inputs` in memory that a GPU copies from on its own."""
    return Inputs(*(tensor.pin_memory() for tensor in inputs))


def is_fetched(split: Split, device: DeviceSpec) -> bool:
    """Whether batches of `split` have a way to go to the GPU, and so are gathered ahead."""
    return device.is_cuda and split.scene.device != device.torch_device


def ahead(items: Iterable[Item], make: Callable[[Item], Made]) -> Iterator[Made]:
    """`make(item)` for each item, in their order, made by threads while the ones before are used."""
    with ThreadPoolExecutor(GATHERERS) as pool:
        waiting = deque()
        try:
            for item in items:
                waiting.append(pool.submit(make, item))
                if len(waiting) > AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
