"""fastlm and the libraries that it races, behind one interface.

This module imports next to nothing, and each library where it is used, so that a fresh process that
loads one pays for nothing else.
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import tiktoken

    from fastlm.tokenizer import Tokenizer

_RANKS = "ranks.tiktoken"


class Ways(NamedTuple):
    """Ways in which one object of a library encodes; None is a way that the library lacks.

    Attributes:
        to_list: a text to a list of ids.
        to_numpy: a text to an array of ids.
        to_lists: documents to a list of ids each.
        to_flat: documents to one array of the ids of all, with their bounds.
        from_file: a UTF-8 file to one array of ids.
        to_first_list: as to_list, in a process that encodes once, where another way loads less.
    """

    to_list: Callable[[str], Any] | None = None
    to_numpy: Callable[[str], Any] | None = None
    to_lists: Callable[[list[str]], Any] | None = None
    to_flat: Callable[[list[str]], Any] | None = None
    from_file: "Callable[[Path], Any] | None" = None
    to_first_list: Callable[[str], Any] | None = None


class Contender(NamedTuple):
    """A library of the race.

    Attributes:
        name: the name of its package.
        load: makes a new object that encodes, with the vocabulary in a folder that
            write_vocabulary wrote, on so many threads; None if it only trains.
        train: trains on a UTF-8 file for a vocabulary size on so many threads, and returns a
            function that returns the set of all tokens, as bytes; None if it only encodes.
    """

    name: str
    load: Callable[[str, int], Ways] | None = None
    train: Callable[[str, int, int], Callable[[], set[bytes]]] | None = None


def write_vocabulary(tokenizer: "Tokenizer", folder: str) -> None:
    """Write the files that the contenders load."""
    import base64

    tokenizer.save(folder)
    special_ids = set(tokenizer.special_tokens.values())
    ranks = (
        f"{base64.b64encode(token).decode()} {i}\n"
        for i, token in tokenizer.vocab.items()
        if i not in special_ids
    )
    with open(f"{folder}/{_RANKS}", "w") as file:
        file.writelines(ranks)


def ids_of(result: Any) -> "np.ndarray":
    """All ids of a result of any way, as one array."""
    import numpy as np

    if isinstance(result, tuple):  # ids and offsets
        result = result[0]
    if isinstance(result, bytes):
        return np.frombuffer(result, np.uint32)
    if isinstance(result, np.ndarray):
        return result
    if type(result).__module__.startswith("awkward"):
        import awkward

        return np.asarray(awkward.flatten(result, axis=None))
    if result and not isinstance(result[0], int):
        return np.concatenate([np.asarray(ids, np.int64) for ids in result])
    return np.asarray(result, np.int64)


def make_tiktoken(ranks: dict[bytes, int], special: dict[str, int]) -> "tiktoken.Encoding":
    """An encoding with GPT-2's pattern."""
    import tiktoken

    # The same pre-tokens as GPT-2's own expression, by one that tiktoken runs faster.
    from tiktoken_ext.openai_public import r50k_pat_str

    return tiktoken.Encoding(
        "same", pat_str=r50k_pat_str, mergeable_ranks=ranks, special_tokens=special
    )


def _load_fastlm(folder: str, n_threads: int) -> Ways:
    from fastlm.tokenizer import Tokenizer

    ours = Tokenizer.load(folder)
    flat = getattr(ours, "encode_batch_flat", None)

    def file(path: "Path") -> "np.ndarray":
        import numpy as np

        return np.concatenate(list(ours.encode_file_blocks(path, n_threads=n_threads)))

    return Ways(
        ours.encode,
        ours.encode_to_numpy,
        lambda documents: ours.encode_batch(documents, n_threads=n_threads),
        flat and (lambda documents: flat(documents, n_threads=n_threads)),
        file,
    )


def _load_gigatoken(folder: str, n_threads: int) -> Ways:
    import gigatoken

    peer = gigatoken.Tokenizer(f"{folder}/tokenizer.json")
    parallel = n_threads > 1
    return Ways(
        # Faster than encode(text).tolist(), once its imports are done.
        lambda text: peer.encode_batch_list([text], parallel=False)[0],
        peer.encode,
        lambda documents: peer.encode_batch_list(documents, parallel=parallel),
        lambda documents: peer.encode_batch(documents, parallel=parallel),
        lambda path: peer.encode_files(str(path), parallel=parallel),
        lambda text: peer.encode(text).tolist(),
    )


