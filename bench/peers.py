"""Measure full-size LXMERT in every runtime: dense, with 50/70/90 % of its weights removed, and as a smaller model.

    python bench/full_size.py --work FOLDER
    python bench/peers.py --work FOLDER [--threads 1 2] [--runs 30] [--peers "OpenVINO int8" ...] [--out FOLDER]

A question has 20 tokens and 36 regions, batch 1. Each model runs in its own process. Not all of them fit in memory
together, so the models of one peer (a runtime and precision) take turns with each other and with the dense model in
ONNX Runtime fp32, which is measured twice for the noise floor. So each ratio compares measurements within seconds, and
the ratios of all peers have one anchor. A peer that was already measured is not repeated. On a quiet machine, a peer
takes about two minutes for each number of threads.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from full_size import FIXED, NAMES, artifact_folder

from lxcompress.filenames import ARTIFACT_FILE
from lxcompress.measure.artifacts import bench_plan
from lxcompress.measure.plan import BenchGroup, BenchOptions, BenchPlan, BenchTarget, QuestionLengths, read_artifacts
from lxcompress.measure.table import BenchRow, read_rows
from lxcompress.measure.weight_bytes import held_weights
from lxcompress.records import BenchRecord, read_record
from lxcompress.rundir import write_record, write_text


class Peer(NamedTuple):
    """The format and the precision of a file, its runtime, and its shape if that is fixed."""

    format: str
    precision: str
    runtime: str
    fixed: str = ""


TOKENS, WARMUP = 20, 3
PEERS: dict[str, Peer] = {
    "ONNX Runtime fp32": Peer("onnx", "fp32", "onnxruntime"),
    "ONNX Runtime fp32, fixed": Peer("onnx", "fp32", "onnxruntime", FIXED),
    "ONNX Runtime int8": Peer("onnx", "int8", "onnxruntime"),
    "ONNX Runtime int8, fixed": Peer("onnx", "int8", "onnxruntime", FIXED),
    "ONNX Runtime int4": Peer("onnx", "int4", "onnxruntime"),
    "ONNX Runtime int4, fixed": Peer("onnx", "int4", "onnxruntime", FIXED),
    "OpenVINO f32": Peer("openvino", "fp32", "openvino"),
    "OpenVINO bf16": Peer("openvino", "fp32", "openvino-bf16"),
    "OpenVINO int8": Peer("openvino", "int8", "openvino"),
    "ExecuTorch fp32": Peer("executorch", "fp32", "executorch"),
    "ExecuTorch fp32, fixed": Peer("executorch", "fp32", "executorch", FIXED),
    "ExecuTorch int8": Peer("executorch", "int8", "executorch"),
    "ExecuTorch int8, fixed": Peer("executorch", "int8", "executorch", FIXED),
    "LiteRT fp32, fixed": Peer("litert", "fp32", "litert", FIXED),
    "LiteRT int8, fixed": Peer("litert", "int8", "litert", FIXED),
    "torch eager": Peer("bitmask", "fp32", "torch"),
    "torch compile": Peer("bitmask", "fp32", "torch-compile"),
}
ANCHOR = PEERS["ONNX Runtime fp32"]
"""The peer whose dense model takes turns with all others."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--peers", nargs="+", default=list(PEERS), choices=list(PEERS))
    parser.add_argument("--models", nargs="+", default=list(NAMES), choices=NAMES)
    parser.add_argument("--out", type=Path, help="Folder for the benches (peers/) and their table (peers.md).")
    options = parser.parse_args()
    out = options.out or options.work
    for threads in options.threads:
        asked = BenchOptions(threads=(threads,), runs=options.runs, warmup=WARMUP, lengths=(TOKENS,))
        for peer in options.peers:
            kept = kept_at(out, peer, threads)
            if not kept.is_file():
                write_record(kept, measure(options.work, peer, options.models, asked))
            write_text(out / "peers.md", table(out))
            print(f"{peer}, {threads} threads: {kept}", flush=True)


def kept_at(out: Path, peer: str, threads: int) -> Path:
    """Return the file of a bench."""
    return out / "peers" / f"{peer.lower().replace(',', '').replace(' ', '-')}-{threads}.json"


def measure(work: Path, peer: str, models: list[str], options: BenchOptions) -> BenchRecord:
    """Measure the exported models of a peer in turns with the anchor."""
    anchor = find_target(work, "dense", ANCHOR)
    wanted = [model for model in models if (model, PEERS[peer]) != ("dense", ANCHOR)]
    found = [model for model in wanted if (find_folder(work, model, PEERS[peer]) / ARTIFACT_FILE).is_file()]
    targets = (anchor, *(find_target(work, model, PEERS[peer]) for model in found))
    groups = tuple(BenchGroup(threads, QuestionLengths(TOKENS)) for threads in options.threads)
    return bench_plan(BenchPlan(targets, anchor, groups, ()), options)


def find_folder(work: Path, model: str, peer: Peer) -> Path:
    """Return the folder of a model as a peer runs it."""
    return artifact_folder(work, model, peer.format, peer.precision, peer.fixed)


def find_target(work: Path, model: str, peer: Peer) -> BenchTarget:
    """Return an artifact with checked files, in the runtime of a peer."""
    (found,) = read_artifacts([find_folder(work, model, peer)])
    return replace(found, runtime=peer.runtime, weights=held_weights(found.path, found.record, peer.runtime))


def table(out: Path) -> str:
    """Return the table of all measurements, a row for each model and peer."""
    lines = [
        "| runtime | model | threads | p50 ms | p90 ms | of dense ONNX fp32 | 95 % | peak MB | disk MB |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for peer in PEERS:
        for path in sorted((out / "peers").glob(kept_at(out, peer, 0).name.replace("-0.", "-[0-9]*."))):
            lines += [line(peer, row) for row in read_rows(read_record(path, BenchRecord)) if is_shown(peer, row)]
    return "\n".join(lines) + "\n"


def is_shown(peer: str, row: BenchRow) -> bool:
    """Return whether a row belongs to the peer; the anchor is shown once."""
    found = row.measurement
    fixed = FIXED if found.artifact.endswith(f"-{FIXED}") else ""
    return (found.format, found.precision, found.task.runtime, fixed) == PEERS[peer]


def line(peer: str, row: BenchRow) -> str:
    """Return one row of the table."""
    found, ratio = row.measurement, row.ratio
    model = found.artifact.partition("-")[0]
    name = {"dense": "dense", "smaller": "50 %, smaller"}.get(model, f"{model} % zeros")
    beside = "1" if ratio is None else f"{ratio.value:.2f}"
    if ratio is not None and ratio.verdict == "no difference":
        beside += ", no difference"
    interval = f"{ratio.low:.2f}-{ratio.high:.2f}" if ratio and ratio.low and ratio.high else ""
    cells = (
        peer,
        name,
        found.task.threads,
        f"{1000 * row.summary.p50:.0f}",
        f"{1000 * row.summary.p90:.0f}",
        beside,
        interval,
        f"{found.peak_bytes / 1e6:.0f}",
        f"{found.size_bytes / 1e6:.0f}",
    )
    return f"| {' | '.join(map(str, cells))} |"


if __name__ == "__main__":
    main()
