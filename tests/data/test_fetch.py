"""Laws of fetching: cut off anywhere and gone on with equals the whole, files never mix, and nothing wrong stays."""

from __future__ import annotations

import hashlib
import io
import json
import re
import stat
import zipfile
from dataclasses import replace
from pathlib import Path
from urllib.request import Request

import pytest
from filelock import FileLock

from lxcompress.data.catalogue import CATALOGUE, Collection, RemoteFile
from lxcompress.data.download import HttpOnly, part_of
from lxcompress.data.fetch import (
    FetchResult,
    checksums_path,
    collection_size_text,
    fetch,
    missing_bytes,
    plan,
    remote_size_text,
)
from lxcompress.errors import DataError
from lxcompress.units import size_text
from tests.data.file_server import FileServer

CONTENT = bytes(range(40, 104))
CHANGED = bytes(reversed(CONTENT))
JSON_ONLY = ("*.json",)
RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch) -> None:
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def server():
    with FileServer(files={"/a.bin": CONTENT}) as running:
        yield running


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def quiet(what: str, done: int = 0, total: int = 0, *, value: float | None = None) -> None:
    """Watches nothing."""


def bring(folder: Path, remote: RemoteFile, *, progress=quiet, pauses_s=()) -> FetchResult:
    """Fetches the one file `remote`, as the collection toy."""
    [fetched] = fetch(["toy"], folder, catalogue=catalogue(remote), progress=progress, pauses_s=pauses_s)
    return fetched


def catalogue(*files: RemoteFile, **more) -> dict[str, Collection]:
    return {"toy": Collection(what="a toy", licence="none", page="", files=files, **more)}


def zipped(members: dict[str, bytes], *, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as file:
        for name, content in members.items():
            file.writestr(zipfile.ZipInfo(name), content, method)
    return made.getvalue()


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} - {".fetch.lock"}


# --- cut off and gone on with -----------------------------------------------------------------------------------------


def begin(server: FileServer, folder: Path, at: int, remote: RemoteFile | None = None) -> RemoteFile:
    """Leaves the first `at` bytes of /a.bin in `folder`, as an interrupt does."""

    def interrupt(what: str, done: int = 0, total: int = 0, *, value: float | None = None) -> None:
        if done == at:
            raise KeyboardInterrupt

    remote = RemoteFile(server.address("/a.bin")) if remote is None else remote
    server.cuts = [at]
    with pytest.raises(KeyboardInterrupt):
        bring(folder, remote, progress=interrupt)
    assert not (folder / "toy/a.bin").exists()
    assert part_of(folder / "toy/a.bin").read_bytes() == CONTENT[:at]
    server.asked.clear()
    return remote


@pytest.mark.parametrize("at", range(len(CONTENT) + 1))
def test_interrupted_at_any_byte_and_resumed_equals_the_whole(server, tmp_path, at) -> None:
    remote = begin(server, tmp_path, at)
    assert bring(tmp_path, remote).sha256 == sha256(CONTENT)
    assert (tmp_path / "toy/a.bin").read_bytes() == CONTENT
    assert files_in(tmp_path) == {"toy/a.bin", "checksums.json"}
    assert [asked.range for asked in server.asked] == {0: [None], len(CONTENT): []}.get(at, [f"bytes={at}-"])


def test_a_connection_that_ends_early_is_gone_on_with_in_the_same_call(server, tmp_path) -> None:
    server.cuts = [10, 20, 1, 7]
    bring(tmp_path, RemoteFile(server.address("/a.bin")))
    assert (tmp_path / "toy/a.bin").read_bytes() == CONTENT
    assert [asked.range for asked in server.asked] == [None, "bytes=10-", "bytes=30-", "bytes=31-", "bytes=38-"]
    assert [asked.if_range for asked in server.asked] == [None, *[f'"{sha256(CONTENT)}"'] * 4]


def test_a_new_try_waits_only_once_bytes_have_come_and_then_no_more_do(server, tmp_path) -> None:
    server.cuts = [0]
    with pytest.raises(DataError, match="the connection ended after 0 of 64 bytes"):
        bring(tmp_path, RemoteFile(server.address("/a.bin")), pauses_s=(0, 0))
    server.cuts = [10, 0, 0]
    bring(tmp_path, RemoteFile(server.address("/a.bin")), pauses_s=(0, 0))
    server.files["/b.bin"], server.cuts = CONTENT, [10, 0, 0, 0]
    with pytest.raises(DataError, match="the connection ended after 10 of 64 bytes"):
        bring(tmp_path, RemoteFile(server.address("/b.bin")), pauses_s=(0, 0))
    assert part_of(tmp_path / "toy/b.bin").read_bytes() == CONTENT[:10]


