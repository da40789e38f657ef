"""Laws of `lxcompress init`: every answer gives a recipe that loads, and the schema accepts the recipes that ship."""

from __future__ import annotations

import itertools
import json

import pytest
import typer
from typer.testing import CliRunner

from lxcompress.cli.main import app
from lxcompress.errors import RecipeError
from lxcompress.recipe import Recipe, load_recipe, shipped_recipes
from lxcompress.recipe.schema import describe_key, list_sections, recipe_schema
from lxcompress.settings import read_yaml_file
from lxcompress.workflow.init import DEVICES, RECIPE_OF_KIND, StudyWishes, compose_recipe, guess_columns


def run_init(*words: str, answers: str | None = None) -> str:
    result = CliRunner().invoke(app, ["init", *words], input=answers)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.output


def test_every_answer_gives_a_recipe_that_loads(tmp_path) -> None:
    kinds = ("scenes", *RECIPE_OF_KIND)
    for data, device, hours in itertools.product(kinds, DEVICES, (0.5, 3, 40)):
        path = tmp_path / "my study.yaml"
        path.write_text(compose_recipe(StudyWishes("a 'b': \"c\"", data, device, 60, hours), "mine"))
        recipe = load_recipe(path)
        assert (recipe.data.kind, recipe.model.start, recipe.name) == (data, "a 'b': \"c\"", "mine")
        assert f"{recipe.export.format}" in DEVICES[device][0]
        assert len(recipe.seeds) == (1 if hours < 1 else 3)
        assert "pick runs/mine --max-size-mb 60" in path.read_text()


def test_five_questions_and_five_options_write_the_same_recipe(tmp_path) -> None:
    asked, given = tmp_path / "one" / "r.yaml", tmp_path / "two" / "r.yaml"
    said = run_init(str(asked), answers="mini\nscenes\nbrowser\n30\n2\n")
    assert [said.count(word) for word in ("Model", "Data", "Target device", "Largest file", "Hours")] == [1] * 5
    words = ["--model", "mini", "--data", "scenes", "--device", "browser", "--budget", "30", "--hours", "2"]
    assert "Model" not in run_init(str(given), *words)
    assert asked.read_text() == given.read_text()
    with pytest.raises(RecipeError, match="exists; give another"):
        run_init(str(given), *words)


def test_without_a_terminal_an_answer_is_needed(tmp_path) -> None:
    result = CliRunner().invoke(app, ["init", str(tmp_path / "r.yaml")], input="", standalone_mode=False)
    assert isinstance(result.exception, typer.Abort)
    assert not (tmp_path / "r.yaml").exists()


def test_a_table_gives_its_columns(tmp_path) -> None:
    table = tmp_path / "all: of it.csv"
    table.write_text("file,Question,answer,split\n1.png,is it red?,yes,train\n")
    path = tmp_path / "r.yaml"
    path.write_text(compose_recipe(StudyWishes("mini", str(table), "cpu", 0, 1), "mine"))
    data = load_recipe(path).data
    assert data.train == (table,)
    assert data.images == tmp_path
    assert dict(data.columns) == {
        "label": "answer", "text": "Question", "second_text": None, "image": "file", "id": None, "split": "split",
    }  # fmt: skip
    assert guess_columns({"note": "", "label": ""}, "t.csv") == {"label": "label", "text": "note"}
    with pytest.raises(RecipeError, match=r"t.csv: has the columns a, b, expected a label and a text or an image"):
        guess_columns({"a": "", "b": ""}, "t.csv")


@pytest.mark.parametrize(
    ("data", "device", "message"),
    [("scenes", "fridge", "--device fridge: is unknown"), ("vqaa", "cpu", "--data vqaa: is neither a known data set")],
)
def test_an_unknown_answer_is_one_sentence(data, device, message) -> None:
    with pytest.raises(RecipeError, match=message):
        compose_recipe(StudyWishes("mini", data, device, 0, 1), "mine")


def test_the_schema_describes_every_key() -> None:
    schema = json.loads(run_init("--json-schema"))
    assert schema == json.loads(json.dumps(recipe_schema()))
    without = [
        f"{section.__name__}.{key}"
        for section in list_sections(Recipe)
        for key in section.model_fields
        if not describe_key(section, key)
    ]
    assert not without


def test_the_schema_accepts_the_recipes_that_ship_and_no_unknown_key() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    check = jsonschema.Draft202012Validator(recipe_schema())
    studies = [path for path in shipped_recipes() if not path.stem.startswith("pretrain")]
    for path in studies:
        assert not [problem.message for problem in check.iter_errors(read_yaml_file(path))], path
    assert list(check.iter_errors({**read_yaml_file(studies[0]), "sedes": [1]}))
