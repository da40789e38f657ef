"""Laws of surgery: the smaller model answers as the masked one, torch-pruning cuts the same, and counts are exact."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch_pruning
from pydantic import ValidationError
from torch.utils.flop_counter import FlopCounterMode
from transformers import LxmertConfig, ViltConfig, VisualBertConfig

from lxcompress.data.split import Inputs
from lxcompress.errors import PruneError
from lxcompress.models import lxmert, vilt, visual_bert
from lxcompress.models.checkpoints import Model
from lxcompress.models.flops import count_flops, make_example
from lxcompress.pruning.criteria import score_weights
from lxcompress.pruning.selection import Selection
from lxcompress.pruning.surgery import GroupCut, Part, Surgery, UnitGroup, find_groups, operate, recount, surgery_of
from lxcompress.pruning.units import check_structured, choose_units
from lxcompress.records import dump_record
from tests.complain import complain

SIZES = {
    "vocab_size": 50,
    "hidden_size": 64,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "max_position_embeddings": 16,
}
LXMERT = {"num_qa_labels": 7, "l_layers": 3, "r_layers": 2, "x_layers": 3, "visual_feat_dim": 12, **SIZES}
FAMILIES = {
    "lxmert": (lxmert.FAMILY, lambda: LxmertConfig(**LXMERT)),
    "lxmert of two images": (lxmert.FAMILY, lambda: LxmertConfig(images_per_question=2, **LXMERT)),
    "visual_bert": (
        visual_bert.FAMILY,
        lambda: VisualBertConfig(num_labels=7, num_hidden_layers=3, visual_embedding_dim=12, **SIZES),
    ),
    "vilt": (vilt.FAMILY, lambda: ViltConfig(num_labels=7, num_hidden_layers=3, image_size=32, patch_size=16, **SIZES)),
}
KINDS = {"neuron": ("neuron",), "head": ("head",), "layer": ("layer",), "neuron+head": ("neuron", "head")}
MASKED = ("neuron", "head", "neuron+head")
TRACED: dict[tuple[int, str], tuple[Model, tuple[UnitGroup, ...]]] = {}


def make(name: str = "lxmert", seed: int = 0) -> Model:
    """A small model whose weights, biases and gains are all large enough to matter."""
    family, config = FAMILIES[name][0], FAMILIES[name][1]()
    return draw(Model(family.build(config), config, family), seed)


def draw(model: Model, seed: int = 0) -> Model:
    """The model with weights of a seed."""
    generator = torch.Generator().manual_seed(seed)
    model.load({name: torch.randn(each.shape, generator=generator) * 0.2 for name, each in model.weights.items()})
    return model


@pytest.fixture(scope="module", params=FAMILIES)
def any_model(request) -> Model:
    return make(request.param)


@pytest.fixture(scope="module")
def model() -> Model:
    return make()


def shapes_of(model: Model) -> dict[str, torch.Size]:
    return {name: weight.shape for name, weight in model.prunable.items()}


def groups_of(model: Model, granularity: str) -> tuple[UnitGroup, ...]:
    """The groups of a model, traced once."""
    if (id(model), granularity) not in TRACED:
        TRACED[id(model), granularity] = (
            model,
            find_groups(model, KINDS[granularity]),
        )  # kept, so that no id comes twice
    return TRACED[id(model), granularity][1]


def choose(model: Model, granularity: str, sparsity: float, *, scope: str = "layer", seed: int = 0, **more) -> Surgery:
    scores = score_weights(model.prunable, criterion="random", seed=seed)
    within = more.pop("within", None)
    selection = Selection(sparsity, granularity, scope, **more)
    return choose_units(scores, groups_of(model, granularity), selection, prunable=shapes_of(model), within=within)


def ask(model: Model) -> Inputs:
    """Four questions of other lengths."""
    generator = torch.Generator().manual_seed(1)
    example = make_example(model, tokens=6, objects=5)
    rows, objects, size = 4 * len(example.input_ids), *example.visual_feats.shape[1:]
    mask = torch.ones(rows, 6, dtype=torch.int64)
    mask[::2, 4:] = 0
    return Inputs(
        torch.randint(1, 50, (rows, 6), generator=generator),
        mask,
        torch.randn(rows, objects, size, generator=generator),
        torch.rand(rows, objects, 4, generator=generator),
        torch.ones(rows, objects, dtype=torch.int64),
    )


def answers(model: Model) -> torch.Tensor:
    with torch.no_grad():
        return model.family.answer(model.module.eval(), ask(model))


@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize(("granularity", "sparsity"), [("neuron", 0.25), ("head", 0.2), ("neuron+head", 0.6)])
def test_the_masked_model_answers_as_the_smaller_one(any_model, granularity, sparsity, scope) -> None:
    surgery = choose(any_model, granularity, sparsity, scope=scope)
    masked = Model(copy.deepcopy(any_model.module), any_model.config, any_model.family)
    masked.load(surgery.mask(shapes_of(any_model)).apply(any_model.weights))
    smaller = operate(any_model, surgery)
    torch.testing.assert_close(answers(masked), answers(smaller), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(answers(smaller), answers(any_model), atol=1e-2)


@pytest.mark.parametrize("granularity", KINDS)
def test_counts_are_those_of_the_smaller_model(any_model, granularity) -> None:
    surgery = choose(any_model, granularity, 0.3)
    smaller = operate(any_model, surgery)
    count = surgery.count(any_model.live, any_model.whole, shapes_of(any_model))
    assert count.kept == sum(weight.numel() for weight in smaller.prunable.values())
    assert round(count.live * (1 - count.of_live)) == smaller.live == sum(p.numel() for p in smaller.weights.values())
    assert count.achieved == (count.prunable - count.kept) / count.prunable
    assert recount(smaller, surgery) == count
    if granularity != "layer":
        mask = surgery.mask(shapes_of(any_model)).count(any_model.live, any_model.whole)
        assert (mask.prunable, mask.kept, mask.achieved) == (count.prunable, count.kept, count.achieved)


@pytest.mark.parametrize("granularity", MASKED)
def test_torch_pruning_cuts_the_same_bits(model, granularity) -> None:
    surgery = choose(model, granularity, 0.2)
    module = copy.deepcopy(model.module)

    def forward(traced, inputs):
        out = traced.lxmert(**inputs._asdict())
        return [out.language_output, out.vision_output, traced.answer_head(out.pooled_output)]

    graph = torch_pruning.DependencyGraph()
    graph.build_dependency(module, example_inputs=ask(model), forward_fn=forward, verbose=False)
    for cut in surgery.cuts:
        root = module.get_submodule(cut.name if cut.kind == "neuron" else f"{cut.name}.key")
        width = cut.parts[0].width
        gone = [unit * width + index for unit in range(cut.units) if unit not in cut.keep for index in range(width)]
        graph.get_pruning_group(root, torch_pruning.prune_linear_out_channels, gone).prune()
    theirs, ours = module.state_dict(), operate(model, surgery).weights
    assert theirs.keys() == ours.keys()
    assert all(torch.equal(theirs[name], ours[name]) for name in ours)
    assert sum(weight.numel() for weight in ours.values()) < model.live


def test_a_surgery_is_replayed_on_other_weights(any_model) -> None:
    """Start weights are cut as the trained ones are: a cut model is rewound."""
    surgery = choose(any_model, "neuron+head", 0.5)
    start = {name: tensor + 1 for name, tensor in any_model.weights.items()}
    smaller = operate(any_model, surgery)
    smaller.load(surgery.apply(start))
    for name, tensor in surgery.apply(any_model.weights).items():
        assert torch.equal(smaller.weights[name], tensor + 1)


@pytest.mark.parametrize("granularity", KINDS)
def test_what_is_written_is_what_is_read(model, granularity) -> None:
    surgery = choose(model, granularity, 0.3)
    text = dump_record(surgery)
    again = Surgery.model_validate_json(text)
    assert again == surgery
    assert dump_record(again) == text
    first, second = surgery.apply(model.weights), again.apply(model.weights)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_old_model_is_left_as_it_is(model) -> None:
    before = {name: tensor.clone() for name, tensor in model.weights.items()}
    config, said = model.config.to_dict(), answers(model)
    smaller = operate(model, choose(model, "neuron+head", 0.5))
    with torch.no_grad():
        for parameter in smaller.module.parameters():
            parameter.add_(1)
    assert all(torch.equal(model.weights[name], before[name]) for name in before)
    assert model.config.to_dict() == config
    assert torch.equal(answers(model), said)
    assert model.module.training is False


@pytest.mark.parametrize("multiple", [1, 8, 24, 32])
@pytest.mark.parametrize("scope", ["layer", "global"])
def test_widths_are_multiples_and_heads_are_whole(any_model, scope, multiple) -> None:
    surgery = choose(any_model, "neuron+head", 0.25, scope=scope, multiple=multiple)
    smaller = operate(any_model, surgery)
    for block in smaller.family.feed_forwards(smaller.module):
        width = smaller.module.get_submodule(block.first).out_features
        assert width > 0
        assert width % multiple == 0
        assert smaller.module.get_submodule(block.second).in_features == width
    for attention in smaller.family.attentions(smaller.module):
        width = smaller.module.get_submodule(attention.query).out_features
        assert width == 16 * attention.heads
        assert width == 64 or width % multiple == 0
        assert attention.heads >= 1


@pytest.mark.parametrize("granularity", MASKED)
def test_scope_layer_takes_the_same_share_of_each_group(model, granularity) -> None:
    surgery = choose(model, granularity, 0.2, multiple=1)
    shares = {cut.name: (cut.removed / cut.units, 1 / cut.units) for cut in surgery.cuts}
    for group in find_groups(model, KINDS[granularity]):
        share, step = shares.get(group.name, (0.0, 1 / group.units))
        assert all(abs(share - other) <= max(step, its) + 1e-9 for other, its in shares.values())


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_the_sparsity_is_the_nearest_that_there_is(model, scope) -> None:
    """Beside every wish lies what was reached, no further than half of the largest step."""
    total = sum(shape.numel() for shape in shapes_of(model).values())
    largest = 4 * 64 * 16
    for wish in np.linspace(0.02, 0.7, 14):
        surgery = choose(model, "neuron+head", float(wish), scope=scope)
        assert abs(surgery.count(10**9, 10**9, shapes_of(model)).achieved - wish) <= largest / total / 2 + 1e-9


def test_scope_global_takes_the_lowest_of_all(model) -> None:
    """Beside the slow way: every unit's mean score, sorted."""
    scores = score_weights(model.prunable, criterion="random", seed=3)
    groups = find_groups(model, ("neuron",))
    selection = Selection(0.15, "neuron", "global", multiple=1)
    surgery = choose_units(scores, groups, selection, prunable=shapes_of(model))
    means = {}
    for group in groups:
        rows, columns = (scores[part.tensor] for part in group.parts if part.tensor in scores)
        for unit in range(group.units):
            means[group.name, unit] = float(torch.cat([rows[unit], columns[:, unit]]).double().mean())
    gone = {(cut.name, unit) for cut in surgery.cuts for unit in range(cut.units) if unit not in cut.keep}
    assert gone == set(sorted(means, key=means.__getitem__)[: len(gone)])
    assert len(gone) > 50