def test_a_server_that_ignores_ranges_starts_over(server, tmp_path) -> None:
    remote = begin(server, tmp_path, 10)
    server.ranges = "ignored"
    assert bring(tmp_path, remote).sha256 == sha256(CONTENT)
    assert [asked.range for asked in server.asked] == ["bytes=10-"]


@pytest.mark.parametrize("validator", ["ETag", "Last-Modified", None])
@pytest.mark.parametrize("knows_if_range", [True, False])
@pytest.mark.parametrize("changed", [CHANGED, CHANGED + b"more", CHANGED[:40]], ids=["as-long", "longer", "shorter"])
@pytest.mark.parametrize("has_checksum", [True, False])
def test_a_file_that_changed_meanwhile_starts_over(
    server, tmp_path, validator, knows_if_range, changed, has_checksum
) -> None:
    server.validator, server.knows_if_range = validator, knows_if_range
    remote = RemoteFile(server.address("/a.bin"), sha256=sha256(changed) if has_checksum else None)
    begin(server, tmp_path, 10, remote)
    server.files["/a.bin"] = changed
    assert bring(tmp_path, remote).sha256 == sha256(changed)
    assert (tmp_path / "toy/a.bin").read_bytes() == changed


@pytest.mark.parametrize("lie", ["zero", "all", "unnamed", "first", "refused"])
def test_a_server_that_answers_another_range_is_asked_for_all(server, tmp_path, lie) -> None:
    remote = begin(server, tmp_path, 32)
    server.ranges = lie
    bring(tmp_path, remote)
    assert (tmp_path / "toy/a.bin").read_bytes() == CONTENT
    assert [asked.range for asked in server.asked] == ["bytes=32-", None]


def test_a_server_that_lies_about_a_range_is_found_out_by_the_checksum_and_asked_for_all(server, tmp_path) -> None:
    remote = begin(server, tmp_path, 10, RemoteFile(server.address("/a.bin"), sha256=sha256(CONTENT)))
    server.ranges = "false"
    assert bring(tmp_path, remote).sha256 == sha256(CONTENT)
    assert [asked.range for asked in server.asked] == ["bytes=10-", None]


@pytest.mark.parametrize("changed", [CHANGED + b"more", CHANGED[:40]], ids=["longer", "shorter"])
def test_a_server_that_no_longer_tells_files_apart_is_told_by_the_length(server, tmp_path, changed) -> None:
    remote = begin(server, tmp_path, 10)
    server.validator, server.knows_if_range, server.files["/a.bin"] = None, False, changed
    assert bring(tmp_path, remote).sha256 == sha256(changed)


def test_without_a_validator_a_part_is_gone_on_with_only_where_a_checksum_would_tell(server, tmp_path) -> None:
    server.validator = None
    remote = begin(server, tmp_path / "unknown", 10)
    bring(tmp_path / "unknown", remote)
    assert [asked.range for asked in server.asked] == [None]
    remote = begin(server, tmp_path / "known", 10, replace(remote, sha256=sha256(CONTENT)))
    bring(tmp_path / "known", remote)
    assert [asked.range for asked in server.asked] == ["bytes=10-"]


def test_a_weak_validator_is_none(server, tmp_path) -> None:
    server.validator, server.headers = None, {"ETag": 'W/"weak"'}
    remote = begin(server, tmp_path, 10)
    assert bring(tmp_path, remote).sha256 == sha256(CONTENT)
    assert [asked.range for asked in server.asked] == [None]


def test_a_part_of_another_address_is_not_gone_on_with(server, tmp_path) -> None:
    begin(server, tmp_path, 10)
    server.files["/new/a.bin"] = CHANGED
    bring(tmp_path, RemoteFile(server.address("/new/a.bin")))
    assert (tmp_path / "toy/a.bin").read_bytes() == CHANGED
    assert [(asked.path, asked.range) for asked in server.asked] == [("/new/a.bin", None)]


