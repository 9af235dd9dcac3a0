"""Proofs about the tokenizer too long for the suite: `make soak`, under 30 minutes on two cores.

Each prints how much it compared. FASTLM_SOAK_SHARE=0.01 does about a hundredth of each.
"""

import os
import random
import string
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import regex
import tiktoken
from bpe_cases import TRICKY, count_words, learn, pretokenize
from make_unicode_table import SURROGATES
from without_a_name import check_without_a_name

from fastlm.tokenizer import END_OF_TEXT, Tokenizer, train_bpe
from fastlm.tokenizer.bpe import blocks, reference, small
from fastlm.tokenizer.bpe.count import WordCounter
from fastlm.tokenizer.bpe.pretokenize import class_table, token_bounds
from fastlm.tokenizer.bpe.unicode_table import LETTER, NUMBER, OTHER, SPACE

# Small and uniform texts run out of pairs, which is said in a warning.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:the text has no more pairs")]

SHARE = float(os.environ.get("FASTLM_SOAK_SHARE", "1"))
PIECE_CHARACTERS = 1 << 22
MEGABYTE = 1_000_000


def share_of(count: int) -> int:
    return max(int(count * SHARE), 1)


@pytest.fixture(scope="session")
def gpt2(text_dir: Path) -> Tokenizer:
    # Unpacked texts may come without it.
    root = Path(__file__).resolve().parents[2]
    for texts in (text_dir, root / "shared" / "data", root.parent / "shared" / "data"):
        if (texts / "gpt2").is_dir():
            files = texts / "gpt2" / "vocab.json", texts / "gpt2" / "merges.txt"
            return Tokenizer.from_files(*files, [END_OF_TEXT])
    pytest.skip("no folder gpt2 with vocab.json and merges.txt among the texts")


@pytest.fixture(scope="session")
def of_tiktoken(gpt2: Tokenizer) -> tiktoken.Encoding:
    ranks = {token: i for i, token in gpt2.vocab.items() if token != END_OF_TEXT.encode()}
    return tiktoken.Encoding(
        "gpt2",
        pat_str=reference.PATTERN,
        mergeable_ranks=ranks,
        special_tokens=gpt2.special_tokens,
    )


@pytest.fixture(scope="session")
def english(text_dir: Path) -> str:
    return (text_dir / "owt_sample.txt").read_bytes().decode()


@pytest.fixture(scope="session")
def classes_of_regex() -> np.ndarray:
    text = "".join(chr(point) for point in range(0x110000) if point not in SURROGATES)
    classes = np.full(0x110000, OTHER, np.uint8)
    for label, pattern in ((LETTER, r"\p{L}"), (NUMBER, r"\p{N}"), (SPACE, r"\s")):
        classes[[ord(c) for c in regex.findall(pattern, text)]] = label
    return classes


@pytest.fixture(scope="session")
def pools(classes_of_regex: np.ndarray) -> list[list[str]]:
    """Characters to draw from, without those that only a newer Unicode than 16 knows."""
    is_known = classes_of_regex == np.frombuffer(class_table(), np.uint8)
    is_known[SURROGATES.start : SURROGATES.stop] = False

    def chars(is_wanted: np.ndarray) -> list[str]:
        return [chr(point) for point in np.flatnonzero(is_wanted & is_known).tolist()]

    points = np.arange(0x110000)
    of_class = [chars(classes_of_regex == label) for label in (LETTER, NUMBER, SPACE, OTHER)]
    of_plane = [chars(points >> 16 == plane) for plane in range(17)]
    ascii_tricky = [*"abstdmlverABSTDM'''    \n\n\r\t0129.,!?-\"\0"]
    return [TRICKY, ascii_tricky, [*"'sdmtlver "], [*" \n\t.a"], *of_class, *of_plane]


def random_texts(pools: list[list[str]], n_texts: int, seed: int) -> Iterator[str]:
    """Texts of up to 30 characters from two pools, mixed; the first pools are the most frequent."""
    rng = random.Random(seed)
    weights = [1 / (rank + 1) for rank in range(len(pools))]
    for _ in range(n_texts):
        first, second = rng.choices(pools, weights, k=2)
        pieces = rng.choices(first, k=rng.randrange(1, 16)) + rng.choices(
            second, k=rng.randrange(16)
        )
        rng.shuffle(pieces)
        yield "".join(pieces)