@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize("granularity", KINDS)
def test_a_higher_sparsity_takes_what_a_lower_one_takes(model, granularity, scope) -> None:
    gone: set = set()
    for sparsity in (0.1, 0.15, 0.2, 0.25):
        surgery = choose(model, granularity, sparsity, scope=scope)
        now = {(cut.name, unit) for cut in surgery.cuts for unit in range(cut.units) if unit not in cut.keep}
        assert gone <= now
        gone = now
    assert gone


def test_what_an_earlier_surgery_took_stays_away(model) -> None:
    earlier = choose(model, "neuron+head", 0.3, seed=1)
    later = choose(model, "neuron+head", 0.5, seed=2, within=earlier)
    kept = {cut.name: set(cut.keep) for cut in earlier.cuts}
    for cut in later.cuts:
        assert set(cut.keep) <= kept.get(cut.name, set(range(cut.units)))
    assert {cut.name for cut in earlier.cuts} <= {cut.name for cut in later.cuts}
    assert later.count(10**9, 10**9, shapes_of(model)).achieved == pytest.approx(0.5, abs=0.02)
    assert choose(model, "neuron+head", 0.1, seed=2, within=earlier) == earlier


def test_an_earlier_surgery_and_the_same_scores_change_nothing(model) -> None:
    earlier = choose(model, "neuron", 0.1)
    assert choose(model, "neuron", 0.25, within=earlier) == choose(model, "neuron", 0.25)


