"""Artifact: a folder of exported files whose answers were compared with those of the source (a ticket or a model).

The record artifact.json is written last, so a folder that has one is complete.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lxcompress.catalog.formats import find_format
from lxcompress.confidence.record import make_record
from lxcompress.data.split import AnswerTask, Inputs
from lxcompress.data.tasks import load_fitting_task
from lxcompress.data.tokens import WORD_FILES
from lxcompress.errors import ExportError, LxError
from lxcompress.exporters.feeds import (
    as_tensors,
    calibration_feeds,
    count_lengths,
    largest_shape,
    random_feeds,
    random_lengths,
    real_feeds,
    usual_lengths,
)
from lxcompress.exporters.formats import (
    ExportOptions,
    Feeds,
    Job,
    WrittenFiles,
    default_precision,
    load_writer,
    name_artifact,
)
from lxcompress.exporters.parity import check, compare, doubt
from lxcompress.exporters.score import score_session, score_with_confidence, with_progress
from lxcompress.filenames import (
    ARTIFACT_FILE,
    CONFIG_FILE,
    DENSE_FILE,
    RELIABILITY_FILE,
    SURGERY_FILE,
    TICKET_FILE,
    WEIGHTS_FILE,
)
from lxcompress.machine import describe_machine
from lxcompress.models.checkpoints import Model, load_model, read_stored_types, save_config
from lxcompress.models.flops import count_flops
from lxcompress.models.paths import without_paths
from lxcompress.models.shape import describe_model
from lxcompress.models.source import SUFFIXES, find_folder, is_hub_name, is_original
from lxcompress.models.vocabulary import load_vocabulary, read_word_files
from lxcompress.progress import Progress, no_progress
from lxcompress.pruning.compound import mask_in
from lxcompress.pruning.surgery import Surgery
from lxcompress.recipe import AnyData, Recipe, dense_id, load_run_recipe, validate_settings
from lxcompress.records import Artifact, Dense, Parity, Provenance, Role, Score, read_record, role_of_twin
from lxcompress.rundir import RunDir, find_run, sha256, write_record, write_text
from lxcompress.runtimes import open_session, runtime_of
from lxcompress.runtimes.fixed import FixedShapeSession
from lxcompress.shapes import FixedShape
from lxcompress.study.agreement import has_lost_paths, name_paths, resolve_recipe
from lxcompress.text import read_text
from lxcompress.tickets import Ticket, is_ticket, load_ticket, write_provenance
from lxcompress.writing import cannot_write, check_out, find_storage_problem, finished_folder


@dataclass(frozen=True)
class ExportSource:
    """A ticket or a model to export: a transformers folder such as a dense run, a .pth file, or a model of the hub.

    `ticket` is None for a model. `data` are the settings of the data that score the model, and `accuracy` is the score
    in the source's record. Each is None if it is not known.
    """

    folder: Path
    model: Model
    ticket: Ticket | None
    data: AnyData | None
    accuracy: Score | None

    @cached_property
    def task(self) -> AnswerTask | None:
        """The questions of `data`, read once for all exports of the source; None if the data are not known.

        Raises RecipeError if the model was made for other data.
        """
        if self.data is None:
            return None
        shape = describe_model(str(self.folder), self.model.config, self.model.family)
        return load_fitting_task(self.data, load_vocabulary(str(self.folder)), shape)


def open_source(folder: Path, recipe: Recipe | None = None) -> ExportSource:
    """Open the ticket, the transformers folder, the .pth file or the hub's model at `folder`. Raises LxError.

    The source is scored on the data of `recipe`, if given, else on the data of its study.
    """
    folder = folder if is_original(str(folder)) else find_folder(str(folder))
    ticket = load_ticket(folder) if is_ticket(folder) else None
    model = ticket.model if ticket else load_model(folder)
    run = find_run(folder)
    data, accuracy = None, None
    if ticket:
        accuracy = ticket.provenance.accuracy
        data = _find_data(ticket, run, recipe)
    elif run:
        dense = folder / DENSE_FILE
        accuracy = read_record(dense, Dense).trained if dense.is_file() else None
        data = load_run_recipe(run.recipe).data
    if recipe and (data is None or resolve_recipe(recipe).data != data):
        return ExportSource(folder, model, ticket, recipe.data, None)
    return ExportSource(folder, model, ticket, data, accuracy)


def _find_data(ticket: Ticket, run: RunDir | None, recipe: Recipe | None) -> AnyData | None:
    """Return the settings of the data that a ticket was scored on; None if the paths of the data are not known.

    The settings come from the ticket's record. If the record has no paths, the settings of the run folder or of
    `recipe` are returned, provided that they name the same files.
    """
    kept = ticket.provenance.data
    if not kept:
        return None
    tree = {"name": "ticket", "data": kept}
    data = validate_settings(tree, Recipe, f"{ticket.folder}/{TICKET_FILE}").data
    if not has_lost_paths(data):
        return data
    known = [load_run_recipe(run.recipe).data] if run else []
    known += [resolve_recipe(recipe).data] if recipe else []
    seen = {"regions": data.regions} if "regions" in type(data).model_fields else {}  # a ticket may see fewer
    candidates = (candidate.model_copy(update=seen) for candidate in known if type(candidate) is type(data))
    return next((candidate for candidate in candidates if name_paths(candidate) == name_paths(data)), None)


def describe_source(folder: Path) -> str:
    """Return the path of a source relative to its run folder, or only the source's name if it is in no run folder.

    An artifact is shipped, so its record names no path of the machine that made it.
    """
    run = find_run(folder)
    return folder.absolute().relative_to(run.root).as_posix() if run else folder.absolute().name


def default_out(folder: Path, format: str, precision: str | None = None, fixed: FixedShape | None = None) -> Path:
    """Return the default folder of an artifact of the source `folder`; `fixed` is the shape of a file of fixed shape.

    It is in artifacts/ of the source's run folder, or next to a source that is in no run folder. For a model of the hub
    it is in the current folder.
    """
    if is_hub_name(str(folder)):
        return Path(name_artifact(folder.name, format, precision, fixed))
    run = find_run(folder)
    seed = run.find_dense_seed(folder) if run else None
    name = folder.absolute().name if seed is None else dense_id(seed)
    for suffix in SUFFIXES:
        name = name.removesuffix(suffix)
    name = name_artifact(name, format, precision, fixed)
    return run.artifacts / name if run else folder.absolute().with_name(name)


def digest_source(folder: Path, *, with_words: bool = True) -> str:
    """Return the SHA-256 of all files of the model in `folder` that an export reads.

    An export reads the weights, the mask or the surgery, the configuration and the vocabulary. Of a .pth file it reads
    the file itself and the vocabulary in the same folder. `with_words=False` leaves out the vocabulary, as artifacts of
    earlier versions did.
    """
    words = WORD_FILES if with_words else ()
    if folder.is_file():
        read, base, names = [folder], folder.parent, words
    else:
        read = [path for path in sorted(folder.iterdir()) if path.name.endswith(_WEIGHTS)]
        base, names = folder, (CONFIG_FILE, SURGERY_FILE, *words)
    read += [base / name for name in names if (base / name).is_file()]
    lines = (f"{path.name} {sha256(path)}\n" for path in read if not path.name.startswith("checkpoint."))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


_WEIGHTS = (".safetensors", ".bin", ".index.json")
"""The endings of files that hold weights, or that say which file holds which weights."""


def export(source: ExportSource, out: Path, options: ExportOptions, *, progress: Progress = no_progress) -> Artifact:
    """Write the artifact of `source` to the folder `out`, check the artifact, and return its record.

    Three checks are made: the zeros are counted in the files, the scores are compared with those of the source, and the
    accuracy is measured in the format's default runtime. Raises ExportError.
    """
    options = options.check(source.model.family.name)
    if options.fixed:
        _check_fits_model(options.fixed, source.model)
    spec, writer = find_format(options.format), load_writer(options.format)
    _check_out(source, out, options.fp32)
    task = source.task
    if options.fixed and task:
        _check_holds_data(options.fixed, task)
    is_chosen = spec.is_one_shape and options.fixed is None
    if is_chosen:
        shape = largest_shape(task) if task else FixedShape(*random_lengths(source.model, None))
        options = replace(options, fixed=shape)
    feeds = list(real_feeds(task)) if task else list(random_feeds(source.model, options.fixed))
    progress(f"writing {options.format}")
    with finished_folder(out, ARTIFACT_FILE, before=lambda: clear(out)) as made, _naming_a_full_disk(out):
        written = writer.write(_make_job(source, made, options, task, feeds, progress))
        files = [*written.files, *_copy_words(source, made, written.files)]
        # The record of a ticket has a checksum of the vocabulary, which was copied after the record was written.
        if source.ticket and made / TICKET_FILE in files:
            write_provenance(made, read_record(made / TICKET_FILE, Provenance, ExportError))
        zeros = _check_zeros(source, made, writer.count_zeros(made))
        parity, accuracy, test = (
            (None, None, None) if spec.unserved else _prove(source, made, options, task, feeds, progress)
        )
        precision = options.precision or default_precision(options.format)
        artifact = Artifact(
            name=out.absolute().name,
            twin=options.twin,
            role=_find_role(source, options.twin),
            seed=_find_seed(source),
            format=options.format,
            precision=precision,
            files={path.relative_to(made).as_posix(): sha256(path) for path in files},
            size_bytes=sum(path.stat().st_size for path in files),
            prunable_zeros=zeros,
            parity=parity,
            unproven=spec.unserved,
            accuracy=accuracy,
            test=test,
            notes=[
                *(_without_paths(note, source.folder, made) for note in written.notes),
                *_note_shape(options.fixed, is_chosen=is_chosen),
                *_note_types(source.folder, precision),
            ],
            layouts=written.layouts,
            doubts=doubt(parity, accuracy, source.accuracy, precision) if parity else [],
            positions=_longest(source.model, written, options),
            fixed=options.fixed,
            machine=describe_machine(),
            **_origin(source),
            **_questions(source.model, task, options.fixed),
        )
        write_record(made / ARTIFACT_FILE, artifact)
    return artifact


def _make_job(
    source: ExportSource,
    out: Path,
    options: ExportOptions,
    task: AnswerTask | None,
    feeds: Sequence[Feeds],
    progress: Progress,
) -> Job:
    """Return the job of the format's writer; `options` must have every default filled in."""
    return Job(
        model=source.model,
        example=Inputs(*(torch.cat([tensor, tensor]) for tensor in as_tensors(feeds[0]).values())),
        precision=options.precision or default_precision(options.format),
        out=out,
        source=source.folder,
        ticket=source.ticket,
        calibration=lambda: calibration_feeds(task) if task else iter(feeds),
        fuse=options.fuse,
        opset=options.opset,
        fp32=options.fp32,
        layouts="table" if options.layouts == "table" else "measured",
        fixed=options.fixed,
        progress=progress,
    )


