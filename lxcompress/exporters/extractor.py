"""Export an extractor as a file, and compare its features with those of the network in torch.

Shapes: S pixels a side, N cells of the last map, G cells of the grid on a side, O = G x G regions, F features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from lxcompress.errors import ExportError
from lxcompress.extractors.artifact import INPUT, ExtractorArtifact
from lxcompress.extractors.grid import GridExtractor, to_picture
from lxcompress.extractors.prune import count_pruned
from lxcompress.filenames import EXTRACTOR_FILE
from lxcompress.machine import describe_machine
from lxcompress.progress import Progress, no_progress
from lxcompress.rundir import sha256, write_record
from lxcompress.runtimes import open_session, runtime_of
from lxcompress.writing import check_out, finished_folder

PICTURES, ROUGH_SIDE = 4, 12
"""The pictures that compare the features, and the pixels on a side of the noise that they are enlarged from."""
TOLERANCE = 1e-3
"""The largest difference of a feature that is allowed, relative to the largest feature."""


class GridFeatures(nn.Module):
    """The network and its pooling, as a converter calls them: a picture [1, 3, S, S] becomes features [O, F]."""

    def __init__(self, extractor: GridExtractor) -> None:
        super().__init__()
        self.network = extractor.network
        with torch.no_grad():
            cells = extractor.network(torch.zeros(1, 3, extractor.side, extractor.side)).shape[-1]
        self.shares = nn.Parameter(pooling_shares(cells, extractor.grid), requires_grad=False)
        self.eval()

    def forward(self, picture: Tensor) -> Tensor:
        return torch.matmul(self.shares, self.network(picture)[0].flatten(1).T)


def pooling_shares(cells: int, grid: int) -> Tensor:
    """Return the share of each cell of the last map in each region, float32 [O, N x N].

    Converters do not know torch's adaptive pooling where neighbouring regions share cells, but they know products.
    """
    each = torch.eye(cells * cells).reshape(cells * cells, cells, cells)
    return functional.adaptive_avg_pool2d(each, grid).flatten(1).T.contiguous()


def export_extractor(
    extractor: GridExtractor, out: Path, *, format: str, progress: Progress = no_progress
) -> ExtractorArtifact:
    """Write an extractor in fp32 to the folder `out`, check the file, and return its record. Raises ExportError."""
    if format not in WRITERS:
        raise ExportError(f"--format {format}: no extractor is written in it; give one of {', '.join(WRITERS)}")
    check_out(out, [], kind="folder")
    with finished_folder(out, EXTRACTOR_FILE) as made:
        progress(f"writing {format}")
        made.mkdir(parents=True, exist_ok=True)
        files = WRITERS[format](extractor, made)
        progress("comparing its features with the network's")
        difference, largest, cosine = compare(extractor, made, format)
        if not difference <= TOLERANCE * largest:
            raise ExportError(
                f"{out}: features differ by up to {difference:.2g}, expected at most {TOLERANCE * largest:.2g}; report "
                "this message as a bug of lxcompress"
            )
        record = ExtractorArtifact(
            extractor=extractor.record.name,
            weights_version=extractor.record.version,
            format=format,
            precision="fp32",
            grid=extractor.grid,
            side=extractor.side,
            features=extractor.network.head.out_channels,
            files={path.relative_to(made).as_posix(): sha256(path) for path in files},
            size_bytes=sum(path.stat().st_size for path in files),
            pictures=PICTURES,
            max_abs_difference=difference,
            largest_feature=largest,
            least_cosine=cosine,
            pruned=count_pruned(extractor.network),
            machine=describe_machine(),
        )
        write_record(made / EXTRACTOR_FILE, record)
    return record


def compare(extractor: GridExtractor, folder: Path, format: str) -> tuple[float, float, float]:
    """Return how the features of the file in `folder` differ from the network's over seeded pictures.

    These are the largest difference of a feature, the largest feature, and the smallest cosine of a region.
    """
    session = open_session(folder, threads=torch.get_num_threads(), runtime=runtime_of(format))
    difference, largest, cosine = 0.0, 0.0, 1.0
    for pixels in draw_pictures(extractor.side):
        expected = extractor.extract(pixels)
        found = session.answer({INPUT: to_picture(pixels).numpy()}).reshape(expected.shape)
        difference = max(difference, float(np.abs(found - expected).max()))
        largest = max(largest, float(np.abs(expected).max()))
        lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
        cosine = min(cosine, float(((found * expected).sum(1) / np.maximum(lengths, 1e-12)).min()))
    return difference, largest, cosine


def draw_pictures(side: int) -> Iterator[np.ndarray]:
    """Yield seeded pictures uint8 [S, S, 3]: enlarged noise, whose neighbouring pixels are alike as in photographs."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(PICTURES):
        rough = torch.rand(1, 3, ROUGH_SIDE, ROUGH_SIDE, generator=generator)
        smooth = functional.interpolate(rough, size=(side, side), mode="bilinear", align_corners=False)
        yield (255 * smooth[0]).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()


def _example(extractor: GridExtractor) -> Tensor:
    return torch.zeros(1, 3, extractor.side, extractor.side)


def _write_onnx(extractor: GridExtractor, out: Path) -> list[Path]:
    from lxcompress.exporters.onnx import write_module

    return [write_module(GridFeatures(extractor), {INPUT: _example(extractor)}, out)]


def _write_openvino(extractor: GridExtractor, out: Path) -> list[Path]:
    from lxcompress.exporters.openvino import write_module

    return write_module(GridFeatures(extractor), {INPUT: _example(extractor)}, out)


def _write_executorch(extractor: GridExtractor, out: Path) -> list[Path]:
    from lxcompress.exporters.executorch import write_module

    return [write_module(GridFeatures(extractor), (_example(extractor),), out)]


def _write_engine(extractor: GridExtractor, out: Path) -> list[Path]:
    from lxcompress.exporters.engine_choice import LayoutChooser
    from lxcompress.exporters.extractor_program import build_extractor
    from lxcompress.runtimes.engine import MODEL_FILE

    build_extractor(extractor, LayoutChooser("fp32", time=None).pack).write(out / MODEL_FILE)
    return [out / MODEL_FILE]


WRITERS: Mapping[str, Callable[[GridExtractor, Path], list[Path]]] = {
    "onnx": _write_onnx,
    "openvino": _write_openvino,
    "executorch": _write_executorch,
    "engine": _write_engine,
}
"""Format -> a function that writes the extractor's file into a folder, and returns the paths."""
