"""Train and encode in plain Python, for texts too small to be worth loading the kernels.

The results equal those of encode.py, count.py and merge.py. Nothing here is compiled, and neither
numba nor regex is imported.

>>> pretokenize("It's 5")
['It', "'s", ' 5']
>>> learn_merges(count_words(["low low lower"], []), 2)
[(b'o', b'w'), (b'l', b'ow')]
"""

from __future__ import annotations

import functools
import heapq
import re
import sys
from bisect import insort
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate, pairwise

from fastlm.tokenizer.bpe.errors import UnknownByte, plain_str
from fastlm.tokenizer.bpe.patterns import GPT2, Pattern
from fastlm.tokenizer.bpe.unicode_table import LETTER, NUMBER, OTHER, SPACE, code_point_classes
from fastlm.tokenizer.bpe.word_rules import PLAIN_WORDS, WordRules, is_scanned

NO_TOKEN = -1

Pair = tuple[bytes, bytes]

# GPT-2's pattern for ASCII with its classes spelled out, because \s also matches \x1c to \x1f.
_find_tokens = re.compile(
    r"'(?:[sdmt]|ll|ve|re)| ?[A-Za-z]+| ?[0-9]+| ?[^\t-\r A-Za-z0-9]+"
    r"|[\t-\r ]+(?![^\t-\r ])|[\t-\r ]+"
).findall

# These replace all other characters of their class. The letter and the mark occur in no
# contraction, and the space is not the blank that belongs to the token after it.
_STAND_INS = {LETTER: "A", NUMBER: "0", OTHER: "!", SPACE: "\t"}

_NO_MERGE = (sys.maxsize, NO_TOKEN)
_SCANNED_SYMBOLS = 64  # up to this length scanning all pairs for each merge is faster than a heap
_CACHED_CHARACTERS = 256  # longer words are rare and seldom repeated
_MAX_WORDS = 1 << 15


@functools.cache
def _stand_ins() -> dict[int, str]:
    """Map each code point beyond ASCII to an ASCII character of the same class."""
    return _StandIns(code_point_classes())


class _StandIns(dict[int, str]):
    """A dictionary filled as code points are looked up."""

    def __init__(self, classes: bytes) -> None:
        super().__init__((point, chr(point)) for point in range(128))
        self._classes = classes

    def __missing__(self, point: int) -> str:
        self[point] = _STAND_INS[self._classes[point]]
        return self[point]


def pretokenize(text: str) -> list[str]:
    """Split a text without special tokens into pre-tokens, by the classes of Unicode 16."""
    if text.isascii():
        return _find_tokens(text)
    tokens = _find_tokens(text.translate(_stand_ins()))
    # Every character belongs to a token, so the lengths determine the bounds.
    return [text[a:b] for a, b in pairwise(accumulate(map(len, tokens), initial=0))]


def pretokenizer_of(pattern: Pattern) -> Callable[[str], list[str]]:
    """Return the function that splits a text without special tokens into its pre-tokens."""
    if pattern == GPT2:
        return pretokenize
    if is_scanned(pattern):
        from fastlm.tokenizer.bpe import small_patterns

        return small_patterns.pretokenizer_of(pattern)
    from fastlm.tokenizer.bpe import by_regex

    return functools.partial(by_regex.pretokenize, pattern=pattern)


def _special_pattern(special_tokens: Iterable[str]) -> re.Pattern[str] | None:
    longest_first = sorted(special_tokens, key=len, reverse=True)
    if not longest_first:
        return None
    return re.compile("(" + "|".join(map(re.escape, longest_first)) + ")")


def _split_special(text: str, special: re.Pattern[str] | None) -> list[str]:
    """Split a text so that every second piece is a special token; the others may be empty."""
    return [text] if special is None else special.split(text)