def test_a_part_of_which_nothing_is_known_is_fetched_again(server, tmp_path) -> None:
    part = part_of(tmp_path / "toy/a.bin")
    part.parent.mkdir()
    part.write_bytes(b"x" * 10)
    bring(tmp_path, RemoteFile(server.address("/a.bin")))
    assert (tmp_path / "toy/a.bin").read_bytes() == CONTENT


def test_a_reply_without_length_counts_only_if_its_end_is_marked(server, tmp_path) -> None:
    server.has_lengths = False
    with pytest.raises(DataError, match="does not say how long the file is"):
        bring(tmp_path, RemoteFile(server.address("/a.bin")))
    server.is_chunked = True
    bring(tmp_path, RemoteFile(server.address("/a.bin")))
    assert (tmp_path / "toy/a.bin").read_bytes() == CONTENT


# --- what comes is what was expected ----------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [0, 31, 63])
def test_a_corrupted_byte_is_caught_and_not_left(server, tmp_path, at) -> None:
    damaged = bytearray(CONTENT)
    damaged[at] ^= 1
    server.files["/a.bin"] = bytes(damaged)
    remote = RemoteFile(server.address("/a.bin"), sha256=sha256(CONTENT))
    with pytest.raises(DataError, match=sha256(CONTENT)):
        bring(tmp_path, remote)
    assert files_in(tmp_path) == set()
    server.files["/a.bin"] = CONTENT
    assert bring(tmp_path, remote).is_published


def test_the_first_download_is_trusted_and_the_next_must_equal_it(server, tmp_path) -> None:
    remote = RemoteFile(server.address("/a.bin"))
    assert not bring(tmp_path, remote).is_published
    known = json.loads(checksums_path(tmp_path).read_text("utf-8"))["files"]["toy/a.bin"]
    assert (known["sha256"], known["size_bytes"]) == (sha256(CONTENT), len(CONTENT))
    (tmp_path / "toy/a.bin").unlink()
    server.files["/a.bin"] = CHANGED
    with pytest.raises(DataError, match=f"that of the first download was {sha256(CONTENT)}"):
        bring(tmp_path, remote)
    assert files_in(tmp_path) == {"checksums.json"}


@pytest.mark.parametrize("is_published", [True, False])
def test_what_is_there_is_checked_and_moved_aside_if_it_is_wrong(server, tmp_path, is_published) -> None:
    remote = RemoteFile(server.address("/a.bin"), sha256=sha256(CONTENT) if is_published else None)
    bring(tmp_path, remote)
    assert bring(tmp_path, remote).was_there
    assert len(server.asked) == 1
    (tmp_path / "toy/a.bin").write_bytes(CHANGED)
    with pytest.raises(DataError, match=r"is not the expected file .* it was renamed to a\.bin\.damaged"):
        bring(tmp_path, remote)
    assert files_in(tmp_path) == {"toy/a.bin.damaged", "checksums.json"}
    assert bring(tmp_path, remote).sha256 == sha256(CONTENT)


def test_a_file_that_a_person_put_there_is_checked_and_remembered(server, tmp_path) -> None:
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy/a.bin").write_bytes(CONTENT)
    remote = RemoteFile(server.address("/a.bin"), size_bytes=len(CONTENT))
    assert bring(tmp_path, remote).was_there
    assert sha256(CONTENT) in checksums_path(tmp_path).read_text("utf-8")
    with pytest.raises(DataError, match="64 bytes"):
        bring(tmp_path, replace(remote, size_bytes=65, address=server.address("/other/a.bin")))
    assert server.asked == []


def test_a_size_other_than_the_published_one_is_refused_before_anything_is_kept(server, tmp_path) -> None:
    with pytest.raises(DataError, match="has 64 bytes, but 65 were published"):
        bring(tmp_path, RemoteFile(server.address("/a.bin"), size_bytes=65))
    assert files_in(tmp_path) == set()


@pytest.mark.parametrize("headers", [{"Content-Type": "text/html; charset=utf-8"}, {"Content-Encoding": "gzip"}])
def test_a_web_page_or_an_encoding_is_not_the_file(server, tmp_path, headers) -> None:
    server.headers = headers
    with pytest.raises(DataError, match="expected the file"):
        bring(tmp_path, RemoteFile(server.address("/a.bin")))
    assert files_in(tmp_path) == set()


