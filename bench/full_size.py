"""Export full-size LXMERT to every format: dense, with 50/70/90 % of its weights removed, and as a smaller model.

    python bench/full_size.py --work FOLDER [--models dense 50 70 90 smaller] [--formats onnx:fp32 ...] [--out FOLDER]

The weights are random, with the configuration of transformers (3,129 answers), because the size of a file does not
depend on them; tickets are pruned by low magnitude. A format is FORMAT:PRECISION, or FORMAT:PRECISION:20x36 for a file
of fixed shape (tokens x regions). An ONNX file is made of the fp32 file of the same model, if that is in --work. Each
export runs in its own process, and its time and peak memory are saved. An export that is already in --work is not
repeated. If a format refuses a model, the reason is saved. All exports need about 60 GB of disk and some hours.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import torch
from transformers import LxmertConfig

from lxcompress.catalog.formats import FORMATS
from lxcompress.data.tokens import shipped_vocabulary
from lxcompress.errors import ExportError
from lxcompress.exporters.artifact import export, open_source
from lxcompress.exporters.formats import ExportOptions, parse_fixed
from lxcompress.filenames import ARTIFACT_FILE
from lxcompress.machine import describe_machine
from lxcompress.models import lxmert
from lxcompress.models.checkpoints import Model, save_model
from lxcompress.records import Artifact, read_record
from lxcompress.rundir import write_text
from lxcompress.study.options import PruneOptions
from lxcompress.study.prune import prune_model

ANSWERS = 3129
MODELS: dict[str, dict[str, object]] = {
    "dense": {},
    "50": {"sparsity": 0.5},
    "70": {"sparsity": 0.7},
    "80": {"sparsity": 0.8},
    "90": {"sparsity": 0.9},
    "block-50": {"sparsity": 0.5, "granularity": "block-1x4"},
    "block-70": {"sparsity": 0.7, "granularity": "block-1x4"},
    "block-80": {"sparsity": 0.8, "granularity": "block-1x4"},
    "block-90": {"sparsity": 0.9, "granularity": "block-1x4"},
    "smaller": {"sparsity": 0.5, "granularity": "neuron+head"},
}
"""Name of a model -> its pruning settings."""
FIXED = "20x36"
"""The tokens and regions of the files of fixed shape."""
TIMING = "export.json"
"""The file in the folder of each artifact: the time of its export, or why there is none."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    every = [f"{name}:{precision}" for name, known in FORMATS.items() for precision in known.precisions]
    fixed = [f"{pair}:{FIXED}" for pair in every if FORMATS[pair.partition(":")[0]].fixes_shapes]
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--formats", nargs="+", default=every, choices=[*every, *fixed])
    parser.add_argument("--out", type=Path, help="Folder for sizes.json, a table of all artifacts in --work.")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        (model,), (wanted,) = options.models, options.formats
        make(options.work, model, *wanted.split(":"))
        return
    for model in options.models:
        draw(options.work, model)
    failed = [
        f"{model} {wanted}"
        for wanted in options.formats
        for model in options.models
        if not (artifact_folder(options.work, model, *wanted.split(":")) / TIMING).is_file()
        and not is_made(options.work, model, wanted)
    ]
    if options.out:
        write_text(options.out / "sizes.json", json.dumps(sizes(options.work), indent=1) + "\n")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def is_made(work: Path, model: str, wanted: str) -> bool:
    """Export one artifact in its own process, and return whether that succeeded."""
    own = ["--work", str(work), "--models", model, "--formats", wanted, "--one"]
    return subprocess.run([sys.executable, __file__, *own], check=False).returncode == 0


def artifact_folder(work: Path, model: str, format: str, precision: str, fixed: str = "") -> Path:
    """Return the folder of an artifact of the bench; `fixed` is the shape of a file of fixed shape."""
    return work / "artifacts" / "-".join(filter(None, (model, format, precision, fixed)))


def draw(work: Path, model: str) -> None:
    """Make the dense model, or a ticket of it, unless it exists."""
    folder = work / "models" / model
    if model != "dense":
        draw(work, "dense")
        if not (folder / "ticket.json").is_file():
            prune_model(str(work / "models" / "dense"), folder, PruneOptions(**MODELS[model]))  # type: ignore[arg-type]
    elif not (folder / "model.safetensors").is_file():
        torch.manual_seed(0)
        config = LxmertConfig(num_qa_labels=ANSWERS)
        whole = Model(lxmert.FAMILY.build(config), config, lxmert.FAMILY)
        save_model(folder, whole, whole.weights, shipped_vocabulary())


def make(work: Path, model: str, format: str, precision: str, fixed: str = "") -> None:
    """Export one artifact, or save why the format refuses it."""
    out = artifact_folder(work, model, format, precision, fixed)
    plain = artifact_folder(work, model, format, "fp32")
    is_reused = format == "onnx" and plain != out and (plain / ARTIFACT_FILE).is_file()
    options = ExportOptions(
        format, precision, fp32=plain if is_reused else None, fixed=parse_fixed(fixed) if fixed else None
    )
    started = time.perf_counter()
    took: dict[str, object] = {"model": model, "format": format, "precision": precision, "fixed": fixed}
    try:
        made = export(open_source(work / "models" / model), out, options)
        took["size_bytes"] = made.size_bytes
    except ExportError as error:
        took["refused"] = str(error).removeprefix(f"{out}: ")
    took["export_s"] = time.perf_counter() - started
    took["peak_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    write_text(out / TIMING, json.dumps(took, indent=1) + "\n")
    print(f"{out.name:32} {took.get('size_bytes', took.get('refused'))}  {took['export_s']:.0f} s", flush=True)


def sizes(work: Path) -> dict[str, object]:
    """Return the size of every artifact, also relative to the dense weights in fp32."""
    dense = (work / "models" / "dense" / "model.safetensors").stat().st_size
    rows = []
    for path in sorted((work / "artifacts").glob(f"*/{TIMING}")):
        row = json.loads(path.read_text(encoding="utf-8"))
        record = path.with_name(ARTIFACT_FILE)
        if record.is_file():
            artifact = read_record(record, Artifact)
            row["of_dense_fp32"] = artifact.size_bytes / dense
            row |= artifact.model_dump(mode="json", include={"prunable_zeros", "parameters", "parity", "notes"})
        rows.append(row)
    return {"machine": describe_machine().model_dump(mode="json"), "dense_fp32_bytes": dense, "artifacts": rows}


if __name__ == "__main__":
    main()
