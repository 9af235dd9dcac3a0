"""The vocabularies of known models, which the package quicktok-v1 carries."""

import base64
import importlib.util
import json
import struct
from pathlib import Path

from fastlm.tokenizer.bpe.patterns import CL100K, LLAMA3, O200K, QWEN2

PATTERN_OF = {"cl100k": CL100K, "o200k": O200K, "llama3": LLAMA3, "qwen3": QWEN2}


def find_vocabularies() -> Path | None:
    """Return the folder of the package's files; None where it is not installed."""
    spec = importlib.util.find_spec("quicktok")
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent / "data"


def read_vocabulary(folder: Path, name: str) -> tuple[dict[bytes, int], dict[str, int]]:
    """Read (ranks, special tokens)."""
    ranks: dict[bytes, int] = {}
    data = (folder / f"{name}.vocab").read_bytes()
    place = 4
    for _ in range(struct.unpack_from("<I", data)[0]):
        (n_bytes,) = struct.unpack_from("<H", data, place)
        token = data[place + 2 : place + 2 + n_bytes]
        (ranks[token],) = struct.unpack_from("<I", data, place + 2 + n_bytes)
        place += 6 + n_bytes
    special: dict[str, int] = {}
    data = (folder / f"{name}.special").read_bytes()
    place = 4
    for _ in range(struct.unpack_from("<I", data)[0]):
        token_id, n_bytes = struct.unpack_from("<IH", data, place)
        special[data[place + 6 : place + 6 + n_bytes].decode()] = token_id
        place += 6 + n_bytes
    return ranks, special


def write_ranks(folder: Path, name: str, out: Path) -> Path:
    """Write ranks.tiktoken and encoding.json into a new folder."""
    ranks, special = read_vocabulary(folder, name)
    out.mkdir()
    in_order = sorted(ranks.items(), key=lambda item: item[1])
    lines = [f"{base64.b64encode(token).decode()} {rank}\n" for token, rank in in_order]
    (out / "ranks.tiktoken").write_text("".join(lines))
    told = {"pat_str": PATTERN_OF[name].steps[0].regex, "special_tokens": special}
    (out / "encoding.json").write_text(json.dumps(told))
    return out