# --- what cannot be had -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("status", "said"), [(200, "404 Not Found"), (403, "403 Forbidden"), (503, "503 Service")])
def test_a_refusal_is_one_sentence_that_tells_where_to_put_the_file(server, tmp_path, status, said) -> None:
    server.status = status
    address = server.address("/none.bin")
    with pytest.raises(DataError) as raised:
        fetch(["toy"], tmp_path, catalogue=catalogue(RemoteFile(address), elsewhere="https://e.org"), progress=quiet)
    sentence = str(raised.value)
    assert sentence.startswith(f"{address}: ")
    assert said in sentence
    assert "https://e.org" in sentence
    assert str(tmp_path / "toy/none.bin") in sentence
    assert "\n" not in sentence


def test_no_connection_is_one_sentence_at_once(tmp_path) -> None:
    with FileServer() as gone:
        address = gone.address("/a.bin")
    with pytest.raises(DataError, match=r"Connection refused.*save it as .*toy/a\.bin"):
        bring(tmp_path, RemoteFile(address), pauses_s=(1000,))


def test_a_redirect_is_followed_with_the_range(server, tmp_path) -> None:
    server.redirects["/moved.bin"] = "/a.bin"
    server.cuts = [10]
    bring(tmp_path, RemoteFile(server.address("/moved.bin")))
    assert (tmp_path / "toy/moved.bin").read_bytes() == CONTENT
    assert [(asked.path, asked.range) for asked in server.asked] == [
        ("/moved.bin", None),
        ("/a.bin", None),
        ("/moved.bin", "bytes=10-"),
        ("/a.bin", "bytes=10-"),
    ]


@pytest.mark.parametrize("to", ["file:///etc/hostname", "ftp://127.0.0.1/a.bin"])
def test_a_redirect_to_anything_else_is_refused(server, tmp_path, to) -> None:
    server.redirects["/moved.bin"] = to
    with pytest.raises(DataError, match=r"moved\.bin: (redirects to|answered 302 .* Redirection to)"):
        bring(tmp_path, RemoteFile(server.address("/moved.bin")))
    assert files_in(tmp_path) == set()


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_redirect_from_https_stays_encrypted(scheme) -> None:
    def redirect() -> Request | None:
        return HttpOnly().redirect_request(
            Request("https://a.org/x"), io.BytesIO(), 302, "Found", {}, f"{scheme}://b.org/x"
        )

    if scheme == "https":
        assert redirect().full_url == "https://b.org/x"
        return
    with pytest.raises(DataError, match="which is not https"):
        redirect()


def test_too_little_room_is_said_before_anything_is_asked_for(server, tmp_path) -> None:
    with pytest.raises(DataError, match="free some space"):
        bring(tmp_path, RemoteFile(server.address("/a.bin"), about_bytes=10**18))
    with pytest.raises(DataError, match="free some space"):
        fetch(
            ["toy"],
            tmp_path,
            catalogue=catalogue(RemoteFile(server.address("/a.bin")), about_bytes=10**18),
            progress=quiet,
        )
    assert server.asked == []
    server.headers = {"Content-Length": str(10**18)}
    server.has_lengths = False
    with pytest.raises(DataError, match="free some space"):
        bring(tmp_path, RemoteFile(server.address("/a.bin")))
    assert files_in(tmp_path) == set()


def test_a_folder_is_fetched_to_by_one_at_a_time(server, tmp_path) -> None:
    with FileLock(tmp_path / ".fetch.lock"), pytest.raises(DataError, match="another fetch is running"):
        bring(tmp_path, RemoteFile(server.address("/a.bin")))
    bring(tmp_path, RemoteFile(server.address("/a.bin")))


# --- zips -------------------------------------------------------------------------------------------------------------

MEMBERS = {"v1/a.json": b"[1, 2]" * 100, "v1/sub/b.json": b"{}", "v1/photo.png": b"png", "__MACOSX/v1/._a.json": b"x"}


def test_a_zip_of_json_is_unpacked_and_a_zip_of_features_is_not(server, tmp_path) -> None:
    server.files["/a.zip"] = zipped(MEMBERS)
    bring(tmp_path / "json", RemoteFile(server.address("/a.zip"), unpack=JSON_ONLY))
    assert files_in(tmp_path / "json" / "toy") == {"a.zip", "v1/a.json", "v1/sub/b.json"}
    assert (tmp_path / "json/toy/v1/a.json").read_bytes() == MEMBERS["v1/a.json"]
    bring(tmp_path / "features", RemoteFile(server.address("/a.zip")))
    assert files_in(tmp_path / "features" / "toy") == {"a.zip"}


