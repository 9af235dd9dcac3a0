"""Other tokenizers, configured like fastlm's: the same pattern, vocabulary and special token.

Each library is imported where it is used, so that a process that measures one loads no other.
CONTENDERS has each of them, and fastlm, behind one interface.
"""

import base64
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenizer_texts import END_OF_TEXT, read_documents

if TYPE_CHECKING:
    import numpy as np
    import tiktoken
    import tokenizers

    from fastlm.tokenizer import Tokenizer

PEERS = ["tiktoken", "tokenizers", "rustbpe"]
_RANKS = "ranks.tiktoken"


def versions_of(names: Iterable[str]) -> dict[str, str]:
    """Versions of the packages with these names, "absent" where one is not installed."""
    versions = {}
    for name in names:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "absent"
    return versions


def peer_versions() -> dict[str, str]:
    """Versions of the peers that are installed."""
    return versions_of(PEERS)


def thread_environment(n_threads: int) -> dict[str, str]:
    """Variables that limit the Rust peers to n_threads, which they read at their first thread."""
    return {
        "RAYON_NUM_THREADS": str(n_threads),
        "TOKENIZERS_PARALLELISM": "true" if n_threads > 1 else "false",
    }


def train_hugging_face(path: Path, vocab_size: int) -> "tokenizers.Tokenizer":
    """Train with `tokenizers`, which reads line by line: no pre-token has two newlines."""
    import tokenizers

    peer = tokenizers.Tokenizer(tokenizers.models.BPE())
    peer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    peer.train([str(path)], trainer)
    return peer


def train_rustbpe(path: Path, vocab_size: int) -> Any:
    """Train with rustbpe on the documents between special tokens, which it does not support."""
    import rustbpe

    from fastlm.tokenizer.bpe.reference import PATTERN

    peer = rustbpe.Tokenizer()
    peer.train_from_iterator(read_documents(path), vocab_size - 1, pattern=PATTERN)
    return peer


def tiktoken_encoding(tokenizer: "Tokenizer") -> "tiktoken.Encoding":
    """The same vocabulary in tiktoken, built without a network; its ranks are the ids."""
    special = tokenizer.special_tokens
    special_ids = set(special.values())
    ranks = {token: i for i, token in tokenizer.vocab.items() if i not in special_ids}
    return _tiktoken(ranks, special)


def _tiktoken(ranks: dict[bytes, int], special: dict[str, int]) -> "tiktoken.Encoding":
    import tiktoken

    # The same pre-tokens as GPT-2's own expression, by one that tiktoken runs faster.
    from tiktoken_ext.openai_public import r50k_pat_str

    return tiktoken.Encoding(
        "same", pat_str=r50k_pat_str, mergeable_ranks=ranks, special_tokens=special
    )


def hugging_face_tokenizer(folder: Path) -> "tokenizers.Tokenizer":
    """The same vocabulary in `tokenizers`, from the file that Tokenizer.save writes for it."""
    import tokenizers

    return tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))


@dataclass(frozen=True)
class Ways:
    """Ways in which one object of a library encodes; None is a way that the library lacks.

    Attributes:
        to_list: a text to a list of ids.
        to_numpy: a text to an array of ids.
        to_lists: documents to a list of ids each.
        to_flat: documents to one array of the ids of all, with their bounds.
        from_file: a UTF-8 file to one array of ids.
    """

    to_list: Callable[[str], Any] | None = None
    to_numpy: Callable[[str], Any] | None = None
    to_lists: Callable[[list[str]], Any] | None = None
    to_flat: Callable[[list[str]], Any] | None = None
    from_file: Callable[[Path], Any] | None = None


@dataclass(frozen=True)
class Contender:
    """A library of the race.

    Attributes:
        name: the name of its package.
        load: makes a new object that encodes, with the vocabulary in a folder that
            write_vocabulary wrote, on so many threads; None if it only trains.
        train: trains on a UTF-8 file for a vocabulary size on so many threads, and returns a
            function that returns the set of all tokens, as bytes; None if it only encodes.
    """

    name: str
    load: Callable[[Path, int], Ways] | None = None
    train: Callable[[Path, int, int], Callable[[], set[bytes]]] | None = None


def write_vocabulary(tokenizer: "Tokenizer", folder: Path) -> None:
    """Write the files that the contenders load."""
    tokenizer.save(folder)
    special_ids = set(tokenizer.special_tokens.values())
    ranks = (
        f"{base64.b64encode(token).decode()} {i}\n"
        for i, token in tokenizer.vocab.items()
        if i not in special_ids
    )
    (folder / _RANKS).write_text("".join(ranks))


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