def _load_fastokens(folder: str, n_threads: int) -> Ways:
    import fastokens

    peer = fastokens.Tokenizer.from_file(f"{folder}/tokenizer.json")
    return Ways(
        lambda text: peer.encode(text).ids,
        lambda text: _frombuffer(peer.encode_batch_flat([text])[0]),
        lambda documents: [encoding.ids for encoding in peer.encode_batch(documents)],
        lambda documents: _frombuffer(peer.encode_batch_flat(documents)[0]),
    )


def _load_splintr(folder: str, n_threads: int) -> Ways:
    import splintr

    peer = splintr.from_json(f"{folder}/tokenizer.json")
    return Ways(
        peer.encode,
        lambda text: _frombuffer(peer.encode_flat(text)),
        peer.encode_batch,
        lambda documents: _frombuffer(peer.encode_batch_flat(documents)[0]),
    )


def _frombuffer(ids: bytes) -> "np.ndarray":
    import numpy as np

    return np.frombuffer(ids, np.uint32)


def _load_tiktoken(folder: str, n_threads: int) -> Ways:
    import base64

    with open(f"{folder}/{_RANKS}", "rb") as file:
        lines = [line.split() for line in file]
    # Special tokens are in no text of the race.
    peer = make_tiktoken({base64.b64decode(token): int(rank) for token, rank in lines}, {})
    return Ways(
        peer.encode_ordinary,
        lambda text: peer.encode_to_numpy(text, disallowed_special=()),
        lambda documents: peer.encode_ordinary_batch(documents, num_threads=n_threads),
    )


def _load_tokenizers(folder: str, n_threads: int) -> Ways:
    import tokenizers

    peer = tokenizers.Tokenizer.from_file(f"{folder}/tokenizer.json")
    return Ways(
        lambda text: peer.encode(text).ids,
        to_lists=lambda documents: [encoding.ids for encoding in peer.encode_batch_fast(documents)],
    )


def _train_fastlm(path: str, vocab_size: int, n_threads: int) -> Callable[[], set[bytes]]:
    from fastlm.tokenizer import END_OF_TEXT, train_bpe

    vocab, _ = train_bpe(path, vocab_size, [END_OF_TEXT], n_threads=n_threads)
    return lambda: set(vocab.values())


def _train_gigatoken(path: str, vocab_size: int, n_threads: int) -> Callable[[], set[bytes]]:
    import gigatoken
    from tokenizer_texts import END_OF_TEXT

    vocab, _ = gigatoken.train_bpe(str(path), vocab_size, [END_OF_TEXT])
    return lambda: set(vocab.values())


def _train_gigabpe(path: str, vocab_size: int, n_threads: int) -> Callable[[], set[bytes]]:
    import gigabpe
    from tokenizer_texts import END_OF_TEXT

    vocab, _ = gigabpe.train_bpe(
        [str(path)],
        vocab_size,
        special_tokens=[END_OF_TEXT],
        pretokenizer="bytelevel",
        threads=n_threads,
    )
    return lambda: _spelled(vocab)


def _train_rustbpe(path: str, vocab_size: int, n_threads: int) -> Callable[[], set[bytes]]:
    from tokenizer_peers import train_rustbpe

    peer = train_rustbpe(path, vocab_size)
    return lambda: {bytes(token) for token, _ in peer.get_mergeable_ranks()}


def _train_tokenizers(path: str, vocab_size: int, n_threads: int) -> Callable[[], set[bytes]]:
    from tokenizer_peers import train_hugging_face

    peer = train_hugging_face(path, vocab_size)
    return lambda: _spelled(peer.get_vocab())


def _spelled(tokens: Iterable[str]) -> set[bytes]:
    """The tokens, which are in printable characters, as bytes."""
    from tokenizer_texts import END_OF_TEXT

    from fastlm.tokenizer.formats.gpt2 import from_printable

    return {token.encode() if token == END_OF_TEXT else from_printable(token) for token in tokens}


CONTENDERS = {
    contender.name: contender
    for contender in (
        Contender("fastlm", _load_fastlm, _train_fastlm),
        Contender("gigatoken", _load_gigatoken, _train_gigatoken),
        Contender("fastokens", _load_fastokens),
        Contender("splintr-rs", _load_splintr),
        Contender("tiktoken", _load_tiktoken),
        Contender("tokenizers", _load_tokenizers, _train_tokenizers),
        Contender("gigabpe", train=_train_gigabpe),
        Contender("rustbpe", train=_train_rustbpe),
    )
}
