"""Export an extractor as a file, and compare its features with those of the network in torch.

Shapes: S pixels a side, N cells of the last map, G cells of the grid on a side, O = G x G regions, F features.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
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
"""The largest difference of a feature that is allowed in fp32, relative to the largest feature."""
LEAST_MEAN_COSINE = 0.9
"""The least mean cosine of a region's features that is allowed in 8 bits."""
FEWEST_PHOTOS, MOST_PHOTOS = 8, 64
"""The numbers of photographs for a file in 8 bits: every second one calibrates it, and the others compare it."""
Pictures = Sequence[np.ndarray]
"""Pictures as a network reads them, each uint8 [S, S, 3]."""


@dataclass(frozen=True)
class FileSettings:
    """The format and the precision of an extractor's file, and the photographs that 8 bits need."""

    format: str
    precision: str = "fp32"
    photos: Pictures = ()


@dataclass(frozen=True)
class FeatureParity:
    """How the features of a file differ from the network's: see ExtractorArtifact."""

    pictures: int
    max_abs_difference: float
    largest_feature: float
    least_cosine: float
    mean_cosine: float


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


def check_settings(format: str, precision: str, photos: int | None) -> None:
    """Raise ExportError unless an extractor is written in this format and precision.

    `photos` is the number of photographs for 8 bits; None if none were named.
    """
    if format not in WRITERS:
        raise ExportError(f"--format {format}: no extractor is written in it; give one of {', '.join(WRITERS)}")
    if precision not in WRITERS[format]:
        raise ExportError(
            f"--precision {precision}: an extractor in {format} has one of {', '.join(WRITERS[format])}; give it"
        )
    if precision == "fp32" and photos is not None:
        raise ExportError("--photos: has no effect on fp32; leave it out, or give a --precision of 8 bits")
    if precision != "fp32" and (photos is None or photos < FEWEST_PHOTOS):
        given = "none" if photos is None else str(photos)
        raise ExportError(
            f"--precision {precision}: is calibrated and compared on photographs, expected {FEWEST_PHOTOS} or more, "
            f"got {given}; give photographs like those of your users with --photos FOLDER"
        )


def export_extractor(
    extractor: GridExtractor, out: Path, settings: FileSettings, *, progress: Progress = no_progress
) -> ExtractorArtifact:
    """Write an extractor to the folder `out`, check the file, and return its record. Raises ExportError."""
    format, precision, photos = settings.format, settings.precision, settings.photos
    check_settings(format, precision, len(photos) if photos else None)
    check_out(out, [], kind="folder")
    calibration, compared = (photos[::2], photos[1::2]) if photos else ((), list(draw_pictures(extractor.side)))
    with finished_folder(out, EXTRACTOR_FILE) as made:
        progress(f"writing {format}")
        made.mkdir(parents=True, exist_ok=True)
        files = WRITERS[format][precision](extractor, made, calibration)
        progress("comparing its features with the network's")
        parity = compare(extractor, made, format, compared)
        _check_parity(out, precision, parity)
        record = ExtractorArtifact(
            extractor=extractor.record.name,
            weights_version=extractor.record.version,
            format=format,
            precision=precision,
            grid=extractor.grid,
            side=extractor.side,
            features=extractor.network.head.out_channels,
            files={path.relative_to(made).as_posix(): sha256(path) for path in files},
            size_bytes=sum(path.stat().st_size for path in files),
            **asdict(parity),
            calibration=len(calibration),
            pruned=count_pruned(extractor.network),
            machine=describe_machine(),
        )
        write_record(made / EXTRACTOR_FILE, record)
    return record


def _check_parity(out: Path, precision: str, parity: FeatureParity) -> None:
    """Raise ExportError if the features of the file differ too much from the network's."""
    allowed = TOLERANCE * parity.largest_feature
    if precision == "fp32" and not parity.max_abs_difference <= allowed:  # "not": NaN is refused too
        raise ExportError(
            f"{out}: features differ by up to {parity.max_abs_difference:.2g}, expected at most {allowed:.2g}; report "
            "this message as a bug of lxcompress"
        )
    if not parity.mean_cosine >= LEAST_MEAN_COSINE:
        raise ExportError(
            f"{out}: the features of a region have a mean cosine of {parity.mean_cosine:.2f} with the network's, "
            f"expected at least {LEAST_MEAN_COSINE}; give more photographs with --photos, or use another format"
        )


