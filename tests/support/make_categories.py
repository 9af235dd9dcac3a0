"""Write the table of categories: `python tests/support/make_categories.py > fastlm/tokenizer/bpe/categories.py`.

It has the categories that patterns of words name, from tiktoken's regex engine, which carries
Unicode 16, like the classes of make_unicode_table.py.
"""

import base64
import sys
import zlib

from make_unicode_table import N_CODE_POINTS, SURROGATES, members

CATEGORIES = {
    "UPPER": r"[\p{Lu}\p{Lt}]",
    "LOWER": r"\p{Ll}",
    "CASELESS": r"[\p{Lm}\p{Lo}]",
    "MARK": r"\p{M}",
    "NUMBER": r"\p{N}",
    "SYMBOL": r"[\p{P}\p{S}]",
    "SPACE": r"\s",
    "UNASSIGNED": r"\p{Cn}",
}
UNICODE_16_COUNTS = {"UPPER": 1858 + 31, "NUMBER": 1911, "SPACE": 25}

TEMPLATE = '''\
"""Category of every code point in Unicode 16. Generated: see tests/support/make_categories.py."""

import base64
import functools
import zlib

import numpy as np
from jaxtyping import UInt8

CONTROL, UPPER, LOWER, CASELESS, MARK, NUMBER, SYMBOL, SPACE, UNASSIGNED = range(9)

# Runs of equal category in code point order, 4 bytes each: length * 16 + category, little-endian.
_RUNS = (
{lines}
)


@functools.cache
def categories() -> UInt8[np.ndarray, "1114112"]:
    """The category of each code point, unpacked once.

    UPPER is Lu and Lt, LOWER Ll, CASELESS Lm and Lo, MARK M, NUMBER N, SYMBOL P and S, SPACE what
    \\\\s matches, UNASSIGNED Cn, and CONTROL all others: control, format and private characters.
    """
    runs = np.frombuffer(zlib.decompress(base64.b85decode("".join(_RUNS))), dtype="<u4")
    return np.repeat((runs & 15).astype(np.uint8), runs >> 4)
'''


def main() -> None:
    """Write the table of categories, if it has Unicode 16's counts."""
    text = "".join(chr(point) for point in range(N_CODE_POINTS) if point not in SURROGATES)
    found = bytearray(N_CODE_POINTS)
    for label, (name, pattern) in enumerate(CATEGORIES.items(), start=1):
        characters = members(pattern, text)
        if len(characters) != UNICODE_16_COUNTS.get(name, len(characters)):
            sys.exit(f"{pattern} matches {len(characters)} code points, not those of Unicode 16")
        for character in characters:
            found[ord(character)] = label
    runs = []
    begin = 0
    for end in range(1, N_CODE_POINTS + 1):
        if end == N_CODE_POINTS or found[end] != found[begin]:
            runs.append((end - begin) * 16 + found[begin])
            begin = end
    packed = zlib.compress(b"".join(run.to_bytes(4, "little") for run in runs), level=9)
    encoded = base64.b85encode(packed).decode()
    lines = [f'    "{encoded[i : i + 90]}"' for i in range(0, len(encoded), 90)]
    print(TEMPLATE.format(lines="\n".join(lines)), end="")


if __name__ == "__main__":
    main()