def _check_fits_model(fixed: FixedShape, model: Model) -> None:
    """Raise ExportError for a shape that the model cannot read: too many tokens, or several regions of a picture."""
    positions = model.family.count_positions(model.config)
    if fixed.tokens > positions:
        raise ExportError(
            f"--fixed {fixed}: asks for {fixed.tokens} tokens, but this model has {positions} positions; give at most "
            f"--fixed {FixedShape(positions, fixed.objects)}"
        )
    if model.family.picture_size(model.config) is not None and fixed.objects != 1:
        raise ExportError(
            f"--fixed {fixed}: asks for {fixed.objects} regions, but {model.family.title} reads a picture as one "
            f"region; give --fixed {FixedShape(fixed.tokens, 1)}"
        )


def _check_holds_data(fixed: FixedShape, task: AnswerTask) -> None:
    """Raise ExportError if a question that the export answers has more tokens or regions than the shape."""
    largest = largest_shape(task)
    if largest.tokens > fixed.tokens or largest.objects > fixed.objects:
        wanted = FixedShape(max(largest.tokens, fixed.tokens), max(largest.objects, fixed.objects))
        raise ExportError(
            f"--fixed {fixed}: the questions of this model's data have up to {largest.tokens} tokens and "
            f"{largest.objects} regions; give --fixed {wanted}"
        )


