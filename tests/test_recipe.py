"""Laws of recipes: written and read back they are equal, every field can be set, every mistake gets one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
import yaml
from pydantic import BaseModel

from lxcompress.errors import RecipeError
from lxcompress.recipe import (
    DATA_KINDS,
    FAULTS,
    RECIPE_VERSION,
    Pretrain,
    Recipe,
    dump_recipe,
    find_recipe,
    load_recipe,
    load_run_recipe,
    read_settings,
)

SCENES = {"name": "tiny", "data": {"kind": "scenes", "train": 40, "valid": 20}}
CLEVR = {"name": "clevr", "data": {"kind": "clevr", "scenes": "s.json", "questions": "q.json"}}
FULL = {
    "name": "full-1.0_x",
    "device": "cpu",
    "seeds": [4, 0, 9],
    "data": {
        "kind": "clevr",
        "scenes": "s.json",
        "questions": "q.json.gz",
        "valid_scenes": "/v/s.json",
        "valid_questions": "/v/q.json",
        "max_train": 10,
    },
    "model": {"start": "some/folder"},
    "train": {"epochs": 1, "learning_rate": 1e-7, "warmup": 0, "precision": "bf16"},
    "prune": {"criteria": ["random", "low-magnitude"], "sparsities": [0.9, 0.125, 1 / 3], "scope": "global"},
    "pick": {"retain": 1},
    "bench": {"threads": 2, "runs": 7},
}
PRETRAIN = {"name": "pre", "data": {"kind": "scenes"}, "architecture": {"hidden_size": 16}}

ANOTHER = {
    "processes": 2,
    "version": RECIPE_VERSION,
    "name": "other",
    "device": "cpu",
    "seeds": "[3]",
    "protocol": "[one-dense-run]",
    "model.start": "elsewhere",
    "model.vocabulary": "other-vocab.txt",
    "model.pretrained_answers": "other-answers.json",
    "model.last_bias": -2.5,
    "model.draw_feature_layer": True,
    "model.draw_word_embeddings": True,
    "train.epochs": 23,
    "train.batch_size": 24,
    "train.learning_rate": "1e-3",
    "train.warmup": 0.25,
    "train.weight_decay": 0.5,
    "train.clip_norm": 0.75,
    "train.eval_batch_size": 25,
    "train.precision": "bf16",
    "train.optimizer": "bert-adam",
    "train.loss": "categorical",
    "train.accumulate": 4,
    "train.deterministic": True,
    "train.compile": "off",
    "train.graph": "off",
    "train.data_on_device": "off",
    "prune.criteria": "[random]",
    "prune.granularities": "[block-1x4]",
    "prune.methods": "[{criterion: wanda}]",
    "prune.multiple": 4,
    "prune.calibration.questions": 28,
    "prune.calibration.batch_size": 29,
    "prune.sparsities": "[0.625]",
    "prune.regions": "[18, 9]",
    "prune.scope": "global",
    "pick.retain": 0.875,
    "export.twins": "false",
    "export.int4": "true",
    "export.format": "openvino",
    "export.also": "[engine]",
    "bench.threads": 26,
    "bench.runs": 27,
    "track": "tensorboard",
}
"""A value for each field of a recipe but its data's, other than its default wherever another is allowed."""

