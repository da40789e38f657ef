"""Law of see and ask: the answers to questions about a seen image have the same bytes as those of a plain run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lxcompress.engine import InferenceSession, instruction_sets, pack
from lxcompress.engine.program import POSITION, Program
from lxcompress.errors import MeasureError
from tests.complain import complain
from tests.engine.test_parity import PACKERS, Drawn, Feeds, draw_questions, weigh
from tests.engine.test_session import make_feeds, write_model

SETS = dict.fromkeys([instruction_sets()[0], "base"])
PARTS = (("regions", "features"), ("words", "ids"), ("pick",), ("pick", "regions", "features"))
"""Inputs that are seen, each with its mask; the others are asked."""
IMAGE = ("visual_attention_mask", "visual_feats")


def split(feeds: Feeds, names: tuple[str, ...]) -> tuple[Feeds, Feeds]:
    """The first question's arrays of the inputs that are seen, and all of those that are asked."""
    seen = {name: feeds[name][:1] for name in names}
    return seen, {name: array for name, array in feeds.items() if name not in names}


def whole(seen: Feeds, asked: Feeds) -> Feeds:
    """The same questions for a plain run: what is seen is repeated for each."""
    batch = len(next(iter(asked.values())))
    return asked | {name: np.repeat(array, batch, 0) for name, array in seen.items()}


def check_image(session: InferenceSession, names: tuple[str, ...], questions: list[Feeds]) -> None:
    """After one look, questions of all lengths are answered as by a plain run, which changes nothing that is kept."""
    seen, _ = split(questions[0], names)
    session.see(seen)
    for feeds in questions:
        asked = split(feeds, names)[1]
        (expected,) = session.run(None, whole(seen, asked))
        assert session.ask(asked).tobytes() == expected.tobytes()


@pytest.mark.parametrize("seed", range(10))
def test_any_program_answers_about_what_it_has_seen_as_in_a_plain_run(tmp_path: Path, seed: int) -> None:
    drawn = Drawn(seed, list(PACKERS))
    drawn.write(tmp_path / "model.lxe", operations=6)
    rng = np.random.default_rng(seed)
    questions = [draw_questions(rng, 2, words, regions) for words, regions in ((5, 36), (20, 7), (1, 17))]
    for feeds in questions:  # any question with any image has the first two columns
        feeds["pick"] = np.tri(2, dtype=np.int64)
    for instructions, threads in (*((name, 1) for name in SETS), (None, 2)):
        with InferenceSession(tmp_path / "model.lxe", threads=threads, instructions=instructions) as session:
            for names in PARTS:
                check_image(session, names, questions)
            check_image(session, PARTS[0], questions[::-1])


def write_reused(path: Path) -> None:
    """A model whose tensors are used again: one for three values of the image, some between and after a question's.

    Positions and a row of a table are added to the regions after the words were, so the kept value is changed in place.
    """
    rng, width = np.random.default_rng(0), 8
    program = Program()
    words, regions = program.rows("words", 20), program.rows("regions", 20)
    table = pack.table(weigh(rng, 20, width, 0.0), "fp32")
    first = program.load(program.floats("features", regions, width))
    second = program.linear(first, pack.dense(weigh(rng, width, width, 0.0), "fp32"))
    said = program.embed(table, program.ints("ids", words), words)
    mixed = program.attend(second, said, said, heads=2, scale=0.5)  # the last reader of `second`
    third = program.linear(first, pack.quantised(weigh(rng, width, width, 0.0)))  # in the memory of `second`
    summed = program.attend(mixed, third, third, heads=1, scale=0.5)
    program.embed(table, POSITION, regions, onto=summed)
    program.embed(table, program.ints("kinds", regions), regions, onto=third)  # of the image alone
    program.embed(table, 3, regions, onto=mixed)
    program.scores(program.attend(summed, third, mixed, heads=4, scale=0.5))
    program.write(path)


