"""A mutator: changes files as bytes, trees, numbers and names, and says what a reader may make of the outcome.

`python -m tests.mutate [COUNT[@SEED]] [KIND...]` prints what it finds, for each kind of tests/readers.py.
"""

from __future__ import annotations

import json
import random
import re
import resource
import signal
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lxcompress.errors import LxError

MOST_S = 5.0
"""Of processor time, so that what else the machine does counts for nothing."""
MOST_BYTES = 1 << 30
MOST_CHARACTERS = 500

NOT_FINITE = (float("nan"), float("inf"), -float("inf"))
NUMBERS = (0, -1, 1, 2**31, 2**63, 10**30, 1e308, -1e308, 1e-320, *NOT_FINITE, 0.5, 3.0, True)
NAMES = (
    "../x",
    "/etc/passwd",
    "/dev/zero",
    "a\0b",
    "\x1b[2J\x1b[31m",
    "\x9b2J",
    "\ud800",
    "x" * 5000,
    "=cmd|' /C calc'!A0",
    "",
    " ",
    ".",
    "\n\n",
    "\u2028\x85\x0c",
    "\u202e",
    "__class__",
    "{0.__class__}",
    "%s%n",
    "NaN",
    "5",
    "é😀",
)
ODD = (*NUMBERS, *NAMES, None, [], {}, [[]], [None], {"": None}, [1, "1"], [[0] * 5] * 5)
MARKS = (b"\xef\xbb\xbf", b"\n", b"\r", b"\t", b"[", b"{", b"}", b'"')
BYTES = (b"", b"\0", b"\xff", b"1e999", b"-1", b"NaN", b"\x1b", b"\xed\xa0\x80", *MARKS)


@dataclass(frozen=True)
class Subject:
    """A folder of sound files, one of which is changed, and what reads them."""

    file: Path
    """relative to the folder"""
    form: str
    """a key of MUTATIONS"""
    read: Callable[[Path], object]
    """takes the folder"""


@dataclass(frozen=True)
class Failure:
    """What a reader made of a changed file that it may not."""

    kind: str
    seed: int
    mutation: str
    problem: str

    def __str__(self) -> str:
        return f"kind={self.kind} seed={self.seed} ({self.mutation}): {self.problem}"


@dataclass(frozen=True)
class Outcome:
    """What a reader made of a changed file."""

    refused: bool
    """ended in one sentence"""
    failure: Failure | None = None


def run_case(kind: str, subject: Subject, folder: Path, seed: int) -> Outcome:
    """Change the subject's file in `folder` by `seed`, read it, and put it back."""
    path = folder / subject.file
    sound = path.read_bytes()
    source = random.Random(f"{kind} {seed}")
    mutations = MUTATIONS[subject.form]
    name = list(mutations)[seed % len(mutations)]
    path.write_bytes(mutations[name](sound, source))
    before = set(folder.rglob("*"))
    try:
        refused, problem = find_problem(lambda: subject.read(folder))
    finally:
        path.write_bytes(sound)
        for left in set(folder.rglob("*")) - before:
            if left.is_file():
                left.unlink()
    return Outcome(refused, None if problem is None else Failure(kind, seed, name, problem))


def find_problem(read: Callable[[], object]) -> tuple[bool, str | None]:
    """Return whether `read` ended in an LxError, and what is wrong with that: the error, its text, time or memory."""
    refused = False
    _reset_peak()
    before = _memory("VmRSS")
    problem: str | None = None
    try:
        with limit_time(MOST_S), warnings.catch_warnings():
            warnings.simplefilter("error")
            read()
    except LxError as error:
        refused = True
        problem = find_problem_of_text(str(error))
    except TimeoutError:
        problem = f"took more than {MOST_S:g} s"
    except Exception as error:  # the law: nothing but an LxError leaves a reader
        last = traceback.extract_tb(error.__traceback__)[-1]
        own = [f for f in traceback.extract_tb(error.__traceback__) if "/lxcompress/" in f.filename]
        where = f"{own[-1].filename.rpartition('/')[2]}:{own[-1].lineno}" if own else f"{last.filename}:{last.lineno}"
        problem = f"{type(error).__name__}: {str(error)[:150]!r} at {where}"
    grown = _memory("VmHWM") - before
    if problem is None and grown > MOST_BYTES:
        problem = f"took {grown:,} bytes"
    return refused, problem


