"""Laws of the bitmask file: what goes in comes out, its size is known beforehand, and no damaged file is believed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from math import prod
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from transformers import LxmertConfig

from lxcompress.bitmask import (
    PRECISIONS,
    UNSIGNED,
    bitmask_bytes,
    compute_digest,
    iterate_tensors,
    pack,
    read_bitmask,
    read_masks,
    unpack,
    write_bitmask,
)
from lxcompress.errors import ExportError, TicketError
from lxcompress.models import lxmert
from lxcompress.pruning.scope import keep_count
from tests.complain import complain

ROOT = Path(__file__).resolve().parents[1]
SHAPES = ((), (1,), (7,), (8,), (9,), (0,), (3, 5), (1, 1), (16, 8), (5, 0), (0, 5), (2, 3, 11), (4, 3, 2, 2))
FILLS: dict[str, float | None] = {"unmasked": None, "empty": 0.0, "tenth": 0.1, "half": 0.5, "all": 1.0}
HALF_STEP = 0.5 * (1 + 1e-4)
"""Half a step, and what float32 adds as it divides and multiplies."""


def draw(shape: tuple[int, ...], fill: float | None, seed: int = 0) -> tuple[np.ndarray, np.ndarray | None]:
    """A weight of values of all sizes, zeros among them, and its mask, if `fill` says how much of it is kept."""
    rng = np.random.default_rng(seed)
    weight = (rng.normal(size=shape) * 10.0 ** rng.integers(-6, 4, shape)).astype(np.float32)
    weight = np.where(rng.random(shape) < 0.1, np.float32(-0.0), weight).astype(np.float32)
    if fill is None:
        return weight, None
    mask = np.asarray(rng.random(shape) < fill)
    return np.where(mask, weight, np.float32(0)), mask


def draw_all(fill: float | None) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """A tensor of each shape, and one beside them that has no mask."""
    drawn = {f"layer.{number}/odd name é": draw(shape, fill, number) for number, shape in enumerate(SHAPES)}
    weights = {name: weight for name, (weight, _) in drawn.items()} | {"beside": draw((6, 3), None)[0]}
    return weights, {name: mask for name, (_, mask) in drawn.items() if mask is not None}


@pytest.fixture(params=FILLS)
def model(request) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Weights, and masks that keep so much of them."""
    return draw_all(FILLS[request.param])


def same_bits(one: np.ndarray, other: np.ndarray) -> bool:
    return one.shape == other.shape and one.dtype == other.dtype and one.tobytes() == other.tobytes()


def expected(weight: np.ndarray, precision: str) -> np.ndarray:
    return weight.astype(np.float16).astype(np.float32) if precision == "fp16" else weight


@pytest.mark.parametrize("precision", PRECISIONS)
def test_what_goes_in_comes_out(model, precision, tmp_path) -> None:
    weights, masks = model
    write_bitmask(tmp_path / "b.safetensors", weights, masks, precision=precision)
    found, kept = read_bitmask(tmp_path / "b.safetensors"), read_masks(tmp_path / "b.safetensors")
    assert found.keys() == weights.keys()
    assert kept.keys() == masks.keys()
    assert all(same_bits(kept[name], mask) for name, mask in masks.items())
    for name, weight in weights.items():
        if precision != "int8" or weight.ndim < 2:
            assert same_bits(found[name], expected(weight, precision)), name
        else:
            rows = np.abs(weight.astype(np.float64)).reshape(len(weight), prod(weight.shape[1:])).max(1, initial=0)
            error = np.abs(found[name].astype(np.float64) - weight).reshape(len(weight), prod(weight.shape[1:]))
            assert (error <= HALF_STEP * rows[:, None] / 127).all(), name
            assert found[name].dtype == np.float32
        if name in masks:
            assert not found[name][~masks[name]].any()
    assert [path.name for path in tmp_path.iterdir()] == ["b.safetensors"]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_size_is_known_from_shapes_alone(model, precision, tmp_path) -> None:
    weights, masks = model
    write_bitmask(tmp_path / "b.safetensors", weights, masks, precision=precision)
    shapes = {name: weight.shape for name, weight in weights.items()}
    kept = {name: int(mask.sum()) for name, mask in masks.items()}
    assert bitmask_bytes(shapes, kept, precision=precision) == (tmp_path / "b.safetensors").stat().st_size


