"""One door: what a model cannot read is the same sentence from every command that brings a model and data together."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import LxmertConfig, LxmertForQuestionAnswering
from typer.testing import CliRunner

from lxcompress.cli.main import app
from lxcompress.data.objects import ANSWERS, FEATURES
from lxcompress.data.tokens import shipped_vocabulary
from lxcompress.errors import RecipeError

WORDS = shipped_vocabulary()
LABELS = ("yes", "no", "red", "2", "metal", "blue")
MODEL = {
    "hidden_size": 16,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "l_layers": 1,
    "r_layers": 1,
    "x_layers": 1,
    "visual_feat_dim": FEATURES,
    "vocab_size": len(WORDS),
    "max_position_embeddings": 64,
    "num_qa_labels": len(LABELS),
}
LONG = "is there a red cube " * 9
COMMANDS: dict[str, Callable[[Path], list[object]]] = {
    "study": lambda folder: ["study", folder / "recipe.yaml", "--dry-run", "--out", folder / "out"],
    "data check": lambda folder: ["data", "check", folder / "recipe.yaml", "--json"],
    "predict": lambda folder: ["predict", folder / "model", folder / "recipe.yaml", "--out", folder / "out"],
    "export": lambda folder: [
        *("export", folder / "model", "--format", "bitmask", "--recipe", folder / "recipe.yaml"),
        *("--out", folder / "out"),
    ],
    "prune --calibrate": lambda folder: [
        *("prune", folder / "model", "--criterion", "wanda", "--sparsity", 0.5, "--out", folder / "out"),
        *("--calibrate", folder / "recipe.yaml"),
    ],
    "prune --retrain": lambda folder: [
        *("prune", folder / "model", "--sparsity", 0.5, "--out", folder / "out", "--retrain", folder / "recipe.yaml")
    ],
    "eval": lambda folder: ["eval", folder / "model", folder / "recipe.yaml"],
}
OF_A_FRESH_HEAD = ("study", "data check")
"""Commands whose model gets an answer head for the data."""


@dataclass(frozen=True)
class Misfit:
    """A model and data that do not go together, and what is said of it."""

    said: str
    model: dict[str, Any]
    words: tuple[str, ...] = WORDS
    question: str = "is there a red cube?"
    data: dict[str, Any] | None = None
    is_of_the_head: bool = False
    """whether a fresh answer head would mend it"""


SCENES = {"kind": "scenes", "train": 8, "valid": 8}
MISFITS = {
    "more words than embeddings": Misfit(
        f"its vocabulary has {len(WORDS) + 2} tokens, but its word embedding has {len(WORDS)} rows",
        {},
        (*WORDS, "zyx", "zyxw"),
    ),
    "questions beyond the positions": Misfit(
        "reads at most 24 tokens per question, but data.kind=vqa has a question of 40",
        {"max_position_embeddings": 24},
        question=LONG,
    ),
    "features of another width": Misfit(
        f"reads regions of 20 features, but data.kind=scenes gives {FEATURES}",
        {"visual_feat_dim": 20, "num_qa_labels": len(ANSWERS)},
        data=SCENES,
    ),
    "pictures for a model of regions": Misfit(
        f"reads regions of {FEATURES} features, but data.pixels=16 gives pictures",
        {"num_qa_labels": len(ANSWERS)},
        data=SCENES | {"pixels": 16},
    ),
    "two images a question": Misfit(
        "reads 2 images per question, but data.kind=vqa has 1", {"images_per_question": 2}, is_of_the_head=True
    ),
    "fewer answers": Misfit("gives 5 answers, but data.kind=vqa has 6", {"num_qa_labels": 5}, is_of_the_head=True),
    "other answers": Misfit(
        'its 6 answers are not those of data.kind=vqa (answer 5 is "green", not "blue")',
        {"id2label": dict(enumerate([*LABELS[:-1], "green"]))},
        is_of_the_head=True,
    ),
}


def write_model(folder: Path, words: tuple[str, ...] = WORDS, **fields: Any) -> None:
    """A fine-tuned toy as transformers saves it."""
    from lxcompress.models import lxmert

    config = LxmertConfig(**MODEL | {name: value for name, value in fields.items() if name != "images_per_question"})
    lxmert.FAMILY.set_images(config, fields.get("images_per_question", 1))
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(5)
        model = lxmert.make(config)
    model.save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")


def write_recipe(folder: Path, question: str = "is there a red cube?", data: dict[str, Any] | None = None) -> None:
    """A recipe of blind questions, or of `data`, that starts from the folder's model."""
    for split, first in (("train", 1000), ("valid", 5000)):
        asked = [
            {"question_id": first + row, "image_id": first, "question": question if row else "is there a cube?"}
            for row in range(12)
        ]
        given = [
            {
                "question_id": first + row,
                "image_id": first,
                "answer_type": "other",
                "question_type": "is there",
                "multiple_choice_answer": LABELS[row % 6],
                "answers": [
                    {"answer": LABELS[row % 6], "answer_confidence": "yes", "answer_id": at} for at in range(10)
                ],
            }
            for row in range(12)
        ]
        (folder / f"{split}_q.json").write_text(json.dumps({"questions": asked}), encoding="utf-8")
        (folder / f"{split}_a.json").write_text(json.dumps({"annotations": given}), encoding="utf-8")
    (folder / "labels.json").write_text(json.dumps({label: row for row, label in enumerate(LABELS)}), encoding="utf-8")
    blind = {"kind": "vqa", "answers": str(folder / "labels.json"), "tokens": 40}
    blind |= {split: str(folder / f"{split}_q.json") for split in ("train", "valid")}
    blind |= {f"{split}_annotations": str(folder / f"{split}_a.json") for split in ("train", "valid")}
    recipe = {
        "name": "fit",
        "seeds": [0],
        "device": "cpu",
        "data": data or blind,
        "model": {"start": str(folder / "model")},
        "train": {"epochs": 1, "batch_size": 4, "learning_rate": 1e-3},
        "prune": {"criteria": ["low-magnitude"], "sparsities": [0.5]},
        "export": {"twins": False},
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")


@pytest.mark.parametrize("name", list(MISFITS))
def test_a_misfit_is_the_same_sentence_from_every_command(name, tmp_path) -> None:
    misfit = MISFITS[name]
    write_model(tmp_path / "model", misfit.words, **misfit.model)
    write_recipe(tmp_path, misfit.question, misfit.data)
    before = sorted(tmp_path.rglob("*"))
    told = {}
    for command, arguments in COMMANDS.items():
        if misfit.is_of_the_head and command in OF_A_FRESH_HEAD:
            continue
        result = CliRunner().invoke(app, [str(argument) for argument in arguments(tmp_path)])
        if command == "data check":
            found = [
                finding["sentence"]
                for finding in json.loads(result.stdout)["findings"]
                if finding["severity"] == "error"
            ]
            told[command] = " | ".join(found)
        else:
            assert isinstance(result.exception, RecipeError), f"{command}: {result.output} {result.exception!r}"
            told[command] = str(result.exception).partition(": ")[2]
        assert sorted(tmp_path.rglob("*")) == before, f"{command} left something behind"
    assert len(set(told.values())) == 1, told
    assert misfit.said in next(iter(told.values()))


@pytest.mark.parametrize(
    "fields",
    [{"vocab_size": 192}, {"id2label": {0: "LABEL_0", 1: "LABEL_1"}}, {"id2label": {0: "yes", 1: "no"}}],
    ids=["a padded embedding", "no words of answers", "words of some answers"],
)
def test_what_only_looks_like_a_misfit_is_accepted_by_every_command(fields, tmp_path) -> None:
    write_model(tmp_path / "model", **fields)
    write_recipe(tmp_path)
    for name, arguments in COMMANDS.items():
        folder = tmp_path / "made" / name.replace(" ", "")
        given = [str(argument).replace(str(tmp_path / "out"), str(folder)) for argument in arguments(tmp_path)]
        folder.parent.mkdir(exist_ok=True)
        result = CliRunner().invoke(app, given)
        assert result.exit_code == 0, f"{name}: {result.output} {result.exception!r}"


def test_a_saved_model_without_words_of_answers_counts_the_rows_of_its_head(tmp_path) -> None:
    write_model(tmp_path / "model")
    config = json.loads((tmp_path / "model/config.json").read_text())
    assert "id2label" not in config  # transformers then says 2
    assert LxmertForQuestionAnswering.from_pretrained(tmp_path / "model").config.num_labels == 2
    write_recipe(tmp_path)
    ticket = tmp_path / "ticket"
    for arguments in (
        ["prune", tmp_path / "model", "--sparsity", "0.5", "--out", ticket],
        ["predict", ticket, tmp_path / "recipe.yaml", "--out", tmp_path / "answers.json"],
    ):
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert result.exit_code == 0, f"{arguments}: {result.output} {result.exception!r}"
    assert len(json.loads((tmp_path / "answers.json").read_text())) == 12