class SmallEncoder:
    """Encoder of small texts with a tokenizer's merges; safe to use from several threads.

    Args:
        byte_ids: token id of each of the 256 single bytes, or NO_TOKEN.
        merges: (left id, right id) -> (rank, merged id). It is kept, not copied.
        special_tokens: id of each special token.
        words: how texts are cut into words, and words into ids.

    >>> encoder = SmallEncoder(range(256), {(97, 98): (0, 256)}, {"<s>": 257})
    >>> encoder.encode_to_list("abba<s>")
    [256, 98, 97, 257]
    """

    def __init__(
        self,
        byte_ids: Sequence[int],
        merges: Mapping[tuple[int, int], tuple[int, int]],
        special_tokens: Mapping[str, int],
        words: WordRules = PLAIN_WORDS,
    ) -> None:
        # Without kernels it encodes texts of any size.
        max_words = _MAX_WORDS if words.has_kernels else 8 * _MAX_WORDS
        self._words = _WordIds(byte_ids, merges, words.whole, max_words)
        self._pretokenize = pretokenizer_of(words.pattern)
        self._special = _special_pattern(special_tokens)
        self._special_ids = dict(special_tokens)
        unspelled = bytes(byte for byte in range(256) if byte_ids[byte] == NO_TOKEN)
        self._unspelled = re.compile(b"[" + re.escape(unspelled) + b"]") if unspelled else None

    def encode_to_list(self, text: str) -> list[int]:
        """Encode a text to a list of token ids; special tokens in it become their ids.

        Raises:
            UnknownByte: with the position of the byte in the UTF-8 of the text.
            UnicodeEncodeError: if the text holds lone surrogates.
        """
        if type(text) is not str:
            text = plain_str(text)
        if self._unspelled is not None:
            self._check_bytes(text, self._unspelled)
        words = self._words
        if self._special is None:
            return [token_id for word in self._pretokenize(text) for token_id in words[word]]
        ids: list[int] = []
        for i, piece in enumerate(self._special.split(text)):
            if i % 2 == 1:
                ids.append(self._special_ids[piece])
            elif piece:
                ids += [token_id for word in self._pretokenize(piece) for token_id in words[word]]
        return ids

    def _check_bytes(self, text: str, unspelled: re.Pattern[bytes]) -> None:
        begin = 0
        for i, piece in enumerate(_split_special(text, self._special)):
            data = piece.encode()
            found = None if i % 2 == 1 else unspelled.search(data)
            if found is not None:
                raise UnknownByte(data[found.start()], begin + found.start())
            begin += len(data)


class _WordIds(dict[str, list[int]]):
    """A cache of the ids of words, filled as words are looked up."""

    def __init__(
        self,
        byte_ids: Sequence[int],
        merges: Mapping[tuple[int, int], tuple[int, int]],
        whole: Mapping[bytes, int],
        max_words: int,
    ) -> None:
        super().__init__()
        self._max_words = max_words
        self._whole = whole
        self._byte_ids = list(map(int, byte_ids))
        self._merges = merges

    def __missing__(self, word: str) -> list[int]:
        data = word.encode()
        if data in self._whole:
            return [self._whole[data]]
        ids = [self._byte_ids[byte] for byte in data]
        merge = _merge_by_scanning if len(ids) <= _SCANNED_SYMBOLS else _merge_by_heap
        ids = merge(ids, self._merges)
        if len(self) >= self._max_words:
            self.clear()
        if len(word) <= _CACHED_CHARACTERS:
            self[word] = ids
        return ids


def _merge_by_scanning(
    ids: list[int], merges: Mapping[tuple[int, int], tuple[int, int]]
) -> list[int]:
    """Merge a word, the lowest rank first, the leftmost pair among equal ranks."""
    find = merges.get
    found = [find(pair, _NO_MERGE) for pair in pairwise(ids)]
    while found:
        best = min(found)
        if best is _NO_MERGE:
            break
        at = found.index(best)
        ids[at : at + 2] = [best[1]]
        del found[at]
        if at < len(found):
            found[at] = find((ids[at], ids[at + 1]), _NO_MERGE)
        if at > 0:
            found[at - 1] = find((ids[at - 1], ids[at]), _NO_MERGE)
    return ids


def _merge_by_heap(ids: list[int], merges: Mapping[tuple[int, int], tuple[int, int]]) -> list[int]:
    """Merge a word in time n log n. A heap entry is a rank and the position of its left symbol.

    An entry is stale when one of its symbols has changed: found[place] then has another rank.
    """
    find = merges.get
    n_bytes = len(ids)
    after = list(range(1, n_bytes + 1))
    before = list(range(-1, n_bytes - 1))
    found = [find(pair, _NO_MERGE) for pair in pairwise(ids)] + [_NO_MERGE]
    heap = [(merge[0], place) for place, merge in enumerate(found) if merge is not _NO_MERGE]
    heapq.heapify(heap)
    while heap:
        rank, place = heapq.heappop(heap)
        if found[place][0] != rank:
            continue
        ids[place] = found[place][1]
        taken = after[place]
        after[place] = after[taken]
        found[place] = found[taken] = _NO_MERGE
        if after[place] < n_bytes:
            before[after[place]] = place
        for left in (before[place], place):
            if left >= 0 and after[left] < n_bytes:
                found[left] = find((ids[left], ids[after[left]]), _NO_MERGE)
                if found[left] is not _NO_MERGE:
                    heapq.heappush(heap, (found[left][0], left))
    merged = []
    place = 0
    while place < n_bytes:
        merged.append(ids[place])
        place = after[place]
    return merged


