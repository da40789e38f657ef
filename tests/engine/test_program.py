"""Laws of programs: the file has what was asked for, at its place, and the reference reads it as torch computes it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from lxcompress.engine import pack, records
from lxcompress.engine.pack import PackedWeight
from lxcompress.engine.program import ARRAYS, POSITION, Program
from lxcompress.engine.reader import read_weights
from lxcompress.errors import ExportError
from lxcompress.writing import WriteError
from tests.complain import complain
from tests.engine.reference import Reference, gelu, quantise, short_gelu

WIDTH, HEADS, MOST = 16, 2, 12
RNG = np.random.default_rng(11)


def draw(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


class Parts:
    """Weights of a model of both kinds of inputs."""

    words, positions, kinds = draw(20, WIDTH), draw(MOST, WIDTH), draw(2, WIDTH)
    seen, seen_bias = draw(WIDTH, 6), draw(WIDTH)
    gain, bias = draw(WIDTH), draw(WIDTH)
    qkv, qkv_bias = draw(3 * WIDTH, WIDTH) / 3, draw(3 * WIDTH)
    out, out_bias = draw(WIDTH, WIDTH) / 3, draw(WIDTH)
    head, head_bias = draw(5, WIDTH) / 8, draw(5) / 8


def build() -> Program:
    """Words, regions, a layer of attention over both, its residual and norm, and scores of the last word."""
    program = Program()
    tokens = program.rows("mask", MOST)
    objects = program.rows("seen", MOST)
    ids = program.ints("ids", tokens)
    features = program.floats("features", objects, 6)
    x = program.embed(pack.table(Parts.words, "fp32"), ids, tokens)
    x = program.embed(pack.table(Parts.positions, "fp32"), POSITION, tokens, onto=x)
    x = program.embed(pack.table(Parts.kinds, "fp32"), 1, tokens, onto=x)
    y = program.linear(program.load(features), pack.sparse(Parts.seen, "fp32"), Parts.seen_bias, activation="gelu")
    z = program.norm(program.join(x, y), Parts.gain, Parts.bias, 1e-12)
    qkv = program.linear(z, pack.dense(Parts.qkv, "fp32"), Parts.qkv_bias)
    queries, keys, values = (qkv.take(rows=(n * WIDTH, WIDTH)) for n in range(3))
    queries = queries.take(columns=tokens)
    a = program.attend(queries, keys, values, heads=HEADS, scale=(WIDTH // HEADS) ** -0.5)
    words = z.take(columns=tokens)
    a = program.linear(a, pack.sparse(Parts.out, "fp32"), Parts.out_bias, residual=words, activation="relu")
    a = program.norm(a, Parts.gain, Parts.bias, 1e-5, add=words)
    last = a.take(start=program.sum(tokens, add=-1), columns=program.constant(1))
    program.scores(program.linear(last, pack.dense(Parts.head, "fp32"), Parts.head_bias, activation="tanh"))
    return program


def by_torch(ids: np.ndarray, mask: np.ndarray, features: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """The same for one question, as torch has it, tokens by channels; padding is dropped beforehand."""
    tensors = {
        name: torch.from_numpy(value).double() for name, value in vars(Parts).items() if isinstance(value, np.ndarray)
    }
    part = type("Tensors", (), tensors)
    kept, regions = np.flatnonzero(mask), np.flatnonzero(seen)
    x = part.words[ids[kept]] + part.positions[kept] + part.kinds[1]
    given = torch.from_numpy(features[regions]).double()
    y = functional.gelu(functional.linear(given, part.seen, part.seen_bias))
    z = functional.layer_norm(torch.cat([x, y]), (WIDTH,), part.gain, part.bias, 1e-12)
    qkv = functional.linear(z, part.qkv, part.qkv_bias)
    q, k, v = (one.reshape(len(z), HEADS, -1).transpose(0, 1) for one in qkv.split(WIDTH, 1))
    a = functional.scaled_dot_product_attention(q[:, : len(kept)], k, v).transpose(0, 1).reshape(len(kept), WIDTH)
    words = z[: len(kept)]
    a = functional.relu(functional.linear(a, part.out, part.out_bias) + words)
    a = functional.layer_norm(a, (WIDTH,), part.gain, part.bias, 1e-5) + words
    return torch.tanh(functional.linear(a[-1], part.head, part.head_bias)).numpy()


def questions() -> dict[str, np.ndarray]:
    """Of different lengths, one with gaps."""
    rng = np.random.default_rng(2)
    mask = np.zeros((4, 9), np.int64)
    mask[0, :9] = mask[1, :4] = mask[2, [0, 2, 3, 8]] = mask[3, 0] = 1
    seen = np.zeros((4, 5), np.int64)
    seen[0, :5] = seen[1, :1] = seen[2, 2:4] = seen[3, [1, 4]] = 1
    features = rng.normal(size=(4, 5, 6)).astype(np.float32)
    return {"mask": mask, "seen": seen, "ids": rng.integers(0, 20, (4, 9)), "features": features}


def test_the_reference_reads_a_file_as_torch_computes_it(tmp_path: Path) -> None:
    build().write(tmp_path / "model.lxe")
    feeds = questions()
    scores = Reference(tmp_path / "model.lxe").run(feeds)
    for n in range(4):
        expected = by_torch(feeds["ids"][n], feeds["mask"][n], feeds["features"][n], feeds["seen"][n])
        assert np.allclose(scores[n], expected, rtol=1e-6, atol=1e-8)  # a scale is a float32


def test_the_reference_in_float32_is_near(tmp_path: Path) -> None:
    build().write(tmp_path / "model.lxe")
    scores = Reference(tmp_path / "model.lxe", np.float32).run(questions())
    assert scores.dtype == np.float32
    assert np.abs(scores - Reference(tmp_path / "model.lxe").run(questions())).max() < 1e-5


def test_what_quantise_rounds_is_within_half_a_step_and_zero_is_exact() -> None:
    x = np.concatenate([draw(300, 7), np.zeros((1, 7), np.float32)])
    x[:, 1], x[:, 2], x[:, 3] = abs(x[:, 1]), -abs(x[:, 2]), 0
    whole, step, zero = quantise(x)
    assert whole.min() == 0
    assert whole.max() == 255
    assert np.abs((whole - zero) * step - x).max() <= 1.001 * step.max()
    assert np.array_equal(whole[-1], zero)
    assert not (whole - zero)[:, 3].any()


def test_gelu_is_torchs() -> None:
    x = np.linspace(-8, 8, 1001)
    assert np.allclose(gelu(x), functional.gelu(torch.from_numpy(x)).numpy(), atol=1e-15)


def test_the_short_gelu_is_near_the_exact_one_and_meets_its_ends() -> None:
    x = np.linspace(-30, 30, 60_001)
    assert np.abs(short_gelu(x) - gelu(x)).max() < 5e-5
    beyond = x[np.abs(x) >= 4.25]
    assert np.abs((short_gelu(beyond) - np.maximum(beyond, 0)) / beyond).max() < 2e-6


PACKERS: dict[str, Callable[[np.ndarray], PackedWeight]] = {
    f"{layout} {type}": lambda weight, layout=layout, type=type: getattr(pack, layout)(weight, type)
    for layout in ("dense", "sparse")
    for type in pack.PRECISIONS
} | {"quantised": pack.quantised, "blocks": pack.blocks}
PACKERS |= {
    f"sparse {type} of {rows} rows": partial(pack.sparse, type=type, shared=rows)
    for type in ("fp32", "bf16")
    for rows in (2, 4)
} | {f"blocks of {rows} rows": partial(pack.blocks, shared=rows) for rows in (2, 4)}


@pytest.mark.parametrize("name", PACKERS)
def test_the_file_means_what_was_packed(tmp_path: Path, name: str) -> None:
    """The reference's own reading of the bytes, the reader's, and unpack's agree on every weight."""
    program = Program()
    size = program.rows("mask", 2)
    value = program.load(program.floats("x", size, 37))
    kept = []
    for rows, columns in ((37, 37), (131, 37), (6, 131), (1, 6), (300, 1), (5, 300)):
        weight = draw(rows, columns)
        weight[RNG.random(weight.shape) < 0.6] = 0
        weight[0] *= rows > 1
        kept.append(PACKERS[name](weight))
        value = program.linear(value, kept[-1])
    program.scores(value)
    program.write(tmp_path / "model.lxe")
    read, own = read_weights(tmp_path / "model.lxe"), Reference(tmp_path / "model.lxe").weights
    assert len(read) == len(own) == len(kept)
    for packed, again, weight in zip(kept, read, own, strict=True):
        assert np.array_equal(pack.unpack(packed), weight["matrix"].astype(np.float32))
        for field in ("layout", "type", "rows", "columns", "panel", "tile", "entries"):
            assert getattr(packed, field) == getattr(again, field)
        for array in ARRAYS:
            one, other = getattr(packed, array), getattr(again, array)
            assert (one is None) == (other is None), array
            assert one is None or (one.dtype == other.dtype and np.array_equal(one, other)), array