def _note_shape(fixed: FixedShape | None, *, is_chosen: bool) -> list[str]:
    """Return a list with one note if the file has a fixed shape; `is_chosen` if the export chose the shape."""
    if fixed is None:
        return []
    reason = ", which holds every question that checked it; give --fixed for another" if is_chosen else ""
    return [f"takes one question at a time, of {fixed} tokens x regions{reason}; smaller ones are padded"]


def _longest(model: Model, written: WrittenFiles, options: ExportOptions) -> int:
    """Return the number of tokens of the longest question that the file takes."""
    if options.fixed:
        return options.fixed.tokens
    positions: int = written.positions or model.family.count_positions(model.config)
    return positions


def _find_role(source: ExportSource, twin: str | None) -> Role:
    """Return the file's role in a comparison: the role of `twin` if given, else the kind of the source.

    The kinds are structured (a ticket that is a smaller model), ticket (masked weights), dense (a dense run) and model
    (any other).
    """
    if twin:
        return role_of_twin(twin)
    if source.ticket:
        return "structured" if isinstance(source.ticket.cut, Surgery) else "ticket"
    run = find_run(source.folder)
    return "model" if run is None or run.find_dense_seed(source.folder) is None else "dense"


def _find_seed(source: ExportSource) -> int | None:
    """Return the seed of the ticket or the dense run; None for a model that no study made."""
    if source.ticket:
        return source.ticket.provenance.seed if source.ticket.provenance.cell else None
    run = find_run(source.folder)
    return run.find_dense_seed(source.folder) if run else None