def compare(extractor: GridExtractor, folder: Path, format: str, pictures: Pictures) -> FeatureParity:
    """Return how the features of the file in `folder` differ from the network's over `pictures`."""
    session = open_session(folder, threads=torch.get_num_threads(), runtime=runtime_of(format))
    differences, largest, cosines = [], [], []
    for pixels in pictures:
        expected = extractor.extract(pixels)
        found = session.answer(_feed(pixels)).reshape(expected.shape)
        differences.append(np.abs(found - expected).max())
        largest.append(np.abs(expected).max())
        lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
        cosines.append((found * expected).sum(1) / np.maximum(lengths, 1e-12))
    return FeatureParity(
        pictures=len(pictures),
        max_abs_difference=float(np.max(differences)),
        largest_feature=float(np.max(largest)),
        least_cosine=float(np.min(cosines)),
        mean_cosine=float(np.mean(cosines)),
    )


def draw_pictures(side: int) -> Iterator[np.ndarray]:
    """Yield seeded pictures uint8 [S, S, 3]: enlarged noise, whose neighbouring pixels are alike as in photographs."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(PICTURES):
        rough = torch.rand(1, 3, ROUGH_SIDE, ROUGH_SIDE, generator=generator)
        smooth = functional.interpolate(rough, size=(side, side), mode="bilinear", align_corners=False)
        yield (255 * smooth[0]).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()


def _feed(pixels: np.ndarray) -> dict[str, np.ndarray]:
    """Return the input of a file for a picture."""
    return {INPUT: to_picture(pixels).numpy()}


def _example(extractor: GridExtractor) -> dict[str, Tensor]:
    """Return an input of the network by its name."""
    return {INPUT: torch.zeros(1, 3, extractor.side, extractor.side)}


def _write_onnx(extractor: GridExtractor, out: Path, calibration: Pictures) -> list[Path]:
    """Write model.onnx: in fp32, or in 8 bits if there are pictures for the calibration."""
    from lxcompress.exporters.onnx import MODEL_FILE, write_module

    if not calibration:
        return [write_module(GridFeatures(extractor), _example(extractor), out)]
    from lxcompress.exporters.quantise import to_int8_pictures

    with tempfile.TemporaryDirectory(dir=out) as folder:
        fp32 = write_module(GridFeatures(extractor), _example(extractor), Path(folder))
        to_int8_pictures(fp32, out / MODEL_FILE, map(_feed, calibration))
    return [out / MODEL_FILE]


def _write_ort(extractor: GridExtractor, out: Path, calibration: Pictures) -> list[Path]:
    """Write model.ort, for ONNX Runtime on phones, from the ONNX file of the same precision."""
    from lxcompress.exporters.ort import convert

    with tempfile.TemporaryDirectory(dir=out) as folder:
        (path,) = _write_onnx(extractor, Path(folder), calibration)
        return convert(path, out, keep_half=False)


def _write_openvino(extractor: GridExtractor, out: Path, calibration: Pictures) -> list[Path]:
    """Write OpenVINO's two files: in fp32, or in 8 bits if there are pictures for the calibration."""
    from lxcompress.exporters.openvino import write_module

    feeds = [_feed(pixels) for pixels in calibration]
    return write_module(GridFeatures(extractor), _example(extractor), out, calibration=feeds)


def _write_executorch(extractor: GridExtractor, out: Path, calibration: Pictures) -> list[Path]:
    """Write ExecuTorch's file in fp32."""
    from lxcompress.exporters.executorch import write_module

    return [write_module(GridFeatures(extractor), tuple(_example(extractor).values()), out)]


def _write_litert(extractor: GridExtractor, out: Path, calibration: Pictures, *, precision: str) -> list[Path]:
    """Write model.tflite; its int8 measures the ranges of activations at run time."""
    from lxcompress.exporters.litert import write_module

    return [write_module(GridFeatures(extractor), _example(extractor), out, precision=precision)]


def _write_engine(extractor: GridExtractor, out: Path, calibration: Pictures, *, precision: str) -> list[Path]:
    """Write model.lxe; its int8 has products in 8 bits, with ranges that are measured at run time."""
    from lxcompress.exporters.engine_choice import LayoutChooser
    from lxcompress.exporters.extractor_program import build_extractor
    from lxcompress.runtimes.engine import MODEL_FILE

    build_extractor(extractor, LayoutChooser(precision, time=None).pack).write(out / MODEL_FILE)
    return [out / MODEL_FILE]


Write = Callable[[GridExtractor, Path, Pictures], list[Path]]
WRITERS: Mapping[str, Mapping[str, Write]] = {
    "onnx": {"fp32": _write_onnx, "int8-static": _write_onnx},
    "ort": {"fp32": _write_ort, "int8-static": _write_ort},
    "openvino": {"fp32": _write_openvino, "int8": _write_openvino},
    "executorch": {"fp32": _write_executorch},
    "litert": {precision: partial(_write_litert, precision=precision) for precision in ("fp32", "int8")},
    "engine": {precision: partial(_write_engine, precision=precision) for precision in ("fp32", "int8")},
}
"""Format -> precision -> a function that writes the extractor's file into a folder, and returns the paths.

It gets the pictures for the calibration; none for fp32.
"""
