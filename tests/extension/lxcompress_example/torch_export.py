"""A format and a runtime: a program of torch.export in model.pt2, which torch runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from lxcompress.data.split import INPUT_NAMES
from lxcompress.exporters.formats import Job, WrittenFiles
from lxcompress.exporters.traced import Answer
from lxcompress.models.checkpoints import identify
from lxcompress.runtimes.feeds import check_feeds, check_scores

MODEL_FILE = "model.pt2"


def write(job: Job) -> WrittenFiles:
    """Write the model as a program whose batch, tokens and regions may vary."""
    sizes = {0: torch.export.Dim.AUTO, 1: torch.export.Dim.AUTO}
    with torch.no_grad():
        program = torch.export.export(
            Answer(job.model), tuple(job.example), dynamic_shapes=(sizes,) * len(job.example), strict=False
        )
    job.out.mkdir(parents=True, exist_ok=True)
    torch.export.save(program, job.out / MODEL_FILE)
    return WrittenFiles([job.out / MODEL_FILE])


def count_zeros(out: Path) -> tuple[int, int]:
    """Return the zeros, and the elements, of the prunable matrices in the program."""
    _, family = identify(str(out))
    weights = torch.export.load(out / MODEL_FILE).state_dict
    matrices = [
        tensor for name, tensor in weights.items() if family.is_prunable(name.removeprefix("module."), tensor.shape)
    ]
    return sum(int((matrix == 0).sum()) for matrix in matrices), sum(matrix.numel() for matrix in matrices)


@dataclass(frozen=True)
class ProgramSession:
    """A program that is loaded; torch has one pool of threads, whose size is set when the program is opened."""

    path: Path
    program: torch.nn.Module

    def answer(self, feeds: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the scores, float32 [B, A], of `feeds`. Raises MeasureError for other inputs, NaN and infinity."""
        check_feeds(self.path, feeds, INPUT_NAMES)
        with torch.inference_mode():
            scores = self.program(*(torch.from_numpy(feeds[name]) for name in INPUT_NAMES))
        return check_scores(self.path, scores.numpy())


def open_program(path: Path, *, threads: int) -> ProgramSession:
    """Load the program in the folder `path`, or the one that `path` is."""
    file = path / MODEL_FILE if path.is_dir() else path
    torch.set_num_threads(threads)
    return ProgramSession(file, torch.export.load(file).module())
