"""A session has the face of ONNX Runtime's, refuses in one sentence what does not fit, and outlives its model."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from lxcompress.engine import InferenceSession, ModelFile, instruction_sets
from lxcompress.engine.pack import dense, sparse, table
from lxcompress.engine.program import Program
from lxcompress.errors import MeasureError
from lxcompress.runtimes import open_session
from tests.complain import complain

ROOT = Path(__file__).resolve().parents[2]
TOKENS, OBJECTS, WIDTH, HIDDEN, ANSWERS, WORDS = 8, 6, 12, 32, 5, 20

Feeds = dict[str, np.ndarray]


def _weights() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    words, a, b = (random.standard_normal(shape, dtype=np.float32) for shape in ((WORDS, HIDDEN), (5, HIDDEN), (5, 12)))
    return words, a * (random.random(a.shape) < 0.5), b


def write_model(path: Path) -> Path:
    """A model that adds a product of its first word to one of its first region."""
    words, a, b = _weights()
    program = Program()
    tokens = program.rows("attention_mask", most=TOKENS)
    ids = program.ints("input_ids", tokens)
    objects = program.rows("visual_attention_mask", most=OBJECTS)
    features = program.floats("visual_feats", objects, width=WIDTH)
    one = program.constant(1)
    word = program.embed(table(words, "fp32"), by=ids, size=tokens).take(columns=one)
    region = program.load(features).take(columns=one)
    program.scores(program.linear(word, sparse(a, "fp32"), residual=program.linear(region, dense(b, "fp32"))))
    program.write(path)
    return path


def make_feeds(rows: int = 2, *, tokens: int = TOKENS, objects: int = OBJECTS) -> Feeds:
    random = np.random.default_rng(rows)
    return {
        "input_ids": random.integers(0, WORDS, (rows, tokens)),
        "attention_mask": np.ones((rows, tokens), dtype=np.int64),
        "visual_feats": random.random((rows, objects, WIDTH), dtype=np.float32),
        "visual_attention_mask": np.ones((rows, objects), dtype=np.int64),
    }


def _slow_answer(feeds: Feeds) -> np.ndarray:
    words, a, b = _weights()
    return words[feeds["input_ids"][:, 0]] @ a.T + feeds["visual_feats"][:, 0] @ b.T


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("engine") / "model.lxe")


@pytest.fixture(scope="module")
def session(file: Path) -> InferenceSession:
    return InferenceSession(file)


def test_it_says_what_it_takes_and_gives_as_onnx_runtime_does(session: InferenceSession) -> None:
    taken = {each.name: (each.type, each.shape, each.most_rows) for each in session.get_inputs()}
    assert taken == {
        "attention_mask": ("tensor(int64)", ["batch", "rows"], TOKENS),
        "input_ids": ("tensor(int64)", ["batch", "rows"], TOKENS),
        "visual_attention_mask": ("tensor(int64)", ["batch", "rows"], OBJECTS),
        "visual_feats": ("tensor(float)", ["batch", "rows", WIDTH], OBJECTS),
    }
    (given,) = session.get_outputs()
    assert (given.name, given.type, given.shape) == ("scores", "tensor(float)", ["batch", ANSWERS])


@pytest.mark.parametrize("names", [None, ["scores"], []])
@pytest.mark.parametrize("rows", [1, 3])
def test_scores_are_those_of_the_weights(session: InferenceSession, rows: int, names: list[str] | None) -> None:
    feeds = make_feeds(rows)
    (scores,) = session.run(names, feeds)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, _slow_answer(feeds), rtol=1e-5, atol=1e-5)


def test_arrays_are_read_whatever_their_order_and_width_of_number(session: InferenceSession) -> None:
    feeds = make_feeds()
    (scores,) = session.run(None, feeds)
    others = {
        "input_ids": np.asfortranarray(feeds["input_ids"]).astype(np.int32),
        "attention_mask": feeds["attention_mask"].astype(bool),
        "visual_feats": np.repeat(feeds["visual_feats"], 2, axis=1)[:, ::2].astype(np.float64),
        "visual_attention_mask": feeds["visual_attention_mask"].tolist(),
    }
    np.testing.assert_array_equal(session.run(None, others)[0], scores)


@pytest.mark.parametrize("name", instruction_sets())
@pytest.mark.parametrize("threads", [1, 2])
def test_every_instruction_set_answers_the_same(file: Path, name: str, threads: int) -> None:
    feeds = make_feeds()
    (scores,) = InferenceSession(file, threads=threads, instructions=name).run(None, feeds)
    np.testing.assert_allclose(scores, _slow_answer(feeds), rtol=1e-5, atol=1e-5)


def _without(feeds: Feeds, name: str) -> Feeds:
    return {each: array for each, array in feeds.items() if each != name}


FEEDS = make_feeds()
BAD_FEEDS = {
    "takes the inputs .*visual_feats.* but was given": _without(FEEDS, "visual_feats"),
    "but was given .*extra": {**FEEDS, "extra": FEEDS["input_ids"]},
    "takes input_ids as int64 of batch x rows, but was given float64 of 2 x 8": {
        **FEEDS,
        "input_ids": FEEDS["input_ids"].astype(np.float64),
    },
    "takes visual_feats as float32 of batch x rows x 12, but was given int64 of 2 x 6": {
        **FEEDS,
        "visual_feats": FEEDS["visual_attention_mask"],
    },
    "was given .*no dimension": {**FEEDS, "input_ids": np.int64(3)},
    "was given object": {**FEEDS, "input_ids": np.full((2, 8), None)},
    "expected the same batch size for all inputs, got .*input_ids 3": {
        **FEEDS,
        "input_ids": make_feeds(3)["input_ids"],
    },
    "visual_feats is 11 wide, expected 12": {**FEEDS, "visual_feats": FEEDS["visual_feats"][..., :-1]},
    "has 9 rows, expected 1 to 8": make_feeds(tokens=9),
    "has 0 rows, expected 1 to 6": make_feeds(objects=0),
    "has 7 rows": {**FEEDS, "input_ids": FEEDS["input_ids"][:, 1:]},
    "there is no question": make_feeds(0),
    "was given a list that is not a rectangular array; pad its rows": {**FEEDS, "input_ids": [[1, 2], [3]]},
    "was given complex64": {**FEEDS, "visual_feats": FEEDS["visual_feats"].astype(np.complex64)},
    "was given <U3": {**FEEDS, "visual_feats": FEEDS["visual_feats"].astype("<U3")},
    "was given datetime64": {**FEEDS, "input_ids": FEEDS["input_ids"].astype("datetime64[s]")},
    "but was given a NoneType": None,
    "but was given a list": list(FEEDS.values()),
    "but was given none": {},
    "but was given 7, attention_mask": {**_without(FEEDS, "input_ids"), 7: FEEDS["input_ids"]},
    r"but was given .*xxx\.\.\.;": {**FEEDS, "x" * 100_000: FEEDS["input_ids"]},
    "an id is -1, expected 0 to": {**FEEDS, "input_ids": np.full((2, 8), 2**64 - 1, np.uint64)},
    "but was given float32 of 8 x 6 x 12 x 2": {**FEEDS, "visual_feats": np.ones((8, 6, 12, 2), np.float32)},
}


@pytest.mark.parametrize("said", BAD_FEEDS)
def test_feeds_that_do_not_fit_are_one_sentence(session: InferenceSession, file: Path, said: str) -> None:
    with pytest.raises(MeasureError, match=said) as caught:
        session.run(None, BAD_FEEDS[said])
    assert str(caught.value).startswith(f"{file}: ")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500
    np.testing.assert_allclose(session.run(None, FEEDS)[0], _slow_answer(FEEDS), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("names", [["logits"], "logits", ["logits", 3], ["x" * 100_000 + "logits"]])
def test_other_outputs_are_refused(session: InferenceSession, names: list[str]) -> None:
    said = complain(
        lambda: session.run(names, make_feeds()), "has the output scores, but was asked for", kind=MeasureError
    )
    assert len(said) < 500


@pytest.mark.parametrize("threads", [0, -1, 1025, 1.5, True, "2", None, 2**32 + 1, 10**2000])
def test_other_numbers_of_threads_are_refused(file: Path, threads: object) -> None:
    """C would read the last 32 bits."""
    said = complain(
        lambda: InferenceSession(file, threads=threads), "threads: expected 1 to 1024, got", kind=MeasureError
    )
    assert len(said) < 500


@pytest.mark.parametrize("instructions", ["mmx", "", 3, b"base", "\u20ac", "\ud800", "a" * 100_000, "base\0x"])
def test_other_instruction_sets_are_refused(file: Path, instructions: object) -> None:
    said = complain(lambda: InferenceSession(file, instructions=instructions), "base", kind=MeasureError)
    assert len(said) < 500


def test_a_path_is_not_read_up_to_a_nul_character(file: Path) -> None:
    complain(lambda: InferenceSession(f"{file}\0.txt"), "NUL", kind=MeasureError)


def test_what_a_processor_does_not_have_is_refused_with_what_it_has(file: Path) -> None:
    with pytest.raises(MeasureError, match=f"has no 'mmx'; it has .*{instruction_sets()[-1]}"):
        InferenceSession(file, instructions="mmx")
    with pytest.raises(MeasureError, match="threads: expected 1 to 1024, got 0"):
        InferenceSession(file, threads=0)


def test_files_that_are_not_whole_are_one_sentence(file: Path, tmp_path: Path) -> None:
    whole = file.read_bytes()
    damaged = tmp_path / "model.lxe"
    for length in (0, 1, 12, 127, 128, 500, len(whole) - 1):
        damaged.write_bytes(whole[:length])
        with pytest.raises(MeasureError, match=r"^[^\n]*the engine cannot read it \([^\n]*\); export it again$"):
            InferenceSession(damaged)
    for missing in (tmp_path / "none.lxe", tmp_path):
        with pytest.raises(MeasureError, match="the engine cannot read it"):
            InferenceSession(missing)


def test_weights_that_were_changed_are_found_by_reading_them_all(file: Path, tmp_path: Path) -> None:
    ModelFile(file).verify()
    bytes_ = bytearray(file.read_bytes())
    bytes_[-1] ^= 1
    damaged = tmp_path / "model.lxe"
    damaged.write_bytes(bytes_)
    with pytest.raises(MeasureError, match="weights are damaged"):
        ModelFile(damaged).verify()


def test_sessions_share_a_model_and_outlive_it(file: Path) -> None:
    model = ModelFile(file)
    first, second = model.session(), model.session(threads=2)
    model.close()
    with pytest.raises(MeasureError, match="this model was closed"):
        model.session()
    with pytest.raises(MeasureError, match="this model was closed"):
        model.verify()
    del model
    gc.collect()
    feeds = make_feeds()
    first.close()
    np.testing.assert_allclose(second.run(None, feeds)[0], _slow_answer(feeds), rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(sys.platform != "linux", reason="this system does not list what a process has mapped")
def test_a_file_is_let_go_with_its_last_session(file: Path, tmp_path: Path) -> None:
    path = tmp_path / "mapped.lxe"
    path.write_bytes(file.read_bytes())

    def is_mapped() -> bool:
        return str(path) in Path("/proc/self/maps").read_text(encoding="utf-8")

    with InferenceSession(path, threads=2) as session:
        session.run(None, make_feeds())
        assert is_mapped()
    assert not is_mapped()
    session.close()  # a second time
    with pytest.raises(MeasureError, match="this session was closed"):
        session.run(None, make_feeds())
    dropped = InferenceSession(path)
    assert is_mapped()
    del dropped
    gc.collect()
    assert not is_mapped()


def test_callers_of_one_session_or_many_get_what_each_asked(file: Path) -> None:
    model = ModelFile(file)
    sessions = [model.session(), model.session(threads=2)]
    asked = [make_feeds(rows) for rows in range(1, 9)] * 20
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda n: sessions[n % 3 % 2].run(None, asked[n])[0], range(len(asked))))
    for feeds, scores in zip(asked, answers, strict=True):
        np.testing.assert_allclose(scores, _slow_answer(feeds), rtol=1e-5, atol=1e-5)


def _run(code: str) -> None:
    """Runs code in a process of its own, which has to end well and without a word."""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_process_may_end_with_sessions_open(file: Path) -> None:
    _run(f"""
