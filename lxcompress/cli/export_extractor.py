"""The part of `lxcompress export` that writes an extractor as a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ExtractorRequest:
    """The extractor to export, the cells of its grid on a side (None: the default), the format and the folder.

    `prune` is the fraction (0-1) of the weights of its 1 x 1 convolutions to remove, the smallest ones first. `photos`
    is a folder or a pattern of photographs, which 8 bits need.
    """

    extractor: str
    grid: int | None
    format: str
    out: Path
    prune: float = 0.0
    precision: str = "fp32"
    photos: Path | None = None


def export_extractor_and_show(request: ExtractorRequest, *, as_json: bool) -> None:
    """Export an extractor, and show how its features compare with those of the network."""
    from lxcompress.cli.progress import working
    from lxcompress.cli.screen import json_document, out
    from lxcompress.units import percent, size_text
    from lxcompress.workflow.features import ExtractOptions, check_grid, open_extractor, read_picture

    options = ExtractOptions(extractor=request.extractor, grid=request.grid)
    check_grid(options)
    paths = _find_photos(request)
    with json_document(wanted=as_json) as emit, working(f"reading {request.extractor}") as progress:
        from lxcompress.exporters.extractor import FileSettings, export_extractor
        from lxcompress.extractors.grid import GridExtractor
        from lxcompress.extractors.prune import prune_pointwise

        extractor = open_extractor(options)
        assert isinstance(extractor, GridExtractor), "check_grid has seen its name"
        prune_pointwise(extractor.network, request.prune)
        settings = FileSettings(
            request.format, request.precision, [read_picture(path, extractor).pixels for path in paths]
        )
        made = export_extractor(extractor, request.out, settings, progress=progress)
        emit({"folder": str(request.out), **made.model_dump(mode="json")})
    if as_json:
        return
    what = f"{made.extractor}, {made.grid} x {made.grid} regions of {made.features:,} features"
    out.print(f"{request.out}  {size_text(made.size_bytes)}, {made.precision}", markup=False, soft_wrap=True)
    out.print(f"extractor {what}; reads pictures of {made.side} x {made.side}", markup=False)
    largest, cosine = f"{made.largest_feature:.2g}", f"{made.least_cosine:.6f} (mean {made.mean_cosine:.6f})"
    pictures = f"{made.pictures} {'photographs' if paths else 'pictures'}"
    out.print(
        f"parity    features differ by at most {made.max_abs_difference:.2g} (the largest is {largest}); cosine of a "
        f"region at least {cosine}; on {pictures}",
        markup=False,
    )
    out.print(f"zeros     {percent(made.pruned, 1)} % of the 1 x 1 convolutions", markup=False)


def _find_photos(request: ExtractorRequest) -> Sequence[Path]:
    """Return the photographs that calibrate and compare a file in 8 bits; none for fp32. Raises LxError."""
    from lxcompress.exporters.extractor import MOST_PHOTOS, check_settings
    from lxcompress.extractors.find import list_photos

    found = list_photos([request.photos]).paths[:MOST_PHOTOS] if request.photos else None
    check_settings(request.format, request.precision, None if found is None else len(found))
    return found or ()
