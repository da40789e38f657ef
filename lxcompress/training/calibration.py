"""Statistics of a model's weights on a sample of its training questions, for the criteria that need them.

The seed draws the sample, dropout is off, and the loss is that of training. Each kind of statistic is a field of
`pruning.criteria.CalibrationStatistics`.
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
"""The kinds that are means of a power of |dL/dw|."""
KINDS = (*GRADIENT_POWERS, "input_norm")


@dataclass(frozen=True)
class CalibrationSpec:
    """The sample of training questions on which a model is measured, and how."""

    task: AnswerTask
    settings: Train
    device: DeviceSpec
    seed: int
    questions: int = 512
    batch_size: int = 8

    def draw_sample(self) -> Split:
        """Return the sample that the seed draws from the training questions."""
        return draw_sample(self.task.train, self.questions, self.seed)


def collect_statistics(
    model: Model, weights: Weights, kind: str, spec: CalibrationSpec, progress: Progress | None = None
) -> dict[str, Tensor]:
    """Return the statistics of one `kind`: name of a prunable weight -> float32, on the CPU.

    The kinds gradient and squared_gradient are means over batches of questions of similar length, whose loss is a mean
    too. The model gets `weights`, and stays in evaluation mode on the device. Raises LxError.
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
    """Return `questions` different questions of `split` in its order, or all of them if it has no more."""
    chosen = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))[:questions].sort().values
    return split.take(chosen.to(split.scene.device))


def batches_without_padding(split: Split, batch_size: int) -> Iterator[Tensor]:
    """Yield the rows of `split` (on the CPU), at most `batch_size` at a time, with one length and number of regions.

    So padding is never an input. Only if the two images of a question differ in their regions, the smaller is padded.
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
    """Return the L2 norm of each input of each linear layer, over all of its uses: name -> float32 [C].

    The uses are all words and regions, and both directions of LXMERT's cross-attention.
    """
    squares: dict[str, Tensor] = {}
    prunable = model.prunable

    def make_hook(name: str) -> Callable[[nn.Linear, tuple[Tensor, ...]], None]:
        def add_squares(layer: nn.Linear, inputs: tuple[Tensor, ...]) -> None:
            # A layer may read several of its rows next to each other (lxmert's head over two images), so its own width
            # gives the shape.
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
