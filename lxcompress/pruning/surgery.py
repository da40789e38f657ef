"""Surgery: which neurons, attention heads and layers are kept. It can be applied to start weights and trained weights.

torch-pruning's dependency graph (Fang et al. 2023, DepGraph) finds which rows and columns of which tensors belong to
one neuron or head. This module cuts the tensors, so that a Surgery is only a list of numbers.

The sparsity counts all weights of a removed unit. `achieved` counts those in prunable matrices; `of_live` and `of_all`
count those in all tensors, biases and gains too. If the last layer of a stack is removed, the new last layer has a
branch that no answer depends on (in LXMERT the vision side of the last cross layer). That branch is removed too. Its
weights are not counted at all: they are neither prunable nor live, neither kept nor removed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

import torch
from pydantic import BeforeValidator, Field, PlainSerializer, model_validator
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from lxcompress.data.split import Inputs
from lxcompress.errors import PruneError
from lxcompress.models.checkpoints import Model
from lxcompress.models.family import Family
from lxcompress.models.flops import make_example
from lxcompress.models.resize import build_resized, with_layers
from lxcompress.pruning.mask import Mask, Weights
from lxcompress.records import FileRecord, Record, Sparsity

Kind = Literal["neuron", "head", "layer"]
Shapes = Mapping[str, torch.Size]
"""{name: shape}"""
Size = Annotated[int, Field(ge=1)]


def _write_indices(indices: tuple[int, ...]) -> str:
    """Return indices as a text of runs, such as "0-2 5" for 0, 1, 2, 5; it is a tenth as long as a list."""
    runs: list[list[int]] = []
    for index in indices:
        if runs and index == runs[-1][1] + 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    return " ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def _read_indices(text: Any) -> Any:
    """Return the indices in a text of runs, such as "0-2 5". Raises ValueError.

    A value that is not a text is returned unchanged, and checked by pydantic.
    """
    if not isinstance(text, str):
        return text
    if len(text) > 1 << 20:
        raise ValueError("is too long")
    runs = [[int(end) for end in run.split("-", 1)] for run in text.split()]
    if any(run[-1] >= 1 << 20 for run in runs):
        raise ValueError("has an index that is too large for any model")
    return tuple(index for run in runs for index in range(run[0], run[-1] + 1))


Indices = Annotated[
    tuple[int, ...], BeforeValidator(_read_indices), PlainSerializer(_write_indices), Field(min_length=1)
]


class Part(Record):
    """A tensor that has rows or columns of each unit of a group: unit u has [u * width, (u + 1) * width) along `dim`.

    `dim` is None for layers. Then the whole tensor, of `width` elements, belongs to the layer whose index is in the
    tensor's name.
    """

    tensor: str
    dim: Annotated[int, Field(ge=0, le=1)] | None
    width: Size


@dataclass(frozen=True)
class UnitGroup:
    """A group of units that can be removed separately.

    The units are the neurons of one feed-forward, the heads of one attention, or the layers of one stack. `units` is
    their number. `parts` are the tensors that hold the weights of the units.
    """

    kind: Kind
    name: str
    units: int
    parts: tuple[Part, ...]


class GroupCut(Record):
    """The cut of one group: the group, and the indices of the units that are kept (at least one, in order)."""

    kind: Kind
    name: str
    units: Size
    keep: Indices
    parts: tuple[Part, ...]

    @model_validator(mode="after")
    def _check_consistent(self) -> GroupCut:
        """Raise ValueError for units or parts that contradict each other."""
        if any(first >= second for first, second in zip(self.keep, self.keep[1:], strict=False)):
            raise ValueError("keep must be in increasing order")
        if self.keep[0] < 0 or self.keep[-1] >= self.units:
            raise ValueError(f"keep must have units from 0 to {self.units - 1}")
        if not self.parts:
            raise ValueError("parts must not be empty")
        for part in self.parts:
            if (part.dim is None) != (self.kind == "layer"):
                raise ValueError("a part of a group of layers must have no dim, and every other part must have one")
            if self.kind == "layer" and unit_of(part.tensor, self.name) not in range(self.units):
                raise ValueError(f"{part.tensor} must be in a layer of {self.name}")
        return self

    @property
    def removed(self) -> int:
        """Return the number of removed units."""
        return self.units - len(self.keep)

    def find_dead(self) -> tuple[str, ...]:
        """Return the names of the tensors of the new last layer that no answer depends on.

        They are the tensors that the old last layer did not have; the result is empty if the last layer is kept.
        """
        last, new_last = f"{self.name}.{self.units - 1}.", f"{self.name}.{self.keep[-1]}."
        if self.kind != "layer" or last == new_last:
            return ()
        used = {part.tensor.removeprefix(last) for part in self.parts if part.tensor.startswith(last)}
        tensors = (part.tensor for part in self.parts if part.tensor.startswith(new_last))
        return tuple(name for name in tensors if name.removeprefix(new_last) not in used)

    def rename(self, name: str) -> str | None:
        """Return the name of a tensor after the cut, which renumbers layers; None if the layer is removed."""
        unit = unit_of(name, self.name) if self.kind == "layer" else None
        if unit is None:
            return name
        if unit not in self.keep:
            return None
        rest = name.removeprefix(f"{self.name}.{unit}.")
        return f"{self.name}.{self.keep.index(unit)}.{rest}"


class Surgery(FileRecord):
    """The cuts of a model: one GroupCut for each group with removed units; other groups are kept whole."""

    cuts: tuple[GroupCut, ...]

    @property
    def granularity(self) -> str:
        """Return the kinds of the removed units: neuron, head, layer, or neuron+head."""
        return "+".join(kind for kind in get_args(Kind) if any(cut.kind == kind for cut in self.cuts))

    def apply(self, weights: Weights) -> dict[str, Tensor]:
        """Return the weights of the smaller model; tensors that are not cut are shared with `weights`.

        Start weights are cut in the same way as trained weights, so a smaller model can be rewound. Raises PruneError
        if the weights belong to another model.
        """
        self.check({name: tensor.shape for name, tensor in weights.items()})
        smaller = dict(weights)
        for cut in self.cuts:
            if cut.kind == "layer":
                dead = set(cut.find_dead())
                renamed = {name: None if name in dead else cut.rename(name) for name in smaller}
                smaller = {new: smaller[name] for name, new in renamed.items() if new is not None}
            for part in cut.parts if cut.kind != "layer" else ():
                assert part.dim is not None
                tensor = smaller[part.tensor]
                smaller[part.tensor] = tensor.index_select(part.dim, _kept_indices(cut, part).to(tensor.device))
        return smaller

    def check(self, shapes: Shapes) -> None:
        """Raise PruneError unless `shapes` has all tensors of the surgery, with the sizes before the surgery."""
        for cut in self.cuts:
            for part in cut.parts:
                if part.tensor not in shapes:
                    raise PruneError(
                        f"surgery: the model has no weight {part.tensor}; "
                        "use the surgery with the model that it was made for"
                    )
                _check_size(cut, part, shapes[part.tensor])

    def find_shapes(self, shapes: Shapes) -> dict[str, torch.Size]:
        """Return {name: shape} of the smaller model, from the `shapes` of the whole model. Raises PruneError."""
        whole = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
        return {name: tensor.shape for name, tensor in self.apply(whole).items()}

    def mask(self, shapes: Shapes) -> Mask:
        """Return the Mask that removes the weights of the removed units from the prunable matrices of these `shapes`.

        With this mask, the whole model answers as the smaller model does. Raises PruneError if layers are removed:
        no mask does the same, because a layer of zeros still adds its biases and its norm.
        """
        if any(cut.kind == "layer" for cut in self.cuts):
            raise PruneError(
                "granularity layer: a mask cannot remove a layer, because a layer whose weights are zeros still "
                "changes its input; use schedule: one-shot, which removes the layer itself"
            )
        kept = {name: torch.ones(shape, dtype=torch.bool) for name, shape in shapes.items()}
        for cut, part in self._matrices(shapes):
            assert part.dim is not None
            along = torch.zeros(shapes[part.tensor][part.dim], dtype=torch.bool)
            along[_kept_indices(cut, part)] = True
            kept[part.tensor] &= along[:, None] if part.dim == 0 else along
        return Mask(kept)

    def count(self, live: int, whole: int, shapes: Shapes) -> Sparsity:
        """Return the Sparsity of the surgery; the top of this file says which weights are counted. Raises PruneError.

        `shapes` has the prunable matrices before the surgery. `live` is the number of weights that an answer depends on
        before the surgery, and `whole` the number of weights of the published model.
        """
        prunable = sum(shape.numel() for shape in shapes.values())
        removed = removed_live = dead = dead_live = 0
        for cut in self.cuts:
            names = set(cut.find_dead())
            for part in cut.parts:
                size = _removed_size(cut, part, shapes)
                size_dead = part.width if part.tensor in names else 0
                removed_live += size
                dead_live += size_dead
                if part.tensor in shapes:
                    removed += size
                    dead += size_dead
        return Sparsity(
            prunable=prunable - dead,
            kept=prunable - dead - removed,
            achieved=removed / (prunable - dead),
            of_live=removed_live / (live - dead_live),
            of_all=removed_live / whole,
            live=live - dead_live,
            all=whole,
        )

    def _matrices(self, shapes: Shapes) -> Iterator[tuple[GroupCut, Part]]:
        """Yield (cut, part) for every part that is a prunable matrix in `shapes`.

        Raises PruneError if a matrix is missing or has another size.
        """
        for cut in self.cuts:
            for part in cut.parts:
                if part.tensor in shapes:
                    _check_size(cut, part, shapes[part.tensor])
                    yield cut, part
                elif part.tensor.endswith(".weight"):
                    self.check(shapes)


def find_groups(model: Model, kinds: Collection[str]) -> tuple[UnitGroup, ...]:
    """Return the groups of these kinds (neuron, head, layer), in the order of the model's modules.

    Raises PruneError if a neuron or a head also has weights outside of its feed-forward or attention.
    """
    assert set(kinds) <= set(get_args(Kind)), kinds
    module, family = model.module, model.family
    groups = []
    if "neuron" in kinds or "head" in kinds:
        with _traced(model) as graph:
            for block in family.feed_forwards(module) if "neuron" in kinds else ():
                units = _linear(module, block.first).out_features
                parts = _find_parts(graph, module, block.first, set(block), width=1)
                groups.append(UnitGroup("neuron", block.first, units, parts))
            for attention in family.attentions(module) if "head" in kinds else ():
                width = _linear(module, attention.value).out_features // attention.heads
                expected = {attention.query, attention.key, attention.value, attention.output}
                parts = _find_parts(graph, module, attention.value, expected, width=width)
                groups.append(UnitGroup("head", attention.module, attention.heads, parts))
    if "layer" in kinds:
        weights = model.weights
        for name, field in family.stacks(model.config).items():
            parts = tuple(
                Part(tensor=tensor, dim=None, width=weight.numel())
                for tensor, weight in weights.items()
                if tensor.startswith(f"{name}.")
            )
            groups.append(UnitGroup("layer", name, getattr(model.config, field), parts))
    return tuple(groups)


def surgery_of(mask: Mask, groups: Collection[UnitGroup]) -> Surgery:
    """Return the Surgery that removes each neuron or head of `groups` of which `mask` keeps no weight."""
    cuts = []
    for group in groups:
        rows = next(part for part in group.parts if part.tensor in mask.kept and part.dim == 0)
        is_kept = mask.kept[rows.tensor].view(group.units, -1).any(1)
        if not bool(is_kept.all()):
            keep = tuple(is_kept.nonzero()[:, 0].tolist())
            cuts.append(GroupCut(kind=group.kind, name=group.name, units=group.units, keep=keep, parts=group.parts))
    return Surgery(cuts=tuple(cuts))


def operate(model: Model, surgery: Surgery) -> Model:
    """Return the smaller model, which shares no weights with `model`; `model` is not changed. Raises PruneError."""
    weights = {name: tensor.detach().clone() for name, tensor in surgery.apply(model.weights).items()}
    config = cut_config(model.config, model.family, surgery)
    module = build_resized(config, model.family, {name: tensor.shape for name, tensor in weights.items()})
    module.load_state_dict(weights, strict=True, assign=True)
    device = next(model.module.parameters()).device
    return Model(module.to(device).train(model.module.training), config, model.family)


def cut_config(config: PreTrainedConfig, family: Family, surgery: Surgery) -> PreTrainedConfig:
    """Return the config of the smaller model: a copy of `config`, with fewer layers if the surgery removes layers."""
    fields = family.stacks(config)
    return with_layers(config, {fields[cut.name]: len(cut.keep) for cut in surgery.cuts if cut.kind == "layer"})


def recount(smaller: Model, surgery: Surgery) -> Sparsity:
    """Return the Sparsity of the surgery, computed from the `smaller` model.

    Raises PruneError if the result of the surgery has other shapes than `smaller`.
    """
    family, config = smaller.family, uncut_config(smaller, surgery)
    shapes = {name: shape for name, shape in family.shapes(config).items() if not family.is_dead(name, config)}
    made, own = surgery.find_shapes(shapes), {name: tensor.shape for name, tensor in smaller.weights.items()}
    for name in sorted(name for name in made.keys() | own.keys() if made.get(name) != own.get(name)):
        raise PruneError(f"surgery: gives {name} another shape than the model has; use the surgery that made the model")
    live = sum(shape.numel() for shape in shapes.values())
    prunable = {name: shape for name, shape in shapes.items() if family.is_prunable(name, shape)}
    return surgery.count(live, live + family.count_dead(config), prunable)


def uncut_config(smaller: Model, surgery: Surgery) -> PreTrainedConfig:
    """Return the config of the model before the surgery, computed from the `smaller` model. Raises PruneError."""
    fields = smaller.family.stacks(smaller.config)
    stacks = {cut.name: cut.units for cut in surgery.cuts if cut.kind == "layer"}
    for name in stacks.keys() - fields.keys():
        raise PruneError(f"surgery: the model has no layers {name}; use the surgery with the model it was made for")
    return with_layers(smaller.config, {fields[name]: units for name, units in stacks.items()})


def unit_of(tensor: str, stack: str) -> int | None:
    """Return the index of the layer in `stack` that a tensor belongs to; None if the tensor is not in the stack."""
    if not tensor.startswith(f"{stack}."):
        return None
    number = tensor[len(stack) + 1 :].split(".", 1)[0]
    return int(number) if number.isdecimal() else None


def _kept_indices(cut: GroupCut, part: Part) -> Tensor:
    """Return the indices (int64) of the rows or columns of a part that are kept."""
    keep = torch.tensor(cut.keep)
    return (keep[:, None] * part.width + torch.arange(part.width)).flatten()


def _check_size(cut: GroupCut, part: Part, shape: torch.Size) -> None:
    """Raise PruneError unless a tensor of this shape has the size that the cut was made for."""
    dims = len(shape)
    expected = part.width if part.dim is None else cut.units * part.width
    found = shape.numel() if part.dim is None else shape[part.dim] if part.dim < dims else 0
    if found != expected:
        raise PruneError(
            f"surgery: {part.tensor} has the size {found}, expected {expected}; "
            "use the surgery with the model that it was made for"
        )


def _removed_size(cut: GroupCut, part: Part, shapes: Shapes) -> int:
    """Return the number of elements that a cut removes from a part; a tensor that is not in `shapes` is a vector."""
    if part.dim is None:
        return 0 if unit_of(part.tensor, cut.name) in cut.keep else part.width
    if part.tensor not in shapes:
        return cut.removed * part.width
    _check_size(cut, part, shapes[part.tensor])
    return shapes[part.tensor].numel() // cut.units * cut.removed


@contextmanager
def _traced(model: Model) -> Iterator[Any]:
    """Yield torch-pruning's dependency graph of the model.

    The graph is traced from all outputs of the encoder, not only from the answer. LXMERT's last cross-attention is used
    twice, and one of its two outputs leads to no answer, but the graph must have both. Scaled dot-product attention
    hides which tensors belong together, so attention is traced in its plain ("eager") form.
    """
    import torch_pruning

    module, was_training = model.module, model.module.training
    example = make_example(model, tokens=3, objects=2)
    seen: list[Tensor] = []

    def forward(traced: nn.Module, inputs: Inputs) -> list[Tensor]:
        base = traced.base_model
        assert isinstance(base, nn.Module)
        hook = base.register_forward_hook(lambda _, __, out: seen.extend(_tensors(out)))
        try:
            scores = model.family.answer(traced, inputs)
        finally:
            hook.remove()
        return [*seen, scores]

    attention = model.config._attn_implementation
    try:
        if attention not in (None, "eager"):
            _set_attention(module, "eager")
        with torch.enable_grad():
            graph = torch_pruning.DependencyGraph()
            yield graph.build_dependency(module, example_inputs=example, forward_fn=forward, verbose=False)
    finally:
        if attention not in (None, "eager"):
            _set_attention(module, attention)
        module.train(was_training)


def _set_attention(module: nn.Module, implementation: str) -> None:
    """Change how a model of transformers computes attention."""
    assert isinstance(module, PreTrainedModel), f"a {type(module).__name__} is no model of transformers"
    module.set_attn_implementation(implementation)


def _linear(module: nn.Module, name: str) -> nn.Linear:
    """Return a linear layer of a module, by its name."""
    layer = module.get_submodule(name)
    assert isinstance(layer, nn.Linear), f"{name} is a {type(layer).__name__}"
    return layer


def _tensors(out: Any) -> list[Tensor]:
    """Return the tensors in a model's output that depend on weights (those with a gradient)."""
    values = out.values() if isinstance(out, Mapping) else out if isinstance(out, (tuple, list)) else (out,)
    return [value for value in values if isinstance(value, Tensor) and value.grad_fn is not None]


