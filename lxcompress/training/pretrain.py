"""LXMERT's pre-training (Tan & Bansal 2019, section 3) on scenes, by transformers' LxmertForPreTraining.

Shapes: B batch, L tokens, O objects, F features.

Four of its tasks: masked words, masked objects (their kind, colour and features), matching of sentence and scene, and
question answering. Most samples are questions, to be answered; the others are statements, a question followed by its
answer, which may come from another scene (mismatch): a bare question cannot be false. Words and objects are masked in
statements alone, so that no question lacks the words it asks with (docs/decisions/0004 says what was tried).
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import LxmertConfig, LxmertForPreTraining

from lxcompress.data.objects import ATTRIBUTES, COLORS
from lxcompress.data.split import AnswerTask, Split
from lxcompress.data.tokens import MASK, SEPARATE, Vocabulary
from lxcompress.errors import RunError
from lxcompress.filenames import CHECKPOINT_FILE, CONFIG_FILE, WEIGHTS_FILE
from lxcompress.models.checkpoints import save_vocabulary
from lxcompress.progress import Progress
from lxcompress.recipe import Pretrain
from lxcompress.records import Epoch, Score
from lxcompress.rundir import write_text, write_whole
from lxcompress.training.device import DeviceSpec, choose_device
from lxcompress.training.evaluate import score_split
from lxcompress.training.optimise import optimise
from lxcompress.writing import LOCK, PREFIX, BusyError, exclusive

IGNORE = -100
"""The label that a loss leaves out."""
KINDS = 12
"""Shape x size x material: what a masked object is, beside its colour."""


def pretrain(settings: Pretrain, task: AnswerTask, out: Path, progress: Progress | None = None) -> list[Epoch]:
    """Pre-trains an LXMERT on `task` and writes its encoder to the folder `out`, as fp16; returns its epochs.

    The epochs' scores are the accuracy of the question-answering head.
    """
    check_out(out)
    out.mkdir(parents=True, exist_ok=True)
    try:
        with exclusive(out / f"{PREFIX}{LOCK}"):
            check_out(out)
            return _pretrain(settings, task, out, progress)
    except BusyError:
        raise RunError(
            f"{out}: another pretrain is at work in this folder; wait for it, or give another --out"
        ) from None


def _pretrain(settings: Pretrain, task: AnswerTask, out: Path, progress: Progress | None) -> list[Epoch]:
    """The same, in a folder that this process has to itself."""
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
        model = LxmertForPreTraining(config).to(device.torch_device)
    words = _answer_words(task)

    def loss(drawn: tuple[Tensor, torch.Generator]) -> Tensor:
        rows, generator = drawn
        return _loss(model, task.train, rows, words, settings, device, task.vocabulary, generator)

    def feed(rows: Iterable[Tensor], generator: torch.Generator) -> Iterator[tuple[Tensor, torch.Generator]]:
        return ((each, generator) for each in rows)

    def evaluate(epoch: int, train_loss: float, duration_s: float) -> Epoch:
        started = time.perf_counter()
        score = score_pretrained(model, task.valid, settings.train.eval_batch_size, device)
        scoring_s = time.perf_counter() - started
        return Epoch(epoch=epoch, train_loss=train_loss, valid=score, duration_s=duration_s + scoring_s)

    epochs = optimise(
        model,
        loss,
        feed=feed,
        rows=len(task.train),
        settings=settings.train,
        device=device,
        seed=settings.seed,
        evaluate=evaluate,
        checkpoint=out / CHECKPOINT_FILE,
        key=settings.checkpoint_key(),
        progress=progress,
    )
    save_encoder(model, out, task.vocabulary)
    (out / CHECKPOINT_FILE).unlink(missing_ok=True)
    return epochs


def check_out(out: Path) -> None:
    """Raises RunError if a model is there already: cheap, so ask before the scenes are made."""
    if (out / WEIGHTS_FILE).exists():
        raise RunError(f"{out}: holds a model already; give another --out, or remove it")


def score_pretrained(model: LxmertForPreTraining, split: Split, batch_size: int, device: DeviceSpec) -> Score:
    """The accuracy of the question-answering head on `split`."""
    return score_split(lambda inputs: model(**inputs._asdict()).question_answering_score, split, batch_size, device)


def save_encoder(model: LxmertForPreTraining, out: Path, vocabulary: Vocabulary) -> None:
    """Writes the encoder as a transformers folder, fp16, without the heads of the pre-training tasks."""
    config = json.loads(model.config.to_json_string(use_diff=True))
    config["architectures"] = ["LxmertModel"]
    tensors = {name: tensor.detach().cpu().half().contiguous() for name, tensor in model.lxmert.state_dict().items()}
    write_text(out / CONFIG_FILE, json.dumps(config, indent=1) + "\n")
    save_vocabulary(out, vocabulary)
    write_whole(out / WEIGHTS_FILE, lambda part: save_file(tensors, part, metadata={"format": "pt"}))


def _answer_words(task: AnswerTask) -> Tensor:
    """int64 [A]: the token of each answer; every answer of a scene is one word."""
    return torch.tensor([task.vocabulary.index(label) for label in task.labels])


def _loss(
    model: LxmertForPreTraining,
    split: Split,
    rows: Tensor,
    words: Tensor,
    settings: Pretrain,
    device: DeviceSpec,
    vocabulary: Vocabulary,
    generator: torch.Generator,
) -> Tensor:
    """The summed loss of the four tasks over `rows`."""
    inputs = split.inputs(rows)
    answers = split.answers[rows, 0]
    stated = torch.rand(len(rows), generator=generator) < settings.statement_probability
    swapped = stated & (torch.rand(len(rows), generator=generator) < settings.mismatch_probability)
    other = torch.randperm(len(rows), generator=generator)
    source = torch.where(swapped, other, torch.arange(len(rows)))

    ids, attention = _state(inputs.input_ids, inputs.attention_mask, stated, words[answers], vocabulary.index(SEPARATE))
    seen = inputs.visual_attention_mask[source]
    features, boxes = inputs.visual_feats[source], inputs.visual_pos[source]

    word_mask = (torch.rand(ids.shape, generator=generator) < settings.mask_probability) & (attention == 1)
    word_mask &= stated[:, None]
    word_mask[:, 0] = False
    word_labels = ids.masked_fill(~word_mask | swapped[:, None], IGNORE)
    ids = ids.masked_fill(word_mask, vocabulary.index(MASK))

    object_mask = (torch.rand(seen.shape, generator=generator) < settings.mask_probability) & (seen == 1)
    object_mask &= stated[:, None]
    kinds, colors = _object_labels(features)
    counted = object_mask.float() * seen.numel() / object_mask.sum().clamp(min=1)
    masked_features = features.masked_fill(object_mask[..., None], 0.0)

    output = model(
        input_ids=ids.to(device.torch_device),
        attention_mask=attention.to(device.torch_device),
        visual_feats=masked_features.to(device.torch_device),
        visual_pos=boxes.to(device.torch_device),
        visual_attention_mask=seen.to(device.torch_device),
        labels=_some(word_labels, device.torch_device),
        matched_label=_some(torch.where(stated, (~swapped).long(), IGNORE), device.torch_device),
        ans=_some(answers.masked_fill(stated, IGNORE), device.torch_device),
        obj_labels={
            "obj": (kinds.to(device.torch_device), counted.to(device.torch_device)),
            "attr": (colors.to(device.torch_device), counted.to(device.torch_device)),
            "feat": (features.reshape(-1, features.shape[-1]).to(device.torch_device), counted.to(device.torch_device)),
        },
    )
    return output.loss


def _some(labels: Tensor, device: torch.device) -> Tensor | None:
    """`labels` on `device`, or None where all are to be ignored: the mean of none is not a number."""
    return labels.to(device) if bool((labels != IGNORE).any()) else None


def _state(ids: Tensor, attention: Tensor, stated: Tensor, words: Tensor, separate: int) -> tuple[Tensor, Tensor]:
    """Ids and mask one token longer: where `stated`, the answer's word and a [SEP] follow the question's [SEP]."""
    ids = torch.cat([ids, torch.zeros(len(ids), 2, dtype=ids.dtype)], dim=1)
    attention = torch.cat([attention, torch.zeros(len(ids), 2, dtype=attention.dtype)], dim=1)
    rows, end = stated.nonzero()[:, 0], attention.sum(1)[stated]
    ids[rows, end], ids[rows, end + 1] = words[stated], separate
    attention[rows, end] = attention[rows, end + 1] = 1
    most = int(attention.sum(1).max())
    return ids[:, :most], attention[:, :most]


def _object_labels(features: Tensor) -> tuple[Tensor, Tensor]:
    """Kind and colour [B, O] of each object, read off its one-hot features."""
    values, start = {}, 0
    for name, names in ATTRIBUTES.items():
        values[name] = features[..., start : start + len(names)].argmax(-1)
        start += len(names)
    return (values["shape"] * 2 + values["size"]) * 2 + values["material"], values["color"]
