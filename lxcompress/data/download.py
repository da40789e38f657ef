"""One file over HTTP: a download that was cut off goes on where it stopped, and two files are never mixed.

The bytes so far are in `NAME.part`; `NAME.part.json` beside it says which file of the server's they begin.
"""

from __future__ import annotations

import http.client
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from email.message import Message
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
"""Waits before each new try, once some bytes have come and then no more do."""
PIECE_BYTES = 1 << 18


class PartRecord(Record):
    """Which file a `.part` begins: what the server said when its first byte came."""

    address: str
    etag: str | None
    modified: str | None
    size_bytes: Count | None

    @property
    def validator(self) -> str | None:
        """What to send as If-Range, so that a file that has changed comes whole."""
        return self.etag or self.modified


class _CutError(Exception):
    """The connection failed or ended early; another try may go on."""


def part_of(target: Path) -> Path:
    """Where the bytes of `target` gather until they are all there."""
    return target.with_name(target.name + ".part")


def forget(target: Path) -> None:
    """Removes what has come of `target` so far."""
    part_of(target).unlink(missing_ok=True)
    _begun_path(target).unlink(missing_ok=True)


def download(
    address: str,
    target: Path,
    *,
    size_bytes: int | None,
    has_checksum: bool,
    remedy: str,
    progress: Progress,
    pauses_s: Sequence[float] = PAUSES_S,
) -> bool:
    """Brings all bytes of `address` to the part of `target`; returns whether they came in more than one piece.

    `size_bytes` is their number if it is known. Without a validator from the server, a part is gone on with only if
    `has_checksum` says that a mixture would be found out later. Raises DataError, which ends in `remedy`; what has come
    stays, for the next call to go on with.
    """
    part = part_of(target)
    part.parent.mkdir(parents=True, exist_ok=True)
    pauses = iter(())  # none before the first byte: who has no network is told so at once
    while True:
        have = _size(part)
        try:
            return _go_on(
                address, target, size_bytes=size_bytes, has_checksum=has_checksum, remedy=remedy, progress=progress
            )
        except _CutError as cut:
            if _size(part) > have:
                pauses = iter(pauses_s)
                continue
            pause = next(pauses, None)
            if pause is None:
                raise DataError(f"{address}: could not be fetched ({cut}); {remedy}") from None
            time.sleep(pause)


def _go_on(
    address: str, target: Path, *, size_bytes: int | None, has_checksum: bool, remedy: str, progress: Progress
) -> bool:
    """One connection, for the bytes that are missing; returns whether others were there before."""
    part = part_of(target)
    begun = _read_begun(target, address)
    have = _size(part) if begun is not None else 0
    if begun is not None and have == begun.size_bytes:
        return True
    if begun is not None and begun.validator is None and not has_checksum:
        have = 0
    reply, start = _ask(address, begun, have, remedy)
    with reply:
        total = _total(reply, address, start, size_bytes, remedy)
        _check_space(address, part.parent, None if total is None else total - start)
        if start == 0:
            part.write_bytes(b"")  # before the note: bytes of another file must never stand beside it
            said = PartRecord(
                address=address,
                etag=_strong(reply.headers.get("ETag")),
                modified=reply.headers.get("Last-Modified"),
                size_bytes=total,
            )
            write_text(_begun_path(target), dump_record(said))
        _append(reply, part, total, progress)
    return start > 0


def _ask(address: str, begun: PartRecord | None, have: int, remedy: str) -> tuple[http.client.HTTPResponse, int]:
    """A reply with what is missing, and the place of its first byte: 0 where the server sends all or nothing."""
    if begun is not None and have > 0:
        asked = {"Range": f"bytes={have}-"} | ({"If-Range": begun.validator} if begun.validator else {})
        reply = _open(address, asked, remedy)
        if reply is not None and reply.status == 200:
            return reply, 0
        if reply is not None and _continues(reply, begun, have):
            return reply, have
        if reply is not None:  # not what was asked for: with ranges, this server cannot be trusted
            reply.close()
    reply = _open(address, {}, remedy)
    if reply is None or reply.status != 200:
        raise DataError(f"{address}: answers with a part where all of the file was asked for; {remedy}")
    return reply, 0