def slowly(weight: np.ndarray, mask: np.ndarray) -> tuple[list[int], list[float]]:
    """Bits and kept values, one after another."""
    octets, values = [0] * -(-weight.size // 8), []
    for index, (value, kept) in enumerate(zip(weight.flatten().tolist(), mask.flatten().tolist(), strict=True)):
        if kept:
            octets[index // 8] |= 1 << (7 - index % 8)
            values.append(value)
    return octets, values


@pytest.mark.parametrize("fill", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_packing_is_what_it_obviously_is(shape, fill) -> None:
    weight, mask = draw(shape, fill)
    assert mask is not None
    packed = pack(weight, mask, precision="fp32")
    assert packed.bits is not None
    assert (packed.bits.tolist(), packed.values.tolist()) == slowly(weight, mask)
    assert same_bits(unpack(packed), weight)
    assert packed.mask is not None
    assert same_bits(packed.mask, mask)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_kept_zero_stays_kept(precision, tmp_path) -> None:
    weight = np.array([[0.0, 100.0, 1e-3, 0.0], [0.0, 0.0, 0.0, 0.0]], np.float32)
    mask = np.array([[True, True, True, False], [True, False, False, True]])
    write_bitmask(tmp_path / "b", {"w": weight}, {"w": mask}, precision=precision)
    assert same_bits(read_masks(tmp_path / "b")["w"], mask)
    found = read_bitmask(tmp_path / "b")["w"]
    assert found[0, 1] == pytest.approx(100, rel=1e-6)
    assert (found[0, 2] == 0) == (precision == "int8")  # rounded to zero there, and kept nevertheless


@pytest.mark.parametrize("largest", [1e-45, 3e-45, 1e-40, 1e-30, 1.0, 3.4e38])
def test_a_row_of_any_size_is_half_a_step_away_at_most(largest) -> None:
    rng = np.random.default_rng(0)
    weight = (rng.uniform(-1, 1, (3, 50)) * largest).astype(np.float32)
    weight[:, 0] = np.float32(largest)
    packed = pack(weight, precision="int8")
    assert packed.scales is not None
    assert np.abs(packed.values).max() <= 127
    error = np.abs(packed.values * packed.scales.astype(np.float64)[:, None] - weight)
    assert (error <= HALF_STEP * packed.scales[:, None]).all()


def test_a_scale_is_the_smallest_that_reaches_the_largest_weight() -> None:
    weight = np.abs(draw((200, 3), None)[0]) + np.float32(1e-9)
    weight[0] = 127
    scales = pack(weight, precision="int8").scales
    assert scales[0] == 1
    below = np.nextafter(scales, np.float32(0)).astype(np.float64)
    assert (127 * scales.astype(np.float64) >= weight.max(1)).all()
    assert (127 * below < weight.max(1)).all()


def test_the_same_weights_give_the_same_bytes(tmp_path) -> None:
    weights, masks = draw_all(0.5)
    for place in ("a", "b"):
        write_bitmask(tmp_path / place, weights, masks, precision="int8")
    write_bitmask(tmp_path / "c", dict(reversed(weights.items())), dict(reversed(masks.items())), precision="int8")
    assert len({(tmp_path / place).read_bytes() for place in ("a", "b", "c")}) == 1


def test_any_safetensors_library_opens_it_and_all_is_aligned(tmp_path) -> None:
    weights, masks = draw_all(0.5)
    write_bitmask(tmp_path / "b", weights, masks, precision="int8")
    stored = load_file(tmp_path / "b")
    assert {key.split("/", 1)[0] for key in stored} == {"bits", "values", "scales"}
    raw = (tmp_path / "b").read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:start])
    for key, array in stored.items():
        assert (start + header[key]["data_offsets"][0]) % array.itemsize == 0


def test_half_precision_weights_are_taken_as_they_are(tmp_path) -> None:
    weight = draw((5, 9), None)[0].clip(-9, 9).astype(np.float16)
    write_bitmask(tmp_path / "b", {"w": weight}, precision="fp32")
    assert same_bits(read_bitmask(tmp_path / "b")["w"], weight.astype(np.float32))


@pytest.mark.parametrize(("precision", "most"), [("fp16", 0.32), ("int8", 0.175)])
def test_half_of_full_size_lxmert_is_as_small_as_it_should_be(precision, most) -> None:
    config = LxmertConfig(num_qa_labels=3129)
    whole = lxmert.FAMILY.shapes(config)
    live = {name: shape for name, shape in whole.items() if not lxmert.FAMILY.is_dead(name, config)}
    kept = {
        name: keep_count(shape.numel(), 0.5) for name, shape in live.items() if lxmert.FAMILY.is_prunable(name, shape)
    }
    size = bitmask_bytes(live, kept, precision=precision)
    assert size <= most * 4 * sum(shape.numel() for shape in live.values())  # and so of the whole model, 3 % more
    table = (ROOT / "docs" / "format.md").read_text(encoding="utf-8")
    (row,) = re.findall(r"^\| 50 % \|(.*)\|$", table, re.MULTILINE)
    assert row.split("|")[list(PRECISIONS).index(precision)].strip() == f"{size / 1e6:.1f} MB"


def test_reading_needs_no_torch(tmp_path) -> None:
    weights, masks = draw_all(0.5)
    write_bitmask(tmp_path / "b", weights, masks, precision="fp16")
    code = (
        "import sys; from pathlib import Path; from lxcompress.bitmask import read_bitmask, read_masks;"
        "path = Path(sys.argv[1]); assert len(read_bitmask(path)) == 14 and len(read_masks(path)) == 13;"
        "sys.exit(any(name.split('.')[0] in ('torch', 'transformers', 'onnx') for name in sys.modules))"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "b")], cwd=ROOT, check=True)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_memory_is_that_of_one_tensor(precision, tmp_path) -> None:
    weights = {f"w{number}": draw((400, 640), None, number)[0] for number in range(12)}
    masks = {name: np.abs(weight) > 0.1 for name, weight in weights.items()}
    weights = {name: weight * masks[name] for name, weight in weights.items()}
    size = weights["w0"].nbytes

    def peak(work: Callable[[], object]) -> int:
        tracemalloc.start()
        work()
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    assert peak(lambda: write_bitmask(tmp_path / "b", weights, masks, precision=precision)) < 4 * size
    assert peak(lambda: [unpack(packed).shape for _, packed in iterate_tensors(tmp_path / "b")]) < 5 * size


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_weights_that_are_no_numbers_are_refused(bad, precision, tmp_path) -> None:
    weight = np.ones((3, 3), np.float32)
    weight[1, 1] = bad
    wish = {"precision": precision}
    complain(lambda: write_bitmask(tmp_path / "b", {"a.b": weight}, **wish), "a.b", "NaN or infinite", kind=ExportError)
    assert not list(tmp_path.iterdir())