def test_what_was_unpacked_is_not_fetched_or_unpacked_again(server, tmp_path) -> None:
    server.files["/a.zip"] = zipped(MEMBERS)
    remote = RemoteFile(server.address("/a.zip"), unpack=JSON_ONLY)
    bring(tmp_path, remote)
    unpacked = tmp_path / "toy/v1/a.json"
    stamp = unpacked.stat().st_mtime_ns
    bring(tmp_path, remote)
    assert unpacked.stat().st_mtime_ns == stamp
    unpacked.unlink()
    assert plan(["toy"], tmp_path, catalogue=catalogue(remote))[0].state == "packed"
    bring(tmp_path, remote)
    assert unpacked.read_bytes() == MEMBERS["v1/a.json"]
    (tmp_path / "toy/a.zip").unlink()
    assert plan(["toy"], tmp_path, catalogue=catalogue(remote))[0].state == "there"
    assert bring(tmp_path, remote).was_there
    assert len(server.asked) == 1
    unpacked.unlink()
    bring(tmp_path, remote)
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    "name",
    [
        "../out.json",
        "v1/../../out.json",
        "v1/../in.json",
        "/out.json",
        "..\\out.json",
        "C:/out.json",
        "v1\\a.json",
        "../out.png",
    ],
)
@pytest.mark.parametrize("is_known", [True, False])
def test_a_zip_that_would_leave_its_folder_is_refused(server, tmp_path, name, is_known) -> None:
    content = zipped({"v1/a.json": b"[]", name: b"out"})
    server.files["/a.zip"] = content
    remote = RemoteFile(server.address("/a.zip"), sha256=sha256(content) if is_known else None, unpack=JSON_ONLY)
    with pytest.raises(DataError, match="would be unpacked outside"):
        bring(tmp_path / "inside", remote)
    assert files_in(tmp_path) - {"inside/.fetch.lock"} == set()
    (tmp_path / "inside/toy/a.zip").write_bytes(content)  # nor does one that a person put there
    with pytest.raises(DataError, match="would be unpacked outside"):
        bring(tmp_path / "inside", remote)
    assert files_in(tmp_path) - {"inside/.fetch.lock"} == {"inside/toy/a.zip"}


def test_a_link_in_a_zip_or_in_the_folder_leads_nowhere(server, tmp_path) -> None:
    link = zipfile.ZipInfo("v1/link.json")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as file:
        file.writestr(link, "/etc/hostname")
    server.files["/a.zip"] = made.getvalue()
    with pytest.raises(DataError, match="would be unpacked outside"):
        bring(tmp_path / "inside", RemoteFile(server.address("/a.zip"), unpack=JSON_ONLY))
    server.files["/a.zip"] = zipped(MEMBERS)
    (tmp_path / "outside").mkdir()
    (tmp_path / "inside/toy/v1").symlink_to(tmp_path / "outside")
    with pytest.raises(DataError, match="would be unpacked outside"):
        bring(tmp_path / "inside", RemoteFile(server.address("/a.zip"), unpack=JSON_ONLY))
    assert files_in(tmp_path / "outside") == set()


def test_what_was_unpacked_is_known_by_its_content_not_its_size(server, tmp_path) -> None:
    server.files["/a.zip"] = zipped(MEMBERS)
    remote = RemoteFile(server.address("/a.zip"), unpack=JSON_ONLY)
    bring(tmp_path, remote)
    member = tmp_path / "toy/v1/a.json"
    for is_zip_there in (True, False):
        member.write_bytes(b"x" * len(MEMBERS["v1/a.json"]))
        if not is_zip_there:
            (tmp_path / "toy/a.zip").unlink()
        bring(tmp_path, remote)
        assert member.read_bytes() == MEMBERS["v1/a.json"]


@pytest.mark.parametrize("unpack", [JSON_ONLY, ()])
def test_without_a_checksum_a_zip_is_checked_by_its_own(server, tmp_path, unpack) -> None:
    content = bytearray(zipped({"v1/a.json": b"A" * 50}, method=zipfile.ZIP_STORED))
    content[content.index(b"AAAA") + 20] ^= 1
    server.files["/a.zip"] = bytes(content)
    with pytest.raises(DataError, match="is not a whole zip"):
        bring(tmp_path, RemoteFile(server.address("/a.zip"), unpack=unpack))
    assert files_in(tmp_path) == set()