def count_words(
    texts: Iterable[str], special_tokens: Sequence[str], pattern: Pattern = GPT2
) -> Counter[bytes]:
    """Count the pre-tokens of the texts; special tokens split them and are not counted.

    Raises:
        UnicodeEncodeError: if a text holds lone surrogates.
    """
    special = _special_pattern(special_tokens)
    counts: Counter[str] = Counter()
    pretokenize = pretokenizer_of(pattern)
    for text in texts:
        for piece in _split_special(text, special)[::2]:
            counts.update(pretokenize(piece))
    return Counter({word.encode(): count for word, count in counts.items()})


def learn_merges(
    words: Mapping[bytes, int], n_merges: int, max_token_bytes: int | None = None
) -> list[Pair]:
    """Merge the most frequent pair n_merges times, or until no pair is left.

    Between equally frequent pairs the greater pair of byte strings is merged. As in merge.py, a
    pair has a list of its positions, complete when the pair is made, and its count is an upper
    bound, because positions become stale. Bounds only fall, and no new pair is more frequent than
    the pair just merged, so pairs are processed in levels of equal bound, from the highest down.

    Args:
        words: count of each distinct pre-token, at least 1.
        max_token_bytes: a pair that would make a longer token is never merged.
    """
    corpus = _Corpus(words)
    positions: dict[Pair, list[int]] = {}
    waiting: defaultdict[int, list[Pair]] = defaultdict(list)
    max_bytes = sys.maxsize if max_token_bytes is None else max_token_bytes
    merges: list[Pair] = []

    def add(pairs: Mapping[Pair, list[int]], level: list[Pair], level_count: int) -> None:
        for pair, slots in pairs.items():
            if len(pair[0]) + len(pair[1]) <= max_bytes:
                positions[pair] = slots
                count = corpus.count(slots)
                if count == level_count:
                    insort(level, pair)
                else:
                    waiting[count].append(pair)

    add(corpus.first_pairs(), [], 0)
    while waiting and len(merges) < n_merges:
        level_count = max(waiting)
        level = sorted(waiting.pop(level_count))
        while level and len(merges) < n_merges:
            pair = level.pop()
            slots = corpus.still_there(pair, positions.pop(pair))
            count = corpus.count(slots)
            if count == level_count:
                merges.append(pair)
                add(corpus.merge(pair, slots), level, level_count)
            elif count > 0:
                positions[pair] = slots
                waiting[count].append(pair)
    return merges


class _Corpus:
    """Words in one list of slots, with an empty slot between words.

    A symbol of n bytes takes n slots and stands in the first and the last of them, so that both
    neighbours are found without links.
    """

    def __init__(self, words: Mapping[bytes, int]) -> None:
        self._symbols = [b""]
        self._counts = [0]
        for word, count in words.items():
            self._symbols += [word[i : i + 1] for i in range(len(word))]
            self._symbols.append(b"")
            self._counts += [count] * (len(word) + 1)

    def first_pairs(self) -> dict[Pair, list[int]]:
        """Return the positions of each pair of single bytes."""
        pairs: defaultdict[Pair, list[int]] = defaultdict(list)
        for slot, pair in enumerate(pairwise(self._symbols)):
            if pair[0] and pair[1]:
                pairs[pair].append(slot)
        return pairs

    def count(self, slots: list[int]) -> int:
        return sum(map(self._counts.__getitem__, slots))

    def still_there(self, pair: Pair, slots: list[int]) -> list[int]:
        """Return the slots of a pair without the stale ones."""
        symbols = self._symbols
        left, right = pair
        n_left = len(left)
        return [s for s in slots if symbols[s] == left and symbols[s + n_left] == right]

    def merge(self, pair: Pair, slots: list[int]) -> dict[Pair, list[int]]:
        """Merge a pair at its slots, from left to right; returns the slots of each new pair."""
        symbols = self._symbols
        left, right = pair
        merged = left + right
        n_left, n_merged = len(left), len(merged)
        merged_slots = []
        for slot in slots:
            # Where occurrences overlap, as in "aaa", the one before has taken a symbol of this one.
            if symbols[slot] == left and symbols[slot + n_left] == right:
                symbols[slot + n_left - 1] = symbols[slot + n_left] = b""
                symbols[slot] = symbols[slot + n_merged - 1] = merged
                merged_slots.append(slot)
        pairs: defaultdict[Pair, list[int]] = defaultdict(list)
        for slot in merged_slots:
            before, after = symbols[slot - 1], symbols[slot + n_merged]
            if before:
                pairs[before, merged].append(slot - len(before))
            # A pair of two new symbols is recorded once, as the left neighbour of the second.
            if after and after != merged:
                pairs[merged, after].append(slot)
        return pairs