@pytest.mark.parametrize("threads", [1, 2])
def test_memory_that_is_used_again_is_put_back_when_it_is_read(tmp_path: Path, threads: int) -> None:
    write_reused(tmp_path / "model.lxe")
    rng = np.random.default_rng(0)
    feeds = {
        "words": np.tri(7, dtype=np.int64),
        "ids": rng.integers(0, 20, (7, 7)),
        "regions": np.array([[0, 1, 1, 0, 1]] * 7),
        "features": rng.random((7, 5, 8), dtype=np.float32),
        "kinds": rng.integers(0, 20, (7, 5)),
    }
    with InferenceSession(tmp_path / "model.lxe", threads=threads) as session:
        for names in (("regions", "features", "kinds"), ("words", "ids")):
            for number in range(3):
                image, asked = split({name: np.roll(array, number, 0) for name, array in feeds.items()}, names)
                session.see(image)
                (expected,) = session.run(None, whole(image, asked))
                for _ in range(2):
                    assert session.ask(asked).tobytes() == expected.tobytes()
                kept = {name: array.copy() for name, array in image.items()}
                for array in image.values():
                    array[:] = 0  # the caller's arrays are the caller's again
                assert session.ask(asked).tobytes() == session.run(None, whole(kept, asked))[0].tobytes()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("seen") / "model.lxe")


def looks(file: Path) -> dict[str, tuple[Feeds, str]]:
    """Images that cannot be seen, and what is said."""
    image, _ = split(make_feeds(1), IMAGE)
    broken = image | {"visual_feats": image["visual_feats"].copy()}
    broken["visual_feats"][0, 2, 1] = np.nan
    return {
        "narrow": (image | {"visual_feats": image["visual_feats"][..., 1:]}, "visual_feats is 11 wide, expected 12"),
        "no mask": ({"visual_feats": image["visual_feats"]}, "visual_attention_mask"),
        "no features": ({"visual_attention_mask": image["visual_attention_mask"]}, "visual_feats is missing"),
        "other rows": (image | {"visual_feats": image["visual_feats"][:, 1:]}, "has 5 rows, but its mask has 6"),
        "all masked": (image | {"visual_attention_mask": np.zeros((1, 6), np.int64)}, "keeps no token or region"),
        "NaN": (broken, "visual_feats holds NaN or infinity in row 2 of what is seen"),
        "two": ({name: np.repeat(array, 2, 0) for name, array in image.items()}, "sees one image at a time"),
        "all inputs": (make_feeds(1), "was given all its inputs to see"),
        "nothing": ({}, "takes the inputs"),
        "a list": (list(image.values()), "takes the inputs"),
        "another": (image | {"pixels": np.zeros((1, 3))}, "pixels"),
    }


@pytest.mark.parametrize("name", looks(Path()))
def test_an_image_that_cannot_be_seen_leaves_none(file: Path, name: str) -> None:
    image, question = split(make_feeds(1), IMAGE)
    bad, said = looks(file)[name]
    with InferenceSession(file) as session:
        complain(
            lambda: session.ask(question), "was asked before it has seen an image; call see first", kind=MeasureError
        )
        session.see(image)
        complain(lambda: session.see(bad), said, kind=MeasureError)
        complain(
            lambda: session.ask(question), "was asked before it has seen an image; call see first", kind=MeasureError
        )
        session.see(image)
        assert session.ask(question).tobytes() == session.run(None, make_feeds(1))[0].tobytes()


def test_a_question_that_does_not_fit_leaves_the_image(file: Path) -> None:
    image, question = split(make_feeds(1), IMAGE)
    bad = {
        "takes the inputs attention_mask, input_ids, but was given": make_feeds(1),
        "an id is 99, expected 0 to": question | {"input_ids": np.full((1, 8), 99)},
        "has 9 rows, expected 1 to 8": split(make_feeds(1, tokens=9), IMAGE)[1],
        "there is no question": split(make_feeds(0), IMAGE)[1],
    }
    with InferenceSession(file) as session:
        session.see(image)
        expected = session.ask(question)
        for said, asked in bad.items():
            complain(lambda asked=asked: session.ask(asked), said, kind=MeasureError)
            assert session.ask(question).tobytes() == expected.tobytes()
    complain(lambda: session.ask(question), "this session was closed", kind=MeasureError)


def test_an_overflow_of_the_image_is_found_when_it_is_seen(tmp_path: Path) -> None:
    """So it was computed then."""
    program = Program()
    words, regions = program.rows("words", 4), program.rows("regions", 4)
    square = pack.dense(np.full((3, 3), 3e38, np.float32), "fp32")
    seen = program.linear(program.load(program.floats("features", regions, 3)), square)
    program.scores(program.attend(program.load(program.floats("said", words, 3)), seen, seen, heads=1, scale=1.0))
    program.write(tmp_path / "model.lxe")
    with InferenceSession(tmp_path / "model.lxe") as session:
        complain(
            lambda: session.see({"regions": np.ones((1, 2)) > 0, "features": np.full((1, 2, 3), 2.0, np.float32)}),
            "a value inside of the model is NaN or overflows in what is seen",
            kind=MeasureError,
        )
