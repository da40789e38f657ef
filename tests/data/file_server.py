"""A server of files on this machine, with HTTP's ranges and validators, and with the faults that real ones have."""

from __future__ import annotations

import hashlib
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler

from tests.local_server import LocalServer


@dataclass(frozen=True)
class Asked:
    """A request as it came."""

    path: str
    range: str | None
    if_range: str | None


@dataclass
class FileServer(LocalServer):
    """Serves `files` by path while it is entered.

    `ranges`: honest, or how it is not: ignored (all of the file), zero (all of it, called so, as a part), all (all of
    it, called what was asked for), unnamed (a part without saying which), first (the first bytes, called so), false
    (the first bytes, called what was asked for), refused (416).
    `validator`: what tells one file from another: ETag, Last-Modified or nothing.
    `cuts`: after how many bytes of its body each reply in turn ends. `stalls`: whether a cut reply hangs instead.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    ranges: str = "honest"
    validator: str | None = "ETag"
    knows_if_range: bool = True
    has_lengths: bool = True
    is_chunked: bool = False
    stalls: bool = False
    cuts: list[int] = field(default_factory=list)
    redirects: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    status: int = 200
    asked: list[Asked] = field(default_factory=list)

    def __enter__(self) -> FileServer:
        self.has_stalled, self.is_over = threading.Event(), threading.Event()
        super().__enter__()
        return self

    def __exit__(self, *ended: object) -> None:
        self.is_over.set()
        super().__exit__(*ended)

    def address(self, path: str) -> str:
        return f"{self.origin}{path}"

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        self.asked.append(Asked(request.path, request.headers["Range"], request.headers["If-Range"]))
        if request.path in self.redirects:
            request.send_response(302)
            request.send_header("Location", self.redirects[request.path])
            request.end_headers()
            return
        if request.path not in self.files or self.status != 200:
            request.send_error(404 if self.status == 200 else self.status)
            return
        whole = self.files[request.path]
        mark = hashlib.sha256(whole).hexdigest()
        value = f'"{mark}"' if self.validator == "ETag" else f"Mon, 02 Jan 2017 03:04:{int(mark, 16) % 60:02d} GMT"
        if_range = request.headers["If-Range"] if self.knows_if_range else None
        status, body, headers = self._reply(whole, request.headers["Range"], is_same=if_range in (None, value))
        if self.validator is not None:
            headers[self.validator] = value
        if self.is_chunked:
            headers["Transfer-Encoding"] = "chunked"
            body = b"".join(b"%x\r\n%b\r\n" % (1, body[i : i + 1]) for i in range(len(body))) + b"0\r\n\r\n"
            request.protocol_version = "HTTP/1.1"
        elif self.has_lengths:
            headers["Content-Length"] = str(len(body))
        request.send_response(status)
        for name, value in {**headers, **self.headers}.items():
            request.send_header(name, value)
        request.end_headers()
        cut = self.cuts.pop(0) if self.cuts else None
        request.wfile.write(body[:cut])
        request.close_connection = True
        if cut is not None and self.stalls:
            request.wfile.flush()
            self.has_stalled.set()
            self.is_over.wait()

    def _reply(self, whole: bytes, asked: str | None, *, is_same: bool) -> tuple[int, bytes, dict[str, str]]:
        if asked is None or self.ranges == "ignored" or not is_same:
            return 200, whole, {}
        start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
        if start >= len(whole) or self.ranges == "refused":
            return 416, b"", {"Content-Range": f"bytes */{len(whole)}"}
        says = f"bytes {start}-{len(whole) - 1}/{len(whole)}"
        return {
            "honest": (206, whole[start:], {"Content-Range": says}),
            "zero": (206, whole, {"Content-Range": f"bytes 0-{len(whole) - 1}/{len(whole)}"}),
            "all": (206, whole, {"Content-Range": says}),
            "unnamed": (206, whole[start:], {}),
            "first": (206, whole[:start], {"Content-Range": f"bytes 0-{start - 1}/{len(whole)}"}),
            "false": (206, whole[: len(whole) - start], {"Content-Range": says}),
        }[self.ranges]
