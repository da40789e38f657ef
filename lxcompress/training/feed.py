"""Batches: how they are made, and how they are moved to the device that trains.

If a GPU has room for a whole split, the split is moved there, and batches are made on the GPU. Otherwise threads on the
CPU make batches in pinned memory, ahead of the step that needs them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from lxcompress.data.split import AnswerTask, Inputs, Regions, Split
from lxcompress.errors import RunError
from lxcompress.recipe import Switch
from lxcompress.training.device import DeviceSpec, explain_out_of_memory

PREFETCHED_BATCHES, PREFETCH_THREADS = 4, 2
"""How many batches wait for their step, and how many threads make them."""
RESERVE_BYTES, RESERVED_ROWS, ROW_BYTES = 8_000_000_000, 32, 50_000_000
"""An estimate of the GPU memory that training full-size LXMERT needs besides its data. RESERVE_BYTES: weights,
gradients, two moments and masks (4.2 GB), and the activations of a batch of RESERVED_ROWS questions. ROW_BYTES: the
activations of each further question of the batch."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class Batch(NamedTuple):
    """A batch of questions: inputs [B, ...], and soft targets [B, A], the credit of each answer."""

    inputs: Inputs
    targets: Tensor

    def to(self, device: torch.device) -> Batch:
        """Return the batch on `device`."""
        return Batch(self.inputs.to(device), self.targets.to(device, non_blocking=device.type == "cuda"))

    def pin(self) -> Batch:
        """Return the batch in pinned memory, from which a GPU copies without the CPU."""
        return Batch(pin_inputs(self.inputs), self.targets.pin_memory())


def move_to_device_if_it_fits(
    task: AnswerTask, device: DeviceSpec, data_on_device: Switch, *, rows: int = RESERVED_ROWS
) -> AnswerTask:
    """Return `task` with its data moved to the GPU, or unchanged.

    `data_on_device` is on, off or auto. With auto, the data is moved if there is room for it and for training with
    `rows` questions in a (micro-)batch. Region features that splits share are moved once. Raises RunError.
    """
    if not device.is_cuda:
        if data_on_device == "on":
            kind = device.torch_device.type
            where = "the CPU, because its memory holds the data already" if kind == "cpu" else f"{kind} (CUDA has)"
            raise RunError(f"train.data_on_device=on has no effect on {where}; leave it at auto")
        return task
    distinct = {id(split.regions): split.regions for split in task.splits}
    size = sum(regions.size_bytes for regions in distinct.values())
    free, _ = torch.cuda.mem_get_info(device.torch_device)
    if data_on_device == "off" or (data_on_device == "auto" and size + reserve_bytes(rows) > free):
        return task
    with explain_out_of_memory("give train.data_on_device=off"):
        moved: dict[int, Regions] = {key: regions.to(device.torch_device) for key, regions in distinct.items()}
        train, valid, *test = (split.to(device.torch_device, moved[id(split.regions)]) for split in task.splits)
        return replace(task, train=train, valid=valid, test=test[0] if test else None)


def reserve_bytes(rows: int) -> int:
    """Return the bytes of GPU memory that training needs with `rows` questions in a (micro-)batch, besides its data."""
    return RESERVE_BYTES + max(0, rows - RESERVED_ROWS) * ROW_BYTES


def make_batch(split: Split, rows: Tensor, answers: int, *, padded: bool) -> Batch:
    """Return the Batch of the questions `rows` (on the CPU), on the split's device.

    `answers` is the number of answers A. If `padded`, questions are padded to the longest of the split.
    """
    indices = rows.to(split.scene.device, non_blocking=True)
    inputs = split.padded_inputs(indices) if padded else split.inputs(indices)
    return Batch(inputs, split.targets(indices, answers))


def feed(split: Split, batches: Iterable[Tensor], answers: int, device: DeviceSpec, *, padded: bool) -> Iterator[Batch]:
    """Yield the Batch, on the device, of each tensor of rows in `batches`, in order."""
    if not needs_prefetch(split, device):
        for rows in batches:
            yield make_batch(split, rows, answers, padded=padded).to(device.torch_device)
        return
    for batch in prefetch(batches, lambda rows: make_batch(split, rows, answers, padded=padded).pin()):
        yield batch.to(device.torch_device)


def pin_inputs(inputs: Inputs) -> Inputs:
    """Return `inputs` in pinned memory, from which a GPU copies without the CPU."""
    return Inputs(*(tensor.pin_memory() for tensor in inputs))


def needs_prefetch(split: Split, device: DeviceSpec) -> bool:
    """Return whether batches of `split` must be copied to a GPU; threads then make them ahead of the step."""
    return device.is_cuda and split.scene.device != device.torch_device


def prefetch(items: Iterable[Item], make: Callable[[Item], Result]) -> Iterator[Result]:
    """Yield `make(item)` for each item, in order; while one result is used, threads make the next ones."""
    with ThreadPoolExecutor(PREFETCH_THREADS) as pool:
        waiting: deque[Future[Result]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(make, item))
                if len(waiting) > PREFETCHED_BATCHES:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
