"""Laws of the engine format: answers and zeros are the model's, in every layout; layouts are chosen by their time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import LxmertConfig, ViltConfig, VisualBertConfig

from lxcompress.data.split import Inputs
from lxcompress.engine import InferenceSession, instruction_sets
from lxcompress.engine.build import find_compiler
from lxcompress.engine.pack import PackedWeight, blocks, dense, quantised, sparse
from lxcompress.engine.reader import read_weights
from lxcompress.engine.records import (
    BLOCKS,
    CONSTANT,
    DENSE,
    HEADER,
    INPUT,
    LINEAR,
    OP,
    QUANTISED,
    SHARED_BLOCKS,
    SHARED_SPARSE,
    SIZE,
    SPARSE,
    TENSOR,
    WEIGHT,
)
from lxcompress.errors import ExportError, MeasureError
from lxcompress.exporters.artifact import export, open_source
from lxcompress.exporters.engine import count_zeros, usual_columns, write
from lxcompress.exporters.engine_choice import (
    LAYOUTS,
    LEAST,
    SAMPLE_ROWS,
    LayoutChooser,
    count_shares,
    take_rows,
    time_here,
)
from lxcompress.exporters.formats import ExportOptions, Job, check_layouts
from lxcompress.exporters.parity import TOLERANCES
from lxcompress.exporters.programs import Usual, build_program
from lxcompress.models import lxmert, vilt, visual_bert
from lxcompress.models.checkpoints import Model
from lxcompress.pruning.granularity import Block
from lxcompress.pruning.surgery import operate
from lxcompress.runtimes import open_session
from lxcompress.tickets import load_ticket
from tests.complain import complain
from tests.export.small import save_ticket, score
from tests.export.small import some_inputs as small_inputs
from tests.pruning.test_surgery import choose

pytestmark = pytest.mark.skipif(find_compiler() is None, reason="no C compiler is here, so the engine is not built")

FEATURES, ANSWERS, TOKENS = 10, 7, 24
SIZES = {
    "vocab_size": 50,
    "hidden_size": 36,
    "num_attention_heads": 3,
    "intermediate_size": 50,
    "max_position_embeddings": TOKENS,
}
"""Widths that no group of four rows, no block of four weights and no vector divides."""
FAMILIES = {
    "lxmert": (
        lxmert.FAMILY,
        LxmertConfig(num_qa_labels=ANSWERS, l_layers=2, r_layers=1, x_layers=3, visual_feat_dim=FEATURES, **SIZES),
    ),
    "visual_bert": (
        visual_bert.FAMILY,
        VisualBertConfig(num_labels=ANSWERS, num_hidden_layers=3, visual_embedding_dim=FEATURES, **SIZES),
    ),
}
VILT = ViltConfig(
    num_labels=ANSWERS, num_hidden_layers=2, image_size=39, patch_size=13, qkv_bias=False, layer_norm_eps=1e-5, **SIZES
)
"""Patches of 13 pixels a side, whose rows no vector divides."""
BOUNDS = {"fp32": 1e-5, "bf16": TOLERANCES["bf16"], "int8": 0.05}
"""Of the largest score. That of int8 is about twice what these models need: they have few inputs to average over."""
PATTERNS = {"dense": (1, 0.0), "half": (1, 0.5), "most": (1, 0.9), "blocks": (4, 0.7)}
"""The width of the blocks that are removed, and which share of them."""


def make(name: str, pattern: str = "dense", **changes: object) -> Model:
    """A model whose weights, biases and gains are all large enough to matter."""
    family, config = FAMILIES[name]
    config = type(config).from_dict({**config.to_dict(), "num_hidden_layers": None, **_layers(config), **changes})
    draw = torch.Generator().manual_seed(3)
    model = Model(family.build(config), config, family)
    model.load({each: torch.randn(weight.shape, generator=draw) * 0.2 for each, weight in model.weights.items()})
    width, share = PATTERNS[pattern]
    for weight in model.prunable.values():
        block = Block(1, width if weight.shape[1] % width == 0 else 1)
        kept = torch.rand(weight.shape[0], weight.shape[1] // block.columns, generator=draw) >= share
        weight.mul_(block.spread(kept))
    return model


def _layers(config: object) -> dict[str, int]:
    return {} if isinstance(config, LxmertConfig) else {"num_hidden_layers": config.num_hidden_layers}


def ask(rows: int, tokens: int, objects: int) -> Inputs:
    """Questions padded at their ends, each to another length but the first."""
    draw = torch.Generator().manual_seed(100 * rows + tokens)
    lengths = [max(2, size - row) for size in (tokens, objects) for row in range(rows)]
    said, seen = (
        torch.tensor([[place < min(length, size) for place in range(size)] for length in part], dtype=torch.int64)
        for size, part in ((tokens, lengths[:rows]), (objects, lengths[rows:]))
    )
    return Inputs(
        torch.randint(1, SIZES["vocab_size"], (rows, tokens), generator=draw) * said,
        said,
        torch.randn(rows, objects, FEATURES, generator=draw),
        torch.rand(rows, objects, 4, generator=draw),
        seen,
    )


def job(model: Model, out: Path, precision: str = "fp32") -> Job:
    return Job(model, ask(2, 9, 5), precision, out, out, None, lambda: iter(()))


def difference(model: Model, out: Path, inputs: Inputs) -> float:
    """How far the file's scores are from torch's, as a share of the largest."""
    expected = score(model, inputs).numpy()
    found = open_session(out, threads=1, runtime="engine").answer(inputs.numpy())
    return float(np.abs(found - expected).max() / max(1, np.abs(expected).max()))


@pytest.mark.parametrize("precision", BOUNDS)
@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("name", FAMILIES)
def test_the_file_answers_as_the_model_for_questions_of_any_length(name, pattern, precision, tmp_path) -> None:
    model = make(name, pattern)
    written = write(job(model, tmp_path, precision))
    assert [path.name for path in written.files] == ["model.lxe"]
    for rows, tokens, objects in ((1, 5, 36), (1, 9, 1), (1, 12, 17), (1, 20, 36), (5, 9, 7), (3, TOKENS, 100)):
        assert difference(model, tmp_path, ask(rows, tokens, objects)) < BOUNDS[precision], (rows, tokens, objects)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(
    ("lay", "layout", "bound"),
    [
        (partial(dense, type="fp32"), DENSE, 1e-5),
        (partial(sparse, type="fp32", tile=16, panel=8), SPARSE, 1e-5),
        (partial(sparse, type="bf16"), SPARSE, 2e-2),
        (partial(dense, type="int8"), DENSE, 5e-2),
        (partial(sparse, type="int8"), SPARSE, 5e-2),
        (quantised, QUANTISED, 5e-2),
        (partial(blocks, tile=4), BLOCKS, 5e-2),
        (partial(sparse, type="fp32", tile=16, panel=8, shared=2), SHARED_SPARSE, 1e-5),
        (partial(sparse, type="bf16", shared=4), SHARED_SPARSE, 2e-2),
        (partial(blocks, tile=4, shared=2), SHARED_BLOCKS, 5e-2),
        (partial(blocks, shared=4), SHARED_BLOCKS, 5e-2),
    ],
)
def test_any_layout_gives_the_same_answers(name, lay, layout, bound, tmp_path) -> None:
    model = make(name, "half")
    asked = {"precision": "fp32", "usual": Usual(9, 5), "most_objects": 40}
    build_program(model, pack=lambda weight, columns: lay(weight), **asked).write(tmp_path / "model.lxe")
    products = [each for each in read_weights(tmp_path / "model.lxe") if each.layout >= DENSE]
    assert {each.layout for each in products} == {layout}
    for inputs in (ask(1, 9, 36), ask(4, 20, 5)):
        assert difference(model, tmp_path, inputs) < bound


def test_words_and_regions_that_are_masked_anywhere_are_dropped(tmp_path) -> None:
    model, inputs = make("lxmert"), ask(3, 12, 9)
    for mask in (inputs.attention_mask, inputs.visual_attention_mask):
        mask[:] = 1
        mask[0, 3:5] = mask[1, 7] = mask[2, 8:] = 0
    inputs.visual_attention_mask[1, 0] = 0
    write(job(model, tmp_path))
    assert difference(model, tmp_path, inputs) < BOUNDS["fp32"]


@pytest.mark.parametrize("name", FAMILIES)
def test_a_question_is_answered_alike_alone_and_among_others(name, tmp_path) -> None:
    write(job(make(name, "half"), tmp_path))
    session, inputs = open_session(tmp_path, threads=1, runtime="engine"), ask(4, 11, 8)
    together = session.answer(inputs.numpy())
    for row in range(4):
        tokens, objects = int(inputs.attention_mask[row].sum()), int(inputs.visual_attention_mask[row].sum())
        cut = [each[row : row + 1, :size] for each, size in zip(inputs, (tokens, tokens, *[objects] * 3), strict=True)]
        np.testing.assert_allclose(session.answer(Inputs(*cut).numpy())[0], together[row], atol=1e-5)


def make_vilt() -> Model:
    """A ViLT whose weights are all large enough to matter; half of the prunable weights are zero."""
    draw = torch.Generator().manual_seed(3)
    model = Model(vilt.FAMILY.build(VILT), VILT, vilt.FAMILY)
    model.load({name: torch.randn(weight.shape, generator=draw) * 0.2 for name, weight in model.weights.items()})
    for weight in model.prunable.values():
        weight.mul_(torch.rand(weight.shape, generator=draw) > 0.5)
    return model


def ask_about_picture(rows: int, tokens: int) -> Inputs:
    """Questions of different lengths about pictures, each of which is one region."""
    inputs = ask(rows, tokens, 1)
    pixels = torch.randn(rows, 1, 3 * VILT.image_size**2, generator=torch.Generator().manual_seed(rows))
    return inputs._replace(visual_feats=pixels, visual_attention_mask=torch.ones(rows, 1, dtype=torch.int64))


@pytest.mark.parametrize("precision", BOUNDS)
def test_vilt_answers_from_pixels(precision, tmp_path) -> None:
    model = make_vilt()
    example = replace(job(model, tmp_path, precision), example=ask_about_picture(2, 9))
    assert "one picture" in write(example).notes
    for rows, tokens in ((1, 3), (1, 20), (4, TOKENS)):
        assert difference(model, tmp_path, ask_about_picture(rows, tokens)) < BOUNDS[precision], (rows, tokens)
    removed = sum(int((weight == 0).sum()) for weight in model.prunable.values())
    zeros, elements = count_zeros(tmp_path)
    assert elements == sum(weight.numel() for weight in model.prunable.values())
    assert zeros == removed or precision == "int8"


def test_questions_about_a_seen_picture_have_the_same_scores(tmp_path) -> None:
    write(replace(job(make_vilt(), tmp_path), example=ask_about_picture(2, 9)))
    session, feeds = InferenceSession(tmp_path / "model.lxe", threads=1), ask_about_picture(1, 9).numpy()
    (expected,) = session.run(None, feeds)
    words = ("input_ids", "attention_mask")
    session.see({name: values for name, values in feeds.items() if name not in words})
    np.testing.assert_array_equal(session.ask({name: feeds[name] for name in words}), expected)


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_change_nothing(threads, tmp_path) -> None:
    write(job(make("lxmert", "half"), tmp_path))
    one, more = (open_session(tmp_path, threads=count, runtime="engine") for count in (1, threads))
    np.testing.assert_array_equal(one.answer(ask(3, 9, 7).numpy()), more.answer(ask(3, 9, 7).numpy()))


@pytest.mark.parametrize(
    ("granularity", "sparsity"), [("neuron", 0.2), ("head", 0.15), ("layer", 0.4), ("neuron+head", 0.4)]
)
@pytest.mark.parametrize("name", FAMILIES)
def test_smaller_models_are_exported_as_they_are(name, granularity, sparsity, tmp_path) -> None:
    whole = make(name)
    smaller = operate(whole, choose(whole, granularity, sparsity, scope="global"))
    write(job(smaller, tmp_path))
    elements = count_zeros(tmp_path)[1]
    assert elements == sum(each.numel() for each in smaller.prunable.values())
    assert elements < sum(each.numel() for each in whole.prunable.values())
    assert difference(smaller, tmp_path, ask(3, 9, 7)) < BOUNDS["fp32"]


@pytest.mark.parametrize("layers", [{"l_layers": 0, "r_layers": 0, "x_layers": 1}, {"x_layers": 0}])
def test_stacks_may_be_empty(layers, tmp_path) -> None:
    model = make("lxmert", **layers)
    write(job(model, tmp_path))
    assert difference(model, tmp_path, ask(3, 9, 7)) < BOUNDS["fp32"]


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_other_activations(activation, tmp_path) -> None:
    for name in FAMILIES:
        model = make(name, hidden_act=activation)
        write(job(model, tmp_path))
        assert difference(model, tmp_path, ask(2, 9, 7)) < BOUNDS["fp32"]


def columns_of_products(path: Path) -> list[bool]:
    """Of each product, in order: whether it is one column whatever the question."""
    data = path.read_bytes()
    head, at, tables = np.frombuffer(data, HEADER, 1)[0], HEADER.itemsize, {}
    for name, kind in (("sizes", SIZE), ("inputs", INPUT), ("tensors", TENSOR), ("weights", WEIGHT), ("ops", OP)):
        tables[name] = np.frombuffer(data, kind, int(head[name]), at)
        at += int(head[name]) * kind.itemsize
    sizes = tables["tensors"]["size"][[op["out"] for op in tables["ops"] if op["code"] == LINEAR]]
    return [bool(kind == CONSTANT) for kind in tables["sizes"]["kind"][sizes]]


@pytest.mark.parametrize(("name", "alone"), [("lxmert", 7), ("visual_bert", 5)])
def test_only_one_column_goes_on_after_the_last_keys(name, alone, tmp_path) -> None:
    """The last layer's query, its output and two of its feed-forward, and the head: of one column each."""
    model = make(name)
    write(job(model, tmp_path))
    columns = columns_of_products(tmp_path / "model.lxe")
    assert columns[-alone:] == [True] * alone
    assert not any(columns[:-alone])


