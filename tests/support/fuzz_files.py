"""Files of a run and of its data, changed at random: read as before, or refused in one line."""

import json
import random
import shutil
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fastlm.checkpoint import read_run_checkpoint, run_checkpoints
from fastlm.config import TrainConfig
from fastlm.data import open_prepared
from fastlm.data.prepared import check_tokenizer
from fastlm.pretrained import load_pretrained
from fastlm.runs.record import RunRecord
from fastlm.tokenizer import Tokenizer

_VALUES = (
    *(0, 1, -1, 2**31, 2**64, 10**400, 0.5, -1e308, float("inf"), float("nan"), True, None, ""),
    *("x", "../../x", "\0", "\ud800", "Ġ" * 100, [], [[]], {}, {"a": 1}, [1, 2, 3]),
)


def changed_bytes(raw: bytes, rng: random.Random) -> bytes:
    """Flip some bits, or remove, double or overwrite a part, or replace all of it."""
    kind = rng.randrange(6)
    a, b = sorted(rng.randrange(len(raw) + 1) for _ in range(2))
    if kind == 0:
        out = bytearray(raw)
        for _ in range(rng.choice((1, 1, 1, 10))):
            out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
        return bytes(out)
    if kind == 1:
        return raw[:a] + raw[b:]
    if kind == 2:
        return raw[:b] + raw[a:]
    if kind == 3:
        return raw[:a] + rng.randbytes(b - a) + raw[b:]
    if kind == 4:
        return raw[: rng.choice((0, 1, a, len(raw) - 1))]
    return rng.choice(
        (
            rng.randbytes(rng.randrange(200)),
            b"[" * 100_000,
            b"{}",
            b"null",
            b"\x80\x04N.",
            b"\n" * 9,
        )
    )


def changed_json(raw: bytes, rng: random.Random) -> bytes:
    """Replace, remove or add a value somewhere in it."""
    tree = json.loads(raw)
    places: list[tuple[Any, Any]] = []

    def visit(node: Any) -> None:
        keys = node.keys() if isinstance(node, dict) else range(len(node))
        for key in keys:
            places.append((node, key))
            if isinstance(node[key], dict | list):
                visit(node[key])

    visit(tree)
    node, key = rng.choice(places)
    kind = rng.randrange(4)
    if kind == 0 and isinstance(node, dict):
        del node[key]
    elif kind == 1 and isinstance(node, dict):
        node[rng.choice(("x", "", "path", "lr"))] = rng.choice(_VALUES)
    else:
        node[key] = rng.choice(_VALUES)
    return json.dumps(tree).encode(errors="surrogatepass")


def read_data(folder: Path) -> Any:
    data = open_prepared(folder)
    data.verify()
    check_tokenizer(data)
    arrays = [np.array(split.tokens).tobytes() for split in (data.train, data.val)]
    return data.vocab_size, data.tokenizer_hash, arrays, data.val.text_bytes


def read_run(folder: Path) -> Any:
    load_pretrained(folder)
    saved = read_run_checkpoint(run_checkpoints(folder / "checkpoints")[-1])
    return (
        saved.step,
        saved.manifest["tokenizer_hash"],
        {k: v.tolist() for k, v in saved.model.items()},
    )


def read_config(folder: Path) -> Any:
    """Return whether a configuration is read; any valid one will do, since people may change it."""
    return isinstance(RunRecord(folder).config(), TrainConfig)


def read_tokenizer(folder: Path) -> Any:
    """Return whether a tokenizer is read that decodes what it encodes; any valid one will do."""
    tokenizer = Tokenizer.load(folder / "tokenizer")
    text = "Once upon a time, there was a cat."
    return tokenizer.decode(tokenizer.encode(text)) == text


def targets(data: Path, run: Path) -> list[tuple[Path, str, Callable[[Path], Any]]]:
    """(folder, file in it, how it is read)."""
    checkpoint = run_checkpoints(run / "checkpoints")[-1].relative_to(run)
    return [
        *((data, name, read_data) for name in ("train.bin", "val.bin", "meta.json")),
        *((data, f"tokenizer/{name}", read_data) for name in ("vocab.json", "merges.txt")),
        *(
            (data, f"tokenizer/{name}", read_tokenizer)
            for name in ("vocab.json", "merges.txt", "special_tokens.json", "tables.npz")
        ),
        (run, "config.json", read_config),
        *(
            (run, f"{checkpoint}/{name}", read_run)
            for name in ("manifest.json", "state.json", "model.safetensors", "optim.safetensors")
        ),
        (run, "tokenizer/vocab.json", read_run),
        (run, "tokenizer/merges.txt", read_run),
    ]


def fuzz(data: Path, run: Path, n: int, tmp_path: Path, seed: int = 0) -> Counter[str]:
    """Change n files and read each; returns how often which answer came: read, refused, or worse.

    Raises:
        AssertionError: for a change taken for what was there.
        Exception: what else a reader raised.
    """
    rng = random.Random(seed)
    copies = {}
    for source in (data, run):
        copies[source] = Path(shutil.copytree(source, tmp_path / f"copy-{len(copies)}"))
    chosen = targets(data, run)
    original = {(folder, read): read(copies[folder]) for folder, _, read in chosen}
    answers: Counter[str] = Counter()
    for _ in range(n):
        folder, name, read = rng.choice(chosen)
        path = copies[folder] / name
        raw = path.read_bytes()
        is_json = name.endswith(".json") and rng.random() < 0.5
        new = (changed_json if is_json else changed_bytes)(raw, rng)
        path.write_bytes(new)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = read(copies[folder])
        except (ValueError, OSError) as error:
            told = str(error)
            answers[
                "refused" if 0 < len(told) < 2000 else f"refused {name} by {told[:3000]!r}"
            ] += 1
        else:
            assert found == original[folder, read], (name, new[:200])
            answers["read"] += 1
        path.write_bytes(raw)
    return answers