BARE = {
    "scenes": {},
    "clevr": {"scenes": "s.json", "questions": "q.json"},
    "vqa": {"train": "t.json", "valid": ["v.json"]},
    "vizwiz": {"train": "t.json", "valid": "v.json"},
    "gqa": {"train": ["t.json", "u.json"], "valid": "v.json"},
    "nlvr2": {"train": "t.json", "valid": "v.json"},
    "nlvr": {"train": "t.json"},
    "examples": {"train": "t.csv", "valid": "v.csv", "columns": {"text": "q", "image": "i"}},
}
"""What each kind of data cannot do without."""
MORE = {
    "scenes": {
        "train": 17,
        "valid": 18,
        "seed": 19,
        "pixels": 24,
        "test": 20,
        "objects": 9,
        "language": "fa",
        "regions": 5,
    },
    "clevr": {
        "scenes": "other-scenes.json",
        "questions": "other-questions.json",
        "holdout": 20,
        "test": 30,
        "max_train": 21,
        "max_valid": 22,
        "regions": 5,
    },
    "vqa": {
        "train": "[other.json, more.json]",
        "valid": "other.json",
        "test": "test.json",
        "features": "store",
        "tokens": 23,
        "language": "fa",
        "max_train": 21,
        "max_valid": 22,
        "train_annotations": "a.json",
        "valid_annotations": "[b.json]",
        "answers": "ans.json",
        "least_answers": 4,
    },
    "vizwiz": {
        "train": "other.json",
        "valid": "other.json",
        "test": "test.json",
        "features": "store",
        "tokens": 23,
        "language": "fa",
        "max_train": 21,
        "max_valid": 22,
        "answers": "ans.json",
        "least_answers": 4,
    },
    "gqa": {
        "train": "other.json",
        "valid": "other.json",
        "test": "test.json",
        "features": "store",
        "tokens": 23,
        "language": "fa",
        "max_train": 21,
        "max_valid": 22,
        "answers": "ans.json",
    },
    "nlvr2": {
        "train": "other.json",
        "valid": "other.json",
        "test": "test.json",
        "features": "store",
        "tokens": 23,
        "language": "fa",
        "max_train": 21,
        "max_valid": 22,
    },
    "nlvr": {
        "train": "other.json",
        "valid": "other.json",
        "test": "test.json",
        "weak": "weak.json",
        "holdout": 0.25,
        "max_train": 21,
        "max_valid": 22,
    },
    "examples": {
        "train": "other.csv",
        "valid": "other.csv",
        "test": "test.csv",
        "columns": "{text: q, image: i, label: answer}",
        "features": "store",
        "tokens": 23,
        "language": "fa",
        "max_train": 21,
        "max_valid": 22,
        "answers": "ans.json",
        "least_answers": 4,
    },
}
"""A value for each field of each kind of data that can be set alone, other than its default and than BARE's."""
TOGETHER = {
    ("clevr", "valid_scenes"): "valid_questions",
    ("clevr", "valid_questions"): "valid_scenes",
    ("vqa", "test_annotations"): "test",
    **{(kind, "max_test"): "test" for kind in ("vqa", "vizwiz", "gqa", "nlvr2", "nlvr", "examples")},
    **{(kind, "regions"): "features" for kind in ("vqa", "vizwiz", "gqa", "nlvr2", "examples")},
    ("examples", "images"): "pixels",
    ("examples", "pixels"): "images",
}
"""Fields of data that are given with another, or not at all."""


def write(folder: Path, tree: Any) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(tree if isinstance(tree, str) else yaml.safe_dump(tree), encoding="utf-8")
    return path


def complain(folder: Path, tree: Any, *overrides: str, kind: type = Recipe) -> str:
    """What is said of a recipe; one line, and it names the file or the option that is at fault."""
    with pytest.raises(RecipeError) as caught:
        read_settings(write(folder, tree), kind, overrides)
    said = str(caught.value)
    assert said.count("\n") == 0
    assert said.startswith((str(folder / "recipe.yaml"), *(f"--set {override}" for override in overrides)))
    return said


def leaves(kind: type[BaseModel], prefix: str = "") -> list[str]:
    """The dotted name of every field below `kind` that is not a section of its own."""
    names = []
    for name, field in kind.model_fields.items():
        parts = () if get_origin(field.annotation) is tuple else get_args(field.annotation)
        sections = [each for each in (field.annotation, *parts) if is_section(each)]
        names += [leaf for section in sections for leaf in leaves(section, f"{prefix}{name}.")] or [prefix + name]
    return list(dict.fromkeys(names))


def is_section(annotation: Any) -> bool:
    return get_origin(annotation) is None and isinstance(annotation, type) and issubclass(annotation, BaseModel)


def value_at(recipe: Recipe, key: str) -> Any:
    value: Any = recipe
    for step in key.split("."):
        value = getattr(value, step)
    return value


@pytest.mark.parametrize(("tree", "kind"), [(SCENES, Recipe), (CLEVR, Recipe), (FULL, Recipe), (PRETRAIN, Pretrain)])
def test_a_recipe_written_and_read_back_is_equal(tree, kind, tmp_path) -> None:
    recipe = read_settings(write(tmp_path, tree), kind)
    assert read_settings(write(tmp_path, dump_recipe(recipe)), kind) == recipe


