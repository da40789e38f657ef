"""Serve a page to the devices of the same network, and take the measurements that it sends.

Only the files of the page are served, below a secret token; everything else is refused.
"""

from __future__ import annotations

import hmac
import io
import mimetypes
import os
import secrets
import socket
import ssl
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from pydantic import ValidationError

from lxcompress.errors import LxError, MeasureError
from lxcompress.text import read_text
from lxcompress.web.page import ENTRY, list_files
from lxcompress.web.records import PageMeasurement

MOST_BYTES = 4_000_000
"""The largest measurement that is taken."""
MOST_A_MINUTE = 10
TIMEOUT_S = 30
"""A connection that is silent for so long is closed."""
TOKEN_BYTES = 9
TOKEN_FILE = ".token"
TYPES = {".js": "text/javascript", ".wasm": "application/wasm", ".webmanifest": "application/manifest+json"}
HEADERS = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Permissions-Policy": "geolocation=(), camera=(self), microphone=(self)",
}

Keep = Callable[[PageMeasurement], str]
"""Save a measurement, and return what to tell the user. Raises LxError."""


@dataclass
class PageServer:
    """A page in the folder `page`, its secret token, and the function that keeps a measurement.

    `files` are the paths that may be fetched, and `sent` the times of the measurements in the last minute.
    """

    page: Path
    token: str
    keep: Keep
    files: frozenset[str] = field(init=False)
    sent: deque[float] = field(default_factory=deque)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.files = frozenset(list_files(self.page))

    def open(self, host: str, port: int, *, certificate: Path | None = None) -> ThreadingHTTPServer:
        """Return a server that listens; `certificate` is a file with a certificate and its key, for HTTPS.

        Raises MeasureError.
        """
        try:
            server = _ConnectionServer((host, port), self._make_handler())
        except (OSError, OverflowError) as problem:
            raise MeasureError(
                f"{host}:{port}: the server cannot use this address ({problem}); give another --port, or --port 0 for "
                "any free one"
            ) from None
        server.daemon_threads = True
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        return server

    def find_file(self, path: str) -> Path | None:
        """Return the file that a request asks for; None without the right token, or if the page has no such file."""
        name = self.read_path(path)
        if name is None:
            return None
        name = name or ENTRY
        return self.page / name if name in self.files else None

    def read_path(self, path: str) -> str | None:
        """Return what follows the token in the path of a request; None without the right token."""
        token, slash, name = unquote(urlsplit(path).path).removeprefix("/").partition("/")
        is_right = hmac.compare_digest(token.encode(), self.token.encode())
        return name if slash and is_right else None

    def exceeds_rate_limit(self) -> bool:
        """Count one measurement, and return whether it is more than MOST_A_MINUTE in the last minute."""
        with self.lock:
            now = time.monotonic()
            while self.sent and self.sent[0] < now - 60:
                self.sent.popleft()
            if len(self.sent) >= MOST_A_MINUTE:
                return True
            self.sent.append(now)
            return False

    def _make_handler(self) -> type[BaseHTTPRequestHandler]:
        """Return the class that answers requests to this page."""
        page = self

        class Handler(PageHandler):
            server_page = page

        return Handler


