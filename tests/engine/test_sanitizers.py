"""The C under tools that watch it: AddressSanitizer and UBSan, ThreadSanitizer, valgrind. drive.c needs no Python.

Each tool first has to see a mistake that is there; where one is missing, its tests are skipped and say so.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from lxcompress.engine import ModelFile, instruction_sets, pack
from lxcompress.engine.build import SOURCE, find_compiler, find_target, list_sources
from lxcompress.engine.library import LIBRARY
from tests.engine.fuzz.make_seeds import MOST, PACKERS, SEEDS, weigh, write_product, write_seeds

pytestmark = pytest.mark.native
HERE = Path(__file__).parent
FLAGS = ("-std=gnu11", "-g1", "-fno-omit-frame-pointer", "-ffp-contract=fast", "-fno-math-errno", "-pthread")
LENGTHS = (1, 5, 16, 17, MOST)
OVERFLOW = (
    "#include <stdlib.h>\nint main(int n, char **a) { char *volatile p = malloc(4); p[3 + n] = **a; return p[3 + n]; }"
)
RACE = """#include <pthread.h>
static int n;
static void *add(void *at) { for (int k = 0; k < 1000; k++) n++; return at; }
int main(void) { pthread_t t; pthread_create(&t, 0, add, 0); add(0); pthread_join(t, 0); return 0; }"""
Feeds = dict[str, np.ndarray]


@dataclass(frozen=True)
class Watched:
    """A program under a tool: what comes before its command, and its environment."""

    program: Path
    before: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()

    def run(self, *arguments: object) -> subprocess.CompletedProcess[bytes]:
        """Runs it to its end, whatever that is."""
        command = [*self.before, str(self.program), *map(str, arguments)]
        return subprocess.run(command, env={**os.environ, **dict(self.environment)}, capture_output=True, timeout=200)

    def answer(self, *arguments: object) -> np.ndarray:
        """The scores that it gives, without a word of the tool's."""
        done = self.run(*arguments)
        assert (done.returncode, done.stderr.decode(errors="replace")[-4000:]) == (0, "")
        return np.frombuffer(done.stdout, np.float32)


def compile_(*arguments: object) -> str:
    """Runs the C compiler; what it complained of, empty if it was content."""
    compiler = find_compiler()
    if compiler is None:
        pytest.skip("there is no C compiler")
    done = subprocess.run([*compiler, *map(str, arguments)], capture_output=True, text=True, errors="replace")
    return f"{done.stderr} (exit code {done.returncode})" if done.returncode else ""


def compile_watched(folder: Path, flags: Sequence[str], mains: Sequence[tuple[Path, tuple[str, ...]]]) -> list[Path]:
    """Programs of `mains`, each with flags of its own, and the engine's best and plainest kernels."""
    known = find_target(find_compiler() or []).sets
    sets = dict.fromkeys([instruction_sets()[0], "base"])
    common = [*FLAGS, *flags, f"-I{SOURCE}", *(f"-DLX_HAS_{name}" for name in sets)]
    objects = [folder / f"{name}.o" for name in sets]

    def compile_set(name: str) -> str:
        return compile_(
            *common, *known[name], f"-DLX_SET={name}", "-c", SOURCE / "kernels.c", "-o", folder / f"{name}.o"
        )

    with ThreadPoolExecutor(2) as pool:
        assert "".join(pool.map(compile_set, sets)) == ""
    programs = [folder / main.stem for main, _ in mains]
    for (main, own), program in zip(mains, programs, strict=True):
        rest = [
            path
            for path in list_sources()
            if path.suffix == ".c" and path.stem != "kernels" and f"-DHAS_{path.stem}" not in own
        ]
        assert compile_(*common, *own, main, *rest, *objects, "-lm", "-o", program) == ""
    return programs


def check_tool(folder: Path, name: str, flags: Sequence[str], watched: Watched, source: str, says: bytes) -> None:
    """That the tool is here, and says what is wrong with `source`; skips if it cannot be had."""
    (folder / "wrong.c").write_text(source, encoding="ascii")
    complaint = compile_("-g", "-O0", "-pthread", *flags, folder / "wrong.c", "-o", watched.program)
    if complaint:
        pytest.skip(f"the C compiler has no {name} ({complaint.splitlines()[0]})")
    done = watched.run()
    if done.returncode and says not in done.stderr:
        pytest.skip(f"{name} does not run here ({done.stderr.decode(errors='replace').splitlines()[:1]})")
    assert says in done.stderr


# -- what is asked ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A model, questions of it in drive.c's format, and what the installed engine says to them."""

    path: Path
    questions: Path
    expected: np.ndarray