def test_groups_of_matrices_kept_dense_stay(model) -> None:
    kept = "lxmert.encoder.layer.0.intermediate.dense.weight"
    surgery = choose(model, "neuron", 0.2, keep_dense=(kept,))
    assert all(part.tensor != kept for cut in surgery.cuts for part in cut.parts)
    left = {name: shape for name, shape in shapes_of(model).items() if name != kept}
    removed = surgery.count(10**9, 10**9, shapes_of(model))
    share = (removed.prunable - removed.kept) / sum(shape.numel() for shape in left.values())
    assert share == pytest.approx(0.2, abs=0.01)
    complain(lambda: choose(model, "neuron", 0.2, keep_dense=("no.such",)), "no.such", kind=PruneError)


def test_cross_attention_is_cut_once_for_both_directions(model) -> None:
    groups = [group for group in find_groups(model, ("head",)) if ".x_layers." in group.name]
    assert sum("visual_attention" in group.name for group in groups) == 3
    assert sum("visn_self_att" in group.name for group in groups) == 2  # the last layer's is dead
    for group in groups:
        assert [part.tensor.rpartition(".")[0].rpartition(".")[2] for part in group.parts if part.dim == 1] == ["dense"]
        assert len(group.parts) == 7
        assert {part.width for part in group.parts} == {16}