def test_each_weight_is_there_once(tmp_path) -> None:
    for name in FAMILIES:
        model = make(name, "half")
        write(job(model, tmp_path))
        weights = model.prunable.values()
        zeros = sum(int((each == 0).sum()) for each in weights)
        assert count_zeros(tmp_path) == (zeros, sum(each.numel() for each in weights))


@pytest.fixture(scope="module", params=["weight", "block-1x4", "neuron+head"])
def ticket(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_ticket(tmp_path_factory.mktemp("engine"), granularity=request.param, cross_layers=2)


@pytest.mark.parametrize("precision", BOUNDS)
def test_a_ticket_is_exported_and_proven(ticket, precision, tmp_path) -> None:
    artifact = export(open_source(ticket), tmp_path, ExportOptions("engine", precision))
    assert (artifact.parity.tolerance is None) == (precision == "int8")
    assert artifact.parity.max_abs_difference <= (artifact.parity.tolerance or np.inf)
    assert set(artifact.files) >= {"model.lxe"}
    assert artifact.notes[1] == "1 to 100 regions"
    loaded, inputs = load_ticket(ticket), small_inputs(5, 9, 7)
    prunable = sum(each.numel() for each in loaded.model.prunable.values())
    removed = sum(int((each == 0).sum()) for each in loaded.model.prunable.values())
    zeros, elements = count_zeros(tmp_path)
    assert elements == prunable
    assert zeros == removed if precision != "int8" else zeros >= removed
    assert artifact.prunable_zeros == zeros / elements
    assert difference(loaded.model, tmp_path, inputs) < BOUNDS[precision]


def test_questions_beyond_the_bounds_are_one_sentence(tmp_path) -> None:
    write(job(make("lxmert"), tmp_path))
    session = open_session(tmp_path, threads=1, runtime="engine")
    for inputs in (ask(1, TOKENS + 1, 5), ask(1, 9, 101)):
        with pytest.raises(MeasureError, match=r"model\.lxe: the engine cannot answer"):
            session.answer(inputs.numpy())


@pytest.mark.parametrize("precision", BOUNDS)
@pytest.mark.parametrize("name", FAMILIES)
def test_broken_regions_are_refused_whatever_the_precision(name, precision, tmp_path) -> None:
    """Where torch gives NaN, and where the squares of a norm overflow, of which torch makes zeros."""
    model = make(name, "half")
    write(job(model, tmp_path, precision))
    for instructions in instruction_sets():
        session = InferenceSession(tmp_path / "model.lxe", instructions=instructions)
        for field in ("visual_feats", "visual_pos"):
            for value in (np.nan, np.inf, -np.inf, 1e30, -1e38):
                inputs = ask(2, 9, 5)
                getattr(inputs, field)[1, 3, 2] = value
                if np.isfinite(value) and (name, field) == ("visual_bert", "visual_pos"):
                    continue  # it reads no boxes
                where = r"NaN or (infinity in row 3 of|overflows in) question 1\)"
                with pytest.raises(MeasureError, match=where):
                    session.run(None, inputs.numpy())


def test_more_regions_than_usual_are_taken_if_the_data_has_them(tmp_path) -> None:
    model, inputs = make("visual_bert"), ask(2, 9, 120)
    assert "1 to 120 regions" in write(replace(job(model, tmp_path), example=inputs)).notes
    assert difference(model, tmp_path, inputs) < BOUNDS["fp32"]


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        (
            lambda: (replace(lxmert.FAMILY, name="mine"), LxmertConfig(**SIZES, l_layers=0, r_layers=0, x_layers=1)),
            "format engine: does not support mine models, only lxmert, visual_bert, vilt; give --format onnx",
        ),
        (
            lambda: (lxmert.FAMILY, LxmertConfig(**SIZES, images_per_question=2, l_layers=0, r_layers=0, x_layers=1)),
            "format engine: supports one image per question, but this lxmert model reads 2; give --format onnx",
        ),
        (
            lambda: (lxmert.FAMILY, LxmertConfig(**SIZES, hidden_act="silu", l_layers=0, r_layers=0, x_layers=1)),
            "format engine: does not support the activation silu, only gelu, relu, tanh; give --format onnx",
        ),
    ],
)
def test_what_the_engine_cannot_run_is_refused(model, sentence, tmp_path) -> None:
    family, config = model()
    with pytest.raises(ExportError) as raised:
        write(job(Model(family.build(config), config, family), tmp_path / "out"))
    assert str(raised.value) == sentence
    assert not (tmp_path / "out").exists()