def test_tables_and_vectors_mean_what_was_packed(tmp_path: Path) -> None:
    tables = [pack.table(draw(5, 3), type) for type in pack.PRECISIONS]
    program = Program()
    size = program.constant(1)
    value = program.embed(tables[0], 0, size)
    for packed in tables[1:]:
        program.embed(packed, 4, size, onto=value)
    program.scores(program.norm(value, draw(3), draw(3), 1e-5))
    program.write(tmp_path / "model.lxe")
    own = Reference(tmp_path / "model.lxe").weights
    for packed, again, weight in zip(tables, read_weights(tmp_path / "model.lxe"), own, strict=False):
        assert np.array_equal(pack.unpack(packed), weight["matrix"].astype(np.float32))
        assert np.array_equal(pack.unpack(packed), pack.unpack(again))


def test_every_record_says_what_was_asked_for(tmp_path: Path) -> None:
    build().write(tmp_path / "model.lxe")
    model = Reference(tmp_path / "model.lxe")
    assert [tuple(size)[:5] for size in model.tables["sizes"]] == [
        (records.ROWS, -1, 0, 0, MOST),
        (records.ROWS, -1, 1, 0, MOST),
        (records.SUM, 0, 1, 0, 2 * MOST),
        (records.SUM, 0, -1, -1, MOST - 1),
        (records.CONSTANT, -1, -1, 1, 1),
    ]
    assert [tuple(one)[:5] for one in model.tables["inputs"]] == [
        (b"mask", records.INT64, 2, 1, 0),
        (b"seen", records.INT64, 2, 1, 1),
        (b"ids", records.INT64, 2, 1, 0),
        (b"features", records.FLOAT32, 3, 6, 1),
    ]
    ops = model.tables["ops"]
    codes = ["EMBED"] * 3 + ["LOAD", "LINEAR", "JOIN", "NORM", "LINEAR", "ATTEND", "LINEAR", "NORM", "LINEAR", "SCORES"]
    assert ops["code"].tolist() == [getattr(records, code) for code in codes]
    assert ops["adds"].tolist() == [0, 1, 1] + [0] * 10
    assert ops["mode"].tolist()[:3] == [records.BY_INPUT, records.BY_POSITION, records.BY_CONSTANT]
    assert ops["input"].tolist()[:4] == [2, -1, -1, 3]
    assert ops["count"].tolist() == [0, 0, 1, 0, 0, 0, 0, 0, HEADS, 0, 0, 0, 0]
    assert ops["activation"].tolist() == [0, 0, 0, 0, 1, 0, 0, 0, 0, 3, 0, 2, 0]
    assert ops["scalar"].tolist()[6:11] == [np.float32(v) for v in (1e-12, 0, 8**-0.5, 0, 1e-5)]
    assert [(one["row"], one["rows"], one["start"], one["columns"]) for one in ops[8]["in"]] == [
        (0, WIDTH, -1, 0),
        (WIDTH, WIDTH, -1, 2),
        (2 * WIDTH, WIDTH, -1, 2),
    ]
    assert tuple(ops[11]["in"][0])[1:] == (0, WIDTH, 3, 4)
    assert model.head["scores"] == 5
    for table in model.tables.values():
        assert not table["reserved"].any() if "reserved" in table.dtype.names else True
    assert not model.head["reserved"].any()


