"""The server gives a page to those who have its token, takes its measurements, and refuses everything else."""

from __future__ import annotations

import http.client
import json
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lxcompress.errors import MeasureError
from lxcompress.web.records import PageMeasurement
from lxcompress.web.server import MOST_A_MINUTE, MOST_BYTES, PageServer, draw_code, make_certificate, read_token
from tests.web.measured import make_measurement

TOKEN = "secret"
JSON = {"Content-Type": "application/json"}


class Client:
    """Sends requests to a server, and has what was kept."""

    def __init__(self, page: Path) -> None:
        self.kept: list[PageMeasurement] = []
        self.server = PageServer(page, TOKEN, self.keep).open("127.0.0.1", 0)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def keep(self, found: PageMeasurement) -> str:
        if found.device == "unknown":
            raise MeasureError("its models are not those of the run")
        self.kept.append(found)
        return "saved"

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, str, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.server_port, timeout=10)
        connection.request(method, path, body, headers)
        found = connection.getresponse()
        text = found.read().decode()
        connection.close()
        return found.status, text, found.headers

    def send(self, tree: Any, **headers: str) -> tuple[int, str]:
        return self.ask("POST", f"/{TOKEN}/measurements", json.dumps(tree).encode(), **JSON, **headers)[:2]


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """Write a page of empty files. One more file is in its folder, and one outside: neither may be fetched."""
    folder = tmp_path / "page"
    (folder / "code-1").mkdir(parents=True)
    file = {"path": "code-1/main.js", "sha256": "0", "bytes": 1}
    wasm, model = {**file, "path": "engine.wasm"}, {**file, "path": "model.lxe"}
    tree = {
        "code": [file],
        "engines": {"engine.wasm": wasm},
        "models": [{"file": model, "vocabulary": {**file, "path": "words.json"}}],
    }
    for name in ("index.html", "engine.wasm", "model.lxe", "code-1/main.js", "source.json", "../outside.txt"):
        (folder / name).write_text(f"this is {name}", encoding="utf-8")
    (folder / "page.json").write_text(json.dumps(tree), encoding="utf-8")
    return folder


@pytest.fixture
def client(page: Path) -> Iterator[Client]:
    found = Client(page)
    yield found
    found.server.shutdown()
    found.thread.join()
    found.server.server_close()


def test_the_files_of_the_page_are_isolated_and_have_their_types(client: Client) -> None:
    status, text, headers = client.ask("GET", f"/{TOKEN}/?v=1")
    assert (status, text) == (200, "this is index.html")
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert headers["Cross-Origin-Embedder-Policy"] == "require-corp"
    kinds = {name: client.ask("HEAD", f"/{TOKEN}/{name}") for name in ("engine.wasm", "code-1/main.js")}
    assert [(found[0], found[1]) for found in kinds.values()] == [(200, "")] * 2
    assert [found[2]["Content-Type"] for found in kinds.values()] == ["application/wasm", "text/javascript"]


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/index.html",
        "/wrong/index.html",
        f"/{TOKEN}",
        f"/{TOKEN}/source.json",
        f"/{TOKEN}/.token",
        f"/{TOKEN}/../outside.txt",
        f"/{TOKEN}/%2e%2e/outside.txt",
        f"/{TOKEN}/code-1",
        f"/{TOKEN}/measurements",
        f"/{TOKEN}/words.json",
    ],
)
def test_nothing_else_is_served(client: Client, path: str) -> None:
    assert client.ask("GET", path)[0] == 404


def test_a_measurement_is_kept(client: Client) -> None:
    assert client.send(make_measurement("a" * 64)) == (201, "saved")
    assert client.kept == [PageMeasurement.model_validate(make_measurement("a" * 64))]


def test_what_is_no_measurement_is_refused(client: Client) -> None:
    good = make_measurement("a" * 64)
    path, body = f"/{TOKEN}/measurements", json.dumps(good).encode()
    assert client.ask("POST", path, body, **{"Content-Type": "text/plain"})[:2] == (
        415,
        "expected application/json, got text/plain",
    )
    large = {"Content-Length": str(MOST_BYTES + 1)}
    assert client.ask("POST", path, b"{}", **JSON, **large)[:2] == (413, f"expected at most {MOST_BYTES:,} bytes")
    assert client.ask("POST", "/wrong/measurements", body, **JSON)[0] == 404
    assert client.send(good, **{"Sec-Fetch-Site": "cross-site"})[0] == 403
    assert client.send({**good, "more": 1})[0] == 400
    assert client.send({**good, "models": [{**good["models"][0], "rounds": [1]}]}) == (
        400,
        "models.0: Value error, rounds add up to 1, but there are 40 samples",
    )
    assert client.send({**good, "lengths": [7] * 39}) == (
        400,
        "measurement: Value error, a model has 40 samples, but there are 39 questions",
    )
    assert client.send({**good, "device": "unknown"}) == (409, "its models are not those of the run")
    assert client.ask("PUT", path, body, **JSON)[0] == 501
    assert client.kept == []


def test_too_many_measurements_are_refused(client: Client) -> None:
    codes = [client.send({})[0] for _ in range(MOST_A_MINUTE + 1)]
    assert codes == [400] * MOST_A_MINUTE + [429]


def test_the_token_stays_and_only_its_owner_reads_it(page: Path) -> None:
    token = read_token(page)
    assert len(token) >= 12
    assert read_token(page) == token
    assert (page / ".token").stat().st_mode & 0o077 == 0


def test_a_folder_without_a_page_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MeasureError, match=r"is not a page .*make one with: lxcompress app RUN --out"):
        PageServer(tmp_path, TOKEN, lambda found: "")


def test_https_has_a_certificate_of_the_address(page: Path) -> None:
    pytest.importorskip("trustme")
    certificate = make_certificate("127.0.0.1")
    server = PageServer(page, TOKEN, lambda found: "").open("127.0.0.1", 0, certificate=certificate)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection = http.client.HTTPSConnection("127.0.0.1", server.server_port, timeout=10, context=context)
        connection.request("GET", f"/{TOKEN}/")
        assert connection.getresponse().read() == b"this is index.html"
        connection.close()
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        certificate.unlink()


@pytest.mark.parametrize(
    ("problem", "is_shown"),
    [(ConnectionResetError(), False), (ssl.SSLError("certificate unknown"), False), (ValueError("a bug"), True)],
)
def test_a_connection_that_a_device_ends_shows_no_error(
    page: Path, capsys: pytest.CaptureFixture[str], problem: Exception, is_shown: bool
) -> None:
    """A browser ends one when it warns about a certificate."""
    server = PageServer(page, TOKEN, lambda found: "").open("127.0.0.1", 0)
    try:
        raise problem
    except Exception:
        server.handle_error(b"", ("127.0.0.1", 1))
    finally:
        server.server_close()
    assert bool(capsys.readouterr().err) == is_shown


def test_an_address_has_a_qr_code_in_text() -> None:
    pytest.importorskip("segno")
    code = draw_code("http://192.0.2.7:8000/secret/")
    assert code is not None
    lines = code.splitlines()
    assert 10 < len(lines) < 30
    assert {len(line) for line in lines} == {len(lines[0])}
