"""Surgery: which neurons, attention heads and layers stay. It can be replayed on any weights of its model.

torch-pruning's dependency graph (Fang et al. 2023, DepGraph) tells which rows and columns of which tensors go together;
what is cut of them is sliced here, so that a Surgery is a list of numbers and no code.

What counts as removed is what a unit takes with it: of the prunable matrices for `achieved`, and of all tensors (biases
and gains too) for the shares of the live and of the whole model. Where the last layer of a stack is left out, the
branch that it had no use for (LXMERT's vision side of the last cross layer) dies in the layer that is last now. That is
left out too, and counted nowhere: neither among what is prunable or live, nor among what is kept, nor as removed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

import torch
from pydantic import BeforeValidator, Field, PlainSerializer, model_validator
from torch import Tensor, nn
from transformers import PreTrainedConfig

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
"""name -> shape"""
Size = Annotated[int, Field(ge=1)]


def _write_places(places: tuple[int, ...]) -> str:
    """0 1 2 5 as "0-2 5": what a person can read, and a tenth of a list."""
    runs: list[list[int]] = []
    for place in places:
        if runs and place == runs[-1][1] + 1:
            runs[-1][1] = place
        else:
            runs.append([place, place])
    return " ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def _read_places(text: Any) -> Any:
    if not isinstance(text, str):
        return text
    if len(text) > 1 << 20:
        raise ValueError("is too long")
    runs = [[int(end) for end in run.split("-", 1)] for run in text.split()]
    if any(run[-1] >= 1 << 20 for run in runs):
        raise ValueError("names a unit beyond any model's")
    return tuple(place for run in runs for place in range(run[0], run[-1] + 1))


Places = Annotated[tuple[int, ...], BeforeValidator(_read_places), PlainSerializer(_write_places), Field(min_length=1)]


class Part(Record):
    """What a group has of one tensor: unit u is [u * width, (u + 1) * width) of its dimension `dim`.

    Without `dim` (layers) the whole tensor, of `width` elements, belongs to the unit whose number is in its name.
    """

    tensor: str
    dim: Annotated[int, Field(ge=0, le=1)] | None
    width: Size


@dataclass(frozen=True)
class UnitGroup:
    """Units of which some may be cut, each with its part of several tensors.

    Kind neuron: the columns of one feed-forward; head: the heads of one attention; layer: the layers of one stack.
    """

    kind: Kind
    name: str
    units: int
    parts: tuple[Part, ...]


class GroupCut(Record):
    """A group, and the units of it that stay, in their order; one at least."""

    kind: Kind
    name: str
    units: Size
    keep: Places
    parts: tuple[Part, ...]

    @model_validator(mode="after")
    def _fits_itself(self) -> GroupCut:
        if any(first >= second for first, second in zip(self.keep, self.keep[1:], strict=False)):
            raise ValueError("keep is in order")
        if self.keep[0] < 0 or self.keep[-1] >= self.units:
            raise ValueError(f"keep is of units 0 to {self.units - 1}")
        if not self.parts:
            raise ValueError("parts are there")
        for part in self.parts:
            if (part.dim is None) != (self.kind == "layer"):
                raise ValueError("dim is there unless whole layers are cut")
            if self.kind == "layer" and unit_of(part.tensor, self.name) not in range(self.units):
                raise ValueError(f"{part.tensor} is in a layer of {self.name}")
        return self

    @property
    def removed(self) -> int:
        """The number of units that go."""
        return self.units - len(self.keep)

    def find_dead(self) -> tuple[str, ...]:
        """The tensors of a layer that is last now which the last one of all layers never had: they feed nothing."""
        last, new_last = f"{self.name}.{self.units - 1}.", f"{self.name}.{self.keep[-1]}."
        if self.kind != "layer" or last == new_last:
            return ()
        used = {part.tensor.removeprefix(last) for part in self.parts if part.tensor.startswith(last)}
        mine = (part.tensor for part in self.parts if part.tensor.startswith(new_last))
        return tuple(name for name in mine if name.removeprefix(new_last) not in used)

    def rename(self, name: str) -> str | None:
        """The name that a tensor has afterwards, or None if it goes; names outside a cut stack stay."""
        unit = unit_of(name, self.name) if self.kind == "layer" else None
        if unit is None:
            return name
        if unit not in self.keep:
            return None
        rest = name.removeprefix(f"{self.name}.{unit}.")
        return f"{self.name}.{self.keep.index(unit)}.{rest}"


class Surgery(FileRecord):
    """What is cut, group by group; groups without a GroupCut stay whole."""

    cuts: tuple[GroupCut, ...]

    @property
    def granularity(self) -> str:
        """The kinds of units that are cut: neuron, head, layer, or neuron+head."""
        return "+".join(kind for kind in get_args(Kind) if any(cut.kind == kind for cut in self.cuts))

    def apply(self, weights: Weights) -> dict[str, Tensor]:
        """The weights of the smaller model; what is not cut is shared with `weights`. Raises PruneError if it misfits.

        Start weights and trained weights are cut alike, so that a cut model can be rewound.
        """
        self.check({name: tensor.shape for name, tensor in weights.items()})
        smaller = dict(weights)
        for cut in self.cuts:
            if cut.kind == "layer":
                dead = set(cut.find_dead())
                renamed = {name: None if name in dead else cut.rename(name) for name in smaller}
                smaller = {new: smaller[name] for name, new in renamed.items() if new is not None}
            for part in cut.parts if cut.kind != "layer" else ():
                tensor = smaller[part.tensor]
                smaller[part.tensor] = tensor.index_select(part.dim, _places(cut, part).to(tensor.device))
        return smaller

    def check(self, shapes: Shapes) -> None:
        """Raises PruneError unless all tensors of the surgery are among `shapes`, of the size that it was made for."""
        for cut in self.cuts:
            for part in cut.parts:
                if part.tensor not in shapes:
                    raise PruneError(
                        f"surgery: the model has no weight {part.tensor}; "
                        "use the surgery with the model that it was made for"
                    )
                _check_size(cut, part, shapes[part.tensor])

    def find_shapes(self, shapes: Shapes) -> dict[str, torch.Size]:
        """The shapes of the smaller model's tensors, from those of all the model's. Raises PruneError if it misfits."""
        whole = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
        return {name: tensor.shape for name, tensor in self.apply(whole).items()}

    def mask(self, shapes: Shapes) -> Mask:
        """The same as a Mask over the prunable weights, of these shapes: a unit that goes is zero in every matrix.

        The masked model answers as the smaller one does. Raises PruneError for layers, which have no such mask: what a
        layer of zeros hands on is its biases and its norm.
        """
        if any(cut.kind == "layer" for cut in self.cuts):
            raise PruneError(
                "granularity layer: has no mask, as a layer of zeros still answers; use schedule: one-shot"
            )
        kept = {name: torch.ones(shape, dtype=torch.bool) for name, shape in shapes.items()}
        for cut, part in self._matrices(shapes):
            stays = torch.zeros(shapes[part.tensor][part.dim], dtype=torch.bool)
            stays[_places(cut, part)] = True
            kept[part.tensor] &= stays[:, None] if part.dim == 0 else stays
        return Mask(kept)

    def count(self, live: int, whole: int, shapes: Shapes) -> Sparsity:
        """What the surgery removes of the prunable weights, which have these shapes before it, of the `live` weights,
        and of the `whole` published model; see the head of this file for what is counted. Raises PruneError."""
        prunable = sum(shape.numel() for shape in shapes.values())
        removed = removed_live = dead = dead_live = 0
        for cut in self.cuts:
            names = set(cut.find_dead())
            for part in cut.parts:
                size = _removed_size(cut, part, shapes)
                gone = part.width if part.tensor in names else 0
                removed_live += size
                dead_live += gone
                if part.tensor in shapes:
                    removed += size
                    dead += gone
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
        """Every part that is of a prunable matrix. Raises PruneError if one misfits, or is missing."""
        for cut in self.cuts:
            for part in cut.parts:
                if part.tensor in shapes:
                    _check_size(cut, part, shapes[part.tensor])
                    yield cut, part
                elif part.tensor.endswith(".weight"):
                    self.check(shapes)


def find_groups(model: Model, kinds: Collection[str]) -> tuple[UnitGroup, ...]:
    """The groups of those kinds (neuron, head, layer), in the order of the model's modules.

    Raises PruneError if the model ties a feed-forward or an attention to tensors beyond it.
    """
    assert set(kinds) <= set(get_args(Kind)), kinds
    module, family = model.module, model.family
    groups = []
    if "neuron" in kinds or "head" in kinds:
        with _traced(model) as graph:
            for block in family.feed_forwards(module) if "neuron" in kinds else ():
                units = module.get_submodule(block.first).out_features
                parts = _find_parts(graph, module, block.first, set(block), width=1)
                groups.append(UnitGroup("neuron", block.first, units, parts))
            for attention in family.attentions(module) if "head" in kinds else ():
                width = module.get_submodule(attention.value).out_features // attention.heads
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
    """The Surgery whose `mask` is this one: a unit goes of which no weight is kept. Layers have no mask."""
    cuts = []
    for group in groups:
        rows = next(part for part in group.parts if part.tensor in mask.kept and part.dim == 0)
        stays = mask.kept[rows.tensor].view(group.units, -1).any(1)
        if not bool(stays.all()):
            keep = tuple(stays.nonzero()[:, 0].tolist())
            cuts.append(GroupCut(kind=group.kind, name=group.name, units=group.units, keep=keep, parts=group.parts))
    return Surgery(cuts=tuple(cuts))


def operate(model: Model, surgery: Surgery) -> Model:
    """The smaller model, a module of its own with weights of its own; `model` is left as it is. Raises PruneError."""
    weights = {name: tensor.detach().clone() for name, tensor in surgery.apply(model.weights).items()}
    config = cut_config(model.config, model.family, surgery)
    module = build_resized(config, model.family, {name: tensor.shape for name, tensor in weights.items()})
    module.load_state_dict(weights, strict=True, assign=True)
    device = next(model.module.parameters()).device
    return Model(module.to(device).train(model.module.training), config, model.family)


def cut_config(config: PreTrainedConfig, family: Family, surgery: Surgery) -> PreTrainedConfig:
    """The config of the smaller model: a copy with fewer layers where layers are cut."""
    fields = family.stacks(config)
    return with_layers(config, {fields[cut.name]: len(cut.keep) for cut in surgery.cuts if cut.kind == "layer"})


def recount(smaller: Model, surgery: Surgery) -> Sparsity:
    """What the surgery removed, counted from the `smaller` model that it made.

    Raises PruneError if that is not the model that it makes.
    """
    family, config = smaller.family, uncut_config(smaller, surgery)
    shapes = {name: shape for name, shape in family.shapes(config).items() if not family.is_dead(name, config)}
    made, own = surgery.find_shapes(shapes), {name: tensor.shape for name, tensor in smaller.weights.items()}
    for name in sorted(name for name in made.keys() | own.keys() if made.get(name) != own.get(name)):
        raise PruneError(f"surgery: makes another {name} than the model has; use the surgery that made the model")
    live = sum(shape.numel() for shape in shapes.values())
    prunable = {name: shape for name, shape in shapes.items() if family.is_prunable(name, shape)}
    return surgery.count(live, live + family.count_dead(config), prunable)


def uncut_config(smaller: Model, surgery: Surgery) -> PreTrainedConfig:
    """The config of the model that the surgery was made for, from that of the `smaller` one. Raises PruneError."""
    fields = smaller.family.stacks(smaller.config)
    stacks = {cut.name: cut.units for cut in surgery.cuts if cut.kind == "layer"}
    for name in stacks.keys() - fields.keys():
        raise PruneError(f"surgery: the model has no layers {name}; use the surgery with the model it was made for")
    return with_layers(smaller.config, {fields[name]: units for name, units in stacks.items()})


def unit_of(tensor: str, stack: str) -> int | None:
    """The number of the layer of `stack` that a tensor belongs to, if it does."""
    if not tensor.startswith(f"{stack}."):
        return None
    number = tensor[len(stack) + 1 :].split(".", 1)[0]
    return int(number) if number.isdecimal() else None


def _places(cut: GroupCut, part: Part) -> Tensor:
    """int64: the places along the part's dimension that stay."""
    keep = torch.tensor(cut.keep)
    return (keep[:, None] * part.width + torch.arange(part.width)).flatten()