def leave_out(model: Model, stack: str, *units: int) -> Surgery:
    (group,) = (group for group in find_groups(model, ("layer",)) if group.name == stack)
    keep = tuple(unit for unit in range(group.units) if unit not in units)
    return Surgery(cuts=(GroupCut(kind="layer", name=stack, units=group.units, keep=keep, parts=group.parts),))


def test_a_model_of_fewer_layers_is_transformers_own(model) -> None:
    smaller = operate(model, leave_out(model, "lxmert.encoder.layer", 1))
    assert smaller.config.l_layers == len(smaller.module.lxmert.encoder.layer) == 2
    assert smaller.config.num_hidden_layers["language"] == 2
    fresh = lxmert.FAMILY.build(LxmertConfig(**{**LXMERT, "l_layers": 2}))
    assert {name: each.shape for name, each in fresh.state_dict().items()} == {
        name: each.shape for name, each in smaller.weights.items()
    }
    for old, new in ((0, 0), (2, 1)):
        name = "lxmert.encoder.layer.{}.output.dense.weight"
        assert torch.equal(smaller.weights[name.format(new)], model.weights[name.format(old)])


def test_leaving_a_layer_out_is_handing_its_input_on(model) -> None:
    """Beside the slow way: the whole model, with a layer in it that does nothing."""

    class Nothing(torch.nn.Module):
        def forward(self, states, *_, **__):
            return (states,)

    smaller = operate(model, leave_out(model, "lxmert.encoder.layer", 1))
    slow = Model(copy.deepcopy(model.module), model.config, model.family)
    slow.module.lxmert.encoder.layer[1] = Nothing()
    torch.testing.assert_close(answers(smaller), answers(slow))


