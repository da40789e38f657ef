"""ExtractorRecord: which extractor made the features of a store, or which extractor's features a model reads.

Two extractors may give the same number of features for a region. So their names and versions are compared.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from lxcompress.catalog.extractors import read_extractor
from lxcompress.errors import ModelError
from lxcompress.filenames import CONFIG_FILE
from lxcompress.records import ORIGIN_FIELD, FeatureOrigin, Record, Settings
from lxcompress.text import parse_json, read_text


class ExtractorRecord(Record):
    """An extractor.

    `version` changes with its weights and with the way it reads a picture; it is empty if there are no weights, or if
    they are not known. `settings` has its other options, such as the cells of a grid on a side; they do not change
    which extractor it is.
    """

    name: str
    version: str = ""
    settings: Settings = Field(default_factory=dict)


def is_same_extractor(one: ExtractorRecord | None, other: ExtractorRecord | None) -> bool:
    """Return whether two extractors are the same; an unknown extractor or version is compared with nothing."""
    if one is None or other is None:
        return True
    is_same_version = not (one.version and other.version) or one.version == other.version
    return one.name == other.name and is_same_version


def name_extractors(one: ExtractorRecord, other: ExtractorRecord) -> tuple[str, str]:
    """Return the names of two different extractors; with their versions if the names are the same."""
    if one.name != other.name:
        return one.name, other.name
    return f"{one.name} (version {one.version})", f"{other.name} (version {other.version})"


def extractor_of_reading(reading: str, version: str = "") -> ExtractorRecord | None:
    """Return the extractor in the options `reading` of a store; None if they name none."""
    found = read_extractor(reading)
    return None if found is None else ExtractorRecord(name=found[0], version=version)


def extractor_of_model(folder: Path) -> ExtractorRecord | None:
    """Return the extractor whose features the model in `folder` was trained on; None if its config.json names none.

    `folder` is a ticket, an artifact, a dense run or a transformers folder. Raises ModelError.
    """
    path = folder / CONFIG_FILE
    try:
        tree = parse_json(read_text(path))
        found = tree.get(ORIGIN_FIELD) if isinstance(tree, dict) else None
        origin = None if found is None else FeatureOrigin.model_validate(found)
    except (OSError, ValueError, RecursionError) as problem:
        raise ModelError(f"{path}: cannot be read ({problem}); copy the folder again") from None
    return None if origin is None else extractor_of_reading(origin.made_with, origin.version)