def _check_size(cut: GroupCut, part: Part, shape: torch.Size) -> None:
    dims = len(shape)
    expected = part.width if part.dim is None else cut.units * part.width
    found = shape.numel() if part.dim is None else shape[part.dim] if part.dim < dims else 0
    if found != expected:
        raise PruneError(
            f"surgery: {part.tensor} has {found} where {expected} were when it was made; "
            "use the surgery with the model that it was made for"
        )


def _removed_size(cut: GroupCut, part: Part, shapes: Shapes) -> int:
    """The elements that go with the part's cut units; one that is not among `shapes` is a vector."""
    if part.dim is None:
        return 0 if unit_of(part.tensor, cut.name) in cut.keep else part.width
    if part.tensor not in shapes:
        return cut.removed * part.width
    _check_size(cut, part, shapes[part.tensor])
    return shapes[part.tensor].numel() // cut.units * cut.removed


@contextmanager
def _traced(model: Model) -> Iterator[Any]:
    """torch-pruning's dependency graph of the model.

    It is traced from all that the encoder hands on, and not from the answer alone: a module that is used twice, and
    once for nothing (LXMERT's last cross-attention), must be seen in both uses. Scaled dot-product attention hides
    what belongs together, so attention is traced in its plain form.
    """
    import torch_pruning

    module, was_training = model.module, model.module.training
    example = make_example(model, tokens=3, objects=2)
    seen: list[Tensor] = []

    def forward(traced: nn.Module, inputs: Inputs) -> list[Tensor]:
        hook = traced.base_model.register_forward_hook(lambda _, __, out: seen.extend(_tensors(out)))
        try:
            scores = model.family.answer(traced, inputs)
        finally:
            hook.remove()
        return [*seen, scores]

    attention = model.config._attn_implementation
    try:
        if attention not in (None, "eager"):
            module.set_attn_implementation("eager")
        with torch.enable_grad():
            graph = torch_pruning.DependencyGraph()
            yield graph.build_dependency(module, example_inputs=example, forward_fn=forward, verbose=False)
    finally:
        if attention not in (None, "eager"):
            module.set_attn_implementation(attention)
        module.train(was_training)