def test_what_dies_with_the_last_cross_layer_is_counted_nowhere(model) -> None:
    stack = "lxmert.encoder.x_layers"
    last, other = leave_out(model, stack, 2), leave_out(model, stack, 0)
    size = {
        unit: sum(weight.numel() for name, weight in model.prunable.items() if name.startswith(f"{stack}.{unit}."))
        for unit in range(3)
    }
    dead = size[1] - size[2]
    assert dead > 0
    total = sum(weight.numel() for weight in model.prunable.values())
    counts = [surgery.count(model.live, model.whole, shapes_of(model)) for surgery in (last, other)]
    assert [count.prunable for count in counts] == [total - dead, total]
    assert [count.prunable - count.kept for count in counts] == [size[2], size[0]]
    smaller = [operate(model, surgery) for surgery in (last, other)]
    assert [each.live for each in smaller] == [round(count.live * (1 - count.of_live)) for count in counts]
    assert smaller[0].live == smaller[1].live
    assert not any(".1.visn_" in name for name in smaller[0].weights if name.startswith(stack))
    assert recount(smaller[0], last) == counts[0]


def test_layers_have_no_mask(model) -> None:
    surgery = choose(model, "layer", 0.3)
    complain(lambda: surgery.mask(shapes_of(model)), "layer", "one-shot", kind=PruneError)


@pytest.mark.parametrize("granularity", KINDS)
def test_too_high_a_sparsity_says_how_much_can_go(model, granularity) -> None:
    said = complain(
        lambda: check_structured(model, Selection(0.99, granularity)), f"{granularity}: ", "lower the sparsity"
    )
    most = float(said.split("at most ")[1].split(" %")[0]) / 100
    complain(lambda: check_structured(model, Selection(most + 0.001, granularity)), "at most")
    check_structured(model, Selection(most - 0.001, granularity))
    surgery = choose(model, granularity, most - 0.001)
    assert surgery.count(10**9, 10**9, shapes_of(model)).achieved == pytest.approx(most, abs=0.001)
    assert {len(cut.keep) for cut in surgery.cuts} == {"neuron": {8}, "neuron+head": {1, 8}}.get(granularity, {1})
    assert torch.isfinite(answers(operate(model, surgery))).all()


@pytest.mark.parametrize(
    ("wish", "named"),
    [
        ({"sparsity": 0.001, "granularity": "layer"}, ("layer", "raise the sparsity")),
        ({"sparsity": 0.0}, ("sparsity 0", "between 0 and 1")),
        ({"sparsity": 1.0}, ("sparsity 1", "between 0 and 1")),
        ({"sparsity": 1.5}, ("sparsity 1.5", "between 0 and 1")),
        ({"scope": "row"}, ("scope row", "layer or global")),
        ({"multiple": 4096}, ("at most 0.0 %",)),
    ],
)
def test_what_cannot_be_cut_is_told_before_any_training(model, wish, named) -> None:
    selection = Selection(**{"granularity": "neuron", "sparsity": 0.2, **wish})
    complain(lambda: check_structured(model, selection), *named, kind=PruneError)


@pytest.mark.parametrize("sparsity", [0.0, 0.0001])
def test_a_schedule_may_begin_with_next_to_nothing(model, sparsity) -> None:
    surgery = choose(model, "neuron+head", sparsity)
    assert surgery.cuts == ()
    assert surgery.mask(shapes_of(model)).count(10**9, 10**9).achieved == 0
    assert torch.equal(answers(operate(model, surgery)), answers(model))


