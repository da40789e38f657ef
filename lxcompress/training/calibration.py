"""Statistics of a model's weights on a sample of its training questions, for the criteria that need them.

The sample is drawn by a seed, the model does not drop out, and the loss is that of training. Each kind is a field of
`pruning.criteria.CalibrationStatistics`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping

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
from lxcompress.training.fit import LOSSES

POWERS: Mapping[str, int] = {"gradient": 1, "squared_gradient": 2}
"""The kinds that are means of a power of |dL/dw|."""
KINDS = (*POWERS, "input_norm")


def collect_statistics(
    model: Model,
    weights: Weights,
    task: AnswerTask,
    *,
    kind: str,
    settings: Train,
    device: DeviceSpec,
    seed: int,
    questions: int = 512,
    batch_size: int = 8,
    progress: Progress | None = None,
) -> dict[str, Tensor]:
    """name of a prunable weight -> its statistics of that `kind`, float32 on the CPU.

    gradient and squared_gradient are means over batches of questions of like length, whose loss is a mean too. The
    model is loaded with `weights`, and is left in evaluation mode on its device. Raises LxError.
    """
    if kind not in KINDS:
        raise PruneError(f"statistics {kind}: is not gathered from a sample; one of {', '.join(KINDS)} is")
    prepare(model, weights, device)
    sample = draw_sample(task.train, questions, seed)
    with deterministic_algorithms(wanted=settings.deterministic), explain_out_of_memory(smaller(batch_size)):
        if kind == "input_norm":
            return _input_norms(model, sample, batch_size, device, progress)
        return _gradients(model, sample, len(task.labels), batch_size, device, settings, POWERS[kind], progress)


def prepare(model: Model, weights: Weights, device: DeviceSpec) -> None:
    """Puts `weights` into the model, on the device, where it will not drop out."""
    model.module.to(device.torch_device)
    model.load(weights)
    model.module.eval()


def draw_sample(split: Split, questions: int, seed: int) -> Split:
    """So many different questions of `split`, or all if it has no more; in the split's order."""
    chosen = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))[:questions].sort().values
    return split.take(chosen.to(split.scene.device))


def smaller(batch_size: int) -> str:
    """What to set where the memory is too small for a batch."""
    return f"lower prune.calibration.batch_size (it is {batch_size})"


def _gradients(
    model: Model,
    sample: Split,
    answers: int,
    batch_size: int,
    device: DeviceSpec,
    settings: Train,
    power: int,
    progress: Progress | None,
) -> dict[str, Tensor]:
    """name -> the mean over batches of |dL/dw| ** power; a weight used twice has the sum of both gradients."""
    prunable = model.prunable
    names = {name: each for name, each in model.module.named_parameters() if name in prunable}
    totals = {name: torch.zeros_like(weight, requires_grad=False) for name, weight in names.items()}
    batches = list(batches_by_length(sample, batch_size))
    for done, rows in enumerate(batches):
        batch = make_batch(sample, rows, answers, padded=False).to(device.torch_device)
        with device.autocast():
            scores = model.family.answer(model.module, batch.inputs)
        loss = LOSSES[settings.loss](scores.float(), batch.targets)
        found = torch.autograd.grad(loss, list(names.values()), allow_unused=True)
        for total, gradient in zip(totals.values(), found, strict=True):
            if gradient is not None:
                total += gradient.abs() if power == 1 else gradient.square()
        if progress:
            progress("collecting statistics", done + 1, len(batches))
    return {name: (total / len(batches)).float().cpu() for name, total in totals.items()}


def _input_norms(
    model: Model, sample: Split, batch_size: int, device: DeviceSpec, progress: Progress | None
) -> dict[str, Tensor]:
    """name -> float32 [C]: the L2 norm of each input of a linear layer, over every use of it.

    That is all words and regions, and for LXMERT's cross-attention both of its directions.
    """
    squares: dict[str, Tensor] = {}
    prunable = model.prunable

    def listen(name: str) -> Callable[[nn.Linear, tuple[Tensor, ...]], None]:
        def hear(layer: nn.Linear, inputs: tuple[Tensor, ...]) -> None:
            # A layer may read several of its rows side by side (lxmert's head over two images): its own width tells.
            seen = inputs[0].detach().reshape(-1, layer.in_features).float().square().sum(0)
            squares[name] = squares[name] + seen if name in squares else seen

        return hear

    hooks = [
        module.register_forward_pre_hook(listen(f"{name}.weight"))
        for name, module in model.module.named_modules()
        if isinstance(module, nn.Linear) and f"{name}.weight" in prunable
    ]
    batches = list(batches_without_padding(sample, batch_size))
    try:
        for done, rows in enumerate(batches):
            inputs = sample.inputs(rows.to(sample.scene.device)).to(device.torch_device)
            with torch.no_grad(), device.autocast():
                model.family.answer(model.module, inputs)
            if progress:
                progress("collecting statistics", done + 1, len(batches))
    finally:
        for hook in hooks:
            hook.remove()
    return {name: square.sqrt().cpu() for name, square in squares.items()}


def batches_without_padding(split: Split, batch_size: int) -> Iterator[Tensor]:
    """The rows of `split` (on the CPU), at most `batch_size` at a time, of one length and one number of regions.

    So no padding is ever an input. Only where the images of one question differ is the emptier one padded.
    """
    lengths = split.lengths.tolist()
    regions = split.regions.objects[split.scene].reshape(len(split), -1).max(1).values.tolist()
    alike: dict[tuple[int, int], list[int]] = defaultdict(list)
    for row, key in enumerate(zip(lengths, regions, strict=True)):
        alike[key].append(row)
    for key in sorted(alike):
        yield from torch.tensor(alike[key]).split(batch_size)
