"""Questions to WordPiece ids, as BERT cuts them (Devlin et al. 2019), by the tokenizers library."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing

from lxcompress.errors import DataError

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
PAD, UNKNOWN, CLASSIFY, SEPARATE, MASK = SPECIAL


@cache
def shipped_vocabulary() -> tuple[str, ...]:
    """The vocabulary of the embedded mini model: words of scenes and CLEVR, and single letters for all else."""
    return parse_vocabulary((resources.files("lxcompress.data") / "vocab.txt").read_text("utf-8"), "vocab.txt")


def read_vocabulary(path: Path) -> tuple[str, ...]:
    """The vocabulary in `path`, a token a line. Raises DataError."""
    try:
        return parse_vocabulary(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: cannot be read as a vocabulary ({error}); give BERT's vocab.txt, a token a line"
        ) from None


def parse_vocabulary(text: str, where: str) -> tuple[str, ...]:
    """The tokens of `text`, a token a line; the ids are the line numbers from 0. Raises DataError."""
    tokens = tuple(text.splitlines())
    missing = [token for token in SPECIAL if token not in tokens]
    if missing:
        raise DataError(f"{where}: a WordPiece vocabulary has {', '.join(SPECIAL)}; {missing[0]} is missing")
    if tokens[0] != PAD:
        raise DataError(
            f"{where}: the first token of the vocabulary must be {PAD} (id 0 is padding), got {tokens[0]!r}"
        )
    return tokens


def tokenize(questions: Sequence[str], vocabulary: Sequence[str], limit: int) -> np.ndarray:
    """Ids int32 [Q, L]: [CLS] words [SEP], padded with 0 to the longest and cut to `limit` tokens."""
    ids = {token: number for number, token in enumerate(vocabulary)}
    tokenizer = Tokenizer(WordPiece(ids, unk_token=UNKNOWN))
    tokenizer.normalizer = BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.post_processor = TemplateProcessing(
        single=f"{CLASSIFY} $A {SEPARATE}",
        special_tokens=[(CLASSIFY, ids[CLASSIFY]), (SEPARATE, ids[SEPARATE])],
    )
    tokenizer.enable_truncation(limit)
    tokenizer.enable_padding(pad_id=0, pad_token=PAD)
    return np.asarray([encoding.ids for encoding in tokenizer.encode_batch(list(questions))], dtype=np.int32)