def _note_types(folder: Path, precision: str) -> list[str]:
    """Return a list with one note if the source stores weights in a type that is neither fp32 nor `precision`.

    The list is empty otherwise, and for int8 and int4.
    """
    found = sorted(read_stored_types(str(folder)) - {"fp32", precision})
    if not found or precision.startswith("int"):
        return []
    return [f"the source stores weights in {' and '.join(found)}; this file holds them in {precision}"]


def _check_out(source: ExportSource, out: Path, fp32: Path | None) -> None:
    """Raise LxError if the folder `out` cannot be written, is an input of the export, or holds another model."""
    check_out(out, [source.folder, fp32], kind="folder")
    if (out / WEIGHTS_FILE).exists() and not (out / ARTIFACT_FILE).exists():
        raise ExportError(f"{out}: holds the weights of another model; give --out another folder")


@contextmanager
def _naming_a_full_disk(out: Path) -> Iterator[None]:
    """Replace a library's error for a full disk by an error that says that `out` cannot be written."""
    try:
        yield
    except LxError as error:
        number = find_storage_problem(error)
        if number is not None:
            raise cannot_write(out, number) from error
        raise


def _prove(
    source: ExportSource,
    out: Path,
    options: ExportOptions,
    task: AnswerTask | None,
    feeds: Sequence[Feeds],
    progress: Progress,
) -> tuple[Parity, Score | None, Score | None]:
    """Return how the answers of the file in `out` differ from the model's, and the file's accuracy on both splits.

    The file is loaded in the format's default runtime, and the confidence of its answers is recorded in `out`. The
    accuracies are None if there is no `task`, and that of the
    test split if the data have none. Raises ExportError if the scores differ by more than the tolerance.
    """
    session = open_session(out, threads=torch.get_num_threads(), runtime=runtime_of(options.format))
    if options.fixed:  # the record, which says so later, is not written yet
        images = source.model.family.count_images(source.model.config)
        session = FixedShapeSession(out, session, options.fixed, images)
    reported = with_progress(feeds, "comparing its answers with the ticket's", progress)
    words, where = _input_words(task), str(out)
    answer = _torch_answer(source.model)
    parity = compare(answer, session.answer, reported, where=where, inputs=words, precision=options.precision or "")
    check(parity, where)
    if task is None:
        return parity, None, None
    accuracy, confidence = score_with_confidence(session, task, progress)
    if confidence:
        write_record(out / RELIABILITY_FILE, make_record(confidence))
    return parity, accuracy, score_session(session, task.test, progress, "test") if task.test else None


def _origin(source: ExportSource) -> dict[str, Any]:
    """Return the fields of an artifact that describe its source."""
    model = source.model
    return {
        "source": describe_source(source.folder),
        "source_sha256": digest_source(source.folder),
        "cell": source.ticket.provenance.cell if source.ticket else None,
        "source_accuracy": source.accuracy,
        "answers": model.family.count_answers(model.config),
        "images": model.family.count_images(model.config),
        "feature_size": model.family.feature_size(model.config),
        "picture_size": model.family.picture_size(model.config),
        "parameters": model.live,
    }