def draw_feeds(model: ModelFile, rows: int, rng: np.random.Generator) -> Feeds:
    """Two questions; the first keeps all of its rows, the second some."""
    feeds: Feeds = {}
    for one in model._inputs:
        if one.type == "tensor(float)":
            feeds[one.name] = rng.standard_normal((2, min(rows, one.most_rows), *one.shape[2:]), dtype=np.float32)
        elif one.name == "ids":
            feeds[one.name] = rng.integers(0, 9, (2, min(rows, one.most_rows)))
        else:
            mask = rng.integers(0, 2, (2, min(rows, one.most_rows)))
            mask[0], mask[1, 0] = 1, 1
            feeds[one.name] = mask
    return feeds


def write_questions(path: Path, batches: Sequence[Feeds], names: Sequence[str]) -> None:
    with path.open("wb") as file:
        for feeds in batches:
            file.write(np.int64(len(feeds[names[0]])).tobytes())
            for name in names:
                array = feeds[name]
                file.write(np.array([array.shape[1], array.shape[2] if array.ndim == 3 else 1], np.int64).tobytes())
                file.write(array.tobytes())


def make_case(path: Path) -> Case:
    model, rng = ModelFile(path), np.random.default_rng(0)
    batches = [draw_feeds(model, rows, rng) for rows in LENGTHS]
    questions = path.with_suffix(".questions")
    write_questions(questions, batches, [one.name for one in model._inputs])
    with model.session() as session:
        return Case(path, questions, np.concatenate([session.run(None, feeds)[0].ravel() for feeds in batches]))


SHARED = (("fp32", 2), ("bf16", 4))


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> list[Case]:
    """The seeds, and products of more than one panel and tile of usual sizes."""
    folder = tmp_path_factory.mktemp("models")
    weight = weigh(133, 270)
    wide = {f"dense-{type}": pack.dense(weight, type) for type in pack.PRECISIONS}
    wide |= {f"sparse-{type}": pack.sparse(weight, type) for type in pack.PRECISIONS}
    wide |= {"quantised": pack.quantised(weight), "blocks": pack.blocks(weigh(133, 1030))}
    wide |= {f"blocks-{rows}-rows": pack.blocks(weigh(133, 1030), shared=rows) for rows in (2, 4)}
    wide |= {f"sparse-{type}-{rows}-rows": pack.sparse(weight, type, shared=rows) for type, rows in SHARED}
    assert set(wide) == set(PACKERS)
    for name, packed in wide.items():
        write_product(folder / f"wide-{name}.lxe", packed, "gelu")
    return [make_case(path) for path in sorted([*write_seeds(folder), *folder.glob("wide-*.lxe")])]


def check(case: Case, scores: np.ndarray) -> None:
    """Nearly the installed engine's: another instruction set may round a quantised value to the next."""
    assert scores.shape == case.expected.shape
    assert np.abs(scores - case.expected).max() <= 0.02 * np.abs(case.expected).max()


