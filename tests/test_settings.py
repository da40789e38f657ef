"""Laws of settings: YAML is read as YAML means it, or refused at once in one sentence."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from lxcompress.errors import LxError
from lxcompress.measure.device.profile import read_profile
from lxcompress.recipe import Recipe, dump_recipe, find_recipe, load_recipe, shipped_recipes
from lxcompress.settings import MOST_BYTES, MOST_DEPTH, SettingsProblem, parse_yaml, read_yaml_file

SCENES = "name: tiny\ndata: {kind: scenes, train: 40, valid: 20}\n"
BOMB = (
    "a: &a [x, x, x, x, x, x, x, x, x]\n"
    + "".join(
        f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
    )
    + "version: *i\n"
)
HOSTILE = {
    "an alias bomb": BOMB,
    "an alias bomb of texts": f"a: &a {'x' * 1000}\nb: [{', '.join(['*a'] * 3000)}]\n",
    "an alias of itself": "a: &a [*a]\n",
    "an alias of nothing": "a: *b\n",
    "brackets": "a: " + "[" * 1000 + "]" * 1000,
    "brackets without an end": "[" * 100_000,
    "braces": "a: " + "{b: " * 1000 + "1" + "}" * 1000,
    "dashes": "- " * 5000 + "1",
    "a long number": f"version: {'9' * 9000}",
    "a long number of base 16": f"version: 0x{'f' * 9000}",
    "a long number of base 60": "version: 1" + ":10" * 3000,
    "a long fraction": f"version: 0.{'1' * 9000}",
    "a number of nothing": "version: 0b_",
    "no number": "version: !!int nine",
    "no truth": "version: !!bool nine",
    "a list that is a text": "version: !!seq nine",
    "bytes": "version: !!binary aGVsbG8=",
    "a set": "version: !!set {a, b}",
    "a timestamp by tag": "version: !!timestamp soon",
    "an object": "!!python/object/apply:os.system [echo]",
    "an object's name": "version: !!python/name:os.system",
    "a tag of one's own": "version: !mine 3",
    "a tag without an end": "version: !<tag",
    "a key twice": "name: a\nname: b",
    "a key twice, deeper": "train: {epochs: 1, batch_size: 4, epochs: 2}",
    "a list as a key": "? [a, b]\n: c",
    "a merge of a number": "a: {<<: 3}",
    "a NUL": "name: a\0b",
    "a NUL that is escaped": 'name: "a\\0b"',
    "half a character": 'name: "\\ud800"',
    "an unknown escape": 'name: "\\z"',
    "two documents": "a: 1\n---\nb: 2",
    "a tab": "a:\n\t- b",
    "no end": "a: [1, 2",
    "a control character": "a: \x07",
    "too long": "# " + "x" * MOST_BYTES + "\na: 1",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_yaml_is_refused_at_once_everywhere_that_yaml_is_read(name, tmp_path) -> None:
    text = HOSTILE[name]
    path = tmp_path / "settings.yaml"
    path.write_text(text, encoding="utf-8")
    good = tmp_path / "good.yaml"
    good.write_text(SCENES, encoding="utf-8")
    started = time.process_time()
    with pytest.raises(SettingsProblem):
        parse_yaml(text)
    for read in (
        lambda: load_recipe(path),
        lambda: load_recipe(good, [f"train={text}"]),
        lambda: read_profile(path),
    ):
        assert "\n" not in refusal(read)
    assert time.process_time() - started < 5


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff\xfe\x00n", b"name: \xe9", b"[1, 2]", b"42", b"null", b"# only words\n", b"\xef\xbb\xbf", b"...\n"],
)
def test_what_is_no_mapping_or_no_text_is_refused(data, tmp_path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_bytes(data)
    for read in (lambda: load_recipe(path), lambda: read_profile(path)):
        assert str(path) in refusal(read)


def test_plain_values_mean_what_yaml_says_and_dates_stay_text() -> None:
    text = "a: 1\nb: 2.5\nc: yes\nd: ~\ne: [x, 'y: z']\nf: {1: g, on: h}\nh: 2001-01-01\ni: 0x1f\nj: 1e3\nk: 1.5e+3\n"
    assert parse_yaml(text) == {
        **{"a": 1, "b": 2.5, "c": True, "d": None, "e": ["x", "y: z"], "f": {"1": "g", "on": "h"}},
        **{"h": "2001-01-01", "i": 31, "j": "1e3", "k": 1500.0},
    }
    assert parse_yaml("") is None


def test_aliases_and_merges_are_read_as_yaml_means_them() -> None:
    text = "base: &b {x: 1, y: 2}\none: {<<: *b, y: 3}\ntwo: {y: 4, <<: [*b, {z: 5}]}\nthree: *b\n"
    assert parse_yaml(text) == yaml.safe_load(text)


def test_an_override_changes_one_of_two_sections_that_share_an_alias(tmp_path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(f"{SCENES}bench: &b {{runs: 30}}\npick: {{retain: 0.9}}\n", encoding="utf-8")
    tree = load_recipe(path, ["bench.runs=40"])
    assert (tree.bench.runs, load_recipe(path).bench.runs) == (40, 30)


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + SCENES.encode())
    assert load_recipe(path).name == "tiny"


@pytest.mark.parametrize("path", shipped_recipes(), ids=lambda path: path.stem)
def test_what_ships_is_read_as_by_yaml_itself_and_written_and_read_again(path) -> None:
    assert read_yaml_file(path) == yaml.safe_load(path.read_text(encoding="utf-8"))
    if not path.stem.startswith("pretrain"):
        recipe = load_recipe(path)
        assert Recipe.model_validate(parse_yaml(dump_recipe(recipe))) == recipe


def test_documents_of_any_depth_below_the_limit_are_read() -> None:
    deep = "[" * MOST_DEPTH + "]" * MOST_DEPTH
    assert parse_yaml(deep) == yaml.safe_load(deep)


def random_tree(draw: random.Random, depth: int = 0) -> object:
    """A random tree of what YAML holds."""
    kind = draw.randrange(8 if depth < 4 else 6)
    if kind == 6:
        return [random_tree(draw, depth + 1) for _ in range(draw.randrange(4))]
    if kind == 7:
        return {f"key {draw.randrange(99)}": random_tree(draw, depth + 1) for _ in range(draw.randrange(4))}
    letters = "ab :#-'\"\n\t[]{},&*!|>%@`é\u2028 0123456789"
    text = "".join(draw.choice(letters) for _ in range(draw.randrange(12)))
    return [None, True, draw.randrange(-999, 999), draw.random(), text, ""][kind]


def test_what_yaml_writes_is_read_back() -> None:
    draw = random.Random(0)
    for _ in range(150):
        tree = {"root": random_tree(draw)}
        text = yaml.safe_dump(tree, allow_unicode=True)
        assert parse_yaml(text) == tree


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("prune.methods=[{critrion: taylor}]", "prune.methods.0.criterion?"),
        ("prune.methods=[{scope: modality, relative_rates: {langage: 2}}]", "prune.methods.0.relative_rates.language?"),
        ("prune.methods=[{distill: {wieght: 1}}]", "prune.methods.0.distill.weight?"),
        ("prune.methods=[{}, {name: a}, {rewnd: step}]", "prune.methods.2.rewind?"),
        ("prune.calibration.questons=3", "prune.calibration.questions?"),
        ("data.vald=3", "data.valid?"),
        ("data={kind: vqa, train: a, valid: b, feature: c}", "data.features?"),
        ("data.kind=scene", "did you mean scenes?"),
        ("train.precison=bf16", "train.precision?"),
        ("trian.epochs=3", "did you mean train?"),
        ("prune.criteria=[tailor]", "did you mean taylor?"),
        ("prune.methods=[{schedule: gradul}]", "did you mean gradual?"),
        ("prune.methods=[{nothing_like_it_at_all_xyz: 1}]", "known here: prune.methods.0.control"),
    ],
)
def test_an_unknown_name_at_any_depth_names_its_nearest_neighbour(override, named, tmp_path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(SCENES, encoding="utf-8")
    assert named in refusal(lambda: load_recipe(path, [override]))


LONG = "x" * 10_000


@pytest.mark.parametrize(
    "override",
    [
        f"name={LONG}",
        f"{LONG}=1",
        f"train.{LONG}=1",
        f"{'a.' * 5000}b=1",
        LONG,
        f"train.epochs={LONG}",
        f"train.epochs=[{LONG}]",
        f"train={{epochs: {{{LONG}: 1}}}}",
        f"seeds=[{', '.join(['1'] * 5000)}]",
        f"data.kind={LONG}",
        f"data={LONG}",
        f"device={LONG}",
        f"version={LONG}",
        f"version=[[[[[[{LONG}]]]]]]",
        f"protocol={LONG}",
        f"protocol=[[{LONG}]]",
        f"prune.methods=[{{{LONG}: 1}}]",
        f"prune.methods=[{LONG}]",
        f"prune.methods=[{{name: {LONG}}}]",
        f"prune.methods=[{{granularity: {LONG}}}]",
        f"prune.methods=[{{granularity: '{'2' * 9000}:4'}}]",
        f"prune.methods=[{{relative_rates: {{{LONG}: 1}}, scope: modality}}]",
        f"prune.granularities=[{LONG}]",
        f"prune.methods={LONG}",
        "train.epochs=1e400",
        "train.learning_rate=1e400",
        "train.learning_rate=.inf",
        "train.epochs=99999999999999999999999",
        "prune.sparsities=[1e-400]",
    ],
    ids=lambda override: override[:40],
)
def test_no_value_makes_a_sentence_long(override, tmp_path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(SCENES, encoding="utf-8")
    refusal(lambda: load_recipe(path, [override]))


def test_long_values_in_a_profile_are_cut(tmp_path) -> None:
    path = tmp_path / "phone.yaml"
    for text in (f"name: {LONG}", f"{LONG}: 1", f"runner: {{{LONG}: 1}}", f"runner: {{command: [{LONG}]}}"):
        path.write_text(text, encoding="utf-8")
        refusal(lambda: read_profile(path))


def test_a_recipe_is_a_file_a_name_that_ships_or_a_run_folder(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_recipe(Path("quickstart")).name == "quickstart"
    assert load_recipe(Path("recipes/quickstart.yaml")).name == "quickstart"
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.yaml").write_text(SCENES, encoding="utf-8")
    assert load_recipe(Path("run")).name == "tiny"
    assert find_recipe(Path("nowhere/quickstart.yaml")) == Path("nowhere/quickstart.yaml")
    assert "did you mean quickstart" in refusal(lambda: load_recipe(Path("quickstrt")))
    assert "did you mean thesis" in refusal(lambda: load_recipe(Path("recipes/thesys.yaml")))


def refusal(read: Callable[[], object]) -> str:
    """The one short sentence that `read` ends with."""
    with pytest.raises(LxError) as caught:
        read()
    said = str(caught.value)
    assert "\n" not in said
    assert len(said) < 500
    return said
