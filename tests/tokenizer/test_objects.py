"""Kernels that read the memory of str objects and write that of lists."""

import ctypes
import gc
import os
import random
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest

from fastlm.tokenizer.bpe import buffers, characters, lists, objects

# The last character decides how wide the characters of a str are kept.
OF_EACH_WIDTH = ["\xe9\x80\xff", "\u0100\u07ff\u0800\ud7ff\ue000\uffff", "\U00010000\U0010ffff"]


def pieces_of(text: str, n_characters: int, may_cut: bool = True) -> Iterator[bytes]:
    pieces = characters.Utf8Pieces(may_cut, n_characters).pieces(text)
    return (ctypes.string_at(address, n_bytes) for address, n_bytes, _ in pieces)


def utf8_of(text: str) -> bytes:
    return b"".join(pieces_of(text, 1 << 16))


class TestUtf8:
    @pytest.mark.parametrize("given_characters", OF_EACH_WIDTH)
    def test_equals_encode(self, given_characters):
        rng = random.Random(0)
        for n in [1, 2, 15, 16, 17, 31, 32, 33, 63, 64, 65, 200, 1000]:
            for share in (0.0, 0.02, 0.5, 1.0):
                text = given_characters[-1] + "".join(
                    rng.choice(given_characters)
                    if rng.random() < share
                    else chr(rng.randrange(128))
                    for _ in range(n)
                )
                for given in (text, text[::-1]):
                    assert utf8_of(given) == given.encode()

    def test_every_character(self):
        for width, end in ((1, 0x100), (2, 0x10000), (4, 0x110000)):
            points = [*range(0x80, min(end, 0xD800)), *range(0xE000, end, 7)]
            text = "".join(map(chr, points))
            assert objects.wide_characters(text)[1] == width
            assert utf8_of(text) == text.encode()

    @pytest.mark.parametrize("surrogate", [0xD800, 0xDFFF])
    @pytest.mark.parametrize("other", ["", "\U0001f600"])
    def test_a_lone_surrogate_is_refused_as_encode_does(self, surrogate, other):
        text = "x" * 100 + chr(surrogate) + other
        with pytest.raises(UnicodeEncodeError) as raised:
            utf8_of(text)
        assert raised.value.start == 100

    def test_pieces_are_those_of_the_text(self):
        text = "caf\xe9 one, two three. " * 50 + "\U0001f600 four five" * 3
        cut = list(pieces_of(text, 64))
        assert b"".join(cut) == text.encode()
        assert len(cut) > 10
        assert all(piece[:1] == b" " and piece[1:2].isalpha() for piece in cut[1:])
        assert list(pieces_of(text, 64, may_cut=False)) == [text.encode()]

    def test_a_text_without_places_to_cut_is_one_piece(self):
        text = "\u4e2d" * 1000
        assert list(pieces_of(text, 64)) == [text.encode()]
        assert utf8_of("x" * 3_000_000 + text) == b"x" * 3_000_000 + text.encode()

    def test_without_the_layout_it_is_encode(self, monkeypatch):
        monkeypatch.setattr(objects, "_shift", None)
        assert utf8_of("\xe9") == "\xe9".encode()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no processes are forked here")
def test_a_forked_process_has_buffers_of_its_own():
    for n in (10, 1 << 20):
        held = buffers.Buffer(n, "uint8")
        held.items[5] = 1
        child = os.fork()
        if child == 0:
            held.items[5] += 1
            os._exit(held.items[5])
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2
        assert held.items[5] == 1


def test_a_buffer_without_memory_for_it_is_a_memory_error():
    with pytest.raises(MemoryError, match=r"no memory for a buffer of [\d,]+ bytes"):
        buffers.Buffer(1 << 57, "int64")


class TestLists:
    @pytest.mark.parametrize("dtype", [np.uint16, np.uint32])
    @pytest.mark.parametrize("n", [0, 1, 2, 255, 256, 257, 10_000])
    def test_equals_tolist(self, dtype, n):
        n_ids = 50_257 if dtype == np.uint16 else 200_019
        ids = np.random.default_rng(n).integers(0, n_ids, n).astype(dtype)
        made = lists.ListMaker(n_ids).to_list(ids)
        assert made == ids.tolist()
        assert all(type(token_id) is int for token_id in made)

    def test_lists_are_used_as_others_are(self):
        maker = lists.ListMaker(1000)
        ids = np.arange(1000).astype(np.uint16)
        for _ in range(200):
            made = maker.to_list(ids)
            copy = made[::-1]
            made[10] = "other"
            del made[:500], copy[3]
            made.append(5)
            made.sort(key=str)
            made *= 2
        gc.collect()
        assert maker.to_list(ids) == list(range(1000))
        assert [a + b for a, b in zip(maker.to_list(ids), range(1000), strict=True)] == list(
            range(0, 2000, 2)
        )

    def test_integers_that_python_keeps_itself_outlast_any_number_of_lists(self):
        """Python 3.11 frees them after a thousand million references, and then aborts."""
        lists.ListMaker(300)
        kept = list(range(257))
        assert all(sys.getrefcount(number) >= 3 << 30 for number in kept)
        counts = [sys.getrefcount(number) for number in kept]
        lists.ListMaker(3000)
        for before, number in zip(counts, kept, strict=True):
            assert abs(sys.getrefcount(number) - before) < 1000

    def test_without_the_layout_it_is_tolist(self, monkeypatch):
        monkeypatch.setattr(lists, "CAN_WRITE_LISTS", False)
        assert lists.ListMaker(10).to_list(np.array([1, 9], np.uint16)) == [1, 9]

    def test_a_process_that_made_lists_ends_well(self):
        code = (
            "import numpy as np; from fastlm.tokenizer.bpe.lists import ListMaker;"
            "maker = ListMaker(60_000); ids = np.arange(60_000).astype(np.uint16);"
            "kept = [maker.to_list(ids) for _ in range(20)];"
            "print(sum(map(sum, kept)))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        assert int(done.stdout) == 20 * sum(range(60_000))
