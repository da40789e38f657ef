"""Sensitivity: how much the loss rises when one matrix alone is pruned (Han et al. 2015, section 3; Li et al. 2017)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from lxcompress.models.checkpoints import Model
from lxcompress.progress import Progress
from lxcompress.pruning.choose import find_kept_dense, mask_from_scores
from lxcompress.pruning.mask import Mask, Weights
from lxcompress.pruning.selection import Selection
from lxcompress.training.calibration import CalibrationSpec, load_for_evaluation
from lxcompress.training.device import deterministic_algorithms, explain_out_of_memory
from lxcompress.training.evaluate import batches_by_length
from lxcompress.training.feed import Batch, make_batch
from lxcompress.training.losses import LOSSES

SPARSITIES = (0.3, 0.5, 0.7, 0.9)
BATCH_SIZE = 64


def sensitivity_masks(
    scores: Weights, selection: Selection, sparsities: Sequence[float] = SPARSITIES
) -> dict[float, Mask]:
    """Return for each sparsity a Mask that prunes every matrix in `scores` to it, except those that stay dense.

    The masks have the granularity of `selection` and scope layer. Raises PruneError if a sparsity empties a matrix.
    """
    kept_dense = find_kept_dense({name: score.shape for name, score in scores.items()}, selection)
    pruned = {name: score for name, score in scores.items() if name not in kept_dense}
    return {sparsity: mask_from_scores(pruned, Selection(sparsity, selection.granularity)) for sparsity in sparsities}


def measure_sensitivity(
    model: Model,
    weights: Weights,
    masks: Mapping[float, Mask],
    spec: CalibrationSpec,
    progress: Progress | None = None,
) -> dict[str, dict[float, float]]:
    """Return the rise of the mean loss if one matrix alone is pruned: name of the matrix -> sparsity -> rise.

    `masks` gives the sparsities. For M matrices and S sparsities the model answers the sample's questions M x S + 1
    times (full-size LXMERT: 162 x 4 x 512 questions, 3.5 PFLOP). Their batches stay on the device. `weights` are loaded
    into the model and are unchanged afterwards; the model stays in evaluation mode. Raises LxError.
    """
    load_for_evaluation(model, weights, spec.device)
    sample = spec.draw_sample()
    parameters = dict(model.module.named_parameters())
    names = [name for name in next(iter(masks.values())).kept] if masks else []
    rises: dict[str, dict[float, float]] = {name: {} for name in names}
    with (
        torch.no_grad(),
        deterministic_algorithms(wanted=spec.settings.deterministic),
        explain_out_of_memory("lower prune.calibration.questions"),
    ):
        batches = [
            make_batch(sample, rows, len(spec.task.labels), padded=False).to(spec.device.torch_device)
            for rows in batches_by_length(sample, spec.batch_size)
        ]
        dense = _mean_loss(model, batches, spec)
        for index, name in enumerate(names):
            whole = parameters[name].clone()
            try:
                for sparsity, mask in masks.items():
                    parameters[name].copy_(whole * mask.kept[name].to(spec.device.torch_device))
                    rises[name][sparsity] = _mean_loss(model, batches, spec) - dense
            finally:
                parameters[name].copy_(whole)
            if progress:
                progress("measuring sensitivity", index + 1, len(names))
    return rises


def _mean_loss(model: Model, batches: Sequence[Batch], spec: CalibrationSpec) -> float:
    """Return the mean loss of all questions in `batches`."""
    total, count = 0.0, 0
    for batch in batches:
        with spec.device.autocast():
            scores = model.family.answer(model.module, batch.inputs)
        total += float(LOSSES[spec.settings.loss](scores.float(), batch.targets)) * len(batch.targets)
        count += len(batch.targets)
    return total / count