from lxcompress.engine import ModelFile, InferenceSession
left = InferenceSession({str(file)!r}, threads=2)
model = ModelFile({str(file)!r})
model.circle = [model, model.session(threads=2)]
model.circle[1].circle = model.circle
del model
import threading
from tests.engine.test_session import make_feeds
feeds = make_feeds()
def ask():
    while True:
        left.run(None, feeds)
threading.Thread(target=ask, daemon=True).start()
""")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system copies no processes")
def test_a_forked_process_is_told_that_its_threads_are_gone(file: Path) -> None:
    _run(f"""
import os, warnings
from lxcompress.engine import InferenceSession
from lxcompress.errors import MeasureError
from tests.engine.test_session import make_feeds
feeds = make_feeds()
alone, together = InferenceSession({str(file)!r}), InferenceSession({str(file)!r}, threads=2)
expected = together.run(None, feeds)[0]
warnings.simplefilter("ignore")  # of forking beside threads, which is what is tried
child = os.fork()
if not child:
    try:
        together.run(None, feeds)
    except MeasureError as error:
        told = "was opened in another process" in str(error)
    together.close()
    os._exit(0 if told and (alone.run(None, feeds)[0] == expected).all() else 1)
assert os.waitpid(child, 0)[1] == 0
""")


def test_the_runtime_answers_and_brings_nothing_along(file: Path) -> None:
    """What is measured in its process is the engine: neither torch nor ONNX Runtime, nor how records are read."""
    feeds = make_feeds()
    for path in (file, file.parent):
        scores = open_session(path, threads=2, runtime="engine").answer(feeds)
        np.testing.assert_allclose(scores, _slow_answer(feeds), rtol=1e-5, atol=1e-5)
    _run(f"""
import sys
from pathlib import Path
from lxcompress.runtimes import open_session
session = open_session(Path({str(file)!r}), threads=1, runtime="engine")
assert not {{"torch", "onnxruntime", "onnx", "pydantic", "transformers", "filelock"}} & set(sys.modules)
""")


def test_the_runtime_says_how_a_missing_file_is_made(tmp_path: Path) -> None:
    with pytest.raises(MeasureError, match=r"model\.lxe: no such file; make it with: .*--format engine"):
        open_session(tmp_path, threads=1, runtime="engine")
