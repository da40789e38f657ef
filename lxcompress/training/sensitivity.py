"""Sensitivity: how much the loss rises when one matrix alone is pruned (Han et al. 2015, section 3; Li et al. 2017)."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch

from lxcompress.data.split import AnswerTask
from lxcompress.models.checkpoints import Model
from lxcompress.progress import Progress
from lxcompress.pruning.choose import find_kept_dense, mask_from_scores
from lxcompress.pruning.mask import Weights
from lxcompress.pruning.selection import Selection
from lxcompress.recipe import Train
from lxcompress.training.calibration import draw_sample, prepare
from lxcompress.training.device import DeviceSpec, deterministic_algorithms, explain_out_of_memory
from lxcompress.training.evaluate import batches_by_length
from lxcompress.training.feed import Batch, make_batch
from lxcompress.training.fit import LOSSES

SPARSITIES = (0.3, 0.5, 0.7, 0.9)


def measure(
    model: Model,
    weights: Weights,
    scores: Weights,
    task: AnswerTask,
    *,
    settings: Train,
    device: DeviceSpec,
    seed: int,
    granularity: str = "weight",
    sparsities: Sequence[float] = SPARSITIES,
    keep_dense: Collection[str] = (),
    questions: int = 512,
    batch_size: int = 64,
    progress: Progress | None = None,
) -> dict[str, dict[float, float]]:
    """name of each matrix in `scores` -> sparsity -> the rise of the mean loss on a sample of the training questions.

    Costs, for M matrices and S sparsities, M x S + 1 forward passes of the sample (full-size LXMERT: 162 x 4 x 512
    questions, 3.5 PFLOP), whose batches stay on the device. The model is loaded with `weights`, and holds them
    afterwards, in evaluation mode. Raises LxError, for a matrix that a sparsity would empty, too.
    """
    listed = Selection(0.0, granularity, keep_dense=tuple(keep_dense))
    dense_ones = find_kept_dense({name: score.shape for name, score in scores.items()}, listed)
    names = [name for name in scores if name not in dense_ones]
    masks_of = {
        sparsity: mask_from_scores({name: scores[name] for name in names}, Selection(sparsity, granularity)).kept
        for sparsity in sparsities
    }
    prepare(model, weights, device)
    sample = draw_sample(task.train, questions, seed)
    parameters = dict(model.module.named_parameters())
    rises: dict[str, dict[float, float]] = {name: {} for name in names}
    with (
        torch.no_grad(),
        deterministic_algorithms(wanted=settings.deterministic),
        explain_out_of_memory("lower prune.calibration.questions"),
    ):
        batches = [
            make_batch(sample, rows, len(task.labels), padded=False).to(device.torch_device)
            for rows in batches_by_length(sample, batch_size)
        ]
        dense = _mean_loss(model, batches, settings, device)
        for number, name in enumerate(names):
            whole = parameters[name].clone()
            try:
                for sparsity, kept in masks_of.items():
                    parameters[name].copy_(whole * kept[name].to(device.torch_device))
                    rises[name][sparsity] = _mean_loss(model, batches, settings, device) - dense
            finally:
                parameters[name].copy_(whole)
            if progress:
                progress("measuring sensitivity", number + 1, len(names))
    return rises


def _mean_loss(model: Model, batches: Sequence[Batch], settings: Train, device: DeviceSpec) -> float:
    """The mean loss of all questions of `batches`."""
    total, count = 0.0, 0
    for batch in batches:
        with device.autocast():
            scores = model.family.answer(model.module, batch.inputs)
        total += float(LOSSES[settings.loss](scores.float(), batch.targets)) * len(batch.targets)
        count += len(batch.targets)
    return total / count
