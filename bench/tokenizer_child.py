"""Jobs that tokenizer_scale.py runs in new processes, to measure memory and starts.

`python bench/tokenizer_child.py JOB ARGUMENTS_AS_JSON` prints one JSON value. Before a job
begins, only the standard library and the function that reads the peak memory are imported.
"""

import gc
import json
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from fastlm.devices.process import peak_resident_bytes

Row = dict[str, Any]

_SHORT_FROM_BYTES = 20_000_000
_N_SHORT_TEXTS = 200


def seconds_of(function: Callable[[], object]) -> float:
    gc.collect()
    began = time.perf_counter()
    result = function()
    seconds = time.perf_counter() - began
    del result
    return seconds


def measure_twice(function: Callable[[], object]) -> Row:
    """Time the first call, which loads compiled code, with its memory, and a second call."""
    row: Row = {
        "rss_before_bytes": peak_resident_bytes(),
        "first_call_seconds": seconds_of(function),
    }
    row["peak_rss_bytes"] = peak_resident_bytes()
    row["seconds"] = seconds_of(function)
    return row


def consume(arrays: Iterable[Sequence[int]]) -> int:
    return sum(map(len, arrays))


def train(path: str, vocab_size: int, n_threads: int) -> Row:
    """Time one training, the first in a process and another, and measure its peak memory."""
    from fastlm.tokenizer import END_OF_TEXT, train_bpe

    # Some inputs have too few pairs, which train_bpe warns of.
    warnings.simplefilter("ignore")
    return measure_twice(lambda: train_bpe(path, vocab_size, [END_OF_TEXT], n_threads=n_threads))


def fresh_tokenizer(folder: str) -> Any:
    """A tokenizer that is ready to encode, with an empty word cache."""
    from fastlm.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(folder)
    tokenizer.encode("a")
    return tokenizer


def short(path: str, folder: str, rounds: int) -> list[Row]:
    """Seconds per call of encode and decode on short texts, ours and tiktoken's in turn."""
    from tokenizer_peers import tiktoken_encoding

    from fastlm.tokenizer import Tokenizer

    ours = Tokenizer.load(folder)
    peer = tiktoken_encoding(ours)
    text = Path(path).read_bytes()[:_SHORT_FROM_BYTES].decode("utf-8", "ignore")
    ours.encode_to_numpy(text)  # loads compiled code, which short texts may not need
    rows = []
    for n_bytes in (20, 200, 2000):
        texts = short_texts(text, n_bytes)
        ids = [peer.encode_ordinary(text) for text in texts]
        calls = {
            ("encode", "fastlm"): (ours.encode, texts),
            ("encode", "tiktoken"): (peer.encode_ordinary, texts),
            ("decode", "fastlm"): (ours.decode, ids),
            ("decode", "tiktoken"): (peer.decode, ids),
        }
        equal = list(map(ours.encode, texts)) == ids and list(map(ours.decode, ids)) == texts
        all_seconds: dict[tuple[str, str], list[float]] = {key: [] for key in calls}
        for _ in range(rounds):
            for key, (call, arguments) in calls.items():
                all_seconds[key].append(seconds_of_calls(call, arguments))
        rows += [
            Row(call=key[0], contender=key[1], bytes=n_bytes, all_seconds=seconds, equal=equal)
            for key, seconds in all_seconds.items()
        ]
    return rows


def short_texts(text: str, n_bytes: int, n_texts: int = _N_SHORT_TEXTS) -> list[str]:
    """Pieces of about n_bytes from places spread over a text."""
    from tokenizer_texts import END_OF_TEXT

    text = text.replace(END_OF_TEXT, "")
    stride = max(len(text) // n_texts, 1)
    places = range(0, len(text), stride)
    encoded = (text[place : place + n_bytes].encode()[:n_bytes] for place in places)
    return [data.decode("utf-8", "ignore") for data in encoded][:n_texts]


def seconds_of_calls(call: Callable[[Any], object], arguments: Sequence[Any]) -> float:
    """Mean seconds per call in a loop over all arguments."""
    began = time.perf_counter()
    for argument in arguments:
        call(argument)
    return (time.perf_counter() - began) / len(arguments)


def start(folder: str, text: str) -> Row:
    """Time import, load and first encoding of a small text in a fresh interpreter."""
    began = time.perf_counter()
    from fastlm.tokenizer import Tokenizer

    imported = time.perf_counter()
    tokenizer = Tokenizer.load(folder)
    loaded = time.perf_counter()
    tokenizer.encode(text)
    ended = time.perf_counter()
    return {
        "seconds": ended - began,
        "import_seconds": imported - began,
        "load_seconds": loaded - imported,
        "first_encode_seconds": ended - loaded,
    }


def first_training(path: str, vocab_size: int) -> Row:
    """Time import and one training in a fresh interpreter."""
    began = time.perf_counter()
    from fastlm.tokenizer import END_OF_TEXT, train_bpe

    train_bpe(path, vocab_size, [END_OF_TEXT])
    return {"seconds": time.perf_counter() - began}


def everything(path: str, folder: str, vocab_size: int) -> Row:
    """Call all compiled functions: training with two threads, encoding and decoding."""
    began = time.perf_counter()
    from fastlm.tokenizer import END_OF_TEXT, Tokenizer, train_bpe

    train_bpe(path, vocab_size, [END_OF_TEXT], n_threads=2)
    tokenizer = Tokenizer.load(folder)
    text = Path(path).read_bytes().decode()
    tokenizer.encode(text)
    tokenizer.decode(tokenizer.encode_to_numpy(text))
    consume(tokenizer.encode_file_blocks(path, n_threads=2))
    consume(tokenizer.encode_documents(text.split(END_OF_TEXT), n_threads=2))
    return {"seconds": time.perf_counter() - began}


def encode_file(path: str, folder: str, n_threads: int) -> Row:
    """Encode a file block by block with an empty word cache, keeping no ids."""
    # Each call takes another tokenizer, so that the second does not find the words of the first.
    fresh = [fresh_tokenizer(folder) for _ in range(2)]
    return measure_twice(lambda: consume(fresh.pop().encode_file_blocks(path, n_threads=n_threads)))


def encode_text(path: str, folder: str) -> Row:
    """Encode a whole text with an empty word cache."""
    text = Path(path).read_bytes().decode()
    fresh = [fresh_tokenizer(folder) for _ in range(2)]
    return measure_twice(lambda: fresh.pop().encode_to_numpy(text))


JOBS: dict[str, Callable[..., Any]] = {
    job.__name__: job
    for job in (
        train,
        short,
        start,
        first_training,
        everything,
        encode_file,
        encode_text,
    )
}


if __name__ == "__main__":
    try:
        measured = JOBS[sys.argv[1]](**json.loads(sys.argv[2]))
    except ValueError as error:
        measured = {"refused": str(error)}
    print(json.dumps(measured))
