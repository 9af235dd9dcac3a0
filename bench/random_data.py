"""A prepared folder of made-up tokens, to train on where there is no text: any vocabulary, at once.

The tokens are those of fastlm.tune: learnable, and as fast to compute with as a text's. The
tokenizer is a real one that no text has trained; its merges are pairs of bytes in their order.
"""

import contextlib
import itertools
from pathlib import Path

from fastlm.config import TrainConfig
from fastlm.data.prepared import END_OF_TEXT, write_meta
from fastlm.data.unfinished import tokenizer_of
from fastlm.files import disk
from fastlm.files.tokens import TokenWriter
from fastlm.tokenizer import Tokenizer
from fastlm.tune.made_tokens import made_data

_N_BYTES = 256
_VAL_SHARE = 0.1


def untrained_tokenizer(vocab_size: int) -> Tokenizer:
    """A tokenizer of all bytes, the first pairs of bytes, and END_OF_TEXT.

    Raises:
        ValueError: if there is no such tokenizer of that size.
    """
    least, most = _N_BYTES + 1, _N_BYTES + _N_BYTES**2 + 1
    if not least <= vocab_size <= most:
        raise ValueError(f"expected a vocabulary of {least} to {most:,} tokens, got {vocab_size:,}")
    single = [bytes([i]) for i in range(_N_BYTES)]
    merges = list(itertools.islice(itertools.product(single, single), vocab_size - least))
    vocab = dict(enumerate([*single, *(a + b for a, b in merges)]))
    return Tokenizer(vocab, merges, [END_OF_TEXT])


def make_random_data(folder: Path, config: TrainConfig) -> None:
    """Make a prepared folder with the vocabulary size of a configuration.

    Raises:
        FileExistsError: if the folder is not empty.
    """
    tokenizer = untrained_tokenizer(config.model.vocab_size)
    tokens = made_data(config, n_steps=1000).train.tokens
    n_val = max(int(_VAL_SHARE * len(tokens)), config.model.context_length + 1)
    splits = {}
    with disk.whole_folder(folder, last="meta.json") as partial:
        for name, ids in (("train", tokens[n_val:]), ("val", tokens[:n_val])):
            writer = TokenWriter(partial / f"{name}.bin", dtype=tokenizer.dtype.name)
            with contextlib.closing(writer):
                writer.write(ids)
                facts = writer.finish()
            # Each token counts as a byte: bits per byte say nothing of made-up tokens.
            splits[name] = {**facts, "text_bytes": len(ids), "documents": 1}
        tokenizer.save(tokenizer_of(partial))
        write_meta(partial, tokenizer, splits, {"files": []})
