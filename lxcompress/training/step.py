"""One optimizer step (forward, backward, masks, clipping, update), run directly or replayed as a CUDA graph.

A step launches thousands of GPU kernels. At batch 32 the launches take longer than the arithmetic. A CUDA graph
launches all kernels at once. The graph is captured from the code of the step, after a few steps were run directly.
Capturing computes nothing, so no step is done twice.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from lxcompress.errors import RunError
from lxcompress.training.device import DeviceSpec, find_memory_message

if TYPE_CHECKING:
    from lxcompress.training.spec import FitSpec

STEPS_BEFORE_CAPTURE = 3
"""How many steps in a row, all with the same shapes, run directly before a graph is captured: in them cuBLAS and the
optimizer allocate what they keep, and the compiler makes its kernels. A capture must find all of this ready."""

MaskedWeights = list[tuple[Tensor, Tensor]]
"""pairs (masked weight, its mask of 0 and 1 in the type of the weight)"""
MicroBatches = list[tuple[Any, float]]
"""the micro-batches of a step: pairs (micro-batch, its fraction of the step's rows)"""


class Hook(Protocol):
    """Code that runs in every step of a fit; its state is stored in the checkpoint."""

    def before_update(self) -> None:
        """Run after the gradients are masked and clipped, before the optimizer changes the weights.

        This call is captured in the CUDA graph: it may only change tensors on the device, in place.
        """
        ...

    def after_step(self, done: int) -> None:
        """Run after a step, with masks applied, never captured; `done` counts the steps of the schedule so far."""
        ...

    def state(self) -> dict[str, Tensor]:
        """Return the tensors that a checkpoint must store, so that a resumed fit gives an unbroken fit's result."""
        ...

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Set the hook to a saved `state`, whose tensors are on the CPU."""
        ...


class TrainingStep(Protocol):
    """A function that does one optimizer step on micro-batches and returns their mean loss, a scalar on the device."""

    def __call__(self, parts: MicroBatches) -> Tensor: ...


class EagerStep:
    """A step that runs directly, one kernel after another."""

    def __init__(
        self,
        loss: Callable[[Any], Tensor],
        weights: Mapping[str, nn.Parameter],
        optimizer: torch.optim.Optimizer,
        spec: FitSpec,
        device: DeviceSpec,
    ) -> None:
        """Make the step that updates `weights` (name -> parameter).

        A mask of `spec` that has the type and the device of its weight is not copied, so a hook may change it in place.
        """
        self.loss, self.optimizer, self.device = loss, optimizer, device
        self.clip_norm, self.hooks = spec.settings.clip_norm, spec.hooks
        self.weights = list(weights.values())
        masks = spec.masks or {}
        self.masked: MaskedWeights = [(weights[name], mask.to(weights[name])) for name, mask in masks.items()]

    def __call__(self, parts: MicroBatches) -> Tensor:
        """Do one step on the micro-batches `parts`; return their mean loss."""
        self.optimizer.zero_grad(set_to_none=True)
        total = None
        for batch, share in parts:
            with self.device.autocast():
                value = self.loss(batch)
            if len(parts) > 1:
                value = value * share
            value.backward()
            total = value.detach() if total is None else total + value.detach()
        mask_gradients(self.masked)
        nn.utils.clip_grad_norm_(self.weights, self.clip_norm)
        for hook in self.hooks:
            hook.before_update()
        self.optimizer.step()
        mask_weights(self.masked)
        assert total is not None, "a step has at least one micro-batch"
        return total


class GraphStep:
    """An EagerStep that is captured as a CUDA graph, which is replayed for every batch of the same shapes.

    A step on a batch of other shapes (the last batch of an epoch) is run directly.
    """

    def __init__(self, eager: EagerStep) -> None:
        self.eager = eager
        self.stream = side_stream(eager.device.torch_device)
        self.repeats = RepeatCounter()
        self.graph: torch.cuda.CUDAGraph | None = None
        self.buffers: list[Tensor] = []
        self.loss: Tensor | None = None

    def __call__(self, parts: MicroBatches) -> Tensor:
        """Do one step on the micro-batches `parts`; return their mean loss."""
        leaves, spec = pytree.tree_flatten(parts)
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        form = (spec, [(tensor.shape, tensor.dtype) for tensor in tensors])
        if self.graph is None and self.repeats.count(form) > STEPS_BEFORE_CAPTURE:
            self._capture(parts)
        if self.graph is None or form != self.repeats.form:
            return self._run_on_side_stream(parts)
        torch._foreach_copy_(self.buffers, tensors)
        self.graph.replay()
        assert self.loss is not None
        return self.loss.clone()

    def _run_on_side_stream(self, parts: MicroBatches) -> Tensor:
        """Run the step directly, on the stream that will be captured."""
        self.stream.wait_stream(torch.cuda.current_stream(self.eager.device.torch_device))
        with torch.cuda.stream(self.stream):
            loss = self.eager(parts)
        torch.cuda.current_stream(self.eager.device.torch_device).wait_stream(self.stream)
        return loss

    def _capture(self, parts: MicroBatches) -> None:
        """Capture the step on copies of `parts` as the graph; nothing is computed."""
        leaves, spec = pytree.tree_flatten(parts)
        static = [leaf.clone() if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        self.buffers = [leaf for leaf in static if isinstance(leaf, Tensor)]
        self.eager.optimizer.zero_grad(set_to_none=True)  # the graph must allocate the gradients in its own memory
        graph = torch.cuda.CUDAGraph()
        # Other threads may pin memory for the next batches at the same time; a capture in global mode forbids this.
        with (
            explain_failed_capture(),
            torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local"),
        ):
            self.loss = self.eager(pytree.tree_unflatten(static, spec))
        self.graph = graph


@contextlib.contextmanager
def explain_failed_capture() -> Iterator[None]:
    """Raise RunError if the step in the block cannot be captured; an error about memory passes as it is."""
    try:
        yield
    except RuntimeError as error:
        if find_memory_message(error) is not None:
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise RunError(
            f"a training step cannot be captured as a CUDA graph ({reason}); give train.graph=off, or a smaller "
            "train.batch_size if the memory of the GPU is almost full"
        ) from error


class RepeatCounter:
    """A counter of how many steps in a row had the same form: the shapes and types of their tensors."""

    def __init__(self) -> None:
        self.form: object = None
        self.times = 0

    def count(self, form: object) -> int:
        """Return how many times in a row `form` came, including this time."""
        self.times = self.times + 1 if form == self.form else 1
        self.form = form
        return self.times


@functools.cache
def side_stream(device: torch.device) -> torch.cuda.Stream:
    """Return the one CUDA stream for all captured fits on `device`, so that a fit reuses the memory of earlier ones."""
    return torch.cuda.Stream(device)


@torch.no_grad()
def mask_gradients(masked: MaskedWeights) -> None:
    """Set the gradients of removed weights to zero, so that they do not count in the norm for clipping."""
    pairs = [(weight.grad, mask) for weight, mask in masked if weight.grad is not None]
    if pairs:
        torch._foreach_mul_([gradient for gradient, _ in pairs], [mask for _, mask in pairs])


@torch.no_grad()
def mask_weights(masked: MaskedWeights) -> None:
    """Set the weights that their masks remove to zero, in place."""
    if masked:
        torch._foreach_mul_([weight.data for weight, _ in masked], [mask for _, mask in masked])