def test_a_written_recipe_has_every_field(tmp_path) -> None:
    written = yaml.safe_load(dump_recipe(load_recipe(write(tmp_path, SCENES))))
    for key in leaves(Recipe):
        section = written
        if not key.startswith("data.") and key != "track":  # a tracker changes no result, so no run folder names it
            for step in key.split("."):
                section = section[step]
    assert set(written["data"]) == {"kind", "train", "valid", "seed", "pixels"}  # test is written if there is one


def test_every_field_is_known_to_these_tests() -> None:
    assert {leaf for leaf in leaves(Recipe) if not leaf.startswith("data.")} == set(ANOTHER)
    for kind, section in DATA_KINDS.items():
        apart = {field for each, field in TOGETHER if each == kind}
        assert set(section.model_fields) == {"kind", *MORE[kind], *apart}


@pytest.mark.parametrize("key", ANOTHER)
def test_set_reaches_every_field(key, tmp_path) -> None:
    path = write(tmp_path, SCENES)
    before, after = load_recipe(path), load_recipe(path, [f"{key}={ANOTHER[key]}"])
    alone = {"version"}
    assert (value_at(before, key) == value_at(after, key)) == (key in alone)
    assert [other for other in ANOTHER if is_changed(before, after, other)] == [key] * (key not in alone)


@pytest.mark.parametrize(("kind", "field"), [(kind, field) for kind, fields in MORE.items() for field in fields])
def test_set_reaches_every_field_of_data(kind, field, tmp_path) -> None:
    path = write(tmp_path, {"name": "some", "data": {"kind": kind, **BARE[kind]}})
    before, after = load_recipe(path), load_recipe(path, [f"data.{field}={MORE[kind][field]}"])
    assert [name for name in DATA_KINDS[kind].model_fields if is_changed(before, after, f"data.{name}")] == [field]
    assert read_settings(write(tmp_path, dump_recipe(after)), Recipe) == after


@pytest.mark.parametrize(("kind", "field"), TOGETHER)
def test_fields_that_go_together_are_set_together(kind, field, tmp_path) -> None:
    other = TOGETHER[kind, field]
    value, other_value = (9 if name in ("max_test", "regions", "pixels") else Path("f.json") for name in (field, other))
    tree = {"name": "some", "data": {"kind": kind, **BARE[kind]}}
    assert "together" in complain(tmp_path, tree, f"data.{field}={value}")
    recipe = load_recipe(write(tmp_path, tree), [f"data.{field}={value}", f"data.{other}={other_value}"])
    assert value_at(recipe, f"data.{field}") in (value, (value,))


@pytest.mark.parametrize(
    ("kind", "name"),
    [(kind, name) for kind, bare in BARE.items() for name in bare if "valid" in bare and name != "columns"],
)
def test_a_test_file_is_in_no_other_split(kind, name, tmp_path) -> None:
    tree = {"name": "some", "data": {"kind": kind, **BARE[kind], "test": ["x.json", "same.json"], name: "same.json"}}
    assert f"test and {name} both name same.json" in complain(tmp_path, tree)


def test_a_pretraining_has_no_test_split(tmp_path) -> None:
    assert "test has no effect on a pre-training" in complain(tmp_path, PRETRAIN, "data.test=30", kind=Pretrain)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [("vqa", {"answers": "a.json", "least_answers": 3}), ("nlvr", {"valid": "v.json", "holdout": 0.5})],
)
def test_a_field_without_effect_is_an_error(kind, fields, tmp_path) -> None:
    tree = {"name": "some", "data": {"kind": kind, **BARE[kind], **fields}}
    assert "has no effect when there" in complain(tmp_path, tree)


def test_one_path_is_a_list_of_one(tmp_path) -> None:
    recipe = load_recipe(write(tmp_path, {"name": "some", "data": {"kind": "vqa", **BARE["vqa"]}}))
    assert (recipe.data.train, recipe.data.valid) == ((Path("t.json"),), (Path("v.json"),))
    assert "at least 1 item" in complain(tmp_path, {"name": "some", "data": {"kind": "nlvr", "train": []}})


