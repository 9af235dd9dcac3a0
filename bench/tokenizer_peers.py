"""Other tokenizers, configured like fastlm's: the same pattern, vocabulary and special token.

Each library is imported where it is used, so that a process that measures one loads no other.
tokenizer_contenders.py has them, and fastlm, behind one interface.
"""

from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenizer_contenders import make_tiktoken
from tokenizer_texts import END_OF_TEXT, read_documents

if TYPE_CHECKING:
    import tiktoken
    import tokenizers

    from fastlm.tokenizer import Tokenizer


def versions_of(names: Iterable[str]) -> dict[str, str]:
    """Versions of the packages with these names, "absent" where one is not installed."""
    versions = {}
    for name in names:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "absent"
    return versions


def thread_environment(n_threads: int) -> dict[str, str]:
    """Variables that limit the Rust peers to n_threads, which they read at their first thread."""
    return {
        "RAYON_NUM_THREADS": str(n_threads),
        "TOKENIZERS_PARALLELISM": "true" if n_threads > 1 else "false",
    }


def train_hugging_face(path: Path | str, vocab_size: int) -> "tokenizers.Tokenizer":
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


def train_rustbpe(path: Path | str, vocab_size: int) -> Any:
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
    return make_tiktoken(ranks, special)


def hugging_face_tokenizer(folder: Path) -> "tokenizers.Tokenizer":
    """The same vocabulary in `tokenizers`, from the file that Tokenizer.save writes for it."""
    import tokenizers

    return tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
