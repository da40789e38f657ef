"""What the question alone tells about VizWiz: accuracy and answerability of the blind mini, beside the majority.

    python bench/vizwiz_probe.py train.json --out RUNS

The questions are split into five parts. Each part is answered by a model that was trained on the other four, so every
question is answered once; the scores are those of all answers together. The vocabulary has the words of the training
questions. Nothing sees a photograph.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from collections import Counter
from pathlib import Path
from typing import Any

import lxcompress as lx
from lxcompress.data.scoring import ScoreFiles, ScoreReport
from lxcompress.data.vizwiz_score import score_vizwiz_files
from lxcompress.training.predict import predict

FOLDS, EPOCHS, BATCH, SEED = 5, 12, 32, 0
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
Records = list[dict[str, Any]]


def main() -> None:
    """Print the scores of the model and of the majority for the official file that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("questions", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    records: Records = json.loads(arguments.questions.read_text())
    random.Random(SEED).shuffle(records)
    said: Records = []
    for fold in range(FOLDS):
        said += _answer_fold(records, fold, arguments.out / str(fold))
    most = Counter(answer["answer"] for record in records for answer in record["answers"]).most_common(1)[0][0]
    share = sum(record["answerable"] for record in records) / len(records)
    majority = [{"image": record["image"], "answer": most, "answerable": share} for record in records]
    always = [{**record, "answerable": 0} for record in majority]
    print(f"{len(records)} questions, {1 - share:.1%} unanswerable; {FOLDS} folds, {EPOCHS} epochs")
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