def test_the_protocol_names_its_faults(tmp_path) -> None:
    path = write(tmp_path, SCENES)
    assert load_recipe(path).faults == ()
    assert load_recipe(path, ["protocol=published"]).faults == FAULTS
    assert load_recipe(path, ["protocol=[mask-applied-once]"]).faults == ("mask-applied-once",)
    assert len(FAULTS) == 5
    assert "protocol" in complain(tmp_path, SCENES, "protocol=[no-such-fault]")


def test_micro_batches_are_of_one_size(tmp_path) -> None:
    assert "not a multiple of accumulate 5" in complain(tmp_path, SCENES, "train.accumulate=5")


def is_changed(before: Recipe, after: Recipe, key: str) -> bool:
    return value_at(before, key) != value_at(after, key)


def test_the_last_of_two_overrides_holds(tmp_path) -> None:
    recipe = load_recipe(write(tmp_path, SCENES), ["train.epochs=2", "train.epochs=3", "train.warmup=0"])
    assert (recipe.train.epochs, recipe.train.warmup) == (3, 0)


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("trian.epochs", "train"),
        ("train.epoch", "train.epochs"),
        ("prune.sparsity", "prune.sparsities"),
        ("data.trian", "data.train"),
        ("seed", "seeds"),
    ],
)
def test_an_unknown_key_names_its_nearest_neighbour(key, near, tmp_path) -> None:
    said = complain(tmp_path, SCENES, f"{key}=3")
    assert f"{key.split('.')[0] if near == 'train' else key}: unknown key; did you mean {near}?" in said


def test_an_unknown_key_like_no_other_is_told_what_is_known(tmp_path) -> None:
    said = complain(tmp_path, SCENES, "bench.qqqq=3")
    assert "bench.qqqq: unknown key; known here: bench.runs, bench.threads" in said


def test_an_unknown_key_of_a_pretraining_names_its_nearest_neighbour(tmp_path) -> None:
    assert "data.trian: unknown key; did you mean data.train?" in complain(
        tmp_path, PRETRAIN, "data.trian=3", kind=Pretrain
    )
    assert "data.train: " in complain(tmp_path, PRETRAIN, "data.train=-3", kind=Pretrain)


@pytest.mark.parametrize(
    ("key", "value", "shown"),
    [
        ("train.epochs", "two", "'two'"),
        ("train.epochs", "0", "0"),
        ("train.epochs", "1.5", "1.5"),
        ("train.epochs", "", "None"),
        ("train.learning_rate", "-1", "-1"),
        ("train.learning_rate", ".nan", "nan"),
        ("train.warmup", "1", "1"),
        ("seeds", "3", "3"),
        ("seeds", "[]", "()"),
        ("seeds", "[1, 1]", "[1, 1]"),
        ("name", "a/b", "'a/b'"),
        ("name", "..", "'..'"),
        ("device", "tpu", "'tpu'"),
        ("prune.criteria", "[biggest]", "'biggest'"),
        ("prune.sparsities", "[0.5, 50]", "50"),
        ("prune.sparsities", "[0]", "0"),
        ("prune.sparsities", "[0.5, 0.5]", "[0.5, 0.5]"),
        ("prune.scope", "all", "'all'"),
        ("data.train", "-4", "-4"),
        ("pick.retain", "1.01", "1.01"),
        ("train", "5", "5"),
        ("version", "first", "'first'"),
    ],
)
def test_a_bad_value_is_named_with_its_key_and_a_remedy(key, value, shown, tmp_path) -> None:
    said = complain(tmp_path, SCENES, f"{key}={value}")
    assert f": {key}" in said
    assert f"got {shown}" in said or (shown == "()" and "got []" in said)
    assert f"--set {key}=VALUE" in said


def test_a_missing_key_is_named(tmp_path) -> None:
    assert "name: is missing; add it" in complain(tmp_path, {"data": {"kind": "scenes"}})
    assert "data: is missing; add it" in complain(tmp_path, {"name": "a"})
    assert "data.scenes: is missing; add it" in complain(
        tmp_path, {"name": "a", "data": {"kind": "clevr", "questions": "q"}}
    )


def test_a_data_section_without_its_kind_is_told_of_it(tmp_path) -> None:
    said = complain(tmp_path, {"name": "a", "data": {"train": 4}})
    assert "data.kind: is missing" in said
    assert "--set data.kind=VALUE" in said