def test_a_surgery_of_another_model_is_refused(model) -> None:
    surgery = choose(model, "neuron+head", 0.4)
    others = [
        make("visual_bert"),
        Model(
            lxmert.FAMILY.build(config := LxmertConfig(**{**LXMERT, "intermediate_size": 128})), config, lxmert.FAMILY
        ),
        operate(model, surgery),
    ]
    for other in others:
        remedy = "the model that it was made for"
        complain(lambda other=other: operate(other, surgery), "surgery:", remedy, kind=PruneError)
        complain(lambda other=other: surgery.mask(shapes_of(other)), "surgery:", remedy, kind=PruneError)
    complain(lambda: recount(model, surgery), "surgery:", kind=PruneError)
    complain(lambda: recount(make("visual_bert"), choose(model, "layer", 0.3)), "no layers", kind=PruneError)


def test_scores_of_another_model_are_refused(model) -> None:
    groups = find_groups(model, ("neuron",))
    scores = score_weights(model.prunable, criterion="random", seed=0)
    name = groups[0].parts[0].tensor
    for wrong in ({k: v for k, v in scores.items() if k != name}, {**scores, name: torch.zeros(3, 3)}):
        complain(
            lambda wrong=wrong: choose_units(wrong, groups, Selection(0.2, "neuron"), prunable=shapes_of(model)),
            name,
            kind=PruneError,
        )


@pytest.mark.parametrize(
    "change",
    [
        {"keep": ""},
        {"keep": "3-1"},
        {"keep": "0 0"},
        {"keep": "0-96"},
        {"keep": "-1"},
        {"keep": "0-99999999999"},
        {"keep": "x"},
        {"keep": "1-2-3"},
        {"units": 0},
        {"kind": "row"},
        {"parts": []},
        {"parts": [{"tensor": "w", "dim": 2, "width": 1}]},
        {"parts": [{"tensor": "w", "dim": None, "width": 1}]},
        {"parts": [{"tensor": "w", "dim": 0, "width": 0}]},
        {"kind": "layer", "parts": [{"tensor": "w.96.x", "dim": None, "width": 1}]},
        {"more": 1},
    ],
)
def test_what_is_no_surgery_is_not_read(change) -> None:
    sound = {
        "kind": "neuron",
        "name": "w",
        "units": 96,
        "keep": "0-3 7",
        "parts": [{"tensor": "w", "dim": 0, "width": 1}],
    }
    assert GroupCut.model_validate(sound).keep == (0, 1, 2, 3, 7)
    with pytest.raises(ValidationError):
        GroupCut.model_validate({**sound, **change})


def read_keep(keep: str, units: int) -> tuple[int, ...]:
    parts = (Part(tensor="w", dim=0, width=1),)
    return GroupCut.model_validate({"kind": "neuron", "name": "w", "units": units, "keep": keep, "parts": parts}).keep


def test_the_limits_of_a_text_of_runs_are_exact() -> None:
    """A megabyte of text, and indices below 2^20: more is refused before any list is made."""
    most = 1 << 20
    assert read_keep("0".ljust(most), 1) == (0,)
    with pytest.raises(ValidationError, match="is too long"):
        read_keep("0".ljust(most + 1), 1)
    assert read_keep(f"0 {most - 1}", most) == (0, most - 1)
    for keep in (f"0 {most}", f"0-{most}"):
        with pytest.raises(ValidationError, match="too large for any model"):
            read_keep(keep, most + 1)


@pytest.mark.parametrize(("granularity", "sparsity"), [("neuron", 0.2), ("head", 0.2), ("neuron+head", 0.4)])
def test_the_mask_of_a_surgery_gives_the_surgery_back(model, granularity, sparsity) -> None:
    """Also where the first parts of a group have no row of each unit, or no mask."""
    surgery = choose(model, granularity, sparsity)
    assert surgery.granularity == granularity
    groups = groups_of(model, granularity)
    turned = [replace(group, parts=tuple(sorted(group.parts, key=lambda part: -(part.dim or 0)))) for group in groups]
    biased = [
        replace(group, parts=tuple(sorted(group.parts, key=lambda part: "weight" in part.tensor))) for group in groups
    ]
    for given in (groups, turned, biased):
        found = surgery_of(surgery.mask(shapes_of(model)), given)
        assert [(cut.name, cut.keep) for cut in found.cuts] == [(cut.name, cut.keep) for cut in surgery.cuts]


