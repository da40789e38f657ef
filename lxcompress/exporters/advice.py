"""Advice: what sparsity gains in each format, before anything is trained.

File sizes are computed from the shapes of a model's tensors. A size counts every byte that is stored of the tensors. It
leaves out the graph and the names, which are a thousandth of a full-size file. Speeds are measured: measured.json in
this folder has the numbers of one machine. To use another machine, measure there and replace all numbers together
(docs/advise.md says what to measure).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import prod
from pathlib import Path
from typing import Any

from lxcompress.bitmask import bitmask_bytes
from lxcompress.catalog.formats import all_formats, find_format, stores_zeros
from lxcompress.errors import ExportError
from lxcompress.exporters.formats import check_format, check_precision
from lxcompress.records import FileRecord, Record, read_record
from lxcompress.units import percent, short_percent

SPARSITIES = (0.5, 0.7, 0.9)
VQA_ANSWERS = 3129
"""The size of the VQA v2.0 vocabulary that LXMERT's authors published."""
VALUE_BYTES: Mapping[str, int] = {"fp32": 4, "fp16": 2, "bf16": 2, "int8": 1, "int8-static": 1}
INDEX_BYTES = 8
"""The bytes of a value's index in a sparse initializer: ONNX's checker accepts only COO with 64-bit indices."""
ENGINE_INDEX_BYTES, ENGINE_GROUP_SHARE = 1, 2 / 128
"""Two numbers of bytes in an engine file, whose matrices are cut into tiles of 128 inputs.

The first is the index of a kept value in its tile. The second is what each weight of the matrix (kept or removed) adds:
a tile stores 2 bytes for each output, and a weight has 1/128 of them.
"""
ENGINE_SCALE_BYTES = 4 + 4
"""The bytes that an engine file adds for each output of an int8 matrix: a float32 scale, and the sum of the values."""
SCALE_BYTES = 4 + 1
"""The bytes that ONNX adds for each output of an int8 matrix: a float32 scale, and an int8 zero point."""
BLOCK_4_BITS, BLOCK_BYTES = 32, 16 + 4
"""The weights of a block of a matrix in int4, and its bytes: half a byte for each weight, and a float32 scale."""
Shapes = Mapping[str, Sequence[int]]


class DenseTimes(Record):
    """The latency and the memory of a dense model in one runtime.

    `latency_ms` maps the number of threads to milliseconds.
    """

    runtime: str
    precision: str
    latency_ms: dict[str, float]
    peak_mb: float


class SparseTimes(Record):
    """The latency of a pruned model in a runtime that skips zeros.

    `latency_ms` maps the sparsity, then the number of threads, to milliseconds.
    """

    runtime: str
    remark: str
    latency_ms: dict[str, dict[str, float]]


class EngineTimes(Record):
    """The latency of lxcompress's engine on one thread.

    `latency_ms` maps the kind of ticket, then the sparsity, to milliseconds.
    """

    runtime: str
    remark: str
    latency_ms: dict[str, dict[str, float]]


class StructuredTimes(Record):
    """The latency of structured (smaller) models: sparsity -> their latency divided by that of the whole model."""

    runtime: str
    latency_ratio: dict[str, float]


class MeasuredFacts(FileRecord):
    """The content of measured.json: latencies and memory, the machine, and the date of the measurement.

    `faster_with_zeros` names the formats that a runtime of lxcompress answers faster from when weights are zero.
    """

    machine: str
    date: str
    task: str
    runtimes: list[DenseTimes]
    faster_with_zeros: list[str]
    engine: EngineTimes
    deepsparse: SparseTimes
    structured: StructuredTimes


@dataclass(frozen=True)
class Sizes:
    """The shapes of a model's tensors, and which of them are pruned.

    `dead` is the number of weights that no answer depends on. They are not in `shapes`: only a transformers folder
    stores them.
    """

    name: str
    shapes: Shapes
    prunable: frozenset[str]
    dead: int = 0

    @property
    def weights(self) -> int:
        """The number of weights of the model, without those that no answer depends on."""
        return sum(map(prod, self.shapes.values()))

    @property
    def prunable_weights(self) -> int:
        """The number of prunable weights."""
        return sum(prod(self.shapes[name]) for name in self.prunable)

    def kept(self, sparsity: float) -> dict[str, int]:
        """Return {prunable matrix: how many of its weights are kept}, if every matrix has this sparsity (0-1)."""
        sizes = {name: prod(self.shapes[name]) for name in sorted(self.prunable)}
        return {name: size - round(size * sparsity) for name, size in sizes.items()}


@dataclass(frozen=True)
class SizeEstimate:
    """The estimated size of a file at one sparsity (0-1), in bytes.

    `of_same` is the size divided by that of the dense file in the same precision. `of_fp32` is the size divided by that
    of the dense weights in fp32.
    """

    sparsity: float
    bytes: int
    of_same: float
    of_fp32: float