def test_no_operation_writes_what_it_or_a_later_one_still_reads(tmp_path: Path) -> None:
    """Along the file: a slice that is read must have the value that was meant, or torch would not have been met.

    Here, that there are fewer tensors than values, and that none is read and written at once.
    """
    build().write(tmp_path / "model.lxe")
    model = Reference(tmp_path / "model.lxe")
    written = [op for op in model.tables["ops"] if op["code"] != records.SCORES and not op["adds"]]
    assert len(model.tables["tensors"]) < len(written)
    for op in model.tables["ops"]:
        assert op["code"] == records.SCORES or op["out"] not in op["in"]["tensor"]


def test_a_chain_of_layers_takes_two_tensors(tmp_path: Path) -> None:
    program = Program()
    x = program.load(program.floats("x", program.rows("mask", 4), 8))
    for _ in range(9):
        x = program.linear(x, pack.dense(draw(8, 8), "fp32"))
    program.scores(x)
    program.write(tmp_path / "model.lxe")
    assert len(Reference(tmp_path / "model.lxe").tables["tensors"]) == 2


def test_weights_that_are_used_twice_are_written_once(tmp_path: Path) -> None:
    program = Program()
    x = program.load(program.floats("x", program.rows("mask", 4), 8))
    weight, bias = pack.dense(draw(8, 8), "fp32"), draw(8)
    for _ in range(3):
        x = program.linear(x, weight, bias.copy())
    program.scores(x)
    program.write(tmp_path / "model.lxe")
    assert len(read_weights(tmp_path / "model.lxe")) == 2


