"""Engine: model.lxe, which lxcompress's own sparse inference engine maps into memory and runs.

Each matrix is stored in the layout whose product is fastest (engine_choice.py): dense, or without zeros.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lxcompress.data.split import Inputs
from lxcompress.engine.reader import read_matrices
from lxcompress.exporters.engine_choice import LayoutChooser, time_here
from lxcompress.exporters.formats import Job, WrittenFiles
from lxcompress.exporters.programs import Usual, build_program, check_model
from lxcompress.models.checkpoints import Model
from lxcompress.runtimes.engine import MODEL_FILE

MOST_OBJECTS = 100
"""The bound on the regions of a picture, unless the data have more: detectors keep 100 at most."""


def write(job: Job) -> WrittenFiles:
    """Write model.lxe. Raises ExportError."""
    check_model(job.model)
    time = time_here() if job.layouts == "measured" else None
    chooser = LayoutChooser(job.precision, time=time)
    job.progress("choosing how matrices are stored")
    most = find_most_objects(job.model, job.example)
    program = build_program(
        job.model, pack=chooser.pack, precision=job.precision, usual=usual_columns(job.example), most_objects=most
    )
    job.progress("writing the program")
    job.out.mkdir(parents=True, exist_ok=True)
    path = job.out / MODEL_FILE
    program.write(path)
    how = "measured here" if time else "by the table"
    if job.layouts == "measured" and not time:
        how += ", as the engine was not built and nothing could be timed"
    layouts = ", ".join(f"{count} {layout}" for layout, count in sorted(chooser.chosen.items()))
    notes = [
        f"matrices are stored in the fastest layout, {how}: {layouts}",
        "one picture" if most == 1 else f"1 to {most} regions",
    ]
    return WrittenFiles([path], notes, layouts="measured" if time else "table")


def find_most_objects(model: Model, example: Inputs) -> int:
    """Return the bound on the regions of a picture; a model that reads pixels has one region, the picture itself."""
    if model.family.picture_size(model.config) is not None:
        return 1
    return max(MOST_OBJECTS, example.visual_feats.shape[1])


def count_zeros(out: Path) -> tuple[int, int]:
    """Return the number of zeros, and of all elements, in the prunable matrices of the file.

    Embeddings are not counted, also not the embedding of patches. The output layer is the last matrix, and is left out.
    """
    matrices = read_matrices(out / MODEL_FILE)[:-1]
    elements = sum(matrix.rows * matrix.columns for matrix in matrices)
    return elements - sum(int(np.count_nonzero(matrix.values)) for matrix in matrices), elements


def usual_columns(example: Inputs) -> Usual:
    """Return the median number of tokens, and of regions, of the questions in `example`."""
    tokens, objects = (int(mask.sum(1).median()) for mask in (example.attention_mask, example.visual_attention_mask))
    return Usual(tokens, objects)
