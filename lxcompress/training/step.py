"""One optimizer step: forward, backward, masks, clipping, update; as it stands, or replayed as a CUDA graph.

At batch 32 a GPU waits for the thousands of kernel launches of a step, not for arithmetic: a graph launches them at
once. It is captured from the step itself after a few steps have run as they stand, so no step is done for its sake.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from lxcompress.recipe import Train
from lxcompress.training.device import DeviceSpec

STEPS_BEFORE_CAPTURE = 3
"""cuBLAS and the optimizer make what they keep in the first steps, and the compiler what each shape needs: a graph must
find it made. So many steps of the same shapes in a row go before it."""

Batch = TypeVar("Batch")
Kept = list[tuple[Tensor, Tensor]]
"""(weight, its mask as numbers), of masked weights"""


class Hook(Protocol):
    """Takes part in every step of a fit; what it keeps is kept in the checkpoint."""

    def before_update(self) -> None:
        """Gradients are masked and clipped, and no weight has moved; in place on the device only: it is captured."""
        ...

    def after_step(self, done: int) -> None:
        """`done` steps of the whole schedule are done, and the masks hold; never captured."""
        ...

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint must keep for a resumed fit to go on as one that was not cut off."""
        ...

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Takes back what `state` gave; the tensors are on the CPU."""
        ...


class Step(Protocol):
    """One optimizer step on some micro-batches; returns their mean loss, on the device."""

    def __call__(self, parts: list) -> Tensor: ...


class EagerStep:
    """The step as it stands."""

    def __init__(
        self,
        loss: Callable[[Batch], Tensor],
        names: Mapping[str, nn.Parameter],
        optimizer: torch.optim.Optimizer,
        masks: Mapping[str, Tensor],
        settings: Train,
        device: DeviceSpec,
        hooks: Sequence[Hook] = (),
    ) -> None:
        """A float mask of its weight's kind and device is used as it is, so that a hook may change it in place."""
        self.loss, self.optimizer, self.settings, self.device, self.hooks = loss, optimizer, settings, device, hooks
        self.weights = list(names.values())
        self.kept: Kept = [(names[name], mask.to(names[name])) for name, mask in masks.items()]

    def __call__(self, parts: list[tuple[Batch, float]]) -> Tensor:
        """`parts` are micro-batches with their shares of the step's rows."""
        self.optimizer.zero_grad(set_to_none=True)
        total = None
        for batch, share in parts:
            with self.device.autocast():
                value = self.loss(batch)
            if len(parts) > 1:
                value = value * share
            value.backward()
            total = value.detach() if total is None else total + value.detach()
        blind(self.kept)
        nn.utils.clip_grad_norm_(self.weights, self.settings.clip_norm)
        for hook in self.hooks:
            hook.before_update()
        self.optimizer.step()
        hold(self.kept)
        return total


class GraphStep:
    """An EagerStep that is captured as a CUDA graph, and replayed for every batch of the same shapes.

    A batch of other shapes (an epoch's last) runs as it stands.
    """

    def __init__(self, eager: EagerStep) -> None:
        self.eager = eager
        self.stream = side_stream(eager.device.torch_device)
        self.recurrence = Recurrence()
        self.graph: torch.cuda.CUDAGraph | None = None
        self.buffers: list[Tensor] = []
        self.loss: Tensor | None = None

    def __call__(self, parts: list[tuple[Batch, float]]) -> Tensor:
        """As EagerStep."""
        leaves, spec = pytree.tree_flatten(parts)
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        form = (spec, [(tensor.shape, tensor.dtype) for tensor in tensors])
        if self.graph is None and self.recurrence.count(form) > STEPS_BEFORE_CAPTURE:
            self._capture(parts)
        if self.graph is None or form != self.recurrence.form:
            return self._beside(parts)
        torch._foreach_copy_(self.buffers, tensors)
        self.graph.replay()
        return self.loss.clone()

    def _beside(self, parts: list[tuple[Batch, float]]) -> Tensor:
        """The step as it stands, on the stream that will be captured."""
        self.stream.wait_stream(torch.cuda.current_stream(self.eager.device.torch_device))
        with torch.cuda.stream(self.stream):
            loss = self.eager(parts)
        torch.cuda.current_stream(self.eager.device.torch_device).wait_stream(self.stream)
        return loss

    def _capture(self, parts: list[tuple[Batch, float]]) -> None:
        """Records the step on copies of `parts`; nothing is computed."""
        leaves, spec = pytree.tree_flatten(parts)
        static = [leaf.clone() if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        self.buffers = [leaf for leaf in static if isinstance(leaf, Tensor)]
        self.eager.optimizer.zero_grad(set_to_none=True)  # gradients are to live in the graph's own memory
        graph = torch.cuda.CUDAGraph()
        # Other threads may pin memory for the next batches meanwhile, which a capture in global mode forbids.
        with torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local"):
            self.loss = self.eager(pytree.tree_unflatten(static, spec))
        self.graph = graph


class Recurrence:
    """How often in a row the same form came."""

    def __init__(self) -> None:
        self.form: object = None
        self.times = 0

    def count(self, form: object) -> int:
        """How often `form` came in a row, this time included."""
        self.times = self.times + 1 if form == self.form else 1
        self.form = form
        return self.times


@functools.cache
def side_stream(device: torch.device) -> torch.cuda.Stream:
    """The one side stream of every fit on `device`: memory that one fit freed on it is found again by the next."""
    return torch.cuda.Stream(device)


@torch.no_grad()
def blind(kept: Kept) -> None:
    """Zeroes the gradients of what the masks removed, which must not count in the clipping of the others."""
    seen = [(weight.grad, mask) for weight, mask in kept if weight.grad is not None]
    if seen:
        torch._foreach_mul_([gradient for gradient, _ in seen], [mask for _, mask in seen])


@torch.no_grad()
def hold(kept: Kept) -> None:
    """Zeroes what the masks removed."""
    if kept:
        torch._foreach_mul_([weight.data for weight, _ in kept], [mask for _, mask in kept])
