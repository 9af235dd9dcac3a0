"""Write the table of character classes: `python tests/support/make_unicode_table.py > fastlm/tokenizer/bpe/unicode_table.py`.

The classes come from tiktoken, whose regex engine carries Unicode 16: an encoding of single bytes
with the pattern `\\p{L}` returns exactly the letters of the text it is given. The counts below are
those of Unicode 16; a tiktoken built on another version is refused, not followed.
"""

import base64
import sys
import zlib

N_CODE_POINTS = 0x110000
SURROGATES = range(0xD800, 0xE000)
LETTER, NUMBER, OTHER, SPACE = 1, 2, 4, 8
UNICODE_16_COUNTS = {LETTER: 141_028, NUMBER: 1_911, SPACE: 25}

TEMPLATE = '''\
"""Class of every code point in Unicode 16. Generated: see tests/support/make_unicode_table.py."""

import base64
import zlib

import numpy as np
from jaxtyping import UInt8

N_CODE_POINTS = 0x110000
LETTER, NUMBER, OTHER, SPACE = 1, 2, 4, 8

# Runs of equal class in code point order, 4 bytes each: length * 16 + class, little-endian.
_RUNS = (
{lines}
)


def code_point_classes() -> UInt8[np.ndarray, "{n_code_points}"]:
    """LETTER (\\\\p{{L}}), NUMBER (\\\\p{{N}}), SPACE (\\\\s) or OTHER for each code point."""
    runs = np.frombuffer(zlib.decompress(base64.b85decode("".join(_RUNS))), dtype="<u4")
    return np.repeat((runs & 15).astype(np.uint8), runs >> 4)
'''


def members(pattern: str, text: str) -> str:
    """The characters of a text that a pattern of one character matches, as tiktoken sees it."""
    import tiktoken

    single_bytes = {bytes([value]): value for value in range(256)}
    matcher = tiktoken.Encoding(
        "class", pat_str=pattern, mergeable_ranks=single_bytes, special_tokens={}
    )
    return bytes(matcher.encode_ordinary(text)).decode("utf-8")


def main() -> None:
    """Write the table of character classes, if it has Unicode 16's counts."""
    text = "".join(chr(point) for point in range(N_CODE_POINTS) if point not in SURROGATES)
    classes = bytearray([OTHER]) * N_CODE_POINTS
    for label, pattern in ((LETTER, r"\p{L}"), (NUMBER, r"\p{N}"), (SPACE, r"\s")):
        found = members(pattern, text)
        if len(found) != UNICODE_16_COUNTS[label]:
            sys.exit(
                f"{pattern} should match {UNICODE_16_COUNTS[label]} code points as in Unicode 16: "
                f"this tiktoken matches {len(found)}; use a version built on Unicode 16"
            )
        for character in found:
            classes[ord(character)] = label

    runs = []
    begin = 0
    for end in range(1, N_CODE_POINTS + 1):
        if end == N_CODE_POINTS or classes[end] != classes[begin]:
            runs.append((end - begin) * 16 + classes[begin])
            begin = end
    packed = zlib.compress(b"".join(run.to_bytes(4, "little") for run in runs), level=9)
    encoded = base64.b85encode(packed).decode()
    lines = [f'    "{encoded[i : i + 90]}"' for i in range(0, len(encoded), 90)]
    print(TEMPLATE.format(lines="\n".join(lines), n_code_points=N_CODE_POINTS), end="")


if __name__ == "__main__":
    main()
