"""Describe what can be pruned in a model, from its config and the names of its layers; no weight is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class PrunableReport:
    """The parts of a model that can be pruned, and the reasons why the other parts cannot."""

    title: str
    """the class or the family of the model"""
    remark: str | None
    """what was left out of the model; None if nothing was"""
    prunable: Mapping[str, tuple[int, ...]]
    """{name of a weight matrix that may be pruned: its shape}"""
    parts: Mapping[str, int]
    """{part of the model: its number of prunable weights}"""
    kept: Mapping[str, str]
    """{name of a weight that is not pruned: why}"""
    granularities: Mapping[str, bool]
    """{granularity of a smaller model: whether the model has such units}"""
    formats: Mapping[str, bool]
    """{format of a file: whether the model can be exported to it}"""

    @property
    def weights(self) -> int:
        """Return the number of prunable weights."""
        return sum(self.parts.values())


def describe_prunable(source: str) -> PrunableReport:
    """Return what can be pruned in the model at `source`. Raises ModelError."""
    import torch

    from lxcompress.catalog.formats import all_formats
    from lxcompress.exporters.programs import has_program
    from lxcompress.models.auto import choose_class, is_in_catalog
    from lxcompress.models.checkpoints import read_config
    from lxcompress.models.module_parts import find_parts

    config, family = read_config(source)
    with torch.device("meta"):
        module = family.make(config)
    shapes = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    prunable = {
        name: shape
        for name, shape in shapes.items()
        if family.is_prunable(name, shape) and not family.is_dead(name, config)
    }
    reasons = {matrix.name: matrix.reason for matrix in find_parts(module).kept}
    parts: dict[str, int] = {}
    for name, shape in prunable.items():
        part = family.modality(name)
        parts[part] = parts.get(part, 0) + torch.Size(shape).numel()
    return PrunableReport(
        title=family.title,
        remark=None if is_in_catalog(family) else choose_class(config).remark,
        prunable=prunable,
        parts=parts,
        kept={
            name: reasons.get(name, "feeds no answer, or is left out by its family")
            for name, shape in shapes.items()
            if len(shape) > 1 and name not in prunable
        },
        granularities={
            "neuron": bool(family.feed_forwards(module)),
            "head": bool(family.attentions(module)),
            "layer": bool(family.stacks(config)),
        },
        formats={
            spec.name: (spec.families is None or family.name in spec.families)
            and (spec.name != "engine" or has_program(family.name))
            for spec in all_formats()
        },
    )
