"""The commands of `python -m fastlm.tokenizer`: train, encode, decode, report."""

from fastlm.cli import interrupts

if __name__ == "__main__":
    interrupts.exit_on_interrupt()

import codecs
import contextlib
import math
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from tyro.conf import Positional, UseAppendAction

from fastlm import cli
from fastlm.cli.meter import Meter
from fastlm.corpus.documents import END_OF_TEXT

_DECODED_TOKENS = 1 << 16  # tokens decoded at a time

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
    threads: int | None = None,
    errors: Literal["strict", "replace"] = "strict",
    max_token_bytes: int | None = None,
    sample_bytes: str | None = None,
    text_field: str = "text",
    pattern: str = "gpt2",
    overwrite: bool = False,
) -> None:
    """Learn a vocabulary from text files and write it to a folder.

    Args:
        text: UTF-8 text files; documents are separated by a special token. Also .jsonl, .parquet,
            .gz, .xz and .zst files, folders, and quoted patterns such as 'texts/*.txt'.
        vocab_size: number of tokens: 256 bytes, merges, special tokens.
        out: folder to write.
        special_token: text that is one token and that no merge crosses; repeat it to give several.
        threads: threads that count words; all cores when not given.
        errors: strict refuses invalid UTF-8, replace reads it as U+FFFD.
        max_token_bytes: greatest length of a learned token; no limit when not given.
        sample_bytes: size of an evenly spaced sample to read of larger files: 500MB, 2GB.
        text_field: field of .jsonl files and column of .parquet files that holds the text.
        pattern: how texts are cut into words: gpt2, cl100k, o200k, llama3, qwen2, nanochat, smollm
            or deepseek; or a regular expression, which is slow.
        overwrite: replace the files of a tokenizer that is in the folder; other files stay.
    """
    from fastlm.corpus.text_files import find_texts, is_plain
    from fastlm.files import disk
    from fastlm.files.outputs import check_not_read, is_there
    from fastlm.tokenizer.bpe.patterns import find_pattern
    from fastlm.tokenizer.folder import own_files
    from fastlm.tokenizer.tokenizer import Tokenizer
    from fastlm.tokenizer.training import train_bpe

    started = time.perf_counter()
    special_tokens = list(dict.fromkeys(special_token))
    find_pattern(pattern)
    disk.check_folder(out)
    if own_files(out) and not overwrite:
        raise is_there(out)
    sample = None if sample_bytes is None else parse_bytes(sample_bytes)
    found = find_texts(text, is_any_suffix=True)
    _print_notes(found.notes())
    files = found.paths
    has_documents = not all(map(is_plain, files))
    if has_documents and sample is not None:
        raise ValueError("--sample-bytes reads stripes of plain text files: unpack the texts first")
    n_text_bytes = sum(path.stat().st_size for path in files)
    n_read_bytes = n_text_bytes
    n_merges = vocab_size - 256 - len(special_tokens)
    check_not_read(own_files(out), [path for path in files if path.is_file()])

    with disk.locked(out), _warnings_as_lines(), Meter() as meter:
        if own_files(out) and not overwrite:  # another process made it meanwhile
            raise is_there(out)

        def show(what: str, n: int) -> None:
            nonlocal n_text_bytes, n_read_bytes
            if what == "total":
                n_read_bytes = n
            elif what == "bytes":
                if has_documents:  # the size of packed text is not known before
                    n_text_bytes = n_read_bytes = n
                meter.update("counting words", n, n_read_bytes, unit="bytes")
            else:
                meter.update("learning merges", n, n_merges, unit="merges")

        vocab, merges = train_bpe(
            files,
            vocab_size,
            special_tokens,
            n_threads=threads,
            errors=errors,
            on_progress=show,
            max_token_bytes=max_token_bytes,
            sample_bytes=sample,
            text_field=text_field,
            pattern=pattern,
        )
        made = Tokenizer(vocab, merges, special_tokens, pattern)
        made.save(out, replace=overwrite, is_locked=True)
    of = "" if n_read_bytes == n_text_bytes else f"a sample of {n_read_bytes:,} bytes of "
    cli.say(
        f"{out}: {len(vocab):,} tokens from {of}{n_text_bytes:,} bytes "
        f"in {time.perf_counter() - started:.1f} s"
    )


