"""Compare the files of a ticket, a dense run or an artifact with the checksums in their record, before reading them.

A record has the SHA-256 of every file of its folder that can change an answer. A record of an earlier version has fewer
of them, or none; files without a checksum are read unchecked.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from lxcompress.errors import LxError, ModelError, RunError, TicketError
from lxcompress.filenames import (
    ARTIFACT_FILE,
    BITMASK_FILE,
    CONFIG_FILE,
    DENSE_FILE,
    MASK_FILE,
    RESULT_FILE,
    SURGERY_FILE,
    TICKET_FILE,
    WEIGHTS_FILE,
)
from lxcompress.records import Artifact, Dense, Provenance, Result, read_record, read_unsealed
from lxcompress.rundir import sha256

READ_IF_THERE = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    SURGERY_FILE,
    "adapter_config.json",
)
"""Optional files that change an answer if they exist: none may be added to a folder whose record has checksums."""
HASHED = (CONFIG_FILE, WEIGHTS_FILE, MASK_FILE, BITMASK_FILE, *READ_IF_THERE)


@dataclass(frozen=True)
class Origin:
    """The kind of a folder, the checksums in its record, and the remedy for a changed file."""

    what: str
    files: Mapping[str, str]
    remedy: str
    error: type[LxError]
    names_all: bool
    """whether the record has a checksum of every file that belongs to the folder"""


def hash_files(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file of `folder` that can change an answer, by name."""
    return {name: sha256(folder / name) for name in sorted(HASHED) if (folder / name).is_file()}


def check_folder(folder: Path, only: Collection[str] | None = None) -> None:
    """Compare the files of `folder` with its record, if it has one; with `only`, just the files with these names.

    Raises LxError for a file that was changed, added or removed after the record was written.
    """
    for origin in _origins(folder):
        check_files(folder, origin, only)


def check_files(folder: Path, origin: Origin, only: Collection[str] | None = None) -> None:
    """Raise the error of `origin` unless the files of `folder` have its checksums."""
    for name, expected in origin.files.items():
        if only is None or name in only:
            _check_file(folder / name, expected, origin)
    if origin.names_all:
        added = (name for name in READ_IF_THERE if (folder / name).exists() and name not in origin.files)
        for name in (found for found in added if only is None or found in only):
            raise origin.error(
                f"{folder / name}: was added after {origin.what} was made, and would change its answers; remove it, or "
                f"{origin.remedy}"
            )


def is_packed(folder: Path) -> bool:
    """Return whether the weights in a folder are stored as a bitmask checkpoint."""
    return (folder / BITMASK_FILE).is_file() and not (folder / WEIGHTS_FILE).is_file()


def read_checked_provenance(folder: Path) -> Provenance:
    """Return the record of the ticket in `folder`, after its files were compared with its checksums.

    The seal of the record is not checked: the caller checks it last, because other checks have more specific errors.
    Raises TicketError, also if `folder` is not a ticket.
    """
    if not (folder / TICKET_FILE).is_file():
        raise TicketError(
            f"{folder}: is not a ticket (it has no {TICKET_FILE}); give a folder made by `lxcompress study` "
            "(RUN/tickets/...) or by `lxcompress prune`"
        )
    provenance = read_unsealed(folder / TICKET_FILE, Provenance, TicketError)
    check_files(folder, _ticket_origin(folder, provenance))
    return provenance


def _ticket_origin(folder: Path, provenance: Provenance) -> Origin:
    """Return the checksums in ticket.json."""
    files = {BITMASK_FILE if is_packed(folder) else WEIGHTS_FILE: provenance.model_sha256}
    if provenance.surgery_sha256:
        files[SURGERY_FILE] = provenance.surgery_sha256
    if not is_packed(folder) and (provenance.first or not provenance.surgery_sha256):
        files[MASK_FILE] = provenance.mask_sha256
    return Origin(
        "the ticket",
        files | provenance.files,
        "copy the whole ticket again, or draw it again",
        TicketError,
        bool(provenance.files),
    )


def dense_origin(dense: Dense) -> Origin:
    """Return the checksums in dense.json."""
    remedy = f"delete {DENSE_FILE}, and lxcompress study repeats the dense run"
    return Origin("the dense run", dense.files, remedy, RunError, bool(dense.files))


def _origins(folder: Path) -> list[Origin]:
    """Return the checksums of all records in `folder`. Raises LxError for a record that cannot be read."""
    found = []
    if (folder / TICKET_FILE).is_file():
        found.append(_ticket_origin(folder, read_record(folder / TICKET_FILE, Provenance, TicketError)))
    elif (folder / RESULT_FILE).is_file():  # a control, which is not a ticket
        files = read_record(folder / RESULT_FILE, Result).files
        remedy = f"delete {RESULT_FILE}, and lxcompress study repeats this run"
        found.append(Origin("the model", files, remedy, RunError, bool(files)))
    if (folder / DENSE_FILE).is_file():
        found.append(dense_origin(read_record(folder / DENSE_FILE, Dense)))
    if (folder / ARTIFACT_FILE).is_file():
        artifact = read_record(folder / ARTIFACT_FILE, Artifact, ModelError)
        found.append(Origin("the artifact", artifact.files, "export it again", ModelError, names_all=True))
    return found


def _check_file(path: Path, expected: str, origin: Origin) -> None:
    if not path.is_file():
        raise origin.error(f"{path}: was removed after {origin.what} was made; restore it, or {origin.remedy}")
    found = sha256(path)
    if found != expected:
        raise origin.error(
            f"{path}: was changed after {origin.what} was made (sha256 {found[:12]}..., was {expected[:12]}...); "
            f"restore it, or {origin.remedy}"
        )