def find_problem_of_text(text: str) -> str | None:
    """Return what is wrong with the text of an error: lines, length, characters that a terminal obeys."""
    if not text or len(text) >= MOST_CHARACTERS:
        return f"a sentence of {len(text)} characters"
    if not text.isprintable():
        return f"a sentence with control characters: {text!r}"
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return f"a sentence that cannot be written: {text!r}"
    return None


@contextmanager
def limit_time(most_s: float) -> Iterator[None]:
    """Raise TimeoutError in what takes more processor time."""

    def stop(signum: int, frame: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, most_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


@contextmanager
def limit_memory(more_bytes: int) -> Iterator[None]:
    """Let this process map so much more, so that a reader that asks for all of it fails and harms nobody."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_memory("VmSize") + more_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


# Mutations: (sound bytes, source of chance) -> changed bytes.


def change_bytes(data: bytes, source: random.Random) -> bytes:
    """Flip, cut, put in, double or exchange a part."""
    at, to = sorted(source.randrange(len(data) + 1) for _ in range(2))
    size = source.randrange(1, 40)
    head = source.randrange(min(len(data), 200) + 1)  # where formats have their sizes
    at = source.choice((at, at, head))
    odd = (b"-1", b"9" * 25, b"1e999")
    return source.choice(
        (
            lambda: _flip(data, source, 1),
            lambda: _flip(data, source, 8),
            lambda: data[:at],
            lambda: data[:at] + source.choice(BYTES) + data[at:],
            lambda: data[:at] + source.choice(BYTES) * 2000 + data[at:],
            lambda: data[:at] + source.randbytes(size) + data[at + size :],
            lambda: data[:at] + bytes(size) + data[at + size :],
            lambda: data[:at] + b"\xff" * size + data[at + size :],
            lambda: data[:at] + data[at : at + size] + data[at:],
            lambda: data[:at] + data[max(at, to) :],
            lambda: data[to:] + data[:to],
            lambda: data + data,
            lambda: data + source.randbytes(size),
            lambda: re.sub(rb"[0-9]+", lambda found: source.choice((found[0], *odd)), data, count=9),
        )
    )()


def change_tree(tree: Any, source: random.Random) -> Any:
    """Delete, double, replace, wrap, deepen or rename a node."""
    owner, key = source.choice(list(_places([tree])))
    value = owner[key]
    kind = source.randrange(7)
    if kind == 0 and len(owner) > 1:
        del owner[key]
    elif kind == 1 and isinstance(owner, list) and len(owner) < 1000:
        owner.insert(key, json.loads(json.dumps(value)))
    elif kind == 2:
        owner[key] = [value]
    elif kind == 3:
        deep: Any = value
        for _ in range(source.choice((3, 90, 900))):
            deep = [deep] if source.random() < 0.9 else {"a": deep}
        owner[key] = deep
    elif kind == 4 and isinstance(owner, dict):
        owner[source.choice(NAMES)] = owner.pop(key)
    else:
        owner[key] = source.choice(ODD)
    return tree


def change_number(tree: Any, source: random.Random) -> Any:
    """Replace a number by an odd one, or by a text."""
    return _replace(tree, source, (int, float), (*NUMBERS, "5", "1e5", "0x10"))


def change_name(tree: Any, source: random.Random) -> Any:
    """Replace a text by an odd one."""
    return _replace(tree, source, (str,), NAMES)


def _json_by(change: Callable[[Any, random.Random], Any]) -> Callable[[bytes, random.Random], bytes]:
    return lambda data, source: json.dumps(change(json.loads(data), source)).encode()


def _lines_by(change: Callable[[Any, random.Random], Any]) -> Callable[[bytes, random.Random], bytes]:
    def apply(data: bytes, source: random.Random) -> bytes:
        lines = data.decode().splitlines()
        place = source.randrange(len(lines))
        lines[place] = json.dumps(change(json.loads(lines[place]), source))
        return "\n".join(lines).encode()

    return apply


def _yaml_by(change: Callable[[Any, random.Random], Any]) -> Callable[[bytes, random.Random], bytes]:
    def apply(data: bytes, source: random.Random) -> bytes:
        tree = change(yaml.safe_load(data), source)
        try:
            return yaml.safe_dump(tree).encode()
        except RecursionError:  # JSON is YAML too, and is written deeper
            return json.dumps(tree).encode()

    return apply


def _columns_by(odd: tuple[Any, ...]) -> Callable[[bytes, random.Random], bytes]:
    def apply(data: bytes, source: random.Random) -> bytes:
        parts = re.split(rb"([\t\n,])", data)
        place = source.randrange(0, len(parts), 2)
        parts[place] = str(source.choice(odd)).encode("utf-8", "surrogatepass")
        return b"".join(parts)

    return apply


def _header_by(change: Callable[[Any, random.Random], Any]) -> Callable[[bytes, random.Random], bytes]:
    """Of safetensors: a JSON header behind its length."""

    def apply(data: bytes, source: random.Random) -> bytes:
        length = int.from_bytes(data[:8], "little")
        header = json.dumps(change(json.loads(data[8 : 8 + length]), source)).encode()
        return len(header).to_bytes(8, "little") + header + data[8 + length :]

    return apply


def _four(wrap: Callable[[Callable[[Any, random.Random], Any]], Callable[[bytes, random.Random], bytes]]) -> Mutations:
    return {
        "bytes": change_bytes,
        "tree": wrap(change_tree),
        "number": wrap(change_number),
        "name": wrap(change_name),
    }


Mutations = Mapping[str, Callable[[bytes, random.Random], bytes]]
MUTATIONS: Mapping[str, Mutations] = {
    "bytes": {"bytes": change_bytes},
    "json": _four(_json_by),
    "lines": _four(_lines_by),
    "yaml": _four(_yaml_by),
    "safetensors": _four(_header_by),
    "columns": {"bytes": change_bytes, "number": _columns_by(NUMBERS), "name": _columns_by(NAMES)},
}
"""form of a file -> what may be done to it"""


def _flip(data: bytes, source: random.Random, count: int) -> bytes:
    changed = bytearray(data)
    for _ in range(count if data else 0):
        changed[source.randrange(len(changed))] ^= 1 << source.randrange(8)
    return bytes(changed)


def _places(owner: Any) -> Iterator[tuple[Any, Any]]:
    """Every (list or dict, index or key) of a tree."""
    for key in range(len(owner)) if isinstance(owner, list) else list(owner):
        yield owner, key
        if isinstance(owner[key], list | dict):
            yield from _places(owner[key])


def _replace(tree: Any, source: random.Random, kinds: tuple[type, ...], odd: tuple[Any, ...]) -> Any:
    root = [tree]
    found = [(owner, key) for owner, key in _places(root) if isinstance(owner[key], kinds)]
    owner, key = source.choice(found or list(_places(root)))
    owner[key] = source.choice(odd)
    return root[0]


def _memory(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return 1024 * int(line.split()[1])
    return 0


def _reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def main(count: int, only: list[str], first: int = 0) -> int:
    """Run `count` cases a kind from the seed `first` on; print a row of counts, and each failure once a place."""
    from tests.readers import KINDS

    failed = 0
    print("| kind | cases | refused | accepted | failures |\n|---|---|---|---|---|", flush=True)
    for kind, make in KINDS.items():
        if only and kind not in only:
            continue
        with tempfile.TemporaryDirectory() as scratch:
            subject = make(Path(scratch))
            seen: dict[str, Failure] = {}
            refused = failures = 0
            subject.read(Path(scratch))  # a sound file is read
            with limit_memory(8 << 30):
                for seed in range(first, first + count):
                    outcome = run_case(kind, subject, Path(scratch), seed)
                    refused += outcome.refused
                    failure = outcome.failure
                    if failure:
                        failures += 1
                        place = failure.problem.rpartition(" at ")[2][:60]
                        seen.setdefault(failure.problem.partition(": ")[0] + place, failure)
            failed += failures
            print(f"| {kind} | {count} | {refused} | {count - refused - failures} | {failures} |", flush=True)
            for failure in seen.values():
                print(f"    {failure}"[:400], flush=True)
    return failed


if __name__ == "__main__":
    number, _, start = (sys.argv[1] if len(sys.argv) > 1 else "300").partition("@")
    sys.exit(bool(main(int(number), sys.argv[2:], int(start or 0))))