def test_what_half_precision_cannot_hold_is_refused_by_name(tmp_path) -> None:
    for value in (65520.0, -65520.0, 1e9):
        weights = {"fine": np.ones(3, np.float32), "a.b": np.array([1, value], np.float32)}
        complain(lambda w=weights: write_bitmask(tmp_path / "b", w, precision="fp16"), "a.b", "65504", kind=ExportError)
        write_bitmask(tmp_path / "wider", weights, precision="fp32")
    write_bitmask(tmp_path / "b", {"w": np.array([65519.9, -65504.0], np.float32)}, precision="fp16")
    assert read_bitmask(tmp_path / "b")["w"].tolist() == [65504.0, -65504.0]


@pytest.mark.parametrize(
    ("masks", "named"),
    [
        ({"w": np.zeros((2, 2), bool)}, "removed"),
        ({"w": np.ones((2, 3), bool)}, "does not fit"),
        ({"w": np.ones((2, 2), np.uint8)}, "does not fit"),
        ({"v": np.ones((2, 2), bool)}, "does not fit"),
    ],
)
def test_masks_that_do_not_hold_are_refused(masks, named, tmp_path) -> None:
    weights = {"w": np.ones((2, 2), np.float32)}
    complain(lambda: write_bitmask(tmp_path / "b", weights, masks, precision="fp32"), named, kind=ExportError)
    assert not list(tmp_path.iterdir())