def _load_fastlm(folder: Path, n_threads: int) -> Ways:
    from fastlm.tokenizer import Tokenizer

    ours = Tokenizer.load(folder)
    flat = getattr(ours, "encode_batch_flat", None)

    def file(path: Path) -> "np.ndarray":
        import numpy as np

        return np.concatenate(list(ours.encode_file_blocks(path, n_threads=n_threads)))

    return Ways(
        ours.encode,
        ours.encode_to_numpy,
        lambda documents: ours.encode_batch(documents, n_threads=n_threads),
        flat and (lambda documents: flat(documents, n_threads=n_threads)),
        file,
    )


def _load_gigatoken(folder: Path, n_threads: int) -> Ways:
    import gigatoken

    peer = gigatoken.Tokenizer(str(folder / "tokenizer.json"))
    parallel = n_threads > 1
    return Ways(
        # Faster than encode(text).tolist().
        lambda text: peer.encode_batch_list([text], parallel=False)[0],
        peer.encode,
        lambda documents: peer.encode_batch_list(documents, parallel=parallel),
        lambda documents: peer.encode_batch(documents, parallel=parallel),
        lambda path: peer.encode_files(str(path), parallel=parallel),
    )


def _load_fastokens(folder: Path, n_threads: int) -> Ways:
    import fastokens

    peer = fastokens.Tokenizer.from_file(str(folder / "tokenizer.json"))
    return Ways(
        lambda text: peer.encode(text).ids,
        lambda text: _frombuffer(peer.encode_batch_flat([text])[0]),
        lambda documents: [encoding.ids for encoding in peer.encode_batch(documents)],
        lambda documents: _frombuffer(peer.encode_batch_flat(documents)[0]),
    )


def _load_splintr(folder: Path, n_threads: int) -> Ways:
    import splintr

    peer = splintr.from_json(str(folder / "tokenizer.json"))
    return Ways(
        peer.encode,
        lambda text: _frombuffer(peer.encode_flat(text)),
        peer.encode_batch,
        lambda documents: _frombuffer(peer.encode_batch_flat(documents)[0]),
    )


def _frombuffer(ids: bytes) -> "np.ndarray":
    import numpy as np

    return np.frombuffer(ids, np.uint32)


def _load_tiktoken(folder: Path, n_threads: int) -> Ways:
    lines = [line.split() for line in (folder / _RANKS).read_bytes().splitlines()]
    special = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["added_tokens"]
    peer = _tiktoken(
        {base64.b64decode(token): int(rank) for token, rank in lines},
        {token["content"]: token["id"] for token in special},
    )
    return Ways(
        peer.encode_ordinary,
        lambda text: peer.encode_to_numpy(text, disallowed_special=()),
        lambda documents: peer.encode_ordinary_batch(documents, num_threads=n_threads),
    )


def _load_tokenizers(folder: Path, n_threads: int) -> Ways:
    peer = hugging_face_tokenizer(folder)
    return Ways(
        lambda text: peer.encode(text).ids,
        to_lists=lambda documents: [encoding.ids for encoding in peer.encode_batch_fast(documents)],
    )


def _train_fastlm(path: Path, vocab_size: int, n_threads: int) -> Callable[[], set[bytes]]:
    from fastlm.tokenizer import train_bpe

    vocab, _ = train_bpe(path, vocab_size, [END_OF_TEXT], n_threads=n_threads)
    return lambda: set(vocab.values())


def _train_gigatoken(path: Path, vocab_size: int, n_threads: int) -> Callable[[], set[bytes]]:
    import gigatoken

    vocab, _ = gigatoken.train_bpe(str(path), vocab_size, [END_OF_TEXT])
    return lambda: set(vocab.values())


def _train_gigabpe(path: Path, vocab_size: int, n_threads: int) -> Callable[[], set[bytes]]:
    import gigabpe

    vocab, _ = gigabpe.train_bpe(
        [str(path)],
        vocab_size,
        special_tokens=[END_OF_TEXT],
        pretokenizer="bytelevel",
        threads=n_threads,
    )
    return lambda: _spelled(vocab)


def _train_rustbpe(path: Path, vocab_size: int, n_threads: int) -> Callable[[], set[bytes]]:
    peer = train_rustbpe(path, vocab_size)
    return lambda: {bytes(token) for token, _ in peer.get_mergeable_ranks()}


def _train_tokenizers(path: Path, vocab_size: int, n_threads: int) -> Callable[[], set[bytes]]:
    peer = train_hugging_face(path, vocab_size)
    return lambda: _spelled(peer.get_vocab())


def _spelled(tokens: Iterable[str]) -> set[bytes]:
    """The tokens, which are in printable characters, as bytes."""
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
