"""Add rivals to a page, which it measures beside the engine: ONNX files, and onnxruntime-web from a named folder."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lxcompress.errors import MeasureError
from lxcompress.measure.plan import BenchTarget
from lxcompress.output import command_line
from lxcompress.text import read_text
from lxcompress.web.folder import PageFolder

MODEL_ENDING, DATA_ENDING = ".onnx", ".onnx.data"
"""The endings of an ONNX file, and of the file of weights that are too large for it."""


@dataclass(frozen=True)
class RivalRuntime:
    """An execution provider of onnxruntime-web, and the JavaScript file that has it."""

    name: str
    provider: str
    entry: str


RUNTIMES = (
    RivalRuntime("onnxruntime-web", "wasm", "ort.wasm.min.mjs"),
    RivalRuntime("onnxruntime-web-webgpu", "webgpu", "ort.webgpu.min.mjs"),
)
"""The runtimes that a page may have; the first is needed."""


@dataclass(frozen=True)
class Rivals:
    """The folder of onnxruntime-web, such as its `dist` in npm, and the ONNX files that it runs."""

    folder: Path
    targets: tuple[BenchTarget, ...]


def choose_rivals(folder: Path | None, files: Sequence[BenchTarget]) -> Rivals | None:
    """Return the rivals of a page; None without a `folder` of onnxruntime-web.

    Raises MeasureError if there is a folder, but no ONNX `files`.
    """
    if folder is None:
        return None
    if not files:
        raise MeasureError(
            f"--rivals {folder}: there is no ONNX file of the tickets and precisions of the page; export one with: "
            f"{command_line('export', 'TICKET', '--onnx')}"
        )
    return Rivals(folder, tuple(files))


def find_twins(targets: Sequence[BenchTarget], files: Sequence[BenchTarget]) -> tuple[BenchTarget, ...]:
    """Return the ONNX `files` that have the ticket and the precision of one of the engine files `targets`."""
    twins = {(target.record.cell, target.record.seed, target.record.precision) for target in targets}
    return tuple(file for file in files if (file.record.cell, file.record.seed, file.record.precision) in twins)


def describe_rivals(rivals: Rivals, baseline: BenchTarget, folder: PageFolder) -> dict[str, Any]:
    """Write the files of the rivals, and return how page.json describes them. Raises MeasureError.

    The twin of `baseline` is measured unless the reader of the page chooses otherwise.
    """
    return {
        "runtimes": _describe_runtimes(rivals.folder, folder),
        "models": [
            _describe_file(target, folder) | {"isMeasured": target in find_twins([baseline], rivals.targets)}
            for target in rivals.targets
        ],
    }


def list_rival_files(described: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Return the files of the rivals that a page.json describes."""
    if described is None:
        return []
    runtimes = [file for runtime in described["runtimes"] for file in runtime["files"].values()]
    return [*runtimes, *(model["file"] for model in described["models"])]


def _describe_runtimes(source: Path, folder: PageFolder) -> list[dict[str, Any]]:
    """Copy each runtime that the folder `source` has. Raises MeasureError without the first."""
    found = [runtime for runtime in RUNTIMES if (source / runtime.entry).is_file()]
    if RUNTIMES[0] not in found:
        raise MeasureError(
            f"--rivals {source}: has no {RUNTIMES[0].entry}; give the folder dist of the npm package onnxruntime-web: "
            "npm install onnxruntime-web, then --rivals node_modules/onnxruntime-web/dist"
        )
    return [
        {"name": runtime.name, "provider": runtime.provider, "files": _copy_runtime(source, runtime, folder)}
        for runtime in found
    ]


def _copy_runtime(source: Path, runtime: RivalRuntime, folder: PageFolder) -> dict[str, Any]:
    """Copy the entry of a runtime, the module that it loads, and the WebAssembly of that. Raises MeasureError.

    The modules end in .js, because some servers do not know that .mjs is JavaScript.
    """
    entry = source / runtime.entry
    named = re.search(r"ort-wasm[\w.-]*\.mjs", read_text(entry))
    module = source / named.group() if named else None
    if module is None or not module.is_file() or not module.with_suffix(".wasm").is_file():
        raise MeasureError(
            f"--rivals {source}: {entry.name} needs {module.name if module else 'ort-wasm*.mjs'} and its .wasm beside "
            "it; give the whole folder dist of onnxruntime-web 1.20 or newer"
        )
    return {
        "entry": folder.add(f"{entry.stem}.js", entry),
        "module": folder.add(f"{module.stem}.js", module),
        "wasm": folder.add(f"{module.stem}.wasm", module.with_suffix(".wasm")),
    }


def _describe_file(target: BenchTarget, folder: PageFolder) -> dict[str, Any]:
    """Write one ONNX file, and return how page.json describes it. Raises MeasureError for more than one file."""
    record = target.record
    if record.images != 1:
        raise MeasureError(f"{target.path}: reads {record.images} images, but a page measures questions about one")
    models = [name for name in record.files if name.endswith(MODEL_ENDING)]
    if len(models) != 1 or any(name.endswith(DATA_ENDING) for name in record.files):
        raise MeasureError(
            f"{target.path}: expected one {MODEL_ENDING} file, which a page loads, got {', '.join(record.files)}; "
            "leave it out"
        )
    return {
        "name": record.name,
        "title": f"{record.name} ({target.size_bytes / 1e6:.1f} MB)",
        "sha256": target.sha256,
        "objects": record.objects,
        "file": folder.add("rival.onnx", target.path / models[0]),
    }
