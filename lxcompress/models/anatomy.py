"""The parts of a transformer by the names of their linear layers: what an adapter says of every family alike."""

from __future__ import annotations

from typing import NamedTuple


class FeedForward(NamedTuple):
    """A feed-forward block: the names of its two linear layers."""

    first: str
    second: str


class Attention(NamedTuple):
    """A set of attention heads: the module that splits and joins them, its linear layers, and how many heads it has."""

    module: str
    query: str
    key: str
    value: str
    output: str
    heads: int
