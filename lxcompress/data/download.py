"""Download one file over HTTP; resume after an interruption, and never mix two versions of the file.

The bytes that have come are in `NAME.part`. `NAME.part.json` says from which version of the server's file they are.
"""

from __future__ import annotations

import http.client
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from lxcompress import __version__
from lxcompress.errors import DataError
from lxcompress.progress import Progress
from lxcompress.records import Count, Record, dump_record, read_record
from lxcompress.rundir import write_text

TIMEOUT_S = 60
PAUSES_S = (2.0, 10.0, 30.0)
"""The pauses before new attempts, after some bytes have come and then the connection failed."""
PIECE_BYTES = 1 << 18


class PartRecord(Record):
    """The version of the remote file that a `.part` is a part of, as the server named it when the download began."""

    address: str
    etag: str | None
    modified: str | None
    size_bytes: Count | None

    @property
    def validator(self) -> str | None:
        """Return the value for the header If-Range, which makes a server send a changed file from its start."""
        return self.etag or self.modified


class _CutError(Exception):
    """A connection failed or ended early; another attempt may succeed."""


def part_of(target: Path) -> Path:
    """Return the file that holds the bytes of `target` until it is complete."""
    return target.with_name(target.name + ".part")


def forget(target: Path) -> None:
    """Remove what was downloaded of `target` so far."""
    part_of(target).unlink(missing_ok=True)
    _record_path(target).unlink(missing_ok=True)


@dataclass(frozen=True)
class DownloadRequest:
    """A request to download a file: its address, the path to write, and what is known about the file."""

    address: str
    target: Path
    size_bytes: int | None
    has_checksum: bool
    """whether a checksum of the file is known, so that a mixture of two versions would be detected later"""
    remedy: str
    """the remedy that ends every error message"""


def download(request: DownloadRequest, progress: Progress, pauses_s: Sequence[float] = PAUSES_S) -> bool:
    """Download all bytes to the `.part` of the target; return whether some of the bytes are from an earlier connection.

    If the server names no version of the file, a part is resumed only if a checksum is known. Raises DataError; the
    bytes that have come stay, and the next call resumes.
    """
    part = part_of(request.target)
    part.parent.mkdir(parents=True, exist_ok=True)
    pauses: Iterator[float] = iter(())  # no pause before the first byte: without a network, the error comes at once
    while True:
        have = _size(part)
        try:
            return _resume(request, progress)
        except _CutError as cut:
            if _size(part) > have:
                pauses = iter(pauses_s)
                continue
            pause = next(pauses, None)
            if pause is None:
                raise DataError(f"{request.address}: could not be fetched ({cut}); {request.remedy}") from None
            time.sleep(pause)


def _resume(request: DownloadRequest, progress: Progress) -> bool:
    """Download the missing bytes over one connection; return whether earlier bytes were kept."""
    address, target = request.address, request.target
    part = part_of(target)
    begun = _read_record(target, address)
    have = _size(part) if begun is not None else 0
    if begun is not None and have == begun.size_bytes:
        return True
    if begun is not None and begun.validator is None and not request.has_checksum:
        have = 0
    reply, start = _request(address, begun, have, request.remedy)
    with reply:
        total = _total(reply, request, start)
        _check_space(address, part.parent, None if total is None else total - start)
        if start == 0:
            part.write_bytes(b"")  # first: the record must never describe bytes of another version
            record = PartRecord(
                address=address,
                etag=_strong(reply.headers.get("ETag")),
                modified=reply.headers.get("Last-Modified"),
                size_bytes=total,
            )
            write_text(_record_path(target), dump_record(record))
        _append(reply, part, total, progress)
    return start > 0


def _request(address: str, begun: PartRecord | None, have: int, remedy: str) -> tuple[http.client.HTTPResponse, int]:
    """Request the bytes from `have` on; return the reply, and the offset of its first byte: 0 for the whole file."""
    if begun is not None and have > 0:
        headers = {"Range": f"bytes={have}-"} | ({"If-Range": begun.validator} if begun.validator else {})
        reply = _open(address, headers, remedy)
        if reply is not None and reply.status == 200:
            return reply, 0
        if reply is not None and _continues(reply, begun, have):
            return reply, have
        if reply is not None:  # not the requested bytes: this server cannot send a range
            reply.close()
    reply = _open(address, {}, remedy)
    if reply is None or reply.status != 200:
        raise DataError(f"{address}: answered with a part, expected the whole file; {remedy}")
    return reply, 0