def _find_parts(graph: Any, module: nn.Module, root: str, expected: set[str], *, width: int) -> tuple[Part, ...]:
    """Return the parts that are cut when outputs of the linear layer `root` are removed, in the order of the tensors.

    `width` is the number of outputs of one unit. Raises PruneError unless exactly the `expected` linear layers are cut,
    each with its indices in order.
    """
    import torch_pruning

    names = {submodule: name for name, submodule in module.named_modules()}
    layer = _linear(module, root)
    size = layer.out_features
    found = graph.get_pruning_group(layer, torch_pruning.prune_linear_out_channels, range(size))
    parts = {}
    for dependency, indices in found:
        target = dependency.target.module
        if not isinstance(target, nn.Linear):
            if isinstance(target, nn.Parameter) or any(True for _ in target.parameters()):
                raise PruneError(f"{root}: cannot be pruned by units, because {dependency.target.name} depends on it")
            continue
        name, is_output = names[target], graph.is_out_channel_pruning_fn(dependency.handler)
        if name not in expected or list(indices) != list(range(size)):
            raise PruneError(f"{root}: cannot be pruned by units, because {name} uses them in another order")
        parts[f"{name}.weight"] = Part(tensor=f"{name}.weight", dim=0 if is_output else 1, width=width)
        if is_output and target.bias is not None:
            parts[f"{name}.bias"] = Part(tensor=f"{name}.bias", dim=0, width=width)
    missing = {f"{name}.weight" for name in expected} - parts.keys()
    if missing:
        raise PruneError(f"{root}: cannot be pruned by units, because {min(missing)} does not depend on it")
    return tuple(parts[name] for name in module.state_dict() if name in parts)