class _ConnectionServer(ThreadingHTTPServer):
    """A server that says nothing about connections that a device ends, such as after a warning about a certificate."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], (ConnectionError, TimeoutError, ssl.SSLError)):
            super().handle_error(request, client_address)


class PageHandler(BaseHTTPRequestHandler):
    """The answers to the requests of one connection."""

    server_page: PageServer
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "lxcompress", ""
    timeout = TIMEOUT_S

    def do_GET(self) -> None:
        self._send_file()

    def do_HEAD(self) -> None:
        self._send_file()

    def do_POST(self) -> None:
        if self.server_page.read_path(self.path) != "measurements":
            self._refuse(HTTPStatus.NOT_FOUND, "there is nothing at this address")
            return
        fault = self._find_fault()
        if fault is not None:
            self._refuse(*fault)
            return
        body = self.rfile.read(int(self.headers["Content-Length"]))
        try:
            reply = self.server_page.keep(PageMeasurement.model_validate_json(body))
        except ValidationError as problem:
            first = problem.errors()[0]
            field_name = ".".join(map(str, first["loc"])) or "measurement"
            self._refuse(HTTPStatus.BAD_REQUEST, f"{field_name}: {first['msg']}")
        except LxError as problem:
            self._refuse(HTTPStatus.CONFLICT, str(problem))
        else:
            self._send(HTTPStatus.CREATED, reply.encode(), "text/plain; charset=utf-8")

    def log_message(self, format: str, *args: object) -> None:
        return

    def _find_fault(self) -> tuple[HTTPStatus, str] | None:
        """Return why a measurement is refused before it is read; None if it is not.

        Its type or its size may be wrong, another page may have sent it, or there were too many.
        """
        kind, size = self.headers.get_content_type(), self.headers.get("Content-Length", "")
        if kind != "application/json":
            return HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"expected application/json, got {kind}"
        if self.headers.get("Sec-Fetch-Site", "same-origin") != "same-origin":
            return HTTPStatus.FORBIDDEN, "only the page itself may send measurements"
        if not (size.isascii() and size.isdecimal()):
            return HTTPStatus.LENGTH_REQUIRED, "expected a Content-Length"
        if len(size) > len(str(MOST_BYTES)) or int(size) > MOST_BYTES:
            return HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"expected at most {MOST_BYTES:,} bytes"
        if self.server_page.exceeds_rate_limit():
            return HTTPStatus.TOO_MANY_REQUESTS, f"expected at most {MOST_A_MINUTE} measurements in a minute"
        return None

    def _send_file(self) -> None:
        """Send a file of the page."""
        path = self.server_page.find_file(self.path)
        if path is None:
            self._refuse(HTTPStatus.NOT_FOUND, "there is nothing at this address")
            return
        try:
            content = path.read_bytes()
        except OSError:
            self._refuse(HTTPStatus.NOT_FOUND, f"{path.name} is missing; make the page again with lxcompress app")
            return
        kind = TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        self._send(HTTPStatus.OK, content, kind)

    def _refuse(self, status: HTTPStatus, sentence: str) -> None:
        """Answer with an error of one sentence, and close the connection."""
        self.close_connection = True
        self._send(status, sentence.encode(), "text/plain; charset=utf-8")

    def _send(self, status: HTTPStatus, content: bytes, kind: str) -> None:
        """Send an answer."""
        self.send_response(status)
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.send_header("Cache-Control", "no-cache")
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def read_token(page: Path) -> str:
    """Return the token of a page. It stays the same, so that a phone that has kept the page finds the server again.

    The token is in a file that only its owner can read. In a folder that cannot be written, it is new each time.
    """
    path = page / TOKEN_FILE
    with suppress(OSError, ValueError):
        token = read_text(path).strip()
        if token and token.isascii():
            return token
    token = secrets.token_urlsafe(TOKEN_BYTES)
    with suppress(OSError):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(token + "\n")
    return token


def find_address() -> str:
    """Return the address of this machine in its network; 127.0.0.1 without a network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # no packet is sent: the system only chooses the network
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"


def make_certificate(address: str) -> Path:
    """Write a certificate for `address` and its key to a new file, and return the file.

    No authority has signed the certificate. Raises MeasureError without the library trustme.
    """
    try:
        import trustme
    except ImportError:
        raise MeasureError(
            "--https needs the package trustme, which makes the certificate; install it with: "
            "pip install 'lxcompress[phone]'"
        ) from None
    authority = trustme.CA()
    issued = authority.issue_cert(*sorted({address, "localhost", "127.0.0.1"}))
    descriptor, name = tempfile.mkstemp(prefix="lxcompress-", suffix=".pem")
    os.close(descriptor)
    issued.private_key_and_cert_chain_pem.write_to_path(name)
    return Path(name)


def draw_code(address: str) -> str | None:
    """Return the QR code of an address as lines of text; None without the library segno."""
    try:
        import segno
    except ImportError:
        return None
    text = io.StringIO()
    segno.make(address, error="l").terminal(out=text, compact=True, border=2)
    return text.getvalue()