def real_texts(text_dir: Path) -> Iterator[tuple[str, str]]:
    """(name, text) in pieces, cut anywhere: each is a text of its own."""
    for path in sorted(text_dir.rglob("*.txt")):
        text = path.read_bytes().decode("utf-8", "replace")
        for begin in range(0, share_of(len(text)), PIECE_CHARACTERS):
            yield path.name, text[begin : min(begin + PIECE_CHARACTERS, share_of(len(text)))]


class TestPretokenize:
    def test_random_texts_are_cut_as_regex_cuts_them(self, pools):
        n_texts = share_of(1_000_000)
        n_characters = n_tokens = 0
        for text in random_texts(pools, n_texts, seed=0):
            expected = reference.pretokenize(text)
            assert pretokenize(text) == expected, repr(text)
            n_characters += len(text)
            n_tokens += len(expected)
        print(f"{n_texts:,} texts, {n_characters:,} characters, {n_tokens:,} pre-tokens")

    def test_random_texts_are_cut_alike_without_compiled_code(self, pools):
        n_texts = share_of(200_000)
        for text in random_texts(pools, n_texts, seed=1):
            found = [token.encode() for token in small.pretokenize(text)]
            assert found == reference.pretokenize(text), repr(text)
        print(f"{n_texts:,} texts")

    def test_random_texts_count_alike_as_documents_of_one_block(self, pools):
        n_batches, n_texts = share_of(200), 1000
        for batch in range(n_batches):
            texts = list(random_texts(pools, n_texts, seed=1000 + batch))
            expected = Counter(token for text in texts for token in reference.pretokenize(text))
            encoded = [text.encode() for text in texts]
            counter = WordCounter([])
            bounds = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
            counter.add(b"".join(encoded), bounds)
            assert count_words(counter) == expected, batch
        print(f"{n_batches * n_texts:,} texts in {n_batches} blocks")

    def test_real_texts_are_cut_as_regex_cuts_them(self, text_dir, classes_of_regex):
        newer = np.flatnonzero(classes_of_regex != np.frombuffer(class_table(), np.uint8)).tolist()
        without_newer = dict.fromkeys(newer)
        n_bytes = n_tokens = 0
        for name, text in real_texts(text_dir):
            text = text if text.isascii() else text.translate(without_newer)
            tokens = regex.findall(reference.PATTERN, text)
            expected = np.fromiter((len(token.encode()) for token in tokens), np.int64)
            bounds = token_bounds(text.encode())
            np.testing.assert_array_equal(np.diff(bounds), expected, err_msg=name)
            n_bytes += int(bounds[-1])
            n_tokens += len(tokens)
        print(f"{n_bytes:,} bytes, {n_tokens:,} pre-tokens")


class TestTrain:
    def test_merges_equal_plain_merges_on_texts_full_of_ties(self):
        n_texts, n_merges = share_of(5_000), 0
        rng = random.Random(0)
        for _ in range(n_texts):
            text = text_full_of_ties(rng)
            expected = reference.learn_merges([text], 60, [])
            assert learn(text, 60) == expected, repr(text)
            in_python = small.learn_merges(small.count_words([text], []), 60)
            assert in_python == expected, repr(text)
            n_merges += len(expected)
        print(f"{n_texts:,} texts, {n_merges:,} merges")

    def test_merges_equal_plain_merges_on_real_text(self, english):
        text = english[: share_of(2 * MEGABYTE)]
        expected = reference.learn_merges([text], 300, [END_OF_TEXT])
        assert learn(text, 300, [END_OF_TEXT]) == expected
        print(f"{len(expected)} merges of {len(text.encode()):,} bytes")

    def test_merges_and_ids_do_not_depend_on_threads_and_hash_seed(self, english, tmp_path):
        path = tmp_path / "text.txt"
        path.write_bytes(english[: share_of(len(english))].encode())
        program = (
            "import hashlib, sys; from fastlm.tokenizer import Tokenizer, train_bpe\n"
            "path, n_threads = sys.argv[1], int(sys.argv[2])\n"
            "learned = train_bpe(path, 5000, ['<|endoftext|>', '<|end|>'], n_threads=n_threads)\n"
            "tokenizer = Tokenizer(*learned, ['<|endoftext|>', '<|end|>'])\n"
            "digest = hashlib.sha256(tokenizer.hash.encode())\n"
            "for ids in tokenizer.encode_file_blocks(path, n_threads=n_threads):\n"
            "    digest.update(ids.tobytes())\n"
            "print(digest.hexdigest())"
        )
        digests = {
            (n_threads, seed): subprocess.run(
                [sys.executable, "-c", program, str(path), str(n_threads)],
                env=os.environ | {"PYTHONHASHSEED": seed},
                check=True,
                stdout=subprocess.PIPE,
                text=True,
            ).stdout
            for n_threads in (1, 2, 4)
            for seed in ("0", "1", "4294967295")
        }
        assert len(set(digests.values())) == 1, digests
        print(f"{len(digests)} processes, {path.stat().st_size:,} bytes each")