def _tensors(out: Any) -> list[Tensor]:
    """The tensors of a model's output that came of weights."""
    values = out.values() if isinstance(out, Mapping) else out if isinstance(out, (tuple, list)) else (out,)
    return [value for value in values if isinstance(value, Tensor) and value.grad_fn is not None]


def _find_parts(graph: Any, module: nn.Module, root: str, expected: set[str], *, width: int) -> tuple[Part, ...]:
    """The parts that go with the outputs of the linear layer `root`, in the order of the model's tensors.

    Raises PruneError unless they are those of the `expected` linear layers, place by place.
    """
    import torch_pruning

    names = {each: name for name, each in module.named_modules()}
    size = module.get_submodule(root).out_features
    found = graph.get_pruning_group(module.get_submodule(root), torch_pruning.prune_linear_out_channels, range(size))
    parts = {}
    for dependency, places in found:
        target = dependency.target.module
        if not isinstance(target, nn.Linear):
            if isinstance(target, nn.Parameter) or any(True for _ in target.parameters()):
                raise PruneError(f"{root}: cannot be cut, as {dependency.target.name} goes with it")
            continue
        name, is_output = names[target], graph.is_out_channel_pruning_fn(dependency.handler)
        if name not in expected or list(places) != list(range(size)):
            raise PruneError(f"{root}: cannot be cut, as {name} goes with it in an order that is not its own")
        parts[f"{name}.weight"] = Part(tensor=f"{name}.weight", dim=0 if is_output else 1, width=width)
        if is_output and target.bias is not None:
            parts[f"{name}.bias"] = Part(tensor=f"{name}.bias", dim=0, width=width)
    missing = {f"{name}.weight" for name in expected} - parts.keys()
    if missing:
        raise PruneError(f"{root}: cannot be cut, as {min(missing)} does not go with it")
    return tuple(parts[name] for name in module.state_dict() if name in parts)