def _open(address: str, asked: dict[str, str], remedy: str) -> http.client.HTTPResponse | None:
    """The server's reply; None if it has no bytes in the range that was asked for."""
    headers = {"Accept-Encoding": "identity", "User-Agent": f"lxcompress/{__version__}", **asked}
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
        raise DataError(f"{address}: answered with {what} where the file was expected; {remedy}")
    return reply


def _continues(reply: http.client.HTTPResponse, begun: PartRecord, have: int) -> bool:
    """Whether a partial reply is the rest of what was begun: from `have` to the end, of the same file."""
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


def _total(
    reply: http.client.HTTPResponse, address: str, start: int, size_bytes: int | None, remedy: str
) -> int | None:
    """How many bytes the whole file has; None for a reply in chunks, whose end is marked."""
    if reply.length is None and not reply.chunked:
        raise DataError(
            f"{address}: does not say how long the file is, so that a part could not be told from the whole; {remedy}"
        )
    total = None if reply.length is None else start + reply.length
    if size_bytes is not None and total is not None and total != size_bytes:
        raise DataError(f"{address}: is {total:,} bytes where {size_bytes:,} were published; {remedy}")
    return total


def _append(reply: http.client.HTTPResponse, part: Path, total: int | None, progress: Progress) -> None:
    """Writes what the reply holds to the end of `part`."""
    with part.open("ab") as file:
        progress("downloading", file.tell(), total or 0)
        while piece := _read(reply):
            file.write(piece)
            file.flush()  # what has come outlives a kill
            progress("downloading", file.tell(), total or 0)
    if total is not None and _size(part) != total:
        raise _CutError(f"the connection ended after {_size(part):,} of {total:,} bytes")


def _read(reply: http.client.HTTPResponse) -> bytes:
    """The next bytes as they come. Apart from writing them, so that a full disk is not taken for a lost connection."""
    try:
        return reply.read1(PIECE_BYTES)
    except (OSError, http.client.HTTPException) as error:
        raise _CutError(_reason(error)) from None


def _check_space(address: str, folder: Path, wanted: int | None) -> None:
    free = shutil.disk_usage(folder).free
    if wanted is not None and wanted > free:
        raise DataError(
            f"{address}: needs {wanted:,} bytes more, and the disk of {folder} has {free:,} left; "
            "make room, or give another --to"
        )


class HttpOnly(urllib.request.HTTPRedirectHandler):
    """Follows a redirect to http or https alone, and never from https to http."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> urllib.request.Request | None:
        scheme = urlsplit(newurl).scheme
        if scheme not in ("http", "https") or (req.type, scheme) == ("https", "http"):
            fp.close()
            raise DataError(
                f"{req.full_url}: redirects to {newurl}, which is not {'https' if req.type == 'https' else 'http(s)'}; "
                "download it with a program that you trust with that"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    """Opens http and https, and nothing else: urllib's own opener knows file: and ftp: too."""
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
    """The entity tag, unless it is a weak one: those do not promise equal bytes, and If-Range may not carry them."""
    return None if etag is None or etag.startswith("W/") else etag


def _begun_path(target: Path) -> Path:
    return target.with_name(target.name + ".part.json")


def _read_begun(target: Path, address: str) -> PartRecord | None:
    """What is known of the part of `target`; None if nothing is, or it is of another address."""
    try:
        begun = read_record(_begun_path(target), PartRecord, DataError)
    except DataError:  # a part of which nothing is known is fetched again
        return None
    return begun if begun.address == address else None


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _reason(error: Exception) -> str:
    """What went wrong, without the wrapping."""
    inner = getattr(error, "reason", error)
    return getattr(inner, "strerror", None) or str(inner) or type(inner).__name__