def text_full_of_ties(rng: random.Random) -> str:
    """Few letters and short words: most pairs are as frequent as others."""
    alphabet = rng.choice(["ab", "abc", "a", "ab é", "aA'", "01 2", "xyzé中", "a\n b", "😀a😁"])
    words = [
        "".join(rng.choices(alphabet, k=rng.randrange(1, 9))) for _ in range(rng.randrange(1, 12))
    ]
    return rng.choice(["", " ", "\n", " a"]).join(rng.choices(words, k=rng.randrange(1, 40)))


SPECIAL = [END_OF_TEXT, "<|end|>", "<|endoftext|> <|end|>", " a b ", "\n\n<s>", "<|endof"]
BLOCK_SIZES = [16, 64, 1 << 10, 1 << 14, 1 << 18, 1 << 21, 1 << 24]


class TestBlocks:
    @pytest.mark.parametrize("n_bytes", BLOCK_SIZES)
    def test_special_tokens_at_every_seam_stay_whole(self, gpt2, english, n_bytes):
        tokenizer = Tokenizer(dict(gpt2.vocab), gpt2.merges, SPECIAL)
        special = [token.encode() for token in SPECIAL]
        n_blocks = 0
        # A cut keeps the longest token's length from the end: tokens lie across both.
        longest = max(map(len, special))
        for shift in range(-2, 2 * longest + 8) if n_bytes < MEGABYTE else (0, 9, longest + 2):
            text = text_with_seams(english.encode(), n_bytes, shift)
            chunks = [text[i : i + n_bytes] for i in range(0, len(text), n_bytes)]
            cut = list(blocks.cut_blocks(chunks, special, n_bytes=n_bytes))
            assert b"".join(cut) == text
            ids = np.concatenate([tokenizer.encode_to_numpy(piece) for piece in cut])
            np.testing.assert_array_equal(ids, tokenizer.encode_to_numpy(text), err_msg=str(shift))
            n_blocks += len(cut)
        print(f"{n_blocks:,} blocks of about {n_bytes:,} bytes")

    @pytest.mark.parametrize("n_bytes", BLOCK_SIZES)
    def test_files_read_in_blocks_equal_the_whole(
        self, gpt2, english, tmp_path, monkeypatch, n_bytes
    ):
        tokenizer = Tokenizer(dict(gpt2.vocab), gpt2.merges, SPECIAL)
        path = tmp_path / "text.txt"
        text = text_with_seams(english.encode(), n_bytes, 5)
        path.write_bytes(text)
        expected_merges = train_bpe(path, 600, SPECIAL, n_threads=1)[1]
        set_block_bytes(monkeypatch, n_bytes)
        for n_threads in (1, 2):
            pieces = list(tokenizer.encode_file_blocks(path, n_threads=n_threads))
            assert len(pieces) >= len(text) // n_bytes // 4, "the blocks are not as small as asked"
            np.testing.assert_array_equal(np.concatenate(pieces), tokenizer.encode_to_numpy(text))
            assert train_bpe(path, 600, SPECIAL, n_threads=n_threads)[1] == expected_merges
        print(f"{len(pieces):,} blocks of about {n_bytes:,} bytes, {len(text):,} bytes")


