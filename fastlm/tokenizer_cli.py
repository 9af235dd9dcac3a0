"""The commands of `python -m fastlm.tokenizer`: train, encode, decode, report."""

import codecs
import contextlib
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from tyro.conf import Positional, UseAppendAction

from fastlm import cli
from fastlm.meter import Meter
from fastlm.text_files import check_file, text_file_blocks
from fastlm.token_files import read_token_file
from fastlm.tokenizer import END_OF_TEXT, Tokenizer, train_bpe

_DECODED_TOKENS = 1 << 16  # at a time

_UNITS = {"": 1, "B": 1} | {
    f"{prefix}{i}B": base**power
    for power, prefix in enumerate("KMGT", start=1)
    for i, base in (("", 1000), ("I", 1024))
}


def _train_command(
    text: Positional[tuple[Path, ...]],
    vocab_size: int,
    out: Path,
    special_token: UseAppendAction[tuple[str, ...]] = (END_OF_TEXT,),
    n_threads: int | None = None,
    errors: Literal["strict", "replace"] = "strict",
    max_token_bytes: int | None = None,
    sample_bytes: str | None = None,
) -> None:
    """Learn a vocabulary from text files and write it to a folder.

    Args:
        text: UTF-8 text files; documents are separated by a special token.
        vocab_size: number of tokens: 256 bytes, merges, special tokens.
        out: folder to write.
        special_token: text that is one token and is never merged across; give one each time.
        n_threads: threads that count words; all cores when not given.
        errors: what to do with invalid UTF-8: refuse it, or read it as U+FFFD.
        max_token_bytes: learn no longer token; no limit when not given.
        sample_bytes: of larger files read a sample, spread evenly, of so many bytes: 500MB, 2GB.
    """
    started = time.perf_counter()
    special_tokens = list(dict.fromkeys(special_token))
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out must be a folder to write: {out} is a file")
    sample = None if sample_bytes is None else parse_bytes(sample_bytes)
    n_text_bytes = sum(path.stat().st_size for path in text if path.is_file())
    n_read_bytes = n_text_bytes
    n_merges = vocab_size - 256 - len(special_tokens)

    with _warnings_as_lines(), Meter() as meter:

        def show(what: str, n: int) -> None:
            nonlocal n_read_bytes
            if what == "sampled":
                n_read_bytes = n
            elif what == "bytes":
                meter.update("counting words", n, n_read_bytes, unit="bytes")
            else:
                meter.update("learning merges", n, n_merges, unit="merges")

        vocab, merges = train_bpe(
            text,
            vocab_size,
            special_tokens,
            n_threads=n_threads,
            errors=errors,
            on_progress=show,
            max_token_bytes=max_token_bytes,
            sample_bytes=sample,
        )
    Tokenizer(vocab, merges, special_tokens).save(out)
    of = "" if n_read_bytes == n_text_bytes else f"a sample of {n_read_bytes:,} bytes of "
    print(
        f"{out}: {len(vocab):,} tokens from {of}{n_text_bytes:,} bytes "
        f"in {time.perf_counter() - started:.1f} s"
    )


def _encode_command(
    text: Positional[Path],
    tokenizer: Path,
    out: Path,
    n_threads: int | None = None,
    errors: Literal["strict", "replace"] = "strict",
    resume: bool = True,
) -> None:
    """Write the token ids of a text file, and FILE.bin.json that says how to read them.

    Args:
        text: UTF-8 text file.
        tokenizer: folder of the tokenizer, or a tokenizer.json.
        out: file to write: little-endian uint16, or uint32 from 65,537 tokens on.
        n_threads: threads that encode; all cores when not given.
        errors: what to do with invalid UTF-8: refuse it, or read it as U+FFFD.
        resume: go on where an interrupted run stopped.
    """
    started = time.perf_counter()
    check_file(text)
    n_bytes = text.stat().st_size
    n_read_before: int | None = None

    try:
        with _warnings_as_lines(), Meter() as meter:
            loaded = Tokenizer.load(tokenizer)

            def show(what: str, n: int) -> None:
                nonlocal n_read_before
                if n_read_before is None:
                    n_read_before = n
                meter.update("encoding", n, n_bytes, unit=what)

            count = loaded.encode_file(
                text, out, n_threads=n_threads, errors=errors, resume=resume, on_progress=show
            )
    except KeyboardInterrupt:
        if not (resume and out.with_name(out.name + ".part").exists()):
            raise
        print("interrupted; the same command goes on from here", file=sys.stderr)
        sys.exit(cli.INTERRUPTED)
    before = f", {n_read_before:,} of them encoded before," if n_read_before else ""
    print(
        f"{out}: {count:,} tokens of {n_bytes:,} bytes{before} "
        f"({n_bytes / max(count, 1):.3f} a token) in {time.perf_counter() - started:.1f} s"
    )


