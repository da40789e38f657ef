"""Measure the sparse engine and the other runtimes: full-size LXMERT, one question at a time, in turns.

    python bench/full_size.py --work FOLDER
    python bench/engine.py --work FOLDER [--threads 1 2] [--lengths 20 9] [--runs 30] [--models 2x1-50 ...]
                           [--out FOLDER]

Tickets with single weights or blocks of 2 x 1 or 4 x 1 removed run in fp32, those with blocks of 1 x 4, 2 x 4 or 4 x 4
in int8; so does a model with half of its neurons and heads, and blocks removed from the rest. Every other runtime has
the dense model, because zeros do not change its speed (bench/peers.py). Ratios compare medians of the same rounds.
--models measures only the dense model and these in the engine, beside all other runtimes. A measurement that is already
in --out is not repeated; the ratios are computed again.
"""

from __future__ import annotations

import argparse
from collections.abc import Collection, Iterator
from pathlib import Path

from full_size import SPARSITIES
from peers import PEERS, Peer, find_folder, find_target

from lxcompress.filenames import ARTIFACT_FILE
from lxcompress.measure.artifacts import bench_plan
from lxcompress.measure.compare import compare_in_turns
from lxcompress.measure.plan import BenchGroup, BenchOptions, BenchPlan, BenchTarget, QuestionLengths
from lxcompress.records import BenchRecord, Measurement, read_record
from lxcompress.rundir import write_record, write_text
from lxcompress.stats import percentiles

