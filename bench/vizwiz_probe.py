"""Measure how well VizWiz is answered from the question alone, without the photograph, beside the most frequent answer.

    python bench/vizwiz_probe.py train.json --out RUNS

The questions are split into five parts. Each part is answered by a model that was trained on the other four, so every
question is answered once; the scores are those of all answers together. The vocabulary has the words of the training
questions. Nothing sees a photograph.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

import lxcompress as lx
from lxcompress.data.scoring import ScoreFiles, ScoreReport
from lxcompress.data.vizwiz_score import score_vizwiz_files
from lxcompress.training.predict import predict

FOLDS, EPOCHS, BATCH, SEED = 5, 12, 32, 0
STEPS, RATE, DECAY = 300, 0.5, 0.01
"""Steps, learning rate and weight decay of the linear model."""
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
Records = list[dict[str, Any]]


def main() -> None:
    """Print the scores of the model and of the majority for the official file that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("questions", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--linear", action="store_true", help="only the linear model, which takes a second")
    arguments = parser.parse_args()
    records: Records = json.loads(arguments.questions.read_text())
    random.Random(SEED).shuffle(records)
    said: Records = []
    for fold in range(FOLDS) if not arguments.linear else ():
        said += _answer_fold(records, fold, arguments.out / str(fold))
    most = Counter(answer["answer"] for record in records for answer in record["answers"]).most_common(1)[0][0]
    share = sum(record["answerable"] for record in records) / len(records)
    majority = [{"image": record["image"], "answer": most, "answerable": share} for record in records]
    always = [{**record, "answerable": 0} for record in majority]
    linear = [
        {"image": record["image"], "answer": most, "answerable": share}
        for record, share in zip(records, _linear_answerability(records), strict=True)
    ]
    print(f"{len(records)} questions, {1 - share:.1%} unanswerable; {FOLDS} folds, {EPOCHS} epochs")
    _show("linear model of the words", _score(linear, arguments))
    if said:
        _show("blind mini", _score(said, arguments))
    _show(f"always '{most}'", _score(always, arguments))


def _answer_fold(records: Records, fold: int, out: Path) -> Records:
    """Train on all parts but `fold`, in the folder `out`; return the predictions for that part."""
    out.mkdir(parents=True, exist_ok=True)
    valid = records[fold::FOLDS]
    train = [record for index, record in enumerate(records) if index % FOLDS != fold]
    (out / "train.json").write_text(json.dumps(train))
    (out / "valid.json").write_text(json.dumps(valid))
    (out / "vocab.txt").write_text("\n".join(_vocabulary(train)) + "\n")
    tree = {
        "name": "vizwiz-probe",
        "seeds": [0],
        "data": {"kind": "vizwiz", "train": str(out / "train.json"), "valid": str(out / "valid.json")},
        "model": {"start": "mini", "vocabulary": str(out / "vocab.txt")},
        "train": {"epochs": EPOCHS, "batch_size": BATCH, "learning_rate": 5e-4},
        "prune": {"criteria": ["low-magnitude"], "sparsities": [0.5]},
        "export": {"twins": False},
    }
    (out / "recipe.yaml").write_text(json.dumps(tree))
    recipe = lx.load_recipe(out / "recipe.yaml")
    lx.run_study(recipe, out / "run")
    predict(str(out / "run/seeds/0/dense"), recipe, out / "said.json")
    found: Records = json.loads((out / "said.json").read_text())
    return found


def _linear_answerability(records: Records) -> list[float]:
    """Return the probability that each question is answerable, by logistic regression of its words and word pairs.

    Each part is predicted by a model of the other four parts.
    """
    texts = [re.findall(r"\w+", record["question"].lower()) for record in records]
    grams = [set(words) | {" ".join(pair) for pair in itertools.pairwise(words)} for words in texts]
    counts = Counter(gram for found in grams for gram in found)
    columns = {gram: column for column, gram in enumerate(sorted(gram for gram in counts if counts[gram] > 1))}
    inputs = np.zeros((len(records), len(columns) + 1))
    inputs[:, -1] = 1
    for row, found in enumerate(grams):
        inputs[row, [columns[gram] for gram in found if gram in columns]] = 1
    is_answerable = np.array([record["answerable"] for record in records], dtype=float)
    shares = np.empty(len(records))
    for fold in range(FOLDS):
        tested = np.arange(len(records)) % FOLDS == fold
        weights = np.zeros(inputs.shape[1])
        for _ in range(STEPS):
            said = 1 / (1 + np.exp(-inputs[~tested] @ weights))
            slope = inputs[~tested].T @ (said - is_answerable[~tested]) / (~tested).sum()
            weights -= RATE * (slope + DECAY * weights)
        shares[tested] = 1 / (1 + np.exp(-inputs[tested] @ weights))
    return [float(share) for share in shares]


def _vocabulary(train: Records) -> list[str]:
    """Return the WordPiece vocabulary of the words and characters of the training questions."""
    texts = [record["question"].lower() for record in train]
    characters = sorted({character for text in texts for character in text if not character.isspace()})
    counts = Counter(word for text in texts for word in re.findall(r"\w+", text))
    words = [word for word, count in counts.most_common() if count > 1 and len(word) > 1]
    return [*SPECIAL, *characters, *(f"##{character}" for character in characters), *words]


def _score(said: Records, arguments: argparse.Namespace) -> ScoreReport:
    """Return the challenge's scores of predictions."""
    path = arguments.out / "said.json"
    path.write_text(json.dumps(said))
    return score_vizwiz_files(ScoreFiles(path, arguments.questions))


def _show(name: str, report: ScoreReport) -> None:
    """Print the scores of one model, in percent."""
    values = {"accuracy": report.overall, **report.measures, **report.groups["answer type"]}
    print(f"{name}: " + ", ".join(f"{label} {100 * score.accuracy:.1f}" for label, score in values.items()))


if __name__ == "__main__":
    main()
