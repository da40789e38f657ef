"""Export full-size LXMERT to every format: dense, with weights or blocks removed, as a smaller model, and as both.

    python bench/full_size.py --work FOLDER [--models dense 50 70 90 smaller] [--formats onnx:fp32 ...] [--out FOLDER]
                              [--layouts measured]

The weights are random, with the configuration of transformers (3,129 answers), because the size of a file does not
depend on them; tickets are pruned by low magnitude. A format is FORMAT:PRECISION, or FORMAT:PRECISION:20x36 for a file
of fixed shape (tokens x regions). An ONNX file is made of the fp32 file of the same model, if that is in --work. Each
export runs in its own process, and its time and peak memory are saved. An export that is already in --work is not
repeated. If a format refuses a model, the reason is saved. All exports need about 60 GB of disk and some hours.
--layouts says how the engine's layouts are chosen.
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
from lxcompress.exporters.formats import LAYOUTS, ExportOptions, parse_fixed
from lxcompress.filenames import ARTIFACT_FILE
from lxcompress.machine import describe_machine
from lxcompress.models import lxmert
from lxcompress.models.checkpoints import Model, save_model
from lxcompress.models.vocabulary import read_word_files
from lxcompress.pruning.choose import mask_from_scores
from lxcompress.pruning.criteria import score_weights
from lxcompress.pruning.selection import Selection
from lxcompress.records import Artifact, read_record
from lxcompress.rundir import write_text
from lxcompress.study.options import PruneOptions
from lxcompress.study.prune import prune_model
from lxcompress.tickets import load_ticket, save_ticket

ANSWERS = 3129
SPARSITIES = (50, 70, 80, 90)
BLOCKS = ("1x4", "2x4", "4x4", "2x1", "4x1")
MODELS: dict[str, dict[str, object]] = {
    "dense": {},
    **{f"{percent}": {"sparsity": percent / 100} for percent in SPARSITIES},
    **{
        f"{shape}-{percent}": {"sparsity": percent / 100, "granularity": f"block-{shape}"}
        for shape in BLOCKS
        for percent in SPARSITIES
    },
    "smaller": {"sparsity": 0.5, "granularity": "neuron+head"},
}
"""Name of a model -> its pruning settings."""
WITHIN: dict[str, Selection] = {
    f"smaller-{shape}-{percent}": Selection(percent / 100, f"block-{shape}")
    for shape in ("1x4", "2x4", "4x4")
    for percent in (40, 60, 70, 72, 76, 80)
}
"""Name of a model -> the blocks that are removed from the model "smaller", relative to its own weights."""
NAMES = (*MODELS, *WITHIN)
FIXED = "20x36"
"""The tokens and regions of the files of fixed shape."""
TIMING = "export.json"
"""The file in the folder of each artifact: the time of its export, or why there is none."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    every = [f"{name}:{precision}" for name, known in FORMATS.items() for precision in known.precisions]
    fixed = [f"{pair}:{FIXED}" for pair in every if FORMATS[pair.partition(":")[0]].fixes_shapes]
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--models", nargs="+", default=list(NAMES), choices=NAMES)
    parser.add_argument("--formats", nargs="+", default=every, choices=[*every, *fixed])
    parser.add_argument("--out", type=Path, help="Folder for sizes.json, a table of all artifacts in --work.")
    parser.add_argument("--layouts", choices=LAYOUTS, default="measured")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        (model,), (wanted,) = options.models, options.formats
        make(options.work, model, wanted, options.layouts)
        return
    for model in options.models:
        draw(options.work, model)
    failed = [
        f"{model} {wanted}"
        for wanted in options.formats
        for model in options.models
        if not (artifact_folder(options.work, model, *wanted.split(":")) / TIMING).is_file()
        and not is_made(options.work, model, wanted, options.layouts)
    ]
    if options.out:
        write_text(options.out / "sizes.json", json.dumps(sizes(options.work), indent=1) + "\n")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def is_made(work: Path, model: str, wanted: str, layouts: str) -> bool:
    """Export one artifact in its own process, and return whether that succeeded."""
    own = ["--work", str(work), "--models", model, "--formats", wanted, "--layouts", layouts, "--one"]
    return subprocess.run([sys.executable, __file__, *own], check=False).returncode == 0


def artifact_folder(work: Path, model: str, format: str, precision: str, fixed: str = "") -> Path:
    """Return the folder of an artifact of the bench; `fixed` is the shape of a file of fixed shape."""
    return work / "artifacts" / "-".join(filter(None, (model, format, precision, fixed)))


def draw(work: Path, model: str) -> None:
    """Make the dense model, or a ticket of it, unless it exists."""
    folder = work / "models" / model
    if model == "dense":
        if not (folder / "model.safetensors").is_file():
            torch.manual_seed(0)
            config = LxmertConfig(num_qa_labels=ANSWERS)
            whole = Model(lxmert.FAMILY.build(config), config, lxmert.FAMILY)
            save_model(folder, whole, whole.weights, shipped_vocabulary())
        return
    draw(work, "smaller" if model in WITHIN else "dense")
    if (folder / "ticket.json").is_file():
        return
    if model in WITHIN:
        remove_blocks(work / "models" / "smaller", folder, WITHIN[model])
    else:
        prune_model(str(work / "models" / "dense"), folder, PruneOptions(**MODELS[model]))  # type: ignore[arg-type]


def remove_blocks(smaller: Path, out: Path, selection: Selection) -> None:
    """Remove blocks of a smaller model, and save it as a ticket of the same surgery whose weights have zeros."""
    ticket = load_ticket(smaller)
    scores = score_weights(ticket.model.prunable, criterion="low-magnitude", seed=0)
    save_ticket(
        out,
        ticket.model,
        cut=ticket.cut,
        weights=mask_from_scores(scores, selection).apply(ticket.model.weights),
        vocabulary=read_word_files(str(smaller)),
        provenance=ticket.provenance,
    )


def make(work: Path, model: str, wanted: str, layouts: str) -> None:
    """Export one artifact, or save why the format refuses it; `wanted` is FORMAT:PRECISION, or with a fixed shape."""
    format, precision, fixed = (*wanted.split(":"), "")[:3]
    out = artifact_folder(work, model, format, precision, fixed)
    plain = artifact_folder(work, model, format, "fp32")
    is_reused = format == "onnx" and plain != out and (plain / ARTIFACT_FILE).is_file()
    options = ExportOptions(
        format,
        precision,
        fp32=plain if is_reused else None,
        fixed=parse_fixed(fixed) if fixed else None,
        layouts=layouts if format == "engine" else None,
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
