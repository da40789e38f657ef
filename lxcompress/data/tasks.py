"""From a recipe's `data` section to its Task."""

from __future__ import annotations

from collections.abc import Sequence

from lxcompress.data.clevr import load_clevr
from lxcompress.data.scenes import load_scenes
from lxcompress.data.split import Task
from lxcompress.data.tokens import shipped_vocabulary
from lxcompress.recipe import ClevrData, ScenesData


def load_task(settings: ScenesData | ClevrData, vocabulary: Sequence[str] | None = None) -> Task:
    """The Task that `settings` describes, its questions cut into tokens of `vocabulary` (the shipped one by default).

    Raises DataError.
    """
    tokens = tuple(vocabulary or shipped_vocabulary())
    if isinstance(settings, ClevrData):
        return load_clevr(settings, tokens)
    return load_scenes(settings, tokens)
