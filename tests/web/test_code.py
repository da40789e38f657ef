"""The page's JavaScript computes what Python computes: word pieces, scenes, probabilities and percentiles."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from lxcompress.confidence.temperature import softmax
from lxcompress.data.objects import ATTRIBUTES, SIZES, object_boxes, object_features, project
from lxcompress.data.persian_scenes import ask_persian
from lxcompress.data.programs import ask_english
from lxcompress.data.scenes import CAMERA_FRONT, CAMERA_RIGHT, RADIUS, draw_questions, draw_scenes
from lxcompress.data.tokens import Vocabulary, shipped_vocabulary, tokenize
from lxcompress.web.page import describe_vocabulary, describe_world
from tests.web.node import needs_node, run_module

pytestmark = needs_node

TYPED = (
    "What's in this can?",
    "Can you tell me what this is, please?  Thank you.",
    "is that 1% or 2% milk…",
    "WHAT COLOR IS MY SHIRT??",
    "Straße, naïve café, İstanbul, ΟΔΟΣ",
    "e\u0301 decomposed, and a soft\u00adhyphen",
    "what [SEP] does [MASK]this[CLS] say [sep]",
    "这是什么颜色 的?  日本語のラベル",
    "👍🏽 is this 👨‍👩‍👧 a ❤️ ?",
    "tab\tand\nline\u2028and\u00a0space\u3000",
    "\u200b\ufeffinvisible\u0007 bell \ufffd",
    "x" * 101 + " " + "y" * 100,
    "",
    "آيا كُرۀ قرمزي هست؟",
    "چند مکعب‌ فلزی ۳ یا 3 یا ٣ ــ هست؟",
    "هٔ ة ى ئ أ",
)
DRAWN_FROM = (
    "abcdefghijklmnop qrst uvwxyz  ABC 0123 ?!.,'\"-_/()[]#@%&*’“”—…éüñçßøåşığОКЯ"
    " سلام‌دنیای پ چ ۱۲ 漢字 かな 한국 🙂🚀❤️\t"
)
PERSIAN = Vocabulary(tuple(shipped_vocabulary("fa").tokens), language="fa")
KEPT_CASE = Vocabulary(shipped_vocabulary().tokens, do_lower_case=False)


def _draw_questions(count: int) -> list[str]:
    """Return questions about scenes in both languages, what people type, and random characters."""
    random = np.random.default_rng(1)
    scenes = draw_scenes(256, random)
    english, persian = (draw_questions(count // 3, scenes, random, ask)[0] for ask in (ask_english, ask_persian))
    letters = list(DRAWN_FROM)
    drawn = ["".join(random.choice(letters, random.integers(1, 40))) for _ in range(count // 3 - len(TYPED))]
    return [*TYPED, *english, *persian, *drawn]


def _check_tokens(folder: Path, questions: list[str], vocabulary: Vocabulary) -> None:
    code = "return given.questions.map(module.makeTokenizer(given.vocabulary));"
    given = {"questions": questions, "vocabulary": describe_vocabulary(vocabulary)}
    found = run_module(folder, "wordpiece", code, given)
    expected = tokenize(questions, vocabulary, 1000)
    assert found == [[int(id) for id in row if id] for row in expected]


@pytest.mark.parametrize("vocabulary", [shipped_vocabulary(), PERSIAN, KEPT_CASE], ids=["english", "persian", "case"])
def test_a_question_has_the_tokens_of_python(tmp_path: Path, vocabulary: Vocabulary) -> None:
    _check_tokens(tmp_path, _draw_questions(300), vocabulary)


@pytest.mark.native
@pytest.mark.parametrize("vocabulary", [shipped_vocabulary(), PERSIAN], ids=["english", "persian"])
def test_ten_thousand_questions_have_the_tokens_of_python(tmp_path: Path, vocabulary: Vocabulary) -> None:
    _check_tokens(tmp_path, _draw_questions(10_002), vocabulary)


def test_a_scene_has_the_features_and_boxes_of_python(tmp_path: Path) -> None:
    scenes = draw_scenes(20, np.random.default_rng(2))
    counts = scenes.present.sum(1)
    objects = [
        [
            {name: int(scenes.values[name][row, column]) for name in ATTRIBUTES}
            | {"right": float(scenes.right[row, column]), "front": float(scenes.front[row, column])}
            for column in range(count)
        ]
        for row, count in enumerate(counts)
    ]
    code = """return given.scenes.map((objects) => {
      const found = module.describeScene(objects, given.world);
      return [Array.from(found.visual_feats.data), Array.from(found.visual_pos.data), found.visual_feats.dims];
    });"""
    found = run_module(tmp_path, "scene", code, {"scenes": objects, "world": describe_world()})
    height = np.asarray([RADIUS[name] for name in SIZES])[scenes.values["size"]]
    ground = scenes.right[..., None] * CAMERA_RIGHT + scenes.front[..., None] * CAMERA_FRONT
    features = object_features(dict(scenes.values), np.concatenate([ground, height[..., None]], axis=-1))
    boxes = object_boxes(project(scenes.right, scenes.front, height), scenes.values["size"])
    for row, (one, other, dims) in enumerate(found):
        assert dims == [1, counts[row], features.shape[-1]]
        np.testing.assert_allclose(one, features[row, : counts[row]].reshape(-1), atol=1e-6)
        np.testing.assert_allclose(other, boxes[row, : counts[row]].reshape(-1), atol=1e-6)


def test_an_answer_has_the_probability_of_python_and_is_held_back_below_the_threshold(tmp_path: Path) -> None:
    scores, labels = [3.0, -1.0, 2.5, 0.0], ["a", "b", "c", "d"]
    best = float(softmax(np.asarray([scores]), 1.7)[0, 0])
    thresholds = [(True, best - 1e-9), (True, best + 1e-9), (True, None), (False, None)]
    models = [
        {"temperature": 1.7, "labels": labels, "hasThreshold": known, "threshold": value} for known, value in thresholds
    ]
    code = "return given.models.map((model) => module.readAnswer(given.scores, model, 3));"
    found = run_module(tmp_path, "answer", code, {"models": models, "scores": scores})
    assert [answer["isSure"] for answer in found] == [True, False, False, None]
    assert [possible["text"] for possible in found[0]["best"]] == ["a", "c", "d"]
    assert found[0]["best"][0]["probability"] == pytest.approx(best, abs=1e-12)


def test_percentiles_are_numpys_and_an_interval_holds_the_ratio(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    base = random.gamma(9, 1, 60)
    one, baseline = ({"samples": list(values), "rounds": [5] * 12} for values in (base * 0.5, base))
    code = """return {
      percentiles: [0.5, 0.9, 0.99].map((at) => module.findPercentile(given.baseline.samples, at)),
      ratio: module.compare(given.one, given.baseline),
      few: module.compare({ samples: [1, 2], rounds: [1, 1] }, { samples: [2, 4], rounds: [1, 1] }),
      drift: module.findDrift([1, 1, 1, 2, 2, 2, 3, 3, 3]),
    };"""
    found = run_module(tmp_path, "stats", code, {"one": one, "baseline": baseline})
    np.testing.assert_allclose(found["percentiles"], np.quantile(base, [0.5, 0.9, 0.99]), rtol=1e-12)
    assert found["ratio"]["value"] == pytest.approx(0.5)
    assert found["ratio"]["low"] == pytest.approx(0.5)
    assert found["few"] == {"value": 0.5, "low": None, "high": None}
    assert found["drift"] == 2


def test_a_checksum_without_the_browsers_help_is_sha256(tmp_path: Path) -> None:
    texts = [bytes(range(256))[:length] * times for length, times in ((0, 1), (55, 1), (56, 1), (64, 1), (200, 7))]
    code = "return given.map((bytes) => Buffer.from(module.digestSlowly(Uint8Array.from(bytes))).toString('hex'));"
    found = run_module(tmp_path, "files", code, [list(text) for text in texts])
    assert found == [hashlib.sha256(text).hexdigest() for text in texts]


def test_a_photograph_is_resized_as_pillow_does_to_the_bit(tmp_path: Path) -> None:
    image_module = pytest.importorskip("PIL.Image")
    from lxcompress.extractors.grid import to_picture
    from lxcompress.extractors.photo import resize

    random = np.random.default_rng(4)
    pictures = [random.integers(0, 256, (rows, columns, 3), dtype=np.uint8) for rows, columns in ((5, 40), (64, 17))]
    given = [
        {"pixels": pixels.ravel().tolist(), "height": len(pixels), "width": pixels.shape[1]} for pixels in pictures
    ]
    code = """return given.map(({ pixels, width, height }) => {
      const found = module.resize(Uint8Array.from(pixels), width, height, 16);
      return [Array.from(found), Array.from(module.toPicture(found, { mean: 127, deviation: 128 }))];
    });"""
    for pixels, (found, picture) in zip(pictures, run_module(tmp_path, "pixels", code, given), strict=True):
        expected = np.asarray(resize(image_module.fromarray(pixels), 16))
        np.testing.assert_array_equal(found, expected.ravel())
        np.testing.assert_array_equal(picture, to_picture(expected).numpy().ravel())


def test_every_pixel_is_the_feature_that_a_store_of_pictures_has(tmp_path: Path) -> None:
    pytest.importorskip("PIL.Image")
    from lxcompress.extractors.pixels import MIDDLE, PixelExtractor

    pixels = np.arange(256 * 3, dtype=np.uint8).reshape(16, 16, 3)
    given = {"pixels": pixels.ravel().tolist(), "mean": MIDDLE, "deviation": MIDDLE}
    code = "return Array.from(module.roundToHalf(module.toPicture(Uint8Array.from(given.pixels), given)));"
    expected = PixelExtractor(16).extract(pixels).astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(np.asarray(run_module(tmp_path, "pixels", code, given), np.float32), expected.ravel())


def test_features_are_rounded_to_16_bits_as_numpy_does(tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    drawn = random.normal(0, 1, 500) * 10.0 ** random.integers(-9, 4, 500)
    values = np.concatenate([drawn, [0, 1 + 2**-11, 1 + 3 * 2**-11, 2**-25, 2**-24]]).astype(np.float32)
    code = "return Array.from(module.roundToHalf(Float32Array.from(given)));"
    found = run_module(tmp_path, "pixels", code, values.tolist())
    np.testing.assert_array_equal(np.asarray(found, np.float32), values.astype(np.float16).astype(np.float32))
