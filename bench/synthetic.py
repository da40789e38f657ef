"""Synthetic questions and models with random weights, for measurements that need real shapes and no data."""

from __future__ import annotations

import copy
import functools
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from transformers import LxmertConfig, LxmertForPreTraining

from lxcompress.data.regions.rows import FIRST, RegionRow
from lxcompress.data.regions.store import SourceFile
from lxcompress.data.regions.write import Journal, LastRow, StoreWriter
from lxcompress.data.split import AnswerTask, Regions, Split
from lxcompress.data.tokens import Vocabulary, shipped_vocabulary
from lxcompress.models import lxmert
from lxcompress.rundir import write_text
from lxcompress.training.pretrain import save_encoder

TOKENS, MEAN_TOKENS = 20, 9


@dataclass(frozen=True)
class Sizes:
    """The sizes of a model and of its data."""

    layers: tuple[int, int, int] = (9, 5, 5)
    """the layers of language, vision and both"""
    hidden: int = 768
    heads: int = 12
    regions: int = 36
    features: int = 2048
    answers: int = 3129
    words: int = 30522

    def config(self, **changes: float) -> LxmertConfig:
        """Return the configuration of LXMERT with these sizes."""
        language, vision, cross = self.layers
        return LxmertConfig(
            num_qa_labels=self.answers,
            l_layers=language,
            r_layers=vision,
            x_layers=cross,
            hidden_size=self.hidden,
            num_attention_heads=self.heads,
            intermediate_size=4 * self.hidden,
            visual_feat_dim=self.features,
            vocab_size=self.words,
            **changes,
        )


FULL = Sizes()
"""LXMERT as it was published."""
SMALL = Sizes(layers=(1, 1, 1), hidden=32, heads=2, regions=6, features=16, answers=24, words=240)
"""A model for a CPU, whose steps take milliseconds."""


def make_model(sizes: Sizes, **changes: float) -> nn.Module:
    """Return LXMERT with random weights, the same in each call; `changes` are fields of its configuration.

    Drawing full-size weights takes seconds, so the last model that was made is copied.
    """
    return copy.deepcopy(_draw_model(sizes, tuple(changes.items())))


@functools.lru_cache(maxsize=1)
def _draw_model(sizes: Sizes, changes: tuple[tuple[str, float], ...]) -> nn.Module:
    torch.manual_seed(0)
    return lxmert.FAMILY.build(sizes.config(**dict(changes)))


def synthetic_task(questions: int, images: int, sizes: Sizes = FULL) -> AnswerTask:
    """Return questions with VQA's lengths over random regions; a third of the ReLU features are zeros."""
    generator = torch.Generator().manual_seed(0)
    regions = draw_regions(images, sizes, generator)

    def split(rows: int) -> Split:
        return Split(
            input_ids=draw_words(rows, sizes, generator),
            scene=torch.randint(images, (rows,), generator=generator),
            regions=regions,
            answers=torch.randint(sizes.answers, (rows, 3), generator=generator),
            credits=torch.tensor([1.0, 0.6, 0.3]).expand(rows, 3).contiguous(),
            types=("other",) * rows,
        )

    words = Vocabulary(tuple(map(str, range(sizes.words))))
    return AnswerTask(split(questions), split(1), tuple(map(str, range(sizes.answers))), words)


def draw_regions(images: int, sizes: Sizes, generator: torch.Generator) -> Regions:
    """Return the random regions of `images` images, in fp16."""
    shape = (images, sizes.regions)
    features = torch.randn(*shape, sizes.features, generator=generator).add_(0.4).clamp_(min=0).half()
    corners = torch.rand(*shape, 2, 2, generator=generator).sort(dim=2).values.flatten(2)
    return Regions(features, corners, torch.full((images,), sizes.regions))


