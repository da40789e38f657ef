"""Measure the sparse engine and the other runtimes: full-size LXMERT, one question at a time, in turns.

    python bench/full_size.py --work FOLDER
    python bench/engine.py --work FOLDER [--threads 1 2] [--lengths 20 9] [--runs 30] [--out FOLDER]

Tickets with single weights removed run in fp32, those with blocks of 1 x 4 in int8. Every other runtime has the dense
model, because zeros do not change its speed (bench/peers.py). Ratios compare medians of the same rounds. A measurement
that is already in --out is not repeated; the ratios are computed again.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from peers import PEERS, find_target

from lxcompress.measure.artifacts import bench_plan
from lxcompress.measure.compare import compare_in_turns
from lxcompress.measure.plan import BenchGroup, BenchOptions, BenchPlan, BenchTarget, QuestionLengths
from lxcompress.records import BenchRecord, Measurement, read_record
from lxcompress.rundir import write_record, write_text
from lxcompress.stats import percentiles

WARMUP = 3
RIVALS = ("ONNX Runtime fp32", "ONNX Runtime int8", "OpenVINO f32", "OpenVINO bf16", "OpenVINO int8", "ExecuTorch int8")
DENSE_INT8 = ("ONNX Runtime int8", "OpenVINO int8", "ExecuTorch int8")
SPARSITIES = (50, 70, 80, 90)
ENGINE: dict[str, tuple[str, str]] = {
    "engine fp32, dense": ("dense", "fp32"),
    **{f"engine fp32, {percent} %": (str(percent), "fp32") for percent in SPARSITIES},
    "engine int8, dense": ("dense", "int8"),
    **{f"engine int8, {percent} % in blocks": (f"block-{percent}", "int8") for percent in SPARSITIES},
}
"""Row -> the model and the precision of the engine's file."""
BARS = {
    "fp32": ({50: 1.3, 70: 1.9, 80: 2.6, 90: 4.0}, {50: 1.6, 70: 2.4, 80: 3.3, 90: 5.5}),
    "int8": ({50: 1.0, 70: 1.4, 80: 1.8, 90: 2.3}, {50: 1.5, 70: 2.0, 80: 2.6, 90: 3.5}),
    "memory": ({50: 0.75, 70: 0.50, 80: 0.40, 90: 0.30}, {}),
}
"""The required minimum (for memory: maximum) and the goal, by sparsity in percent."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--lengths", type=int, nargs="+", default=[20, 9])
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--out", type=Path, help="Folder for the benches (engine/) and their tables (engine.md).")
    options = parser.parse_args()
    out = options.out or options.work
    for threads in options.threads:
        for tokens in options.lengths:
            kept = out / "engine" / f"engine-{threads}-{tokens}.json"
            if not kept.is_file():
                write_record(kept, measure(options.work, threads, tokens, options.runs))
            write_text(out / "engine.md", tables(out / "engine"))
            print(f"{threads} threads, {tokens} tokens: {kept}", flush=True)


def measure(work: Path, threads: int, tokens: int, runs: int) -> BenchRecord:
    """Measure all of them in turns; the dense model in ONNX Runtime fp32 is first, as the baseline."""
    rivals = [find_target(work, "dense", *PEERS[name]) for name in RIVALS]
    ours = [find_target(work, model, "engine", precision, "engine") for model, precision in ENGINE.values()]
    targets: tuple[BenchTarget, ...] = (*rivals, *ours)
    options = BenchOptions(threads=(threads,), runs=runs, warmup=WARMUP, lengths=(tokens,))
    return bench_plan(BenchPlan(targets, targets[0], (BenchGroup(threads, QuestionLengths(tokens)),), ()), options)


def name_rows(bench: BenchRecord) -> dict[str, Measurement]:
    """Return the measurements of the bench by the names in this file."""
    known = {("dense", *PEERS[name]): name for name in RIVALS}
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
    yield f"### {task.threads} thread{'s' * (task.threads > 1)}, {task.tokens} tokens\n"
    yield f"| | {' | '.join(f'{sparsity} %' for sparsity in SPARSITIES)} |"
    yield f"|---|{'---|' * len(SPARSITIES)}"
    fastest = min(DENSE_INT8, key=lambda name: median(rows[name]))
    first = rows["ONNX Runtime fp32"]
    blocks = {
        sparsity: speed_up(rows[f"engine int8, {sparsity} % in blocks"], rows[fastest]) for sparsity in SPARSITIES
    }
    yield row("fp32", "fp32, single weights: times as fast as ONNX Runtime fp32, dense",
              {sparsity: speed_up(rows[f"engine fp32, {sparsity} %"], first) for sparsity in SPARSITIES})  # fmt: skip
    yield row("int8", f"int8, blocks: times as fast as {fastest}, dense, the fastest such", blocks)
    held = {sparsity: rows[f"engine fp32, {sparsity} %"].peak_bytes / first.peak_bytes for sparsity in SPARSITIES}
    yield row(
        "memory", "fp32, single weights: peak memory of ONNX Runtime fp32's", {k: f"{v:.2f}" for k, v in held.items()}
    )


def row(kind: str, title: str, cells: dict[int, str]) -> str:
    """Return a row of the table, each cell with its requirement."""
    bars, aims = BARS[kind]
    told = (
        f"{cells[sparsity]} ({bars[sparsity]:g}{f', aim {aims[sparsity]:g}' if aims else ''})"
        for sparsity in SPARSITIES
    )
    return f"| {title} | {' | '.join(told)} |"


def speed_up(one: Measurement, other: Measurement) -> str:
    """Return the speed-up with its 95 % interval."""
    ratio = compare_in_turns(one, other)
    interval = f" [{1 / ratio.high:.2f}, {1 / ratio.low:.2f}]" if ratio.low and ratio.high else ""
    return f"**{1 / ratio.value:.2f}**{interval}"


def full(rows: dict[str, Measurement]) -> Iterator[str]:
    """Yield the table of all measurements."""
    yield "| | p50 ms | p90 ms | load ms | peak MB | disk MB | MB read an answer |"
    yield "|---|---|---|---|---|---|---|"
    for name, each in rows.items():
        summary, read = percentiles(each.latency.values), each.read_bytes
        cells = (
            name,
            f"{1000 * summary.p50:.1f}",
            f"{1000 * summary.p90:.1f}",
            "" if each.load_s is None else f"{1000 * each.load_s:.0f}",
            f"{each.peak_bytes / 1e6:.0f}",
            f"{each.size_bytes / 1e6:.0f}",
            "" if read is None else f"{read / 1e6:.0f}",
        )
        yield f"| {' | '.join(cells)} |"


def median(each: Measurement) -> float:
    return percentiles(each.latency.values).p50


if __name__ == "__main__":
    main()