def _without_paths(note: str, *folders: Path) -> str:
    """Return a note with the names of `folders` in place of their paths: artifact.json is shipped."""
    for folder in folders:
        for path in (str(folder.resolve()), str(folder.absolute()), str(folder)):
            note = note.replace(path, folder.absolute().name)
    return note


def _questions(model: Model, task: AnswerTask | None, fixed: FixedShape | None) -> dict[str, Any]:
    """Return the fields of an artifact that describe a usual question, and the operations that one answer needs."""
    tokens, objects = usual_lengths(task.valid) if task else random_lengths(model, fixed)
    return {
        "tokens": tokens,
        "objects": objects,
        "lengths": count_lengths(task.valid) if task else {},
        "flops": count_flops(
            model, tokens=fixed.tokens if fixed else tokens, objects=fixed.objects if fixed else objects
        ),
    }


def clear(out: Path) -> None:
    """Remove the record of an earlier export in `out`, then the files that the record names; other files stay."""
    record = out / ARTIFACT_FILE
    if not record.is_file():
        return
    try:
        names = read_record(record, Artifact, ExportError).files
    except ExportError:  # damaged, or from a newer version: the files are not known, and the export overwrites them
        names = {}
    record.unlink()
    for name in (*names, RELIABILITY_FILE):
        path = out / name
        if path.resolve().is_relative_to(out.resolve()):  # a manipulated record must not delete files of another folder
            path.unlink(missing_ok=True)


def _copy_words(source: ExportSource, out: Path, written: Sequence[Path]) -> list[Path]:
    """Copy the vocabulary and the configuration to `out`, except for files that are in `written`; return the copies.

    They say which word a token id stands for, and which answer a score.
    """
    texts = dict(read_word_files(str(source.folder)))
    config = source.folder / CONFIG_FILE
    if config.is_file():
        texts[CONFIG_FILE] = read_text(config)
    copied = []
    for name in (name for name in texts if out / name not in written):
        write_text(out / name, without_paths(texts[name]))
        copied.append(out / name)
    if CONFIG_FILE not in texts and out / CONFIG_FILE not in written:
        copied.append(save_config(out, source.model))
    return copied


def _input_words(task: AnswerTask | None) -> str:
    """Return in words which inputs the parity check used."""
    if task:
        return "validation questions"
    return "seeded random inputs (no data is known for this model: give --recipe)"


def _check_zeros(source: ExportSource, out: Path, counted: tuple[int, int]) -> float:
    """Return the fraction of zeros (0-1) in the prunable matrices of the files in `out`.

    `counted` is the number of zeros, and of all elements, in these matrices. Raises ExportError if the files hold
    weights that the ticket removed.
    """
    zeros, elements = counted
    if source.ticket:
        sparsity, first = source.ticket.provenance.sparsity, source.ticket.provenance.first
        # A surgery leaves weights out, and a mask sets weights to zero; a compound does both.
        left = first.sparsity.kept if first else sparsity.kept if source.ticket.surgery else sparsity.prunable
        removed = left - sparsity.kept
        if source.ticket.surgery and elements > left:
            raise ExportError(
                f"{out}: holds {elements} weights, but the ticket's smaller model has {left}; "
                "some removed weights are back: report this message as a bug of lxcompress"
            )
        if zeros < removed - _count_uncertain(source):
            raise ExportError(
                f"{out}: holds {zeros} zeros, but the ticket's mask removes {removed}; "
                "some removed weights are back: report this message as a bug of lxcompress"
            )
    return zeros / elements


def _count_uncertain(source: ExportSource) -> int:
    """Return how many removed weights the count of a file may leave out.

    A file's last product is not counted, because it is the output layer. In an encoder without an answer head it may be
    any matrix, so it may have as many zeros as the matrix that lost most. The result is 0 for a model with a head.
    """
    mask = mask_in(source.ticket.cut) if source.ticket and not source.model.family.anatomy.head else None
    return max((kept.numel() - int(kept.sum()) for kept in mask.kept.values()), default=0) if mask else 0


def _torch_answer(model: Model) -> Callable[[Mapping[str, np.ndarray]], np.ndarray]:
    """Return a function that answers feeds in torch, as the session of an artifact does."""

    @torch.no_grad()
    def answer(feeds: Mapping[str, np.ndarray]) -> np.ndarray:
        return model.family.answer(model.module, Inputs(**as_tensors(feeds))).numpy()

    return answer