def text_with_seams(filler: bytes, n_bytes: int, shift: int) -> bytes:
    """Text in which a special token begins shift bytes before every multiple of n_bytes."""
    n_seams = max(min(share_of(40_000) // n_bytes, 2000), 3)
    rng = random.Random(n_bytes + shift)
    made = bytearray()
    for seam in range(1, n_seams + 1):
        n_missing = max(seam * n_bytes - shift - len(made), 0)
        begin = rng.randrange(len(filler))
        piece = filler[begin : begin + n_missing]
        while len(piece) < n_missing:
            piece += filler[: n_missing - len(piece)]
        # A character cut in half would not be text.
        made += piece.decode("utf-8", "ignore").encode().ljust(n_missing, b"\n")
        made += rng.choice(SPECIAL).encode()
    return bytes(made)


def set_block_bytes(monkeypatch: pytest.MonkeyPatch, n_bytes: int) -> None:
    """Set BLOCK_BYTES in every module that has imported it."""
    for name, module in list(sys.modules.items()):
        if name.startswith("fastlm") and hasattr(module, "BLOCK_BYTES"):
            monkeypatch.setattr(module, "BLOCK_BYTES", n_bytes)


class TestEncode:
    def test_ids_equal_tiktoken_on_real_texts(self, text_dir, gpt2, of_tiktoken):
        n_bytes = n_tokens = 0
        for name, text in real_texts(text_dir):
            ids = gpt2.encode_to_numpy(text)
            expected = of_tiktoken.encode_to_numpy(text, allowed_special="all")
            np.testing.assert_array_equal(ids, expected, err_msg=name)
            n_bytes += len(text.encode())
            n_tokens += len(ids)
        print(f"{n_bytes:,} bytes, {n_tokens:,} tokens")

    def test_ids_equal_tiktoken_on_random_texts(self, pools, gpt2, of_tiktoken):
        n_texts = share_of(300_000)
        for text in random_texts(pools, n_texts, seed=2):
            ids = gpt2.encode(text)
            assert ids == of_tiktoken.encode_ordinary(text), repr(text)
            assert gpt2.decode(ids) == text
        print(f"{n_texts:,} texts")

    def test_streams_cut_anywhere_equal_the_whole(self, text_dir, gpt2):
        n_streams = n_chunks = 0
        rng = random.Random(0)
        for path in sorted(text_dir.rglob("*.txt")):
            text = path.read_bytes()[: share_of(300_000)].decode("utf-8", "ignore")
            expected = gpt2.encode(text)
            for mean_size in (1, 3, 20, 1000, 70_000):
                chunks = list(random_chunks(text, mean_size, rng))
                assert list(gpt2.encode_iterable(chunks)) == expected, (path.name, mean_size)
                n_streams += 1
                n_chunks += len(chunks)
            assert list(gpt2.encode_iterable(text.splitlines(keepends=True))) == expected
        print(f"{n_streams} streams, {n_chunks:,} chunks")

    def test_batches_and_counts_equal_texts_one_by_one(self, text_dir, pools, gpt2):
        texts = list(random_texts(pools, share_of(300_000), seed=3))
        n_characters = 0
        for _, text in real_texts(text_dir):
            n_characters += len(text)
            if n_characters < 24 * MEGABYTE:  # lists of more take gigabytes
                texts += [*text.split("\n\n"), text]
        rows = [gpt2.encode_to_numpy(text) for text in texts]
        lengths = list(map(len, rows))
        for n_threads in (1, 2, 5):
            ids, offsets = gpt2.encode_batch_flat(texts, n_threads=n_threads)
            np.testing.assert_array_equal(ids, np.concatenate(rows))
            assert np.diff(offsets).tolist() == lengths
            assert gpt2.count_batch(texts, n_threads=n_threads) == lengths
            assert gpt2.encode_batch(texts, n_threads=n_threads) == [row.tolist() for row in rows]
        assert list(map(gpt2.count, texts)) == lengths
        print(f"{len(texts):,} texts, {sum(lengths):,} tokens")

    def test_ids_in_another_order_give_the_same_tokens(self, gpt2, english):
        order = list(gpt2.vocab)
        random.Random(0).shuffle(order)
        vocab = {order[token_id]: token for token_id, token in gpt2.vocab.items()}
        shuffled = Tokenizer(vocab, gpt2.merges, [END_OF_TEXT])
        text = english[: share_of(len(english))]
        expected = np.array(order)[gpt2.encode_to_numpy(text)]
        np.testing.assert_array_equal(shuffled.encode_to_numpy(text), expected)
        print(f"{len(text.encode()):,} bytes, {len(expected):,} tokens")

    @pytest.mark.parametrize("n_bytes", [16, 1 << 10, 1 << 18])
    def test_bad_bytes_are_replaced_alike_in_blocks(
        self, gpt2, pools, tmp_path, monkeypatch, n_bytes
    ):
        rng = random.Random(n_bytes)
        made = bytearray(" ".join(random_texts(pools, share_of(50_000), seed=3)).encode())
        n_bad = len(made) // 50
        for _ in range(n_bad):
            made[rng.randrange(len(made))] = rng.randrange(128, 256)
        path = tmp_path / "text.txt"
        path.write_bytes(made)
        expected = gpt2.encode_to_numpy(bytes(made).decode("utf-8", "replace"))
        set_block_bytes(monkeypatch, n_bytes)
        pieces = list(gpt2.encode_file_blocks(path, n_threads=1, errors="replace"))
        np.testing.assert_array_equal(np.concatenate(pieces), expected)
        print(f"{len(made):,} bytes in {len(pieces):,} blocks, {n_bad:,} bytes changed")


def random_chunks(text: str, mean_size: int, rng: random.Random) -> Iterator[str]:
    place = 0
    while place < len(text):
        size = int(rng.expovariate(1 / mean_size))
        yield text[place : place + size]
        place += size


REPEATED = {
    "one letter": "a",
    "spaces": " ",
    "newlines": "\n",
    "line ends of Windows": "\r\n",
    "apostrophes": "'",
    "contractions": "'ll",
    "one emoji": "😀",
    "wide spaces": "\u3000",
    "spaces and a letter": "  a",
    "special tokens": END_OF_TEXT,
    "special token prefixes": END_OF_TEXT[:-3],
    "one character a document": f"a{END_OF_TEXT}",
    "nul": "\0",
}
HARD = [*REPEATED, "letters without a space", "latin-1"]


def hard_text(kind: str, n_bytes: int) -> str:
    rng = random.Random(0)
    if kind == "letters without a space":
        return "".join(rng.choices(string.ascii_lowercase, k=n_bytes))
    if kind == "latin-1":
        return rng.randbytes(n_bytes * 2 // 3).decode("latin-1")
    return REPEATED[kind] * (n_bytes // len(REPEATED[kind].encode()))


@pytest.mark.parametrize("kind", HARD)
class TestHardInputs:
    # tiktoken takes quadratic time on a long word that hardly merges.
    N_COMPARED = 20_000

    def test_encoding_comes_back_and_equals_tiktoken(self, kind, gpt2, of_tiktoken):
        text = hard_text(kind, share_of(20 * MEGABYTE))
        ids = gpt2.encode_to_numpy(text)
        assert gpt2.decode(ids) == text
        part = text[: self.N_COMPARED]
        assert gpt2.encode(part) == of_tiktoken.encode(part, allowed_special="all")
        print(f"{kind}: {len(text.encode()):,} bytes, {len(ids):,} tokens")

    def test_streams_and_files_equal_the_whole(self, kind, gpt2, tmp_path):
        text = hard_text(kind, share_of(4 * MEGABYTE))
        expected = gpt2.encode_to_numpy(text)
        path = tmp_path / "hard.txt"
        path.write_bytes(text.encode())
        from_file = np.concatenate(list(gpt2.encode_file_blocks(path, n_threads=2)))
        np.testing.assert_array_equal(from_file, expected)
        chunks = (text[i : i + 10_007] for i in range(0, len(text), 10_007))
        np.testing.assert_array_equal(list(gpt2.encode_iterable(chunks)), expected)
        print(f"{kind}: {len(text.encode()):,} bytes")

    def test_training_equals_plain_training(self, kind, tmp_path):
        text = hard_text(kind, share_of(20 * MEGABYTE))
        path = tmp_path / "hard.txt"
        path.write_bytes(text.encode())
        if not text.replace(END_OF_TEXT, ""):
            with pytest.raises(ValueError, match="no text"):
                train_bpe(path, 300, [END_OF_TEXT])
            return
        vocab, merges = train_bpe(path, 1000, [END_OF_TEXT])
        tokenizer = Tokenizer(vocab, merges, [END_OF_TEXT])
        assert tokenizer.decode(tokenizer.encode_to_numpy(text)) == text
        part = text[: self.N_COMPARED // 4]
        assert learn(part, 40, [END_OF_TEXT]) == reference.learn_merges([part], 40, [END_OF_TEXT])
        print(f"{kind}: {len(text.encode()):,} bytes, {len(merges)} merges")


def test_without_a_private_name_of_numba_all_results_are_equal():
    """test_compiler.py counts words so."""
    check_without_a_name("all")
