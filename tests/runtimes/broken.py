"""Inputs that a broken detector gives, which no runtime may answer."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lxcompress.errors import MeasureError
from lxcompress.runtimes import Session
from tests.complain import complain

VALUES = (np.nan, np.inf, -np.inf)


def check_broken_inputs_are_refused(session: Session, feeds: Mapping[str, np.ndarray]) -> None:
    """NaN and infinity anywhere in the last question's features or boxes; the next answer is as it was before."""
    expected = session.answer(feeds)
    for name in ("visual_feats", "visual_pos"):
        for value in VALUES:
            array = feeds[name].copy()
            array[-1, -1, -1] = value
            where = f"{name} holds NaN or infinity in question {len(array) - 1}"
            complain(lambda array=array, name=name: session.answer({**feeds, name: array}), where, kind=MeasureError)
    np.testing.assert_array_equal(session.answer(feeds), expected)