def _decode_command(file: Positional[Path], tokenizer: Path) -> None:
    """Print the text of a token file.

    Args:
        file: token file, with its .json beside it.
        tokenizer: folder or tokenizer.json of the tokenizer that encoded it.
    """
    loaded = Tokenizer.load(tokenizer)
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    tokens = read_token_file(file, loaded)
    for begin in range(0, len(tokens), _DECODED_TOKENS):
        text = decoder.decode(loaded.decode_bytes(tokens[begin : begin + _DECODED_TOKENS]))
        sys.stdout.buffer.write(text.encode())
    sys.stdout.buffer.write(decoder.decode(b"", final=True).encode())
    sys.stdout.flush()


def _report_command(text: Positional[Path], tokenizer: Path, n_longest: int = 10) -> None:
    """Print compression and speed beside character, byte and word tokenizers; longest tokens.

    Args:
        text: UTF-8 text file.
        tokenizer: folder of the tokenizer, or a tokenizer.json.
        n_longest: how many of the longest tokens to print.
    """
    from fastlm.bpe.compare import compare

    loaded = Tokenizer.load(tokenizer)
    check_file(text)
    if text.stat().st_size == 0:
        raise ValueError(f"{text} is empty: there is nothing to measure")
    special = [token.encode() for token in loaded.special_tokens]
    blocks = text_file_blocks(text, special, "strict")
    measures = compare(blocks, loaded.encode_to_numpy, loaded.vocab_size)
    print(
        f"{'tokenizer':10} {'vocabulary':>12} {'tokens':>14} {'bytes/token':>12} {'MB/s':>9} "
        f"{'tokens/s':>13}"
    )
    for measure in measures:
        print(
            f"{measure.name:10} {measure.n_tokens_known:12,} {measure.n_tokens:14,} "
            f"{measure.bytes_per_token:12.3f} {measure.bytes_per_second / 1e6:9.1f} "
            f"{measure.n_tokens / measure.elapsed_seconds:13,.0f}"
        )
    print("longest tokens:")
    longest = sorted(loaded.vocab.items(), key=lambda item: (-len(item[1]), item[0]))
    for token_id, token in longest[:n_longest]:
        print(f"{len(token):4} bytes  {token_id:7}  {token.decode('utf-8', 'replace')!r}")


def parse_bytes(text: str) -> int:
    """ "500MB" -> 500_000_000, "1.5GiB" -> 1_610_612_736, "12" -> 12."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-zA-Z]*)", text.strip())
    if match is None or match.group(2).upper() not in _UNITS:
        raise ValueError(f"a size must be a number of bytes, such as 500MB or 2GB: got {text!r}")
    return int(float(match.group(1)) * _UNITS[match.group(2).upper()])


@contextlib.contextmanager
def _warnings_as_lines() -> Iterator[None]:
    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        print(f"warning: {message}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = show
        yield


def main(argv: Sequence[str] | None = None) -> None:
    """Run `python -m fastlm.tokenizer`."""
    commands: dict[str, Callable[..., None]] = {
        "train": _train_command,
        "encode": _encode_command,
        "decode": _decode_command,
        "report": _report_command,
    }
    cli.run_command(commands, argv, prog="python -m fastlm.tokenizer")