def test_what_is_no_float_and_no_precision_is_refused(tmp_path) -> None:
    for kind in (np.int64, np.float64, bool):
        weights = {"ids": np.ones(3, kind)}
        complain(lambda w=weights: write_bitmask(tmp_path / "b", w, precision="fp32"), "ids", kind=ExportError)
    complain(lambda: write_bitmask(tmp_path / "b", {}, precision="int4"), "int4", "int8", kind=ExportError)


@pytest.fixture
def file(tmp_path) -> Path:
    """A file of each kind of tensor."""
    weights = {"w": draw((3, 7), 0.5)[0], "dense": draw((2, 2), None)[0], "bias": draw((3,), None)[0]}
    write_bitmask(tmp_path / "b", weights, {"w": draw((3, 7), 0.5)[1]}, precision="int8")
    return tmp_path / "b"


def refused(path: Path, *named: object) -> None:
    for read in (read_bitmask, read_masks):
        complain(lambda read=read: read(path), path, *named, kind=TicketError)


def test_a_flipped_bit_anywhere_is_found(file) -> None:
    raw = file.read_bytes()
    for index in range(len(raw)):
        file.write_bytes(raw[:index] + bytes([raw[index] ^ 1 << index % 8]) + raw[index + 1 :])
        complain(lambda: read_bitmask(file), file, kind=TicketError)
    file.write_bytes(raw)
    assert len(read_bitmask(file)) == 3


def test_a_file_that_is_cut_off_anywhere_is_refused(file) -> None:
    raw = file.read_bytes()
    for length in range(len(raw)):
        file.write_bytes(raw[:length])
        complain(lambda: read_bitmask(file), file, kind=TicketError)
    file.write_bytes(raw + b"\0")
    complain(lambda: read_bitmask(file), file, kind=TicketError)


def forge(path: Path, change: Callable[[dict, dict], None]) -> None:
    """Changes tensors and metadata, and computes the checksum anew, as someone would who knows the format."""
    with safe_open(path, framework="np") as opened:
        about = dict(opened.metadata())
    tensors = load_file(path)
    about["sha256"] = UNSIGNED
    change(tensors, about)
    save_file(tensors, path, metadata=about)
    if about.get("sha256") == UNSIGNED:
        digest = compute_digest(path, UNSIGNED)
        path.write_bytes(path.read_bytes().replace(UNSIGNED.encode(), digest.encode()))


def set_shape(*shape: object) -> Callable[[dict, dict], None]:
    return lambda tensors, about: about.update(shapes=json.dumps({"w": list(shape)}))


def drop(key: str) -> Callable[[dict, dict], None]:
    return lambda tensors, about: tensors.pop(key)


def put(key: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[dict, dict], None]:
    return lambda tensors, about: tensors.update({key: change(tensors[key])})


def tell(**fields: str) -> Callable[[dict, dict], None]:
    return lambda tensors, about: about.update(fields)


def set_last_bit(bits: np.ndarray) -> np.ndarray:
    bits[-1] |= 1
    return bits