def test_a_surgery_of_layers_is_named_so(model) -> None:
    assert choose(model, "layer", 0.3).granularity == "layer"


def test_a_neuron_group_has_no_dead_tensors_and_a_kept_last_layer_none(model) -> None:
    part = Part(tensor="wide.1.a", dim=0, width=1)
    assert GroupCut(kind="neuron", name="wide", units=3, keep=(0, 1), parts=(part,)).find_dead() == ()
    parts = tuple(Part(tensor=f"wide.{unit}.{'ab'[unit == 0]}", dim=None, width=1) for unit in range(3))
    assert GroupCut(kind="layer", name="wide", units=3, keep=(1, 2), parts=parts).find_dead() == ()
    assert GroupCut(kind="layer", name="wide", units=3, keep=(0,), parts=parts).find_dead() == ("wide.0.b",)


@pytest.mark.parametrize("layer", [torch.nn.LayerNorm(96), torch.nn.Linear(96, 96)])
def test_neurons_that_another_layer_reads_too_are_no_units(layer) -> None:
    model = make("visual_bert")
    model.module.base_model.encoder.layer[0].intermediate.intermediate_act_fn = layer
    complain(lambda: find_groups(model, ("neuron",)), "cannot be pruned by units", "intermediate_act_fn")


def test_all_kinds_may_be_searched_for_at_once(model) -> None:
    assert {group.kind for group in find_groups(model, ("neuron", "head", "layer"))} == {"neuron", "head", "layer"}


def test_a_vector_where_a_matrix_is_cut_is_refused(model) -> None:
    """Its second dimension does not exist, so its size there is 0."""
    cut = GroupCut(kind="neuron", name="w", units=3, keep=(0,), parts=(Part(tensor="w", dim=1, width=1),))
    complain(lambda: Surgery(cuts=(cut,)).apply({"w": torch.zeros(3)}), "w has the size 0, expected 3")


def test_a_tensor_too_many_is_no_model_of_the_surgery(model) -> None:
    surgery = choose(model, "neuron", 0.2)
    smaller = operate(model, surgery)
    smaller.module.register_buffer("more", torch.zeros(2))
    complain(lambda: recount(smaller, surgery), "gives more another shape")


def test_places_are_written_as_runs() -> None:
    cut = GroupCut(
        kind="neuron", name="w", units=12, keep=(0, 1, 2, 5, 7, 8), parts=(Part(tensor="w", dim=0, width=1),)
    )
    assert '"keep":"0-2 5 7-8"' in cut.model_dump_json()


def test_no_model_is_left_in_another_mode(any_model) -> None:
    attention = any_model.config._attn_implementation
    any_model.module.train()
    try:
        find_groups(any_model, ("neuron", "head"))
        assert any_model.module.training
        assert any_model.module.config._attn_implementation == attention
        assert not any(module._forward_hooks for module in any_model.module.modules())
        assert all(parameter.grad is None for parameter in any_model.module.parameters())
    finally:
        any_model.module.eval()


@pytest.mark.parametrize(("granularity", "sparsity"), [(None, 0.0), ("neuron+head", 0.5), ("layer", 0.3)])
def test_flops_are_those_that_torch_counts(any_model, granularity, sparsity) -> None:
    model = operate(any_model, choose(any_model, granularity, sparsity)) if granularity else any_model
    attention = model.module.config._attn_implementation
    model.module.set_attn_implementation("eager")  # torch does not count what its fused attention does on a CPU
    try:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model.family.answer(model.module, make_example(model, tokens=9, objects=5))
    finally:
        model.module.set_attn_implementation(attention)
    assert count_flops(model, tokens=9, objects=5) == counter.get_total_flops() > 0
    assert granularity is None or count_flops(model, tokens=9, objects=5) < count_flops(any_model, tokens=9, objects=5)