@dataclass(frozen=True)
class Advice:
    """The gains of sparsity in one format and precision.

    The file is smaller than the dense one above the sparsity `break_even` (0-1). If `break_even` is None, no sparsity
    makes the file smaller.
    """

    format: str
    precision: str
    break_even: float | None
    estimates: tuple[SizeEstimate, ...]


def check_advice(sparsities: Sequence[float], format: str | None, precision: str | None) -> None:
    """Raise ExportError for a sparsity outside of 0-1, or an unknown format or precision; torch is not imported."""
    wrong = [sparsity for sparsity in sparsities if not 0 < sparsity < 1]
    if wrong:
        raise ExportError(f"--sparsity {wrong[0]:g}: is a share of the weights between 0 and 1, such as 0.5 for 50 %")
    if format:
        check_format(format, precision)


def advise(
    sizes: Sizes,
    *,
    sparsities: Sequence[float] = SPARSITIES,
    format: str | None = None,
    precision: str | None = None,
) -> list[Advice]:
    """Return one Advice, with the file size at each sparsity, for each format and precision. Raises ExportError.

    `format` and `precision` restrict the result to one format or one precision; None stands for all.
    """
    check_advice(sparsities, format, precision)
    chosen = [find_format(format)] if format else all_formats()
    pairs = [(spec.name, name) for spec in chosen for name in spec.precisions if precision in (None, name)]
    if not pairs:
        check_precision(precision or "")
    return [_advise(sizes, name, chosen_precision, sparsities) for name, chosen_precision in pairs]