def test_the_usual_columns_are_the_median_question_s() -> None:
    assert usual_columns(ask(5, 20, 36)) == Usual(18, 34)


class Clock:
    """Says what each layout takes, and remembers what it was asked."""

    def __init__(self, seconds: Callable[[PackedWeight], float]) -> None:
        self.seconds = seconds
        self.asked: list[tuple[list[PackedWeight], int]] = []

    def __call__(self, candidates: Sequence[PackedWeight], columns: int) -> list[float]:
        self.asked.append((list(candidates), columns))
        return [self.seconds(each) for each in candidates]


def matrix(share: float, *, rows: int = 128, columns: int = 256, width: int = 1) -> np.ndarray:
    draw = np.random.default_rng(0)
    kept = np.repeat(draw.permuted(np.arange(rows * columns // width)) >= share * rows * columns / width, width)
    return draw.standard_normal((rows, columns), np.float32) * kept.reshape(rows, columns)


@pytest.mark.parametrize("precision", LAYOUTS)
@pytest.mark.parametrize("width", [1, 4])
def test_the_layout_that_takes_least_time_is_taken(precision, width) -> None:
    weight = matrix(0.8, width=width)
    offered = Clock(lambda each: 1.0)
    LayoutChooser(precision, time=offered).pack(weight, 20)
    ((candidates, columns),) = offered.asked
    assert columns == 20
    assert len(candidates) >= 2
    for wanted in candidates:
        cut = (wanted.layout, wanted.shared, wanted.tile)
        made = LayoutChooser(
            precision, time=Clock(lambda each, cut=cut: (each.layout, each.shared, each.tile) != cut)
        ).pack(weight, 20)
        assert (made.layout, made.shared, made.tile, made.rows, made.columns) == (*cut, *weight.shape)


@pytest.mark.parametrize("precision", LAYOUTS)
def test_what_leaves_nothing_out_is_not_timed(precision) -> None:
    clock = Clock(lambda each: -each.layout)
    chooser = LayoutChooser(precision, time=clock)
    assert chooser.pack(matrix(0.0), 20).layout == {"fp32": DENSE, "bf16": DENSE, "int8": QUANTISED}[precision]
    assert not clock.asked
    assert dict(chooser.chosen) == {"dense": 1}


def test_matrices_of_one_kind_are_timed_once() -> None:
    clock = Clock(lambda each: each.layout)
    chooser = LayoutChooser("fp32", time=clock)
    kinds = ((0.5, 128, 20), (0.51, 128, 20), (0.5, 128, 36), (0.9, 128, 20), (0.5, 256, 20), (0.5, 128, 20))
    for share, rows, columns in kinds:
        chooser.pack(matrix(share, rows=rows), columns)
    assert [columns for _, columns in clock.asked] == [20, 36, 20, 20]
    assert dict(chooser.chosen) == {"dense": len(kinds)}


def test_of_a_large_matrix_some_rows_are_timed() -> None:
    clock = Clock(lambda each: each.layout)
    weight = matrix(0.5, rows=3 * SAMPLE_ROWS + 8, columns=64)
    assert LayoutChooser("fp32", time=clock).pack(weight, 20).rows == len(weight)
    ((candidates, _),) = clock.asked
    assert {each.rows for each in candidates} == {len(take_rows(weight, SAMPLE_ROWS))}
    assert SAMPLE_ROWS / 2 < len(take_rows(weight, SAMPLE_ROWS)) <= SAMPLE_ROWS


@pytest.mark.parametrize("precision", LAYOUTS)
def test_without_the_engine_and_for_little_matrices_a_rule_chooses(precision) -> None:
    clock, large = Clock(lambda each: 1.0), matrix(0.95)
    little = matrix(0.95, rows=8, columns=64)
    assert little.size < LEAST <= large.size
    layout = BLOCKS if precision == "int8" else SPARSE
    assert LayoutChooser(precision, time=None).pack(large, 20).layout == layout
    assert LayoutChooser(precision, time=clock).pack(little, 20).layout == layout
    assert LayoutChooser(precision, time=None).pack(matrix(0.1), 20).layout in (DENSE, QUANTISED)
    assert not clock.asked


def test_the_shares_of_zeros_are_counted() -> None:
    weight = np.zeros((2, 6), np.float32)
    weight[0, 0] = weight[1, 5] = 1
    expected = {"1x1": 10 / 12, "2x1": 4 / 6, "4x1": 4 / 6, "1x4": 0.5, "2x4": 0.0, "4x4": 0.0}
    assert count_shares(weight) == {name: pytest.approx(share) for name, share in expected.items()}
    shares = count_shares(matrix(0.75, width=4))
    assert shares["1x1"] == shares["1x4"] == 0.75
    assert shares["4x4"] < shares["2x4"] < 0.75


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
@pytest.mark.parametrize("rows", [2, 4])
def test_rows_that_have_the_same_zeros_share_their_indices(precision, rows) -> None:
    width = 4 if precision == "int8" else 1
    whole = np.repeat(matrix(0.7, rows=128 // rows, width=width), rows, axis=0)
    packed = LayoutChooser(precision, time=None).pack(whole, 20)
    assert packed.layout == (SHARED_BLOCKS if precision == "int8" else SHARED_SPARSE)
    assert packed.shared == rows
    clock = Clock(lambda each: abs(each.shared - rows))
    assert LayoutChooser(precision, time=clock).pack(whole, 20).shared == rows
    assert LayoutChooser(precision, time=None).pack(matrix(0.7, width=width), 20).shared == 0


def test_rows_are_taken_in_bands() -> None:
    taken = take_rows(np.arange(40)[:, None], 12)
    assert taken[:, 0].tolist() == [0, 1, 2, 3, 16, 17, 18, 19, 32, 33, 34, 35]
    assert take_rows(np.arange(6)[:, None], 12)[:, 0].tolist() == list(range(6))


def write_by_table(folder: Path) -> None:
    """A file of each family and precision, with matrices that the table lays out: for test_same_bytes."""
    for name in FAMILIES:
        for precision in BOUNDS:
            torch.manual_seed(0)
            written = write(replace(job(make(name, "half"), folder / name / precision, precision), layouts="table"))
            assert written.layouts == "table"
            assert "by the table" in written.notes[0]


@pytest.mark.parametrize(("format", "layouts"), [("onnx", "table"), ("engine", "fastest")])
def test_layouts_are_of_the_engine_and_have_two_names(format, layouts) -> None:
    complain(lambda: check_layouts(format, layouts), f"--layouts {layouts}", kind=ExportError)


def test_products_are_timed_for_real() -> None:
    """A hundredth of the weights takes less time than all of them: five times less, on a quiet machine."""
    weight = matrix(0.99, rows=512, columns=768)
    time = time_here()
    assert time is not None
    all_of_them, few = time([dense(weight, "fp32"), sparse(weight, "fp32", tile=128)], 36)
    assert 0 < few < all_of_them < 1