def test_an_unknown_kind_of_data_is_told_the_known_ones(tmp_path) -> None:
    said = complain(tmp_path, SCENES, "data.kind=imagenet")
    assert "data.kind: " in said
    assert all(word in said for word in ("imagenet", "scenes", "clevr", "--set data.kind=VALUE"))


def test_several_problems_are_counted(tmp_path) -> None:
    assert "behind it" not in complain(tmp_path, SCENES, "train.epochs=0")
    assert "(1 more problem after it)" in complain(tmp_path, SCENES, "train.epochs=0", "device=x")
    assert "(2 more problems after it)" in complain(tmp_path, SCENES, "train.epochs=0", "seeds=[]", "device=x")


@pytest.mark.parametrize("given", ["valid_scenes", "valid_questions"])
def test_validation_files_go_together(given, tmp_path) -> None:
    said = complain(tmp_path, CLEVR, f"data.{given}=v.json")
    assert "data: valid_scenes and valid_questions go together: give both" in said


def test_holdout_beside_validation_files_is_refused_for_it_would_have_no_effect(tmp_path) -> None:
    assert "holdout has no effect when there are validation files" in complain(tmp_path, FULL, "data.holdout=9")


def test_a_missing_recipe_names_a_near_one_that_exists(tmp_path) -> None:
    write(tmp_path, SCENES)
    with pytest.raises(RecipeError, match=r"recipy\.yaml: no such recipe; .*recipe\.yaml$"):
        load_recipe(tmp_path / "recipy.yaml")
    with pytest.raises(RecipeError, match=r"no such recipe; .*such as quickstart, which ships$"):
        load_recipe(tmp_path / "nowhere" / "x.yaml")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name: [1, 2\nseeds: 3\n", "line 2: is not valid YAML"),
        ("- name\n- data\n", "a recipe is a YAML mapping of keys to values, got list"),
        ("", "a recipe is a YAML mapping of keys to values, got NoneType"),
        ("just words", "a recipe is a YAML mapping of keys to values, got str"),
        ("!!python/object:os.system {}", "is not valid YAML"),
    ],
)
def test_what_is_not_a_yaml_mapping_is_refused(text, expected, tmp_path) -> None:
    assert expected in complain(tmp_path, text)


def test_what_is_not_text_is_refused(tmp_path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(b"\xff\xfe\x00name")
    for unreadable in (path, tmp_path):
        with pytest.raises(RecipeError, match="cannot be read as a recipe"):
            load_recipe(unreadable)


def test_a_newer_recipe_asks_for_an_upgrade_whatever_else_it_says(tmp_path) -> None:
    said = complain(tmp_path, {**SCENES, "version": RECIPE_VERSION + 1, "teleport": True})
    assert f"version {RECIPE_VERSION + 1}" in said
    assert "pip install --upgrade lxcompress" in said


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("train.epochs", "expected key=value, such as --set train.epochs=2"),
        ("=2", "expected key=value"),
        ("name.first=2", "name holds a value, not a section"),
        ("name=a: b: c", "the value is not valid YAML; quote it"),
        ("name=[1", "the value is not valid YAML; quote it"),
    ],
)
def test_an_override_that_is_none_is_refused(override, expected, tmp_path) -> None:
    assert expected in complain(tmp_path, SCENES, override)


@pytest.mark.parametrize("tree", [SCENES, CLEVR, FULL])
def test_cells_are_the_whole_grid_and_their_ids_name_folders(tree, tmp_path) -> None:
    recipe = load_recipe(write(tmp_path, tree))
    cells, grid = recipe.cells(), recipe.prune
    assert (
        len(cells)
        == len(set(cells))
        == len(grid.plain_criteria) * len(grid.granularities) * len(grid.sparsities) * len(recipe.seeds)
    )
    assert len({cell.id for cell in cells}) == len(cells)
    for cell in cells:
        (tmp_path / cell.id).mkdir()
        assert (tmp_path / cell.id).parent == tmp_path
    assert [cell.seed for cell in cells] == sorted((cell.seed for cell in cells), key=recipe.seeds.index)