# -- tools ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def addresses(tmp_path_factory: pytest.TempPathFactory) -> tuple[Watched, Watched]:
    """drive.c and the fuzz target with AddressSanitizer, leaks included, and UBSan."""
    folder = tmp_path_factory.mktemp("address")
    flags = ("-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    environment = (("ASAN_OPTIONS", "detect_leaks=1"), ("UBSAN_OPTIONS", "print_stacktrace=1"))
    wrong = Watched(folder / "wrong", (), environment)
    check_tool(folder, "AddressSanitizer and UBSan", flags, wrong, OVERFLOW, b"heap-buffer-overflow")
    replay = ("-DLX_REPLAY", "-DLX_MOST_MEMORY=16777216ull", "-DHAS_run")
    mains = ((HERE / "drive.c", ()), (HERE / "fuzz" / "fuzz.c", replay))
    drive, fuzz = compile_watched(folder, flags, mains)
    return Watched(drive, (), environment), Watched(fuzz, (), environment)


def test_no_access_is_out_of_bounds_and_nothing_is_undefined(
    addresses: tuple[Watched, Watched], cases: list[Case]
) -> None:
    for case in cases:
        for name in dict.fromkeys([instruction_sets()[0], "base"]):
            check(case, addresses[0].answer(case.path, case.questions, 1, 1, 2, name))
        check(case, addresses[0].answer(case.path, case.questions, 3, 1, 1, "base", "see"))


def test_a_damaged_file_or_question_leaks_nothing(
    addresses: tuple[Watched, Watched], cases: list[Case], tmp_path: Path
) -> None:
    case, damaged = cases[0], tmp_path / "damaged.lxe"
    whole = case.path.read_bytes()
    ends = [(b"", "is empty"), (whole[:-1], "is cut short"), (whole[:-1] + b"\xff", "weights are damaged")]
    for content, said in ends:
        damaged.write_bytes(content)
        done = addresses[0].run(damaged, case.questions)
        assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (1, b"", 1)
        assert said in done.stderr.decode()
    done = addresses[0].run(case.path, case.questions, 1, 1, 1, "mmx")
    assert done.returncode == 1
    assert done.stderr.startswith(b"this processor has no mmx")


def test_what_fuzzing_kept_is_answered_or_refused(addresses: tuple[Watched, Watched], tmp_path: Path) -> None:
    """And the target's own checks hold: no score depends on what lay in memory, and nothing is written behind it."""
    with tarfile.open(SEEDS.parent / "corpus.tar.xz") as corpus:
        for member in corpus:  # our own archive, of plain files
            corpus.extract(member, tmp_path, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    kept = [path for folder in (SEEDS, tmp_path / "corpus") for path in sorted(folder.iterdir())]
    assert len(kept) > 500
    done = addresses[1].run(*kept)
    assert done.returncode == 0, done.stderr.decode(errors="replace")[-4000:]


@pytest.fixture(scope="module")
def threads(tmp_path_factory: pytest.TempPathFactory) -> Watched:
    """drive.c with ThreadSanitizer."""
    folder = tmp_path_factory.mktemp("thread")
    flags = ("-O1", "-fsanitize=thread")
    # Its map of memory does not fit the random one of some kernels.
    before = ("setarch", "-R") if shutil.which("setarch") else ()
    watched = Watched(folder / "drive", before, (("TSAN_OPTIONS", "halt_on_error=1"),))
    wrong = Watched(folder / "wrong", before, watched.environment)
    check_tool(folder, "ThreadSanitizer", flags, wrong, RACE, b"data race")
    compile_watched(folder, flags, [(HERE / "drive.c", ())])
    return watched


@pytest.mark.parametrize(("many", "sessions"), [(1, 3), (2, 1), (2, 2), (3, 1), (4, 1)])
def test_threads_and_sessions_do_not_race(threads: Watched, cases: list[Case], many: int, sessions: int) -> None:
    for case in cases:
        if case.path.stem in ("layers", "layers-quantised", "joined", "wide-sparse-fp32", "wide-blocks"):
            check(case, threads.answer(case.path, case.questions, many, sessions, 5))
            check(case, threads.answer(case.path, case.questions, many, sessions, 1, "base", "see"))


def test_valgrind_finds_no_error_and_no_leak(tmp_path: Path, cases: list[Case]) -> None:
    """Of the library as it is installed, with the instructions that valgrind knows."""
    if not shutil.which("valgrind"):
        pytest.skip("there is no valgrind")
    before = ("valgrind", "-q", "--error-exitcode=9", "--leak-check=full", "--errors-for-leak-kinds=all")
    check_tool(tmp_path, "valgrind", (), Watched(tmp_path / "wrong", before), OVERFLOW, b"Invalid write of size 1")
    link = (HERE / "drive.c", LIBRARY, f"-Wl,-rpath,{LIBRARY.parent}", "-o", tmp_path / "drive")
    assert compile_(*FLAGS, f"-I{SOURCE}", *link) == ""
    drive = Watched(tmp_path / "drive", before)
    for case in cases:
        if case.path.stem in ("layers", "layers-quantised", "joined", "embeddings", "wide-sparse-bf16"):
            check(case, drive.answer(case.path, case.questions, 2, 1, 2))
    for name in ("wide-blocks", "wide-quantised", "wide-dense-fp32"):
        case = next(one for one in cases if one.path.stem == name)
        check(case, drive.answer(case.path, case.questions, 1, 1, 1, "base"))


def test_an_answer_takes_no_memory(tmp_path: Path, cases: list[Case]) -> None:
    """Fifty rounds of questions ask for as much as one does, but for the driver's own piece a batch."""
    if not shutil.which("valgrind"):
        pytest.skip("there is no valgrind")
    link = (HERE / "drive.c", LIBRARY, f"-Wl,-rpath,{LIBRARY.parent}", "-o", tmp_path / "drive")
    assert compile_(*FLAGS, f"-I{SOURCE}", *link) == ""
    case = next(one for one in cases if one.path.stem == "layers-quantised")
    asked = [count_pieces(tmp_path / "drive", case, runs=runs) for runs in (1, 50)]
    assert asked[1] - asked[0] == 49 * len(LENGTHS)


def count_pieces(drive: Path, case: Case, *, runs: int) -> int:
    """How often the driver asks for memory in all, as valgrind counts."""
    command = ["valgrind", str(drive), str(case.path), str(case.questions), "1", "1", str(runs)]
    done = subprocess.run(command, capture_output=True, check=True)
    (line,) = (line for line in done.stderr.decode().splitlines() if "total heap usage" in line)
    return int(line.split("usage:")[1].split("allocs")[0].replace(",", ""))