def _open(address: str, extra: dict[str, str], remedy: str) -> http.client.HTTPResponse | None:
    """Return the server's reply; None if the file has no bytes in the requested range (status 416)."""
    headers = {"Accept-Encoding": "identity", "User-Agent": f"lxcompress/{__version__}", **extra}
    try:
        reply = _opener().open(urllib.request.Request(address, headers=headers), timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:
            return None
        if error.code == 429 or error.code >= 500:
            raise _CutError(f"it answered {error.code} {error.reason}") from None
        raise DataError(f"{address}: answered {error.code} {error.reason}; {remedy}") from None
    except (OSError, http.client.HTTPException) as error:
        raise _CutError(_reason(error)) from None
    came = reply.headers.get_content_type()
    coding = reply.headers.get("Content-Encoding", "identity")
    if came == "text/html" or coding != "identity":
        reply.close()
        what = "a web page" if came == "text/html" else f"bytes encoded as {coding}"
        raise DataError(f"{address}: answered with {what}, expected the file; {remedy}")
    return reply


def _continues(reply: http.client.HTTPResponse, begun: PartRecord, have: int) -> bool:
    """Return whether a partial reply has the bytes from `have` to the end, of the same version of the file."""
    said = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", reply.headers.get("Content-Range", "").strip())
    if reply.status != 206 or said is None:
        return False
    first, last, total = (int(number) for number in said.groups())
    etag = _strong(reply.headers.get("ETag"))
    return (
        (first, last) == (have, total - 1)
        and begun.size_bytes in (None, total)
        and reply.length in (None, total - have)
        and (etag is None or begun.etag is None or etag == begun.etag)
        and reply.headers.get("Last-Modified") in (None, begun.modified)
    )


def _total(reply: http.client.HTTPResponse, request: DownloadRequest, start: int) -> int | None:
    """Return the bytes of the whole file. Return None for a chunked reply: it tells no size, but marks its end.

    Raises DataError if the reply does neither, or if the size is not the published one.
    """
    if reply.length is None and not reply.chunked:
        raise DataError(
            f"{request.address}: does not say how long the file is, so a cut download could not be detected; "
            f"{request.remedy}"
        )
    total = None if reply.length is None else start + reply.length
    if request.size_bytes is not None and total is not None and total != request.size_bytes:
        raise DataError(
            f"{request.address}: has {total:,} bytes, but {request.size_bytes:,} were published; {request.remedy}"
        )
    return total


def _append(reply: http.client.HTTPResponse, part: Path, total: int | None, progress: Progress) -> None:
    """Append the bytes of the reply to `part`. Raises _CutError if they end before `total` bytes."""
    with part.open("ab") as file:
        progress("downloading", file.tell(), total or 0)
        while piece := _read(reply):
            file.write(piece)
            file.flush()  # a kill loses nothing that has come
            progress("downloading", file.tell(), total or 0)
    if total is not None and _size(part) != total:
        raise _CutError(f"the connection ended after {_size(part):,} of {total:,} bytes")


def _read(reply: http.client.HTTPResponse) -> bytes:
    """Return the next bytes of a reply. Raises _CutError; errors of writing (a full disk) must not look like that."""
    try:
        return reply.read1(PIECE_BYTES)
    except (OSError, http.client.HTTPException) as error:
        raise _CutError(_reason(error)) from None


def _check_space(address: str, folder: Path, wanted: int | None) -> None:
    """Raise DataError if the disk of `folder` has no room for `wanted` bytes; None is an unknown number."""
    free = shutil.disk_usage(folder).free
    if wanted is not None and wanted > free:
        raise DataError(
            f"{address}: needs {wanted:,} bytes more, and the disk of {folder} has {free:,} left; "
            "free some space, or give another --to"
        )


class HttpOnly(urllib.request.HTTPRedirectHandler):
    """A handler that follows redirects only to http or https, and never from https to http."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        scheme = urlsplit(newurl).scheme
        if scheme not in ("http", "https") or (req.type, scheme) == ("https", "http"):
            fp.close()
            raise DataError(
                f"{req.full_url}: redirects to {newurl}, which is not {'https' if req.type == 'https' else 'http(s)'}; "
                "download it with another program"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    """Return an opener for http and https only; the default opener of urllib also opens file: and ftp: addresses."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        HttpOnly(),
    ):
        opener.add_handler(handler)
    return opener


def _strong(etag: str | None) -> str | None:
    """Return the entity tag; None if it is weak: a weak tag does not promise equal bytes, and If-Range forbids it."""
    return None if etag is None or etag.startswith("W/") else etag


def _record_path(target: Path) -> Path:
    """Return the path of the PartRecord of `target`."""
    return target.with_name(target.name + ".part.json")


def _read_record(target: Path, address: str) -> PartRecord | None:
    """Return the PartRecord of `target`; None if it is missing, unreadable, or of another address."""
    try:
        begun = read_record(_record_path(target), PartRecord, DataError)
    except DataError:  # a part without a readable record is downloaded again
        return None
    return begun if begun.address == address else None


def _size(path: Path) -> int:
    """Return the bytes of a file; 0 if it does not exist."""
    return path.stat().st_size if path.exists() else 0


def _reason(error: Exception) -> str:
    """Return the reason of an error as text; for an error that wraps another one, the reason of the inner error."""
    inner = getattr(error, "reason", error)
    return getattr(inner, "strerror", None) or str(inner) or type(inner).__name__