def _encode_command(
    text: Positional[Path],
    tokenizer: Path,
    out: Path,
    threads: int | None = None,
    errors: Literal["strict", "replace"] = "strict",
    resume: bool = True,
    text_field: str = "text",
    allow_end_of_text: bool = False,
    overwrite: bool = False,
) -> None:
    """Write the token ids of a text file, and FILE.bin.json that describes them.

    Args:
        text: UTF-8 text file; of a .jsonl file the texts are encoded, each with <|endoftext|> after
            it.
        tokenizer: folder of the tokenizer, or a tokenizer.json.
        out: file to write: little-endian uint16, or uint32 from 65,537 tokens on.
        threads: threads that encode; all cores when not given.
        errors: strict refuses invalid UTF-8, replace reads it as U+FFFD.
        resume: continue where an interrupted run stopped.
        text_field: field of a .jsonl file that holds the text.
        allow_end_of_text: <|endoftext|> in such a field is encoded as one token, not refused.
        overwrite: replace an existing file.
    """
    from fastlm.corpus.text_files import is_plain, kind_of
    from fastlm.files.outputs import is_there
    from fastlm.files.paths import check_file
    from fastlm.tokenizer.folder import files_of
    from fastlm.tokenizer.token_files import check_encoded, is_named, may_be_replaced
    from fastlm.tokenizer.tokenizer import Tokenizer

    started = time.perf_counter()
    check_file(text)
    check_encoded(out, [text, *files_of(tokenizer)], replace=True)
    if out.exists() and not (overwrite or is_named(out)):
        raise is_there(out)
    check_encoded(out, [], replace=overwrite)
    if not is_plain(text) and not text.name.lower().endswith(".jsonl"):
        raise ValueError(
            f"{text}: expected a plain text file to encode, got {text.suffix}: unpack it, or use "
            "python -m fastlm.data prepare --tokenizer"
        )
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
                text,
                out,
                n_threads=threads,
                errors=errors,
                resume=resume,
                text_field=text_field,
                allow_end_of_text=allow_end_of_text,
                replace=overwrite,
                on_progress=show,
            )
    except KeyboardInterrupt:
        if not (resume and out.with_name(out.name + ".part").exists()):
            raise
        print("interrupted; the same command goes on from here", file=sys.stderr)
        sys.exit(cli.INTERRUPTED)
    except ValueError as error:
        part = out.with_name(out.name + ".part")
        if part.exists() and may_be_replaced(error):
            cli.say(f"note: {part} is kept: --errors replace goes on from there", file=sys.stderr)
        raise
    before = f", {n_read_before:,} of them encoded before," if n_read_before else ""
    size = f" ({n_bytes / max(count, 1):.3f} a token)"
    if kind_of(text) == "jsonl":  # the file has more bytes than its texts
        size = ""
    cli.say(
        f"{out}: {count:,} tokens of {n_bytes:,} bytes{before}{size} "
        f"in {time.perf_counter() - started:.1f} s"
    )


def _decode_command(file: Positional[Path], tokenizer: Path) -> None:
    """Print the text of a token file.

    Args:
        file: token file, with its .json beside it.
        tokenizer: folder or tokenizer.json of the tokenizer that encoded it.
    """
    from fastlm.files.tokens import open_single
    from fastlm.tokenizer.tokenizer import Tokenizer

    loaded = Tokenizer.load(tokenizer)
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    opened = open_single(file, loaded.hash)
    opened.verify()
    tokens = opened.tokens
    for begin in range(0, len(tokens), _DECODED_TOKENS):
        text = decoder.decode(loaded.decode_bytes(tokens[begin : begin + _DECODED_TOKENS]))
        sys.stdout.buffer.write(text.encode())
    sys.stdout.buffer.write(decoder.decode(b"", final=True).encode())
    sys.stdout.flush()


def _compile_command() -> None:
    """Compile the tokenizer's kernels for this machine, which is done once, and say where they are.

    Otherwise the first process that has more than a little text compiles them.
    """
    from fastlm.tokenizer.bpe import machine_code

    if machine_code.can_be_loaded() and (file := machine_code.find_file()) is not None:
        print(f"{file} holds the kernels for this machine")