WARMUP = 3
RIVALS = ("ONNX Runtime fp32", "ONNX Runtime int8", "OpenVINO f32", "OpenVINO bf16", "OpenVINO int8", "ExecuTorch int8")
DENSE_INT8 = ("ONNX Runtime int8", "OpenVINO int8", "ExecuTorch int8")
FLOAT_SHAPES = ("2x1", "4x1")
"""The blocks of fp32."""
SHAPES = ("1x4", "2x4", "4x4")
"""The blocks of int8, of the whole model and of a model with half of the neurons and heads."""
WITHIN = (40, 60, 70, 72, 76, 80)
"""The percentages of its blocks that are removed: 70, 80, 85, 86 and 90 % of the weights of the dense model."""
ENGINE: dict[str, tuple[str, str]] = {
    "engine fp32, dense": ("dense", "fp32"),
    **{f"engine fp32, {percent} %, single weights": (str(percent), "fp32") for percent in SPARSITIES},
    **{
        f"engine fp32, {percent} %, {shape}": (f"{shape}-{percent}", "fp32")
        for shape in FLOAT_SHAPES
        for percent in SPARSITIES
    },
    "engine int8, dense": ("dense", "int8"),
    **{
        f"engine int8, {percent} %, {shape}": (f"{shape}-{percent}", "int8")
        for shape in SHAPES
        for percent in SPARSITIES
    },
    **{
        f"engine int8, half, then {percent} %, {shape}": (f"smaller-{shape}-{percent}", "int8")
        for shape in SHAPES
        for percent in WITHIN
    },
}
"""Row -> the model and the precision of the engine's file."""
COLUMNS = tuple(sorted({*SPARSITIES, *WITHIN}))
"""The percentages of the columns of the table of speed-ups."""
FLOAT, INTEGER = "ONNX Runtime fp32", "the fastest dense int8"
Bars = dict[int, float]
BARS: dict[str, tuple[str, Bars, Bars]] = {
    "engine fp32, {} %, 4x1": (FLOAT, {50: 2.3, 70: 3.5, 80: 4.8, 90: 7.2}, {50: 2.6, 70: 4.0, 80: 5.6, 90: 9.0}),
    "engine fp32, {} %, 2x1": (FLOAT, {}, {}),
    "engine fp32, {} %, single weights": (FLOAT, {}, {}),
    "engine int8, {} %, 4x4": (INTEGER, {50: 1.8, 70: 2.6, 80: 3.4, 90: 4.6}, {50: 2.1, 70: 3.1, 80: 4.2, 90: 6.0}),
    "engine int8, {} %, 2x4": (INTEGER, {}, {}),
    "engine int8, {} %, 1x4": (INTEGER, {}, {}),
    **{
        f"engine int8, half, then {{}} %, {shape}": (INTEGER, dict.fromkeys(WITHIN, 4.0), dict.fromkeys(WITHIN, 6.0))
        for shape in SHAPES
    },
}
"""Rows -> what their times are compared with, the least speed-up and the goal, by sparsity in percent."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--lengths", type=int, nargs="+", default=[20, 9])
    parser.add_argument("--runs", type=int, default=30)
    names = sorted({model for model, _ in ENGINE.values()})
    parser.add_argument("--models", nargs="+", default=names, choices=names, metavar="MODEL")
    parser.add_argument("--out", type=Path, help="Folder for the benches (engine/) and their tables (engine.md).")
    options = parser.parse_args()
    out = options.out or options.work
    for threads in options.threads:
        for tokens in options.lengths:
            kept = out / "engine" / f"engine-{threads}-{tokens}.json"
            if not kept.is_file():
                write_record(
                    kept,
                    measure(options.work, options.models, BenchGroup(threads, QuestionLengths(tokens)), options.runs),
                )
            write_text(out / "engine.md", tables(out / "engine"))
            print(f"{threads} threads, {tokens} tokens: {kept}", flush=True)


def measure(work: Path, models: Collection[str], group: BenchGroup, runs: int) -> BenchRecord:
    """Measure `models` in the engine and the other runtimes, in turns; the baseline is ONNX Runtime in fp32."""
    rivals = [find_target(work, "dense", PEERS[name]) for name in RIVALS]
    files = [
        (model, Peer("engine", precision, "engine"))
        for model, precision in ENGINE.values()
        if model in {*models, "dense"}
    ]
    made = [(model, peer) for model, peer in files if (find_folder(work, model, peer) / ARTIFACT_FILE).is_file()]
    ours = [find_target(work, model, peer) for model, peer in made]
    targets: tuple[BenchTarget, ...] = (*rivals, *ours)
    options = BenchOptions(threads=(group.threads,), runs=runs, warmup=WARMUP, lengths=(group.questions.tokens,))
    return bench_plan(BenchPlan(targets, targets[0], (group,), ()), options)


def name_rows(bench: BenchRecord) -> dict[str, Measurement]:
    """Return the measurements of the bench by the names in this file."""
    known = {("dense", *PEERS[name][:3]): name for name in RIVALS}
    known |= {(model, "engine", precision, "engine"): name for name, (model, precision) in ENGINE.items()}
    return {known[_key(measurement)]: measurement for measurement in bench.measurements}


def _key(found: Measurement) -> tuple[str, str, str, str]:
    model = found.artifact.removesuffix(f"-{found.format}-{found.precision}")
    return model, found.format, found.precision, found.task.runtime


def tables(folder: Path) -> str:
    """Return the tables of requirements and of all rows."""
    benches = [name_rows(read_record(path, BenchRecord)) for path in sorted(folder.glob("*.json"))]
    return "\n\n".join("\n".join(lines) for rows in benches for lines in (asked(rows), full(rows))) + "\n"


def asked(rows: dict[str, Measurement]) -> Iterator[str]:
    """Yield the table of speed-ups and memory, by sparsity."""
    task = next(iter(rows.values())).task
    fastest = min(DENSE_INT8, key=lambda name: median(rows[name]))
    yield f"### {task.threads} thread{'s' * (task.threads > 1)}, {task.tokens} tokens\n"
    yield f"The fastest dense int8 of another runtime is {fastest}.\n"
    yield f"| times as fast | {' | '.join(f'{percent} %' for percent in COLUMNS)} |"
    yield f"|---|{'---|' * len(COLUMNS)}"
    for name, (other, bars, aims) in BARS.items():
        baseline = rows[fastest if other == INTEGER else other]
        cells = [cell(rows.get(name.format(percent)), baseline, bars.get(percent), aims.get(percent))
                 for percent in COLUMNS]  # fmt: skip
        yield f"| {name.replace('{} %, ', '')} over {other} | {' | '.join(cells)} |"
    own = [cell(rows.get(f"engine int8, {percent} %, 4x4"), rows["engine int8, dense"], None, None)
           for percent in COLUMNS]  # fmt: skip
    yield f"| engine int8, 4x4 over the engine's own dense int8 | {' | '.join(own)} |"


def cell(one: Measurement | None, other: Measurement, bar: float | None, aim: float | None) -> str:
    """Return a speed-up with its interval, and with the least one and the goal."""
    if one is None:
        return ""
    return speed_up(one, other) + (f" ({bar:g}, aim {aim:g})" if bar and aim else "")


def speed_up(one: Measurement, other: Measurement) -> str:
    """Return the speed-up with its 95 % interval."""
    ratio = compare_in_turns(one, other)
    interval = f" [{1 / ratio.high:.2f}, {1 / ratio.low:.2f}]" if ratio.low and ratio.high else ""
    return f"**{1 / ratio.value:.2f}**{interval}"


def full(rows: dict[str, Measurement]) -> Iterator[str]:
    """Yield the table of all measurements."""
    yield "| | p50 ms | p90 ms | load ms | peak MB | disk MB | MB read an answer |"
    yield "|---|---|---|---|---|---|---|"
    for name, found in rows.items():
        summary, read = percentiles(found.latency.values), found.read_bytes
        cells = (
            name,
            f"{1000 * summary.p50:.1f}",
            f"{1000 * summary.p90:.1f}",
            "" if found.load_s is None else f"{1000 * found.load_s:.0f}",
            f"{found.peak_bytes / 1e6:.0f}",
            f"{found.size_bytes / 1e6:.0f}",
            "" if read is None else f"{read / 1e6:.0f}",
        )
        yield f"| {' | '.join(cells)} |"


def median(found: Measurement) -> float:
    return percentiles(found.latency.values).p50


if __name__ == "__main__":
    main()
