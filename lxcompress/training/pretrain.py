"""LXMERT's pre-training (Tan & Bansal 2019, section 3) on scenes, by transformers' LxmertForPreTraining.

Shapes: B batch, L tokens, O objects, F features.

The model learns four of the tasks of the paper: masked words, masked objects (their kind, colour and features),
matching of sentence and scene, and question answering. Most rows of a batch are questions to answer. The other rows
are statements: a question followed by its answer. A statement may be shown with the objects of another scene, and the
model says whether the two match. A question is never shown with another scene, because it is neither true nor false.
Words and objects are masked in statements only, so that no question lacks a word (docs/decisions/0004 says what was
tried).
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import LxmertConfig, LxmertForPreTraining

from lxcompress.data.bert_rules import MASK, SEPARATE
from lxcompress.data.objects import ATTRIBUTES, COLORS
from lxcompress.data.split import AnswerTask, Split
from lxcompress.data.tokens import Vocabulary, tokenize
from lxcompress.errors import RunError
from lxcompress.filenames import CHECKPOINT_FILE, CONFIG_FILE, WEIGHTS_FILE
from lxcompress.models.vocabulary import save_vocabulary
from lxcompress.progress import Progress
from lxcompress.recipe import Pretrain
from lxcompress.records import Epoch, Score
from lxcompress.rundir import write_text, write_whole
from lxcompress.training.device import DeviceSpec, choose_device
from lxcompress.training.evaluate import score_split
from lxcompress.training.optimise import BatchSource, Objective, optimise
from lxcompress.training.spec import FitSpec
from lxcompress.writing import LOCK, PREFIX, BusyError, exclusive

IGNORE = -100
"""The label of a position that a loss ignores."""
KINDS = 12
"""The number of kinds of objects: shape x size x material."""
ANSWER_TOKENS = 3
"""An answer about a scene is one word between [CLS] and [SEP]."""


DrawnRows = tuple[Tensor, torch.Generator]
"""rows of a split (int64 [B], on the CPU), and the generator of the epoch"""


def pretrain(settings: Pretrain, task: AnswerTask, out: Path, progress: Progress | None = None) -> list[Epoch]:
    """Pre-train an LXMERT on `task`, and write its encoder to the folder `out` in fp16; return a record of each epoch.

    The score of an epoch is the accuracy of the question-answering head. Raises RunError.
    """
    check_out(out)
    out.mkdir(parents=True, exist_ok=True)
    try:
        with exclusive(out / f"{PREFIX}{LOCK}"):
            check_out(out)
            return _pretrain(settings, task, out, progress)
    except BusyError:
        raise RunError(
            f"{out}: another pretrain is running in this folder; wait for it, or give another --out"
        ) from None


def _pretrain(settings: Pretrain, task: AnswerTask, out: Path, progress: Progress | None) -> list[Epoch]:
    """Do the work of `pretrain` in a folder that no other process uses."""
    device = choose_device(settings.device, settings.train.precision)
    config = LxmertConfig(
        vocab_size=len(task.vocabulary),
        num_qa_labels=len(task.labels),
        num_object_labels=KINDS,
        num_attr_labels=len(COLORS),
        visual_feat_dim=task.feature_size,
        max_position_embeddings=64,
        **settings.architecture.model_dump(),
    )
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(settings.seed)
        model = LxmertForPreTraining(config)
    model.to(device.torch_device)  # type: ignore[arg-type]  # transformers wraps `to` in a decorator without types

    def feed(rows: Iterable[Tensor], generator: torch.Generator) -> Iterator[DrawnRows]:
        return ((batch, generator) for batch in rows)

    def evaluate(epoch: int, train_loss: float, duration_s: float) -> Epoch:
        started = time.perf_counter()
        score = score_pretrained(model, task.valid, settings.train.eval_batch_size, device)
        scoring_s = time.perf_counter() - started
        return Epoch(epoch=epoch, train_loss=train_loss, valid=score, duration_s=duration_s + scoring_s)

    epochs = optimise(
        model,
        Objective(PretrainingLoss(model, task, _answer_words(task), settings, device), evaluate),
        BatchSource(feed, len(task.train)),
        FitSpec(
            settings.train,
            settings.seed,
            checkpoint=out / CHECKPOINT_FILE,
            key=settings.checkpoint_key(),
        ),
        device=device,
        progress=progress,
    )
    save_encoder(model, out, task.vocabulary)
    (out / CHECKPOINT_FILE).unlink(missing_ok=True)
    return epochs


def check_out(out: Path) -> None:
    """Raise RunError if the folder `out` has a model already; this is fast, so call it before the scenes are made."""
    if (out / WEIGHTS_FILE).exists():
        raise RunError(f"{out}: holds a model already; give another --out, or remove it")


def score_pretrained(model: LxmertForPreTraining, split: Split, batch_size: int, device: DeviceSpec) -> Score:
    """Return the Score of the question-answering head on `split`."""
    return score_split(lambda inputs: model(**inputs._asdict()).question_answering_score, split, batch_size, device)


def save_encoder(model: LxmertForPreTraining, out: Path, vocabulary: Vocabulary) -> None:
    """Write the encoder to `out` as a transformers folder, in fp16, without the heads of the pre-training tasks."""
    config = json.loads(model.config.to_json_string(use_diff=True))
    config["architectures"] = ["LxmertModel"]
    tensors = {name: tensor.detach().cpu().half().contiguous() for name, tensor in model.lxmert.state_dict().items()}
    write_text(out / CONFIG_FILE, json.dumps(config, indent=1) + "\n")
    save_vocabulary(out, vocabulary)
    write_whole(out / WEIGHTS_FILE, lambda part: save_file(tensors, part, metadata={"format": "pt"}))


def _answer_words(task: AnswerTask) -> Tensor:
    """Return the token of each answer, int64 [A]; every answer about a scene is one word."""
    return torch.from_numpy(tokenize(task.labels, task.vocabulary, ANSWER_TOKENS)[:, 1]).long()


@dataclass(frozen=True)
class PretrainingLoss:
    """The summed loss of the four pre-training tasks."""

    model: LxmertForPreTraining
    task: AnswerTask
    words: Tensor
    """int64 [A]: the token of each answer"""
    settings: Pretrain
    device: DeviceSpec

    def __call__(self, drawn: DrawnRows) -> Tensor:
        """Return the loss of the drawn rows of the training split, after masking and swapping: a scalar."""
        rows, generator = drawn
        vocabulary, device = self.task.vocabulary, self.device.torch_device
        inputs = self.task.train.inputs(rows)
        answers = self.task.train.answers[rows, 0]
        stated = torch.rand(len(rows), generator=generator) < self.settings.statement_probability
        swapped = stated & (torch.rand(len(rows), generator=generator) < self.settings.mismatch_probability)
        other = torch.randperm(len(rows), generator=generator)
        source = torch.where(swapped, other, torch.arange(len(rows)))

        ids, attention = _append_answers(
            inputs.input_ids, inputs.attention_mask, stated, self.words[answers], vocabulary.index(SEPARATE)
        )
        seen = inputs.visual_attention_mask[source]
        features, boxes = inputs.visual_feats[source], inputs.visual_pos[source]

        word_mask = (torch.rand(ids.shape, generator=generator) < self.settings.mask_probability) & (attention == 1)
        word_mask &= stated[:, None]
        word_mask[:, 0] = False
        word_labels = ids.masked_fill(~word_mask | swapped[:, None], IGNORE)
        ids = ids.masked_fill(word_mask, vocabulary.index(MASK))

        object_mask = (torch.rand(seen.shape, generator=generator) < self.settings.mask_probability) & (seen == 1)
        object_mask &= stated[:, None]
        kinds, colors = _object_labels(features)
        counted = object_mask.float() * seen.numel() / object_mask.sum().clamp(min=1)
        masked_features = features.masked_fill(object_mask[..., None], 0.0)

        output = self.model(
            input_ids=ids.to(device),
            attention_mask=attention.to(device),
            visual_feats=masked_features.to(device),
            visual_pos=boxes.to(device),
            visual_attention_mask=seen.to(device),
            labels=_labels_or_none(word_labels, device),
            matched_label=_labels_or_none(torch.where(stated, (~swapped).long(), IGNORE), device),
            ans=_labels_or_none(answers.masked_fill(stated, IGNORE), device),
            obj_labels={
                "obj": (kinds.to(device), counted.to(device)),
                "attr": (colors.to(device), counted.to(device)),
                "feat": (features.reshape(-1, features.shape[-1]).to(device), counted.to(device)),
            },
        )
        return output.loss


def _labels_or_none(labels: Tensor, device: torch.device) -> Tensor | None:
    """Return `labels` on `device`. Return None if all are IGNORE: the loss would be NaN, and None leaves it out."""
    return labels.to(device) if bool((labels != IGNORE).any()) else None


def _append_answers(
    ids: Tensor, attention: Tensor, stated: Tensor, words: Tensor, separate: int
) -> tuple[Tensor, Tensor]:
    """Return `ids` and `attention` [B, L] with answers: the rows that are `stated` get the answer's word and a [SEP].

    Both follow the [SEP] of the question. `words` is the token of each row's answer, `separate` the token [SEP].
    """
    ids = torch.cat([ids, torch.zeros(len(ids), 2, dtype=ids.dtype)], dim=1)
    attention = torch.cat([attention, torch.zeros(len(ids), 2, dtype=attention.dtype)], dim=1)
    rows, end = stated.nonzero()[:, 0], attention.sum(1)[stated]
    ids[rows, end], ids[rows, end + 1] = words[stated], separate
    attention[rows, end] = attention[rows, end + 1] = 1
    most = int(attention.sum(1).max())
    return ids[:, :most], attention[:, :most]


def _object_labels(features: Tensor) -> tuple[Tensor, Tensor]:
    """Return the kind and the colour [B, O] of each object, from its one-hot features."""
    values, start = {}, 0
    for name, names in ATTRIBUTES.items():
        values[name] = features[..., start : start + len(names)].argmax(-1)
        start += len(names)
    return (values["shape"] * 2 + values["size"]) * 2 + values["material"], values["color"]