def test_sparsities_too_near_to_be_told_apart_by_id_are_refused(tmp_path) -> None:
    said = complain(tmp_path, SCENES, "prune.sparsities=[0.5, 0.50000001]")
    assert "prune.sparsities: " in said
    near = load_recipe(write(tmp_path, SCENES), ["prune.sparsities=[0.5, 0.5001, 0.98, 0.985, 0.9875]"])
    assert len({cell.id for cell in near.cells()}) == len(near.cells())


def test_a_recipe_that_ships_is_found_by_name_and_a_file_by_its_path(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("quickstart", "quickstart.yaml"):
        assert load_recipe(find_recipe(Path(name))).name == "quickstart"
    own = write(tmp_path, SCENES).rename(tmp_path / "quickstart.yaml")
    assert find_recipe(Path(own.name)) == Path(own.name)
    for absent in (Path("absent.yaml"), tmp_path / "deep" / "quickstart.yaml"):
        assert find_recipe(absent) == absent


RECIPES = sorted((Path(__file__).parents[1] / "recipes").glob("*.yaml"))


def test_there_are_recipes() -> None:
    assert {"quickstart", "pretrain-mini"} <= {path.stem for path in RECIPES}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_that_ships_is_one_and_opens_with_its_command(path) -> None:
    is_pretraining = path.stem.startswith("pretrain")
    read_settings(path, Pretrain if is_pretraining else Recipe)
    opening = "".join(path.read_text(encoding="utf-8").splitlines(keepends=True)[:12])
    assert f"lxcompress {'pretrain' if is_pretraining else 'study'} recipes/{path.name}" in opening


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("{scope: modality}", "relative_rates needs scope: modality"),
        ("{relative_rates: {vision: 2}}", "relative_rates needs scope: modality"),
        ("{rate: 0.3}", "rate needs an iterative schedule"),
        ("{rewind_at: 0.3}", "rewind_at needs rewind: step"),
        ("{granularity: neuron, scope: row}", "granularity neuron supports only scope layer or global"),
        ("{granularity: '2:4', scope: global}", "scope has no effect with granularity 2:4"),
        ("{granularity: 2:4, schedule: gradual}", "granularity 2:4 has one sparsity"),
        ("{granularity: layer, schedule: gradual}", "supports only schedule one-shot"),
        ("{schedule: iterative}", "prunes the same weights as one-shot"),
        ("{schedule: gradual, criterion: wanda}", "where criterion wanda cannot be computed"),
        ("{schedule: gradual, scope: sensitivity}", "does not support scope sensitivity"),
        ("{ticket: some, criterion: random}", "already drawn"),
        ("{ticket: some, keep_dense: [a]}", "already drawn"),
        ("{control: shuffled, granularity: neuron}", "drawn before training"),
        ("{control: reinitialised, rewind: none}", "new random weights"),
        ("{control: dense-longer, criterion: random}", "control dense-longer is dense"),
        ("{control: small-dense, distill: {}}", "control small-dense is dense"),
        ("{control: dense-longer, sparsities: [0.5]}", "whose sparsity is fixed"),
        ("{control: small-dense, epochs_factor: 3}", "epochs_factor has no effect on control small-dense"),
        ("{rewind: step, epochs_factor: 3}", "which rewind: step follows"),
        ("{distill: {weight: 0}}", "distillation has no effect"),
        ("{granularity: cube}", "expected one of weight, block-1x4, block-4x1, block-4x4, neuron"),
        ("{granularity: block-65x1}", "another block-RxC"),
        ("{granularity: block-1x1}", "another block-RxC"),
        ("{granularity: block-04x4}", "another block-RxC"),
        ("{scope: layer, least_kept: 0.1}", "least_kept needs scope: global or modality"),
        ("{scope: global, granularity: head, least_kept: 0.1}", "least_kept has no effect on granularity head"),
        ("{granularity: 4:2}", "or N:M such as 2:4"),
        ("{criterion: biggest}", "'biggest'"),
    ],
)
def test_a_method_whose_settings_have_no_effect_or_cannot_go_together_is_refused(method, said, tmp_path) -> None:
    path = write(tmp_path, SCENES)
    with pytest.raises(RecipeError, match=r"prune\.methods") as caught:
        load_recipe(path, [f"prune.methods=[{method}]"])
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_two_methods_of_one_name_are_refused_and_a_study_of_none_too(tmp_path) -> None:
    path = write(tmp_path, SCENES)
    with pytest.raises(RecipeError, match="two methods are called random-weight"):
        load_recipe(path, ["prune.methods=[{criterion: random}, {name: random-weight}]"])
    with pytest.raises(RecipeError, match="there is no method"):
        load_recipe(path, ["prune.criteria=[]"])
    with pytest.raises(RecipeError, match="scope has no effect with granularity 2:4") as caught:
        load_recipe(path, ["prune.granularities=[2:4]", "prune.scope=global"])
    assert "Method" not in str(caught.value)