def test_what_is_no_zip_or_holds_nothing_wanted_is_not_kept(server, tmp_path) -> None:
    for content, said in ((b"not a zip", "is not a whole zip"), (zipped({"a.png": b""}), r"holds no file called \*\.")):
        server.files["/a.zip"] = content
        with pytest.raises(DataError, match=said):
            bring(tmp_path, RemoteFile(server.address("/a.zip"), unpack=JSON_ONLY))
        assert files_in(tmp_path) == set()


# --- the plan and the catalogue ---------------------------------------------------------------------------------------


def test_the_plan_tells_what_is_there_and_what_is_to_come(server, tmp_path) -> None:
    remote = RemoteFile(server.address("/a.bin"), size_bytes=len(CONTENT))
    whole = catalogue(remote)

    def states() -> tuple[str, int]:
        steps = plan(["toy", "toy"], tmp_path, catalogue=whole)
        return steps[0].state, missing_bytes(steps, catalogue=whole)

    assert states() == ("missing", 64)
    begin(server, tmp_path, 10, remote)
    assert states() == ("partly", 54)
    bring(tmp_path, remote)
    assert states() == ("there", 0)


def test_an_unknown_name_names_its_nearest_neighbour(tmp_path) -> None:
    with pytest.raises(DataError, match=r"vqa: is not in the catalogue; did you mean vqa2\?"):
        plan(["vqa"], tmp_path)
    assert files_in(tmp_path) == set()


@pytest.mark.parametrize("name", CATALOGUE)
def test_what_the_catalogue_says_can_be_used(name) -> None:
    collection = CATALOGUE[name]
    assert collection.what
    assert collection.licence
    assert collection.page.startswith("https://")
    assert len({file.name for file in collection.files}) == len(collection.files) > 0
    for file in collection.files:
        assert file.address.startswith("https://"), "what is only on http is said so in the plan: change this test then"
        assert file.name.strip(".") and "/" not in file.name and "?" not in file.name  # noqa: PT018 - one law
        assert file.sha256 is None or (len(file.sha256) == 64 and int(file.sha256, 16) > 0)
        assert file.size_bytes is None or file.about_bytes is None
        assert not file.unpack or file.name.endswith(".zip")
        assert ("obj36" in file.name) <= (file.unpack == ()), "features are read from their zip as they are"


@pytest.mark.parametrize("recipe", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_what_a_recipe_reads_is_what_fetch_brings(recipe) -> None:
    text = recipe.read_text("utf-8")
    fetched = {name for line in re.findall(r"lxcompress data fetch (.*)", text) for name in line.split("#")[0].split()}
    assert fetched <= set(CATALOGUE)
    for name, file in re.findall(r"\bdata/([\w-]+)/([\w./-]+\w)", text):
        brought = {file.name for file in CATALOGUE[name].files}
        assert file in brought or any(file.unpack for file in CATALOGUE[name].files), f"{name} brings no {file}"


def test_no_checksum_stands_for_two_files() -> None:
    known = [file.sha256 for collection in CATALOGUE.values() for file in collection.files if file.sha256]
    assert len(known) == len(set(known)) > 10


@pytest.mark.parametrize("size", [0, 1, 999, 1000, 153_499, 999_499, 999_500, 7_239_401, 17_000_000_000, 10**12])
def test_a_size_reads_back_to_half_a_percent(size) -> None:
    number, unit = size_text(size).split()
    assert float(number) * {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9}[unit] == pytest.approx(size, rel=5e-3)
    assert "e" not in number


def test_a_size_that_no_one_published_is_unknown() -> None:
    some, exact, about = RemoteFile("x/a"), RemoteFile("x/b", size_bytes=1500), RemoteFile("x/c", about_bytes=2_000_000)
    assert [remote_size_text(each) for each in (some, exact, about)] == ["unknown", "1.5 kB", "about 2 MB"]
    texts = [
        collection_size_text(catalogue(*files)["toy"])
        for files in ((some,), (exact,), (exact, some), (exact, about), (exact, about, some))
    ]
    assert texts == ["unknown", "1.5 kB", "1.5 kB + 1 unknown", "about 2 MB", "about 2 MB + 1 unknown"]
