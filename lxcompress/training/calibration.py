"""Statistics of a model's weights on some of its training questions, for the pruning criteria that need them.

The seed decides which questions are drawn. Dropout is off, and the loss is the loss of training. Each kind of statistic
is a field of `pruning.criteria.CalibrationStatistics`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lxcompress.data.split import AnswerTask, Split
from lxcompress.errors import PruneError
from lxcompress.models.checkpoints import Model
from lxcompress.progress import Progress
from lxcompress.pruning.mask import Weights
from lxcompress.recipe import Train
from lxcompress.training.device import DeviceSpec, deterministic_algorithms, explain_out_of_memory
from lxcompress.training.evaluate import batches_by_length
from lxcompress.training.feed import make_batch
from lxcompress.training.losses import LOSSES

GRADIENT_POWERS: Mapping[str, int] = {"gradient": 1, "squared_gradient": 2}
"""The kinds of statistics that are means of a power of |dL/dw| -> the power."""
KINDS = (*GRADIENT_POWERS, "input_norm")
"""All kinds of statistics that `collect_statistics` computes."""


@dataclass(frozen=True)
class CalibrationSpec:
    """The settings of a calibration: which training questions a model answers, with which loss and on which device."""

    task: AnswerTask
    settings: Train
    device: DeviceSpec
    seed: int
    questions: int = 512
    batch_size: int = 8

    def draw_sample(self) -> Split:
        """Return the training questions that the seed draws, as a Split."""
        return draw_sample(self.task.train, self.questions, self.seed)


def collect_statistics(
    model: Model, weights: Weights, kind: str, spec: CalibrationSpec, progress: Progress | None = None
) -> dict[str, Tensor]:
    """Return the statistics of one `kind`: name of a prunable matrix -> float32 tensor, on the CPU.

    A tensor of the kinds gradient and squared_gradient has the shape of its matrix. It is a mean over batches of
    questions of similar length, and the loss of a batch is the mean over its questions. A tensor of the kind input_norm
    is [C], for the C inputs of a linear layer. `weights` are loaded into the model, which stays on the device in
    evaluation mode. Raises LxError.
    """
    if kind not in KINDS:
        raise PruneError(f"statistics {kind}: cannot be collected from a sample; {', '.join(KINDS)} can")
    load_for_evaluation(model, weights, spec.device)
    with (
        deterministic_algorithms(wanted=spec.settings.deterministic),
        explain_out_of_memory(f"lower prune.calibration.batch_size (it is {spec.batch_size})"),
    ):
        if kind == "input_norm":
            return _input_norms(model, spec, progress)
        return _mean_gradients(model, spec, GRADIENT_POWERS[kind], progress)


def load_for_evaluation(model: Model, weights: Weights, device: DeviceSpec) -> None:
    """Load `weights` into the model on the device, and turn its dropout off."""
    model.module.to(device.torch_device)
    model.load(weights)
    model.module.eval()


def draw_sample(split: Split, questions: int, seed: int) -> Split:
    """Return a random choice of `questions` questions of `split`, in the order of `split`; all if it has fewer."""
    chosen = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))[:questions].sort().values
    return split.take(chosen.to(split.scene.device))


def batches_without_padding(split: Split, batch_size: int) -> Iterator[Tensor]:
    """Yield the rows of each batch (int64, on the CPU): at most `batch_size` questions of one size.

    Questions of one size have the same number of tokens and the same number of regions, so the model reads no padding.
    There is one exception: if the two images of a question have different numbers of regions, the smaller is padded.
    """
    lengths = split.lengths.tolist()
    regions = split.regions.objects[split.scene].reshape(len(split), -1).max(1).values.tolist()
    rows_of: dict[tuple[int, int], list[int]] = defaultdict(list)
    for row, size in enumerate(zip(lengths, regions, strict=True)):
        rows_of[size].append(row)
    for size in sorted(rows_of):
        yield from torch.tensor(rows_of[size]).split(batch_size)


def _mean_gradients(model: Model, spec: CalibrationSpec, power: int, progress: Progress | None) -> dict[str, Tensor]:
    """Return the mean over batches of |dL/dw| ** power; a weight that is used twice has the sum of both gradients."""
    prunable = model.prunable
    weights = {name: weight for name, weight in model.module.named_parameters() if name in prunable}
    totals = {name: torch.zeros_like(weight, requires_grad=False) for name, weight in weights.items()}
    sample, answers = spec.draw_sample(), len(spec.task.labels)
    batches = list(batches_by_length(sample, spec.batch_size))
    for index, rows in enumerate(batches):
        batch = make_batch(sample, rows, answers, padded=False).to(spec.device.torch_device)
        with spec.device.autocast():
            scores = model.family.answer(model.module, batch.inputs)
        loss = LOSSES[spec.settings.loss](scores.float(), batch.targets)
        gradients = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
        for total, gradient in zip(totals.values(), gradients, strict=True):
            if gradient is not None:
                total += gradient.abs() if power == 1 else gradient.square()
        if progress:
            progress("collecting statistics", index + 1, len(batches))
    return {name: (total / len(batches)).float().cpu() for name, total in totals.items()}


def _input_norms(model: Model, spec: CalibrationSpec, progress: Progress | None) -> dict[str, Tensor]:
    """Return the L2 norm of each input of each linear layer: name of the layer's weight -> float32 [C], C inputs.

    The norm is taken over every vector that the layer reads: all words, all regions, and both directions of LXMERT's
    cross-attention.
    """
    squares: dict[str, Tensor] = {}
    prunable = model.prunable

    def make_hook(name: str) -> Callable[[nn.Linear, tuple[Tensor, ...]], None]:
        def add_squares(layer: nn.Linear, inputs: tuple[Tensor, ...]) -> None:
            # A layer may read several rows of a tensor side by side, as one input (lxmert's head over two images). So
            # the number of inputs comes from the layer, not from the tensor.
            square = inputs[0].detach().reshape(-1, layer.in_features).float().square().sum(0)
            squares[name] = squares[name] + square if name in squares else square

        return add_squares

    hooks = [
        module.register_forward_pre_hook(make_hook(f"{name}.weight"))
        for name, module in model.module.named_modules()
        if isinstance(module, nn.Linear) and f"{name}.weight" in prunable
    ]
    sample = spec.draw_sample()
    batches = list(batches_without_padding(sample, spec.batch_size))
    try:
        for index, rows in enumerate(batches):
            inputs = sample.inputs(rows.to(sample.scene.device)).to(spec.device.torch_device)
            with torch.no_grad(), spec.device.autocast():
                model.family.answer(model.module, inputs)
            if progress:
                progress("collecting statistics", index + 1, len(batches))
    finally:
        for hook in hooks:
            hook.remove()
    return {name: square.sqrt().cpu() for name, square in squares.items()}