def test_yaml_reads_a_bare_pattern_as_it_was_written(tmp_path) -> None:
    path = write(tmp_path, SCENES)
    for pattern in ("1:2", "2:4", "4:8", "1:16", "7:32"):
        recipe = load_recipe(path, [f"prune.methods=[{{granularity: {pattern}}}]"])
        (cell,) = {cell.method: cell for cell in recipe.cells()}.values()
        kept, of = map(int, pattern.split(":"))
        assert cell.method.granularity == pattern
        assert cell.sparsity == 1 - kept / of
        assert cell.id.startswith(f"low-magnitude-{kept}of{of}-")


OLD = "prune.methods=[{granularity: 2:4, spared: [a.weight]}]"
NEW = "prune.methods=[{granularity: 2:4, keep_dense: [a.weight]}]"


@pytest.mark.parametrize(
    ("old", "new", "notice"),
    [
        (OLD, NEW, "spared is now called keep_dense"),
        (
            "prune.methods=[{scope: modality, rates: {vision: 0}}]",
            "prune.methods=[{scope: modality, relative_rates: {vision: 0}}]",
            "rates is now called relative_rates",
        ),
        (
            "prune.methods=[{control: dense-longer, times: 3}]",
            "prune.methods=[{control: dense-longer, epochs_factor: 3}]",
            "times is now called epochs_factor",
        ),
        (
            "train.resident=off",
            "train.data_on_device=off",
            "train.resident is now called train.data_on_device",
        ),
    ],
)
def test_the_old_name_of_a_key_is_read_with_one_notice_and_means_the_same(old, new, notice, tmp_path, caplog) -> None:
    path = write(tmp_path, SCENES)
    assert load_recipe(path, [old]) == load_recipe(path, [new])
    (said,) = caplog.messages
    assert notice in said


def test_a_key_given_by_its_old_and_its_new_name_is_refused(tmp_path) -> None:
    path = write(tmp_path, SCENES)
    with pytest.raises(RecipeError, match=r"methods\.0: spared is the old name of keep_dense"):
        load_recipe(path, ["prune.methods=[{spared: [a], keep_dense: [a]}]"])
    with pytest.raises(RecipeError, match=r"train: resident is the old name of data_on_device"):
        load_recipe(path, ["train.resident=on", "train.data_on_device=on"])


def test_the_key_of_a_checkpoint_is_the_one_of_earlier_versions(tmp_path) -> None:
    recipe = load_recipe(write(tmp_path, SCENES), ["prune.methods=[{keep_dense: [a], scope: global}]"])
    (method,) = recipe.prune.methods
    assert method.checkpoint_key(exclude_defaults=True) == '{"scope":"global","spared":["a"]}'
    assert '"resident":"auto"' in Pretrain.model_validate(PRETRAIN).checkpoint_key()


def test_a_run_folder_of_before_is_read_without_a_notice_and_its_cells_keep_their_folders(tmp_path, caplog) -> None:
    path = write(tmp_path, SCENES)
    recipe = load_recipe(path, [NEW])
    kept = tmp_path / "kept.yaml"
    kept.write_text(dump_recipe(recipe).replace("keep_dense", "spared"), encoding="utf-8")
    assert "spared" in kept.read_text(encoding="utf-8")
    assert load_run_recipe(kept) == recipe
    assert not caplog.messages
    assert "low-magnitude-2of4-spared-50-seed0" in {cell.id for cell in recipe.cells()}


def test_the_word_auto_lists_no_matrix_and_changes_no_id(tmp_path) -> None:
    path = write(tmp_path, SCENES)
    auto, plain = (
        load_recipe(path, [f"prune.methods=[{{granularity: block-1x4{more}}}]"]) for more in (", keep_dense: auto", "")
    )
    assert auto == plain
    assert auto.prune.methods[0].keep_dense == ()
