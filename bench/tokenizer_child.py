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
from typing import Any, NamedTuple

from fastlm.devices.process import peak_resident_bytes

Row = dict[str, Any]

_LIST_BYTES = 100_000_000  # a list of ids takes about 40 bytes per token
_SLOW_PEER_BYTES = 20_000_000
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


def train(contender: str, path: str, vocab_size: int, n_threads: int) -> Row:
    """Wall time and peak memory of one training; for fastlm also of the first in a process."""
    if contender == "fastlm":
        from fastlm.tokenizer import END_OF_TEXT, train_bpe

        # Some inputs have too few pairs, which train_bpe warns of.
        warnings.simplefilter("ignore")
        return measure_twice(
            lambda: train_bpe(path, vocab_size, [END_OF_TEXT], n_threads=n_threads)
        )
    import tokenizer_peers

    __import__(contender)
    trains = {
        "tokenizers": tokenizer_peers.train_hugging_face,
        "rustbpe": tokenizer_peers.train_rustbpe,
    }
    row: Row = {"rss_before_bytes": peak_resident_bytes()}
    row["seconds"] = seconds_of(lambda: trains[contender](Path(path), vocab_size))
    row["peak_rss_bytes"] = peak_resident_bytes()
    return row


class Contender(NamedTuple):
    """One way to encode a text: run(prepared) is timed, prepare() and ids(result) are not.

    ids is None if the ids are not compared.
    """

    name: str
    text: str
    prepare: Callable[[], Any]
    run: Callable[[Any], Any]
    n_rounds: int
    ids: Callable[[Any], Any] | None = lambda result: result


def encode(path: str, folder: str, rounds: int) -> list[Row]:
    """Time each contender in each round, and compare the ids of the first with tiktoken's."""
    import numpy as np
    from tokenizer_peers import tiktoken_encoding

    from fastlm.tokenizer import Tokenizer

    text = Path(path).read_bytes().decode()
    peer = tiktoken_encoding(Tokenizer.load(folder))
    contenders = our_contenders(path, folder, text, rounds)
    contenders += peer_contenders(folder, text, peer, rounds)
    parts = {len(contender.text): contender.text for contender in contenders}
    expected = {n: peer.encode_to_numpy(part, allowed_special="all") for n, part in parts.items()}
    rows = {
        contender.name: Row(contender=contender.name, bytes=len(contender.text.encode()))
        for contender in contenders
    }
    for contender in (c for number in range(rounds) for c in contenders if number < c.n_rounds):
        row = rows[contender.name]
        prepared = contender.prepare()
        gc.collect()
        began = time.perf_counter()
        result = contender.run(prepared)
        row.setdefault("all_seconds", []).append(time.perf_counter() - began)
        if contender.ids is not None and "ids_equal_tiktoken" not in row:
            ids = np.asarray(contender.ids(result))
            row["ids_equal_tiktoken"] = bool(np.array_equal(ids, expected[len(contender.text)]))
        del prepared, result
    return list(rows.values())


def fresh_tokenizer(folder: str) -> Any:
    """A tokenizer that is ready to encode, with an empty word cache."""
    from fastlm.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(folder)
    tokenizer.encode("a")
    return tokenizer


def our_contenders(path: str, folder: str, text: str, rounds: int) -> list[Contender]:
    import numpy as np

    listed = text[:_LIST_BYTES]
    tokenizer = fresh_tokenizer(folder)
    # Each thread has its own cache: fill the caches of two threads.
    for _ in range(2):
        consume(tokenizer.encode_file_blocks(path, n_threads=2))

    def warm() -> Any:
        return tokenizer

    def cold() -> Any:
        return fresh_tokenizer(folder)

    def whole(ours: Any) -> Any:
        return ours.encode_to_numpy(text)

    def to_list(ours: Any) -> Any:
        return ours.encode(listed)

    def one_thread(ours: Any) -> Any:
        return list(ours.encode_file_blocks(path, n_threads=1))

    def two_threads(ours: Any) -> Any:
        return list(ours.encode_file_blocks(path, n_threads=2))

    file = "fastlm encode_file_blocks"
    return [
        Contender("fastlm encode_to_numpy, cold", text, cold, whole, rounds),
        Contender("fastlm encode_to_numpy", text, warm, whole, rounds),
        Contender("fastlm encode", listed, warm, to_list, rounds),
        Contender(f"{file}, 1 thread", text, warm, one_thread, rounds, np.concatenate),
        Contender(f"{file}, 2 threads", text, warm, two_threads, rounds, np.concatenate),
    ]


def peer_contenders(folder: str, text: str, of_tiktoken: Any, rounds: int) -> list[Contender]:
    """Peers; the slow Hugging Face library gets one round, on documents of the beginning."""
    from tokenizer_peers import hugging_face_tokenizer
    from tokenizer_texts import END_OF_TEXT

    listed, part = text[:_LIST_BYTES], text[:_SLOW_PEER_BYTES]
    documents = part.split(END_OF_TEXT)
    of_hugging_face = hugging_face_tokenizer(Path(folder))
    end_id = of_hugging_face.token_to_id(END_OF_TEXT)

    def to_numpy(peer: Any) -> Any:
        return peer.encode_to_numpy(text, allowed_special="all")

    def ordinary(peer: Any) -> Any:
        return peer.encode_ordinary(listed)

    def one_by_one(peer: Any) -> list[list[int]]:
        return [peer.encode(document).ids for document in documents]

    def batch(peer: Any) -> list[list[int]]:
        return [encoding.ids for encoding in peer.encode_batch_fast(documents)]

    def joined(batch: list[list[int]]) -> list[int]:
        return [token_id for ids in batch for token_id in [*ids, end_id]][:-1]

    def tiktoken() -> Any:
        return of_tiktoken

    def hugging_face() -> Any:
        return of_hugging_face

    return [
        Contender("tiktoken encode_to_numpy", text, tiktoken, to_numpy, rounds),
        # encode_ordinary treats special tokens as ordinary text, so its ids differ.
        Contender("tiktoken encode_ordinary", listed, tiktoken, ordinary, rounds, None),
        Contender("tokenizers encode", part, hugging_face, one_by_one, 1, joined),
        Contender("tokenizers encode_batch_fast", part, hugging_face, batch, 1, joined),
    ]


def short(path: str, folder: str, rounds: int) -> list[Row]:
    """Seconds per call of encode and decode on short texts, ours and tiktoken's in turn."""
    from tokenizer_peers import tiktoken_encoding

    from fastlm.tokenizer import Tokenizer

    ours = Tokenizer.load(folder)
    peer = tiktoken_encoding(ours)
    text = Path(path).read_bytes()[:_SLOW_PEER_BYTES].decode("utf-8", "ignore")
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


def start(contender: str, folder: str, text: str) -> Row:
    """Time import, load and first encoding of a small text in a fresh interpreter."""
    began = time.perf_counter()
    if contender == "fastlm":
        from fastlm.tokenizer import Tokenizer

        imported = time.perf_counter()
        tokenizer: Any = Tokenizer.load(folder)
    else:
        import tokenizers

        imported = time.perf_counter()
        tokenizer = tokenizers.Tokenizer.from_file(f"{folder}/tokenizer.json")
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
        encode,
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
