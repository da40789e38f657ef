"""Artifact: an exported file set, proven against its ticket, with artifact.json written last."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from lxcompress.data.split import Inputs, Split, Task
from lxcompress.data.tasks import load_task
from lxcompress.errors import ExportError
from lxcompress.export import onnx
from lxcompress.export.parity import check, compare
from lxcompress.machine import describe_machine
from lxcompress.models.checkpoints import Model, load_model, load_vocabulary
from lxcompress.pruning.surgery import Surgery
from lxcompress.recipe import AnyData, Recipe, load_recipe, validate_settings
from lxcompress.records import Artifact, Dense, Parity, Score, read_record
from lxcompress.rundir import RunDir, sha256, write_record, write_text
from lxcompress.runtimes import Session, open_session, runtime_of
from lxcompress.tickets import Ticket, is_ticket, load_ticket
from lxcompress.training.evaluate import batches_by_length, best_labels, score_answers

Item = TypeVar("Item")

ARTIFACT_FILE = "artifact.json"
PARITY_QUESTIONS, PARITY_BATCH = 512, 32
RANDOM_BATCHES, RANDOM_TOKENS, RANDOM_OBJECTS = 8, 20, 36
"""LXMERT's usual question and number of regions (Tan & Bansal 2019), where there is no data to take them from."""

WRITERS: Mapping[str, Callable[[Model, Inputs, Path], list[Path]]] = {"onnx": onnx.write_onnx}
"""Format -> its writer."""


@dataclass(frozen=True)
class Source:
    """What is exported: a ticket, or a transformers folder such as a dense run."""

    folder: Path
    model: Model
    ticket: Ticket | None
    data: AnyData | None
    accuracy: Score | None


def open_source(folder: Path, recipe: Recipe | None = None) -> Source:
    """The ticket or transformers folder at `folder`, and the data that it is scored on: that of `recipe` if given,
    else that of its study. Raises LxError."""
    ticket = load_ticket(folder) if is_ticket(folder) else None
    model = ticket.model if ticket else load_model(folder)
    run = find_run(folder)
    data, accuracy = None, None
    if ticket:
        tree = {"name": "ticket", "data": ticket.provenance.data}
        accuracy = ticket.provenance.accuracy
        data = validate_settings(tree, Recipe, f"{folder}/ticket.json").data if ticket.provenance.data else None
    elif run:
        dense = folder / "dense.json"
        accuracy = read_record(dense, Dense).trained if dense.is_file() else None
        data = load_recipe(run.recipe).data
    if recipe and recipe.data != data:
        return Source(folder, model, ticket, recipe.data, None)
    return Source(folder, model, ticket, data, accuracy)


def find_run(folder: Path) -> RunDir | None:
    """The run folder that `folder` lies in, if any."""
    return next((RunDir(each) for each in folder.absolute().parents if RunDir(each).recipe.is_file()), None)


def default_out(folder: Path, format: str) -> Path:
    """Where an artifact goes that is given no place: its run's artifacts/, else beside its source."""
    run = find_run(folder)
    is_dense_run = run is not None and folder.name == "dense"
    name = f"dense-seed{folder.absolute().parent.name}" if is_dense_run else folder.absolute().name
    return run.artifacts / f"{name}-{format}" if run else folder.absolute().with_name(f"{name}-{format}")


Tell = Callable[[str, int, int], None]
"""Hears what is done now, and how far it is: so many of so many, the latter 0 where it is not known."""


def _untold(what: str, done: int, total: int) -> None:
    """Hears, and shows nothing."""


def export(source: Source, out: Path, *, format: str, tell: Tell = _untold) -> Artifact:
    """Writes the artifact of `source` to the folder `out` and proves it: zeros counted in the file, its scores beside
    the ticket's, its accuracy through the runtime that will serve it. Raises ExportError."""
    if format not in WRITERS:
        raise ExportError(f"--format {format}: is unknown; this lxcompress writes {', '.join(WRITERS)}")
    if out.exists() and not out.is_dir():
        raise ExportError(f"{out}: is a file; give --out a folder")
    (out / ARTIFACT_FILE).unlink(missing_ok=True)
    task = _load_task(source) if source.data else None
    feeds = list(_real_feeds(task)) if task else list(_random_feeds(source.model))
    tell(f"writing {format}", 0, 0)
    example = Inputs(*(torch.cat([each, each]) for each in _as_tensors(feeds[0]).values()))
    files = WRITERS[format](source.model, example, out)
    zeros = _check_zeros(source, out)
    session = open_session(out, threads=torch.get_num_threads(), runtime=runtime_of(format))
    inputs = "validation questions" if task else "seeded random inputs (no data is known for this model: give --recipe)"
    told = _each_told(feeds, "comparing its answers with the ticket's", tell)
    parity = compare(_torch_answer(source.model), session.answer, told, inputs)
    check(parity, str(out))
    for name in ("vocab.txt", "config.json"):
        if (source.folder / name).is_file():
            write_text(out / name, (source.folder / name).read_text(encoding="utf-8"))
            files.append(out / name)
    accuracy = _score(session, task.valid, tell) if task else None
    artifact = _record(source, out, format, files, zeros, parity, task, accuracy)
    write_record(out / ARTIFACT_FILE, artifact)
    return artifact