def test_the_same_calls_give_the_same_bytes(tmp_path: Path) -> None:
    build().write(tmp_path / "one.lxe")
    build().write(tmp_path / "two.lxe")
    assert (tmp_path / "one.lxe").read_bytes() == (tmp_path / "two.lxe").read_bytes()


def test_arrays_start_at_multiples_of_64_and_lie_apart(tmp_path: Path) -> None:
    build().write(tmp_path / "model.lxe")
    model = Reference(tmp_path / "model.lxe")
    spans = []
    for record, packed in zip(model.tables["weights"], read_weights(tmp_path / "model.lxe"), strict=True):
        for name in ARRAYS:
            array = getattr(packed, name)
            assert record[name] % 64 == 0
            if array is not None:
                spans.append((int(record[name]), int(record[name]) + array.nbytes))
    assert spans == sorted(spans)
    assert all(before[1] <= after[0] for before, after in pairwise(spans))
    assert int(model.head["data_start"]) + spans[-1][1] <= len(model.bytes)


def test_a_matrix_of_zeros_needs_no_entries(tmp_path: Path) -> None:
    program = Program()
    x = program.load(program.floats("x", program.rows("mask", 4), 8))
    x = program.linear(x, pack.sparse(np.zeros((6, 8), np.float32), "fp32"), draw(6))
    program.scores(program.linear(x, pack.blocks(np.zeros((3, 6), np.float32)), Parts.bias[:3]))
    program.write(tmp_path / "model.lxe")
    feeds = {"mask": np.ones((1, 2), np.int64), "x": draw(1, 2, 8)}
    assert np.allclose(Reference(tmp_path / "model.lxe").run(feeds), Parts.bias[:3])
    assert [packed.entries for packed in read_weights(tmp_path / "model.lxe")] == [0] * 4


def test_what_does_not_fit_is_an_assertion(tmp_path: Path) -> None:
    program = Program()
    size = program.rows("mask", 4)
    x = program.load(program.floats("x", size, 8))
    square, table = pack.dense(draw(8, 8), "fp32"), pack.table(draw(5, 8), "fp32")
    one = program.constant(1)
    wrong: list[Callable[[], object]] = [
        lambda: program.linear(x, pack.dense(draw(8, 7), "fp32")),
        lambda: program.linear(x, table),
        lambda: program.linear(x, square, draw(7)),
        lambda: program.linear(x, square, residual=x.take(columns=one)),
        lambda: program.linear(x.take(columns=one), square, residual=x),
        lambda: program.norm(x, draw(7), draw(8), 1e-5),
        lambda: program.attend(x, x, x.take(columns=one), heads=2, scale=1),
        lambda: program.attend(x, x, x, heads=3, scale=1),
        lambda: program.join(x, x.take(rows=(0, 4))),
        lambda: x.take(rows=(4, 5)),
        lambda: x.take(start=one),
        lambda: program.embed(table, 5, size),
        lambda: program.embed(table, POSITION, program.constant(6)),
        lambda: program.embed(table, 0, one, onto=x),
        lambda: program.embed(square, 0, one),
        lambda: program.ints("mask", size),
        lambda: program.ints("m" * 32, size),
        lambda: program.ints("ids", one),
        lambda: program.constant(0),
        lambda: program.sum(size, add=-4),
        lambda: program.write(tmp_path / "never.lxe"),
    ]
    for call in wrong:
        with pytest.raises(AssertionError):
            call()
    program.scores(x)
    with pytest.raises(AssertionError):
        program.scores(x)


def test_what_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "model.lxe").mkdir()
    complain(lambda: build().write(tmp_path / "model.lxe"), tmp_path / "model.lxe", kind=WriteError)


@pytest.mark.parametrize("length", [0, 5, 127, 128, 500])
def test_what_is_no_whole_file_is_not_read(tmp_path: Path, length: int) -> None:
    build().write(tmp_path / "model.lxe")
    (tmp_path / "cut.lxe").write_bytes((tmp_path / "model.lxe").read_bytes()[:length])
    complain(lambda: read_weights(tmp_path / "cut.lxe"), tmp_path / "cut.lxe", kind=ExportError)