def draw_words(rows: int, sizes: Sizes, generator: torch.Generator) -> Tensor:
    """Return the tokens of random questions: int32 [rows, TOKENS], 0 is padding."""
    lengths = torch.poisson(torch.full((rows,), float(MEAN_TOKENS - 4)), generator=generator).long() + 4
    ids = torch.randint(sizes.words // 30, sizes.words, (rows, TOKENS), generator=generator, dtype=torch.int32)
    ids[torch.arange(TOKENS) >= lengths.clamp(max=TOKENS)[:, None]] = 0
    return ids


def write_study(folder: Path, sizes: Sizes, *, train: int, valid: int, images: int) -> dict[str, object]:
    """Write a start model, questions and a store of regions to `folder`; return the sections of a recipe that use them.

    The questions are in LXMERT's format. What the folder has already is not written again.
    """
    paths = {name: folder / f"{name}.json" for name in ("train", "valid", "answers")}
    vocabulary = _make_vocabulary(sizes.words)
    if not (folder / "complete").exists():
        generator = torch.Generator().manual_seed(0)
        torch.manual_seed(0)
        folder.mkdir(parents=True, exist_ok=True)
        save_encoder(LxmertForPreTraining(sizes.config()), folder / "start", vocabulary)
        _write_store(folder / "regions", draw_regions(images, sizes, generator))
        write_text(paths["answers"], json.dumps({f"answer{label}": label for label in range(sizes.answers)}))
        for index, (name, rows) in enumerate({"train": train, "valid": valid}.items()):
            questions = _draw_questions(rows, images, sizes, generator, first=index * 10_000_000)
            write_text(paths[name], json.dumps(questions))
        write_text(folder / "complete", "")
    return {
        "data": {
            "kind": "vqa",
            "train": str(paths["train"]),
            "valid": str(paths["valid"]),
            "answers": str(paths["answers"]),
            "features": str(folder / "regions"),
        },
        "model": {"start": str(folder / "start")},
    }


def _make_vocabulary(words: int) -> Vocabulary:
    """Return a vocabulary of `words` tokens: the shipped ones, and words of one token each."""
    shipped = shipped_vocabulary()
    return Vocabulary((*shipped, *(f"word{index}" for index in range(words - len(shipped)))))


def _draw_questions(
    rows: int, images: int, sizes: Sizes, generator: torch.Generator, *, first: int
) -> list[dict[str, object]]:
    """Return random questions in LXMERT's format, with ids from `first` on."""
    lengths = torch.poisson(torch.full((rows,), float(MEAN_TOKENS - 4)), generator=generator).long() + 2
    words = torch.randint(sizes.words - len(shipped_vocabulary()), (rows, TOKENS), generator=generator)
    labels = torch.randint(sizes.answers, (rows,), generator=generator)
    shown = torch.randint(images, (rows,), generator=generator)
    return [
        {
            "question_id": first + row,
            "img_id": f"image{int(shown[row])}",
            "sent": " ".join(f"word{word}" for word in words[row, : lengths[row]].tolist()),
            "label": {f"answer{int(labels[row])}": 1.0},
            "answer_type": "other",
        }
        for row in range(rows)
    ]


def _write_store(path: Path, regions: Regions) -> None:
    """Write the regions as a store, with the images' ids image0, image1 and so on."""
    path.mkdir(parents=True, exist_ok=True)
    images, objects, features = regions.features.shape
    sources = [SourceFile(name="synthetic", size_bytes=0)]
    writer = StoreWriter(path, Journal(objects=objects, features=features, sources=sources))
    piece = writer.take()
    for index in range(images):
        position = FIRST._replace(item=index + 1)
        row = RegionRow(position, f"image{index}", _array(regions.features[index]), _array(regions.boxes[index]))
        reason = piece.add(row)
        assert reason is None, reason
        piece.mark = LastRow(0, position, row.image)
        if piece.is_full:
            writer.put(piece)
            piece = writer.take()
    writer.put(piece)
    writer.close()
    writer.check()
    writer.finish()


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.float().numpy()
