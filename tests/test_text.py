"""Laws of text from outside: one printable line under 500 characters, UTF-8 or a name for what it is, strict JSON."""

from __future__ import annotations

import ast
import json
import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import lxcompress
from lxcompress.errors import DataError, LxError
from lxcompress.text import (
    MOST_CHARACTERS,
    as_printable,
    as_sentence,
    escape_surrogates,
    parse_json,
    read_text,
    shorten,
)

PACKAGE = Path(lxcompress.__file__).parent
OWN_READERS = {
    ("cli/options.py", "set_options"): "appends to the log",
    ("data/tokens.py", "shipped_vocabulary"): "a file of the package",
    ("analysis/published.py", "published_table"): "a file of the package",
    ("report/html.py", "_template"): "a file of the package",
    ("engine/build.py", "fingerprint"): "sources of the package, as bytes",
    ("engine/library.py", "load_library"): "a header of the package, as bytes",
    ("claims.py", "this_system"): "/proc, which has no regular files",
    ("claims.py", "_process_start"): "/proc, which has no regular files",
    ("machine.py", "_linux_processor"): "/proc, which has no regular files",
    ("measure/host/memory.py", "_linux_status"): "/proc, which has no regular files",
    ("measure/host/energy.py", "read_energy"): "/sys, which has no regular files",
    ("measure/host/energy.py", "_read"): "/sys, which has no regular files",
    ("measure/host/cores.py", "_siblings"): "/sys, which has no regular files",
    ("measure/device/adb.py", "_run_step"): "what a phone printed, in whatever encoding",
    ("measure/device/adb.py", "describe_device"): "a program, as bytes",
    ("exporters/coreml.py", "_fix_bytes"): "a package that was just written",
    ("exporters/ort.py", "_read_graph"): "a model that was just written, as bytes",
    ("data/regions/convert.py", "_check_rows"): "the first bytes of a file that is being written",
    ("data/regions/write.py", "finish"): "a file that this process wrote",
    ("web/server.py", "_send_file"): "a file of the page, as bytes",
}
"""(file, function) -> why it reads a file otherwise than by lxcompress.text"""
ODD = (
    "\0",
    "\x1b[31m",
    "\x9b2J",
    "\n",
    "\r\n",
    "\u2028",
    "\u202e",
    "\ud800",
    "\udcff",
    "\ufeff",
    "é",
    "😀",
    "x" * 5000,
)


def odd_text(seed: int) -> str:
    source = random.Random(seed)
    words = ["file.json:", "is", "damaged", "(", *source.choices(ODD, k=source.randrange(40)), ");", "write it again"]
    return source.choice((" ", "")).join(words)


@pytest.mark.parametrize("kind", [LxError, DataError])
def test_an_error_is_one_printable_line_whatever_it_echoes(kind) -> None:
    for seed in range(300):
        said = str(kind(odd_text(seed)))
        assert 0 < len(said) <= MOST_CHARACTERS < 500
        assert said.encode("utf-8").decode().isprintable(), (seed, said)
        assert said.startswith("file.json:")
        assert said.endswith("write it again")
        assert as_sentence(said) == said


def test_a_sentence_that_fits_is_left_alone() -> None:
    plain = "données/été.json: has no question; give “VQA's” questions JSON (ü, 漢字, 😀)"
    assert as_sentence(plain) == plain


def test_an_echoed_value_is_cut_and_printable() -> None:
    for value in (*ODD, {"a": ODD}, [ODD] * 1000, "y" * 10_000_000, 1e308, float("nan"), None, 10**4000):
        said = shorten(value)
        assert len(said) <= 60 + 6 * 57
        assert as_printable(said) == said
        assert "\n" not in said


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le"])
def test_another_encoding_is_named(encoding, tmp_path) -> None:
    path = tmp_path / "file"
    path.write_bytes('[{"question": "What is it?"}]'.encode(encoding))
    if encoding == "utf-32-le":  # without its mark it cannot be told, but is no JSON either
        assert "\0" in read_text(path)
        return
    with pytest.raises(ValueError, match=encoding[:6].upper()):
        read_text(path)


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"\xef\xbb\xbfyes")
    assert read_text(path) == "yes"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with a name")
def test_a_pipe_or_a_device_is_refused_and_blocks_nothing(tmp_path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path.__class__("/dev/zero")):
        with pytest.raises(OSError, match="not a regular file"):
            read_text(path)


def test_a_link_that_leads_to_itself_is_an_error_of_the_system(tmp_path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(OSError, match="symbolic links"):
        read_text(tmp_path / "loop")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"a": 1, "b": {"c": 1, "c": 2}}', '"c" twice'),
        (r'["\ud800"]', "half of a surrogate pair"),
        (r'{"\udc00": 1}', "half of a surrogate pair"),
        (r'[{"a": ["ok", "\ude00\ud83d"]}]', "half of a surrogate pair"),
        ("1" * (sys.get_int_max_str_digits() + 1), "digits"),
        ("[" * 100_000, None),
        ("[1, ]", None),
        ("", None),
    ],
)
def test_json_that_would_be_read_wrongly_is_refused(text, reason) -> None:
    with pytest.raises((ValueError, RecursionError), match=reason):
        parse_json(text)


def test_json_of_any_character_is_read_as_pythons_own_does() -> None:
    document = {"é": ["😀", "\u2028", "\x00", 1e308, -0.0, 10**30, True, None], "": {}}
    for is_ascii in (True, False):
        assert parse_json(json.dumps(document, ensure_ascii=is_ascii)) == document


def test_escaped_surrogates_are_the_same_json() -> None:
    document = ["\ud800", "é", "\udfff😀"]
    text = escape_surrogates(json.dumps(document, ensure_ascii=False))
    assert json.loads(text.encode().decode()) == document


def find_own_readers(path: Path) -> Iterator[tuple[str, str]]:
    """The functions of a module that read text, or whole files, otherwise than by lxcompress.text."""

    def visit(node: ast.AST, function: str) -> Iterator[tuple[str, str]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef):
                yield from visit(child, child.name)
                continue
            if isinstance(child, ast.Call) and is_own_reader(child):
                yield path.relative_to(PACKAGE).as_posix(), function
            yield from visit(child, function)

    return visit(ast.parse(path.read_text(encoding="utf-8")), "")


def is_own_reader(call: ast.Call) -> bool:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if name in ("read_text", "read_bytes"):
        return isinstance(call.func, ast.Attribute)
    if name == "load":
        return isinstance(call.func, ast.Attribute) and getattr(call.func.value, "id", "") == "json"
    mode = next((arg.value for arg in call.args[:2] if isinstance(arg, ast.Constant)), "r")
    return name == "open" and any(keyword.arg == "encoding" for keyword in call.keywords) and "w" not in str(mode)


def test_text_is_read_by_one_reader() -> None:
    """So that a mark of UTF-8, UTF-16, a pipe, a device and a size without end are the same in all files."""
    paths = [path for path in sorted(PACKAGE.rglob("*.py")) if path.name != "text.py"]
    found = {own for path in paths for own in find_own_readers(path)}
    assert found == set(OWN_READERS)