def _report_command(
    text: Positional[tuple[Path, ...]],
    tokenizer: UseAppendAction[tuple[tuple[Path, ...], ...]],
    documents: int = 10,
    n_longest: int = 10,
    seconds: float = 1.0,
    errors: Literal["strict", "replace"] = "strict",
    json: Path | None = None,
    md: Path | None = None,
    text_field: str = "text",
    allow_end_of_text: bool = False,
    overwrite: bool = False,
) -> None:
    """Compare tokenizers on texts: compression and speed, beside characters, bytes and words.

    The report also has the overlap of the vocabularies, their longest tokens, whether uint16 holds
    the ids, and the time that The Pile would take. Every text is measured with every tokenizer.

    Args:
        text: .txt or .jsonl files, .gz, .xz or .zst of them, .parquet files, folders, or quoted
            patterns such as 'texts/*.txt'.
        tokenizer: folder of each tokenizer, or its tokenizer.json.
        documents: number of first documents to measure by themselves as well.
        n_longest: number of longest tokens to print.
        seconds: encode texts of up to 34 MB again until this much time has passed.
        errors: strict refuses invalid UTF-8, replace reads it as U+FFFD.
        json: file to write all figures to; - is standard output, in place of the tables.
        md: file to write the tables to, as Markdown; - is standard output.
        text_field: field of .jsonl files and column of .parquet files that holds the text.
        allow_end_of_text: <|endoftext|> in such a field or column separates documents.
        overwrite: replace existing files.
    """
    from fastlm.corpus.text_files import expand_patterns, find_texts, is_plain
    from fastlm.files import disk
    from fastlm.files.json_files import to_json
    from fastlm.files.outputs import check_new_files, is_standard_output
    from fastlm.tokenizer import comparison
    from fastlm.tokenizer.folder import files_of

    if math.isinf(seconds):
        raise ValueError(f"seconds must be a number of seconds: got {seconds}")
    outs = {flag: out for flag, out in (("--json", json), ("--md", md)) if out is not None}
    tokenizers = [path for group in tokenizer for path in group]
    if text:
        _print_notes(find_texts(text, is_any_suffix=True).notes())
    text = tuple(expand_patterns(text, is_any_suffix=True))
    for out in outs.values():
        if not out.parent.is_dir():
            raise FileNotFoundError(f"expected a folder {out.parent} to write in: make it first")
    inputs = [*text, *(file for path in tokenizers for file in files_of(path))]
    check_new_files(outs, inputs, replace=overwrite, to_stream=True)
    # Only the size of a plain file is the size of its text.
    sizes = {
        name: path.stat().st_size
        for name, path in comparison.name_paths(text)
        if path.is_file() and is_plain(path)
    }
    with _warnings_as_lines(), Meter() as meter:

        def show(name: str, n: int) -> None:
            if name in sizes:
                meter.update(f"measuring {name}", n, max(n, sizes[name]), unit="bytes")

        report = comparison.make_report(
            text,
            tokenizers,
            n_documents=documents,
            n_longest=n_longest,
            min_seconds=seconds,
            errors=errors,
            text_field=text_field,
            allow_end_of_text=allow_end_of_text,
            on_progress=show,
        )
    if not any(map(is_standard_output, outs.values())):
        print("\n\n".join(table.as_text() for table in comparison.tables(report)))
    if json is not None:
        raw = to_json(comparison.as_json(report), indent=0, is_ascii=False)
        disk.write_file(json, raw, replace=overwrite, to_stream=True)
    if md is not None:
        raw = comparison.as_markdown(report).encode()
        disk.write_file(md, raw, replace=overwrite, to_stream=True)


def _print_notes(notes: Sequence[str]) -> None:
    for note in notes:
        cli.say(note, file=sys.stderr)


def parse_bytes(text: str) -> int:
    """ "500MB" -> 500_000_000, "1.5GiB" -> 1_610_612_736, "12" -> 12."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-zA-Z]*)", text.strip())
    if match is None or match.group(2).upper() not in _UNITS:
        raise ValueError(f"a size must be a number of bytes, such as 500MB or 2GB: got {text!r}")
    try:
        return int(float(match.group(1)) * _UNITS[match.group(2).upper()])
    except OverflowError:
        raise ValueError(f"no files have a size of {text[:40]}...: give fewer bytes") from None


@contextlib.contextmanager
def _warnings_as_lines() -> Iterator[None]:
    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        cli.say(f"warning: {message}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = show
        yield


ARGUMENTS: dict[str, Callable[..., None]] = {
    "train": _train_command,
    "encode": _encode_command,
    "decode": _decode_command,
    "report": _report_command,
    "compile": _compile_command,
}


def main(argv: Sequence[str] | None = None) -> None:
    """The command line of fastlm.tokenizer."""
    cli.run_command(ARGUMENTS, argv, prog=cli.program("tokenizer"))


if __name__ == "__main__":
    cli.run(main)