def set_nan(array: np.ndarray) -> np.ndarray:
    array[0] = np.nan
    return array


FORGED: dict[str, tuple[Callable[[dict, dict], None], str]] = {
    "a wide shape": (set_shape(3, 9), "bits/w is"),
    "a short shape": (set_shape(7), "scales/w"),
    "another order of rows": (set_shape(7, 3), "scales/w is [3], expected [7]"),
    "an absurd shape": (set_shape(10**12, 7), "bits/w is"),
    "an overflowing shape": (set_shape(2**32, 2**32), "is too large"),
    "a negative shape": (set_shape(-3, -7), "not a list of whole numbers"),
    "a shape of words": (set_shape("3", "7"), "not a list of whole numbers"),
    "a shape of truths": (set_shape(3, 7, True), "not a list of whole numbers"),
    "a shape of fractions": (set_shape(3.0, 7), "not a list of whole numbers"),
    "shapes that are a list": (tell(shapes="[]"), "is not a JSON object"),
    "shapes that are nothing": (tell(shapes="{"), "cannot be read"),
    "shapes without end": (tell(shapes="[" * 100_000), "cannot be read"),
    "shapes is too large": (tell(shapes='{"w": [3, 7], "../../x": [1]}'), "is missing"),
    "a mask forgotten": (tell(shapes="{}"), "bits/w is unexpected"),
    "no shapes": (lambda tensors, about: about.pop("shapes"), "it has no 'shapes'"),
    "no checksum": (lambda tensors, about: about.pop("sha256"), "it has no 'sha256'"),
    "a checksum that is empty": (tell(sha256=""), "exactly one SHA-256"),
    "a checksum twice": (lambda tensors, about: about.update(sha256="a" * 64, more="a" * 64), "exactly one SHA-256"),
    "another kind": (tell(kind="pt"), "expected lxcompress.bitmask"),
    "no version": (tell(version="one"), "its version is 'one'"),
    "a precision of its own": (tell(precision="int4"), "its precision is 'int4'"),
    "another precision": (tell(precision="fp32"), "unexpected"),
    "bits missing": (drop("bits/w"), "bits/w is missing"),
    "values missing": (drop("values/w"), "unexpected"),
    "scales missing": (drop("scales/dense"), "scales/dense is missing"),
    "a stranger": (lambda tensors, about: tensors.update(x=np.ones(1, np.uint8)), "x is unexpected"),
    "fewer bits": (put("bits/w", lambda bits: bits[:-1]), "bits/w is [2], expected [3]"),
    "bits beyond the end": (put("bits/w", set_last_bit), "beyond its end"),
    "bits turned": (put("bits/w", lambda bits: ~bits & 0b11111000), "keeps another number"),
    "a value more": (put("values/w", lambda values: np.append(values, values[:1])), "keeps another number"),
    "values in a shape": (put("values/w", lambda values: values[None]), "expected 1"),
    "values of another kind": (put("values/w", lambda values: values.astype(np.float32)), "float32, expected int8"),
    "a vector in int8": (put("values/bias", lambda values: values.astype(np.int8)), "int8, expected float32"),
    "bits of another kind": (put("bits/w", lambda bits: bits.astype(np.int8)), "int8, expected uint8"),
    "a value that is no number": (put("values/bias", set_nan), "NaN or infinite"),
    "a scale that is no number": (put("scales/w", set_nan), "NaN or infinite"),
    "a scale below zero": (put("scales/w", lambda scales: -1 - scales), "negative scale"),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_file_that_contradicts_itself_is_refused(name, file) -> None:
    change, named = FORGED[name]
    forge(file, change)
    tracemalloc.start()
    refused(file, named)
    assert tracemalloc.get_traced_memory()[1] < 4_000_000  # whatever sizes it claims
    tracemalloc.stop()


@pytest.mark.parametrize("shape", [(0, 10**30), (2**62, 0), (2**31, 2**31, 0), (0,) * 100])
def test_a_shape_of_nothing_and_of_anything_is_refused(shape, tmp_path) -> None:
    write_bitmask(tmp_path / "b", {"w": np.zeros((0, 5), np.float32)}, {"w": np.zeros((0, 5), bool)}, precision="fp32")
    forge(tmp_path / "b", set_shape(*shape))
    refused(tmp_path / "b", "is too large")


@pytest.mark.parametrize(
    ("shape", "beyond"), [((0, 2**48), (0, 2**48 + 1)), ((0, 2**47, 2), (0, 2**47, 3)), ((0,) * 32, (0,) * 33)]
)
def test_the_largest_shapes_are_read_and_no_larger_ones(shape, beyond, tmp_path) -> None:
    write_bitmask(tmp_path / "b", {"w": np.zeros((0, 5), np.float32)}, {"w": np.zeros((0, 5), bool)}, precision="fp32")
    forge(tmp_path / "b", set_shape(*shape))
    assert read_bitmask(tmp_path / "b")["w"].shape == shape
    forge(tmp_path / "b", set_shape(*beyond))
    refused(tmp_path / "b", "is too large")


def test_a_version_has_nine_digits_at_most(file) -> None:
    forge(file, tell(version="9" * 9))
    refused(file, "upgrade lxcompress")
    forge(file, tell(version="9" * 10))
    refused(file, "its version is")


def test_forging_nothing_leaves_a_file_that_is_read(file) -> None:
    before = read_bitmask(file)
    forge(file, lambda tensors, about: None)
    after = read_bitmask(file)
    assert all(same_bits(after[name], weight) for name, weight in before.items())


def test_a_newer_version_is_refused_before_anything_else(file) -> None:
    forge(file, lambda tensors, about: about.update(version="2", sha256="of another kind"))
    refused(file, "version 2", "reads versions up to 1", "upgrade lxcompress")


@pytest.mark.parametrize(
    "make", [lambda path: None, lambda path: path.mkdir(), lambda path: path.write_bytes(b"x" * 99)]
)
def test_what_is_no_file_of_this_kind_is_one_sentence(make, tmp_path) -> None:
    make(tmp_path / "b")
    refused(tmp_path / "b", "cannot be read as a bitmask checkpoint")


def test_a_header_that_claims_more_than_there_is_is_one_sentence(tmp_path) -> None:
    for size in (2**63, 10**8, 300):
        (tmp_path / "b").write_bytes(size.to_bytes(8, "little") + b"{}")
        refused(tmp_path / "b")


def blocks(language: str) -> list[str]:
    """The code blocks of docs/format.md in a language."""
    text = (ROOT / "docs" / "format.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


EXAMPLE = np.array([[0, 1.5, 0, 0, -2, 0, 0, 0], [0.5, 0, 0, 0, 0, 0, 3, 0.25]], np.float32)
KEPT = (EXAMPLE != 0) | (np.arange(16).reshape(2, 8) == 3)


def test_the_bytes_of_the_page_are_those_of_the_file(tmp_path) -> None:
    write_bitmask(tmp_path / "b", {"w": EXAMPLE}, {"w": KEPT}, precision="int8")
    (dump,) = (block for block in blocks("") if block.startswith("00000000"))
    told = bytes.fromhex("".join(line[10:58] for line in dump.splitlines()))
    assert told == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_reader_of_the_page_reads_as_this_package_does(model, precision, tmp_path) -> None:
    (code,) = (block for block in blocks("python") if block.startswith("import json"))
    assert "lxcompress" not in code
    space: dict = {}
    exec(compile(code, "docs/format.md", "exec"), space)
    weights, masks = model
    write_bitmask(tmp_path / "b", weights, masks, precision=precision)
    found, ours = space["read"](tmp_path / "b"), read_bitmask(tmp_path / "b")
    assert found.keys() == ours.keys()
    assert all(same_bits(found[name], weight) for name, weight in ours.items())