def file_bytes(sizes: Sizes, sparsity: float, *, format: str, precision: str) -> int:
    """Return the bytes of the tensors in a file whose prunable matrices all have this sparsity (0-1).

    In the formats onnx-sparse and engine every prunable matrix is counted as sparse. That holds even where the sparse
    form is larger, and an export would refuse the matrix or store it dense.
    """
    kept = sizes.kept(sparsity)
    if format == "bitmask":
        return bitmask_bytes(sizes.shapes, kept if sparsity else {}, precision=precision)
    if precision == "int4":
        return sum(_int4_bytes(shape) for shape in sizes.shapes.values())
    value = VALUE_BYTES[precision]
    total = sizes.dead * value if format == "transformers" else 0
    for name, shape in sizes.shapes.items():
        size, is_matrix = prod(shape), len(shape) == 2
        if precision.startswith("int8"):
            value = 1 if is_matrix and not (find_format(format).keeps_embeddings and ".embeddings." in name) else 4
            scale = ENGINE_SCALE_BYTES if format == "engine" else SCALE_BYTES
            total += scale * shape[0] if name in sizes.prunable else 0
        elif precision == "bf16":
            value = VALUE_BYTES[precision] if is_matrix else VALUE_BYTES["fp32"]
        if name not in sizes.prunable or not sparsity or stores_zeros(format, precision):
            total += size * value
        elif format == "onnx-sparse":
            total += kept[name] * (INDEX_BYTES + value)
        elif format == "engine":
            total += kept[name] * (ENGINE_INDEX_BYTES + value) + round(size * ENGINE_GROUP_SHARE)
        elif format == "coreml":
            total += -(-size // 8) + kept[name] * value
        else:
            total += size * value
    return total


def break_even(format: str, precision: str) -> float | None:
    """Return the sparsity (0-1) above which a pruned matrix takes fewer bytes than a dense one of the same shape.

    Returns None if the format stores zeros in this precision.
    """
    if stores_zeros(format, precision):
        return None
    value = VALUE_BYTES[precision]
    if format == "onnx-sparse":
        return INDEX_BYTES / (INDEX_BYTES + value)
    if format == "engine":
        per_weight = ENGINE_INDEX_BYTES + ENGINE_GROUP_SHARE
        return per_weight / (ENGINE_INDEX_BYTES + value)
    return 1 / (8 * value)


def _int4_bytes(shape: Sequence[int]) -> int:
    """Return the bytes of a tensor in int4: a matrix in blocks, or in fp32 if that is smaller; a vector in fp32."""
    plain = 4 * prod(shape)
    return min(plain, shape[0] * -(-shape[1] // BLOCK_4_BITS) * BLOCK_BYTES) if len(shape) == 2 else plain


def structured_bytes(sizes: Sizes, sparsity: float, *, precision: str = "fp32") -> int:
    """Return the bytes of a structured (smaller) model that keeps as many prunable weights as `sparsity` (0-1) does.

    The biases of removed neurons and heads are counted too, so the true model is a little smaller.
    """
    return (sizes.weights - round(sizes.prunable_weights * sparsity)) * VALUE_BYTES[precision]


def verdict(advice: Advice, estimate: SizeEstimate) -> str:
    """Return one sentence that says what a sparsity gains in one format and precision.

    For example: 50 % as ONNX COO fp32: +43 % file, no speed; smaller than dense above 66.7 %.
    """
    spec = find_format(advice.format)
    opening = f"{short_percent(estimate.sparsity)} % as {spec.title or spec.name} {advice.precision}"
    size = "the same file" if abs(estimate.of_same - 1) < 0.005 else f"{_signed(estimate.of_same)} file"
    if advice.break_even is None:
        why = spec.keeps_zeros_in.get(advice.precision, "a zero is stored and multiplied like any value")
        return f"{opening}: {size}, no speed: {why}."
    speed = "faster" if advice.format in read_measured().faster_with_zeros else "no speed"
    if estimate.of_same >= 1:
        return f"{opening}: {size}, {speed}; smaller than dense above {percent(advice.break_even, 1)} %."
    return f"{opening}: {size}, {speed}: {spec.note}."


def instead(sizes: Sizes, sparsity: float) -> str:
    """Return one sentence that says what dense int8 and a structured ticket of this sparsity gain.

    They are the alternatives where unstructured zeros gain no speed.
    """
    measured = read_measured()
    dense, int8 = (file_bytes(sizes, 0, format="onnx", precision=precision) for precision in ("fp32", "int8"))
    smaller, time = structured_bytes(sizes, sparsity), measured.structured.latency_ratio.get(f"{sparsity:g}")
    own = {runtime.precision: runtime for runtime in measured.runtimes if runtime.runtime.startswith("ONNX Runtime")}
    gain = own["int8"].latency_ms["1"] / own["fp32"].latency_ms["1"]
    half = f" and {time:.2f} of the time" if time is not None else ""
    return (
        f"Instead, dense int8 is {int8 / dense:.2f} of the file and {gain:.2f} of the time without a study; "
        f"a structured ticket at {short_percent(sparsity)} % is {smaller / dense:.2f} of the file{half}."
    )


def advice_json(sizes: Sizes, found: Sequence[Advice]) -> dict[str, Any]:
    """Return the sizes, the measured facts and the structured alternative as plain JSON values."""
    sparsities = [estimate.sparsity for estimate in found[0].estimates]
    return {
        "version": 1,
        "model": sizes.name,
        "weights": sizes.weights,
        "prunable": sizes.prunable_weights,
        "formats": [
            {
                "format": advice.format,
                "precision": advice.precision,
                "break_even": advice.break_even,
                "sparsities": [{**vars(one), "verdict": verdict(advice, one)} for one in advice.estimates],
            }
            for advice in found
        ],
        "instead": {f"{sparsity:g}": instead(sizes, sparsity) for sparsity in sparsities},
        "structured_fp32_bytes": {f"{sparsity:g}": structured_bytes(sizes, sparsity) for sparsity in sparsities},
        "measured": read_measured().model_dump(mode="json"),
    }


def full_size() -> Sizes:
    """Return the sizes of LXMERT as its authors publish it, with the 3,129 answers of VQA and without dead weights."""
    from transformers import LxmertConfig

    from lxcompress.models import lxmert

    return sizes_of("full-size LXMERT", LxmertConfig(num_qa_labels=VQA_ANSWERS), lxmert.FAMILY)


def sizes_of_folder(folder: Path) -> Sizes:
    """Return the sizes of the model in a transformers folder. Raises ModelError."""
    from lxcompress.models.checkpoints import identify

    return sizes_of(str(folder), *identify(str(folder)))


def sizes_of(name: str, config: Any, family: Any) -> Sizes:
    """Return the sizes of a model's tensors, without those that no answer depends on."""
    shapes = {tensor: shape for tensor, shape in family.shapes(config).items() if not family.is_dead(tensor, config)}
    prunable = frozenset(tensor for tensor, shape in shapes.items() if family.is_prunable(tensor, shape))
    return Sizes(name, {tensor: tuple(shape) for tensor, shape in shapes.items()}, prunable, family.count_dead(config))


@cache
def read_measured() -> MeasuredFacts:
    """Return the measured facts that ship with the package."""
    return read_record(Path(__file__).with_name("measured.json"), MeasuredFacts, ExportError)


def _advise(sizes: Sizes, format: str, precision: str, sparsities: Sequence[float]) -> Advice:
    """Return the Advice for one format and one precision, with the file size at each sparsity."""
    same = file_bytes(sizes, 0, format=format, precision=precision)
    fp32 = sizes.weights * VALUE_BYTES["fp32"]
    sizes_at = {sparsity: file_bytes(sizes, sparsity, format=format, precision=precision) for sparsity in sparsities}
    estimates = tuple(SizeEstimate(sparsity, size, size / same, size / fp32) for sparsity, size in sizes_at.items())
    return Advice(format, precision, break_even(format, precision), estimates)


def _signed(ratio: float) -> str:
    """Return a ratio as a change in percent: 1.43 -> '+43 %', 0.7 -> '−30 %'."""
    return f"{100 * (ratio - 1):+.0f} %".replace("-", "−")