def _record(
    source: Source,
    out: Path,
    format: str,
    files: list[Path],
    zeros: float,
    parity: Parity,
    task: Task | None,
    accuracy: Score | None,
) -> Artifact:
    tokens, objects = _usual_lengths(task.valid) if task else _random_lengths(source.model)
    provenance = source.ticket.provenance if source.ticket else None
    return Artifact(
        name=out.absolute().name,
        source=str(source.folder.absolute()),
        cell=provenance.cell if provenance else None,
        format=format,
        precision="fp32",
        files={path.name: sha256(path) for path in files},
        size_bytes=sum(path.stat().st_size for path in files),
        answers=source.model.family.count_answers(source.model.config),
        tokens=tokens,
        objects=objects,
        images=source.model.family.count_images(source.model.config),
        feature_size=source.model.family.feature_size(source.model.config),
        prunable_zeros=zeros,
        parity=parity,
        source_accuracy=source.accuracy,
        accuracy=accuracy,
        machine=describe_machine(),
    )


def _load_task(source: Source) -> Task:
    """The data that is to score the model. Raises ExportError if it is not what the model was made for."""
    assert source.data is not None
    config, family = source.model.config, source.model.family
    task = load_task(source.data, load_vocabulary(str(source.folder)), family.feature_size(config))
    _check_answers(source, task)
    images = family.count_images(config)
    if task.valid.images != images:
        raise ExportError(
            f"{source.folder}: reads {images} images a question, but this data has {task.valid.images}; give a model "
            "that was fine-tuned on it, or leave --recipe out"
        )
    return task


def _check_answers(source: Source, task: Task) -> None:
    """Raises ExportError if the model's answers are not those of the data that is to score it."""
    config, count = source.model.config, source.model.family.count_answers(source.model.config)
    known = tuple(config.id2label[number] for number in sorted(config.id2label))
    is_named = not known[0].startswith("LABEL_")  # transformers' stand-in where a checkpoint names none
    if count != len(task.labels) or (is_named and known != task.labels):
        raise ExportError(
            f"{source.folder}: its {count} answers are not the {len(task.labels)} of this data; "
            "give a model that was fine-tuned on it, or leave --recipe out"
        )


def _check_zeros(source: Source, out: Path) -> float:
    """The share of zeros among the file's matrices; raises ExportError if what the ticket removed is in the file."""
    zeros, elements = onnx.count_zeros(out)
    if source.ticket:
        counted, is_smaller = source.ticket.provenance.sparsity, isinstance(source.ticket.cut, Surgery)
        removed = counted.prunable - counted.kept
        if is_smaller and elements > counted.kept:
            raise ExportError(
                f"{out}: holds {elements} weights, but the ticket's smaller model has {counted.kept}; "
                "the export lost the surgery: report it"
            )
        if not is_smaller and zeros < removed:
            raise ExportError(
                f"{out}: holds {zeros} zeros, but the ticket's mask removes {removed}; "
                "the export lost the mask: report it"
            )
    return zeros / elements


def _score(session: Session, split: Split, tell: Tell) -> Score:
    """The accuracy of the exported file on `split`."""
    labels = torch.empty(len(split), dtype=torch.int64)
    batches = list(batches_by_length(split, PARITY_BATCH))
    for rows in _each_told(batches, "scoring it on the validation data", tell):
        scores = torch.from_numpy(session.answer(split.inputs(rows).numpy()))
        labels[rows] = best_labels(scores, None if split.choices is None else split.choices[rows])
    return score_answers(labels, split)


def _each_told(items: Sequence[Item], what: str, tell: Tell) -> Iterator[Item]:
    """The items, one told after another."""
    for place, item in enumerate(items):
        tell(what, place, len(items))
        yield item


def _torch_answer(model: Model) -> Callable[[Mapping[str, np.ndarray]], np.ndarray]:
    @torch.no_grad()
    def answer(feeds: Mapping[str, np.ndarray]) -> np.ndarray:
        return model.family.answer(model.module, Inputs(**_as_tensors(feeds))).numpy()

    return answer


def _as_tensors(feeds: Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array) for name, array in feeds.items()}


def _real_feeds(task: Task) -> Iterator[dict[str, np.ndarray]]:
    """The first validation questions: most in batches whose lengths differ, the first one alone."""
    rows = torch.arange(min(PARITY_QUESTIONS, len(task.valid)))
    for batch in rows[1:].split(PARITY_BATCH) if len(rows) > 1 else ():
        yield task.valid.inputs(batch).numpy()
    yield task.valid.inputs(rows[:1]).numpy()


def _random_feeds(model: Model) -> Iterator[dict[str, np.ndarray]]:
    """Seeded inputs of the model's shapes: words, features in 0..1, boxes in order."""
    rng, images = np.random.default_rng(0), model.family.count_images(model.config)
    features, (longest, most) = model.family.feature_size(model.config), _random_lengths(model)
    for number in range(RANDOM_BATCHES):
        questions, tokens, objects = (4 if number else 2), longest - number, max(1, most - number)
        rows = questions * images
        corners = np.sort(rng.random((rows, objects, 2, 2)), axis=2)
        words = rng.integers(1, model.config.vocab_size, (questions, tokens))
        yield {
            "input_ids": np.repeat(words, images, axis=0),
            "attention_mask": np.ones((rows, tokens), dtype=np.int64),
            "visual_feats": rng.random((rows, objects, features), dtype=np.float32),
            "visual_pos": corners.reshape(rows, objects, 4).astype(np.float32),
            "visual_attention_mask": np.ones((rows, objects), dtype=np.int64),
        }


def _random_lengths(model: Model) -> tuple[int, int]:
    """The tokens and regions of made-up questions: a picture that is read whole is one region."""
    return RANDOM_TOKENS, RANDOM_OBJECTS if model.family.picture_size(model.config) is None else 1


def _usual_lengths(split: Split) -> tuple[int, int]:
    """The median question's tokens and scene's objects."""
    tokens = (split.input_ids != 0).sum(1)
    return int(tokens.median()), int(split.regions.objects[split.scene].median())
