"""Settings of tokenizer.json and rank files besides vocabulary, merges and a known pattern."""

import base64
import copy
import itertools
import json
import pickle
import random
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiktoken
import tokenizers
from mutated_files import mutated_files
from pattern_cases import hard_strings

from fastlm.tokenizer import Tokenizer, train_bpe_from_documents
from fastlm.tokenizer.bpe import lazy_encoder
from fastlm.tokenizer.bpe.errors import UnknownByte

END = "<|endoftext|>"
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
TEXT = "the cat sat on The mat, didn't it?  12345 中文 é e\u0301 ﬁ ½\n\nThe end. "


def split(regex: str, behavior: str = "Isolated", invert: bool = False) -> dict[str, Any]:
    return {
        "type": "Split", "pattern": {"Regex": regex}, "behavior": behavior, "invert": invert,
    }  # fmt: skip


def string(text: str, behavior: str = "Isolated", invert: bool = False) -> dict[str, Any]:
    return split("", behavior, invert) | {"pattern": {"String": text}}


def sequence(*steps: dict[str, Any], **last: bool) -> dict[str, Any]:
    last_step = BYTE_LEVEL | {"use_regex": False} | last
    return {"type": "Sequence", "pretokenizers": [*steps, last_step]}


def added(described: dict[str, Any], *tokens: str) -> dict[str, Any]:
    """The file's added tokens and more, each a text or "text|flag|flag"."""
    entries = described["model"]["vocab"]
    listed = list(described["added_tokens"])
    next_id = len(entries)
    for token in tokens:
        content, *flags = token.split("|")
        names = ("single_word", "lstrip", "rstrip", "normalized", "special")
        told = {name: name in flags for name in names}
        listed.append({"id": entries.get(content, next_id), "content": content} | told)
        next_id += content not in entries
    return {"added_tokens": listed}


def template(before: list[str], after: list[str], ids: dict[str, int]) -> dict[str, Any]:
    first = [{"SpecialToken": {"id": token, "type_id": 0}} for token in before]
    last = [{"SpecialToken": {"id": token, "type_id": 0}} for token in after]
    text = [{"Sequence": {"id": "A", "type_id": 0}}]
    return {
        "type": "TemplateProcessing",
        "single": first + text + last,
        "pair": first + text + last + [{"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {t: {"id": t, "ids": [i], "tokens": [t]} for t, i in ids.items()},
    }


@pytest.fixture(scope="module")
def described(tmp_path_factory) -> dict[str, Any]:
    """The tokenizer.json of a small tokenizer, to be changed."""
    texts = [*hard_strings(200, seed=1), *[TEXT] * 20]
    vocab, merges = train_bpe_from_documents(texts, 257 + 200, [END])
    folder = tmp_path_factory.mktemp("made")
    Tokenizer(vocab, merges, [END]).save(folder)
    told: dict[str, Any] = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    return told


def cases(described: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Changes of the parts of a tokenizer.json, by what they show."""
    tokens = described["added_tokens"]
    nfc = {"type": "NFC"}
    return {
        "digits alone": {"pre_tokenizer": sequence({"type": "Digits", "individual_digits": True}, use_regex=True)},
        "runs of digits": {"pre_tokenizer": sequence({"type": "Digits", "individual_digits": False}, use_regex=True)},
        "prefix space": {"pre_tokenizer": BYTE_LEVEL | {"add_prefix_space": True, "use_regex": True}},
        "prefix space to each piece": {"pre_tokenizer": sequence(split(r"\p{N}{1,3}"), add_prefix_space=True)},
        "no cuts": {"pre_tokenizer": BYTE_LEVEL | {"use_regex": False}},
        "a text that splits": {"pre_tokenizer": sequence(string("t"), use_regex=True)},
        "spaces removed": {"pre_tokenizer": sequence(split(r"\s+", "Removed"))},
        "all but words removed": {"pre_tokenizer": sequence(split(r"[a-z]+", "Removed", True))},
        "joined to the left": {"pre_tokenizer": sequence(split(r"\s", "MergedWithPrevious"))},
        "joined to the right": {"pre_tokenizer": sequence(string(" ", "MergedWithNext"))},
        "joined, inverted": {"pre_tokenizer": sequence(split(r"[a-z]+", "MergedWithNext", True))},
        "runs": {"pre_tokenizer": sequence(split(r"\p{L}", "Contiguous"))},
        "command-r": {"pre_tokenizer": sequence({"type": "Digits", "individual_digits": True}, split(r"\s+(?!\S)|\s+"))},
        "falcon's lines": {"pre_tokenizer": sequence(split(r"[0-9][0-9][0-9]"), split(r"\n| ?[\p{L}\p{N}]+| ?[^\s\p{L}\p{N}]+|\s+"))},
        **{form: {"normalizer": {"type": form}} for form in ("NFC", "NFD", "NFKC", "NFKD")},
        "normalized and cut": {"normalizer": nfc, "pre_tokenizer": sequence(split(r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"))},
        "two normalizers": {"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFKD"}, nfc]}},
        "prepended": {"normalizer": {"type": "Prepend", "prepend": "▁x "}},
        "replaced": {"normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}},
        "replaced by expression": {"normalizer": {"type": "Replace", "pattern": {"Regex": r" {2,}|\n+"}, "content": r"\1 "}},
        "ignored merges": {"model": described["model"] | {"ignore_merges": True, "merges": described["model"]["merges"][::2]}},
        "stripped to the left": {"added_tokens": [tokens[0] | {"lstrip": True}]},
        "stripped to the right": {"added_tokens": [tokens[0] | {"rstrip": True}]},
        "a word by itself": added(described, "the|single_word", "1|single_word"),
        "all flags": added(described, " the|single_word|lstrip|rstrip", "a|rstrip"),
        "stripped of what is a token": added(described, "\n\n|lstrip|rstrip"),
        "no special token": added(described, "cat", "at on|special"),
        "found when normalized": {"normalizer": {"type": "NFKC"}, **added(described, "fi|normalized", "e\u0301", "№|normalized")},
        "overlapping, found later": added(described, "at|normalized", "cat s"),
        "begin and end": {"post_processor": template([END], [END, END], {END: tokens[0]["id"]})},
        "two processors": {"post_processor": {"type": "Sequence", "processors": [BYTE_LEVEL, template([END], [], {END: tokens[0]["id"]})]}},
        "of Roberta": {"post_processor": {"type": "RobertaProcessing", "sep": [END, tokens[0]["id"]], "cls": [END, tokens[0]["id"]], "trim_offsets": True, "add_prefix_space": False}},
        "more special tokens": added(described, "<far>|special", "<x>"),
    }  # fmt: skip


CASES = sorted(cases({"model": {"vocab": {}, "merges": []}, "added_tokens": [{"id": 0}]}))


def texts_for(rng_seed: int) -> list[str]:
    rng = random.Random(rng_seed)
    parts = [
        END,
        "the",
        " the ",
        "cat sat",
        "at on",
        "é",
        "e\u0301",
        "ﬁ",
        "½",
        "1",
        "  ",
        "\n",
        "fi",
    ]
    mixed = ["".join(rng.choices([*parts, "x", " ", "中"], k=8)) for _ in range(60)]
    return [TEXT, "", " ", *mixed, *hard_strings(100, seed=rng_seed)]


class TestFiles:
    @pytest.mark.parametrize("case", CASES)
    def test_it_is_read_with_the_ids_of_tokenizers(self, described, tmp_path, case, monkeypatch):
        path = tmp_path / "tokenizer.json"
        path.write_text(json.dumps(described | cases(described)[case]), encoding="utf-8")
        peer = tokenizers.Tokenizer.from_file(str(path))
        plain = Tokenizer.load(path)
        plain.save(tmp_path / "again")
        again = Tokenizer.load(tmp_path / "again")
        (tmp_path / "again" / "tables.npz").unlink()
        from_text = Tokenizer.load(tmp_path / "again")
        written = tokenizers.Tokenizer.from_file(str(tmp_path / "again" / "tokenizer.json"))
        unpickled = pickle.loads(pickle.dumps(plain))
        assert {t.hash for t in (again, from_text, unpickled)} == {plain.hash}
        texts = texts_for(3)
        with monkeypatch.context() as patched, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of patterns without kernels
            patched.setattr(lazy_encoder, "SMALL_CHARACTERS", 0)
            compiled = copy.copy(plain)
            of_kernels = [compiled.encode(text) for text in texts]
        for text, compiled_ids in zip(texts, of_kernels, strict=True):
            expected = peer.encode(text, add_special_tokens=False).ids
            assert compiled_ids == expected, repr(text)
            for one in (plain, again, from_text, unpickled):
                assert one.encode(text) == expected, repr(text)
            assert plain.encode_to_numpy(text.encode()).tolist() == expected
            assert written.encode(text, add_special_tokens=False).ids == expected
            around = peer.encode(text).ids
            assert plain.encode(text, add_special_tokens=True) == around
            assert written.encode(text).ids == around
            assert plain.encode_batch([text, text], add_special_tokens=True) == [around] * 2

    @pytest.mark.parametrize("case", CASES)
    def test_streams_and_files_have_the_ids_of_the_text(
        self, described, tmp_path, case, monkeypatch
    ):
        path = tmp_path / "tokenizer.json"
        path.write_text(json.dumps(described | cases(described)[case]), encoding="utf-8")
        tokenizer = Tokenizer.load(path)
        monkeypatch.setattr("fastlm.tokenizer.text_blocks.BLOCK_BYTES", 64)
        monkeypatch.setattr("fastlm.tokenizer.tokenizer._FIRST_STREAM_BYTES", 4)
        monkeypatch.setattr("fastlm.tokenizer.tokenizer._STREAM_BYTES", 32)
        text = "".join(texts_for(4)[:60])
        (tmp_path / "t.txt").write_text(text, encoding="utf-8", newline="")
        ids = tokenizer.encode(text)
        arrays = list(tokenizer.encode_file_blocks(tmp_path / "t.txt", n_threads=1))
        assert np.concatenate(arrays).tolist() == ids
        chunks = [text[i : i + 7] for i in range(0, len(text), 7)]
        assert list(tokenizer.encode_iterable(chunks)) == ids

    def test_tokens_that_are_not_special_are_found_whatever_is_allowed(self, described, tmp_path):
        tokens = added(described, "cat")["added_tokens"]
        path = tmp_path / "tokenizer.json"
        path.write_text(json.dumps(described | {"added_tokens": tokens}), encoding="utf-8")
        tokenizer = Tokenizer.load(path)
        cat, end = tokenizer.token_to_id("cat"), tokenizer.token_to_id(END)
        ids = tokenizer.encode(f"a cat{END}", allowed_special=())
        assert cat in ids
        assert end not in ids
        assert tokenizer.decode([cat, end], skip_special=True) == "cat"
        with pytest.raises(ValueError, match="must not hold the special token"):
            tokenizer.encode(END, allowed_special=(), disallowed_special="all")
        assert tokenizer.encode("cat", allowed_special=(), disallowed_special="all") == [cat]

    @pytest.mark.parametrize("case", CASES)
    def test_there_are_spans_of_tokens_where_they_have_the_text(self, described, tmp_path, case):
        path = tmp_path / "tokenizer.json"
        path.write_text(json.dumps(described | cases(described)[case]), encoding="utf-8")
        tokenizer = Tokenizer.load(path)
        for text in texts_for(5)[:40]:
            ids = tokenizer.encode(text)
            if tokenizer.decode(ids) == text:
                assert tokenizer.encode_with_offsets(text)[0] == ids
            else:
                assert not tokenizer.rules.keeps_texts
                with pytest.raises(ValueError, match="do not have the characters of the text"):
                    tokenizer.encode_with_offsets(text)

    def test_an_unknown_byte_is_told_by_its_place(self, described, tmp_path):
        model = dict(described["model"])
        model["vocab"] = {k: v for k, v in model["vocab"].items() if "Ģ" not in k}
        model["vocab"] = {k: i for i, k in enumerate(model["vocab"])}
        model["merges"] = []
        tokens = [described["added_tokens"][0] | {"id": model["vocab"][END], "lstrip": True}]
        path = tmp_path / "tokenizer.json"
        path.write_text(json.dumps(described | {"added_tokens": tokens, "model": model}))
        with pytest.raises(ValueError, match="no token is byte 0x80, found at byte 17"):
            Tokenizer.load(path).encode(f"é{END}x\u2000")


class TestRanks:
    """Rank files whose tokens no two tokens of lower rank make: tiktoken joins neighbours by rank."""

    @pytest.fixture
    def ranks(self) -> dict[bytes, int]:
        rng = random.Random(5)
        tokens = {bytes([byte]) for byte in range(256)}
        tokens |= {bytes(rng.choices(b"ab ", k=rng.randrange(2, 6))) for _ in range(150)}
        tokens |= {" 中文".encode(), "中文".encode(), b"The", b" The cat", b"aaaaaaaa"}
        listed = sorted(tokens)
        rng.shuffle(listed)
        return {token: rank for rank, token in enumerate(listed)}

    def test_ids_are_those_of_tiktoken(self, ranks, tmp_path, monkeypatch):
        told = {"pat_str": r"[ab]+| ?\p{L}+|\s+(?!\S)|[^ab]", "special_tokens": {END: 700}}
        lines = [f"{base64.b64encode(t).decode()} {rank}\n" for t, rank in ranks.items()]
        (tmp_path / "ranks.tiktoken").write_text("".join(lines))
        (tmp_path / "encoding.json").write_text(json.dumps(told))
        peer = tiktoken.Encoding("made", mergeable_ranks=ranks, **told)
        tokenizer = Tokenizer.load(tmp_path)
        assert tokenizer.rules.merges_by_rank
        named = copy.copy(tokenizer)
        monkeypatch.setattr(lazy_encoder, "SMALL_CHARACTERS", 0)
        rng = random.Random(6)
        for _ in range(500):
            text = "".join(
                rng.choices(["a", "b", " ", "aa", "The cat", " 中文", END], k=12)
            ) * rng.choice([1, 9])
            expected = peer.encode(text, allowed_special="all")
            assert tokenizer.encode(text) == expected, text
            assert named.encode(text) == expected, text

    def test_kernels_merge_by_rank_as_well(self, ranks, tmp_path, monkeypatch):
        about = {"pat_str": tokenizer_pattern(), "special_tokens": {END: 700}}
        lines = [f"{base64.b64encode(t).decode()} {rank}\n" for t, rank in ranks.items()]
        (tmp_path / "ranks.tiktoken").write_text("".join(lines))
        (tmp_path / "encoding.json").write_text(json.dumps(about))
        peer = tiktoken.Encoding("made", mergeable_ranks=ranks, **about)
        plain = Tokenizer.load(tmp_path)
        with pytest.warns(UserWarning, match=r"tokenizer\.json is not written, and only fastlm"):
            plain.save(tmp_path / "again")
        monkeypatch.setattr(lazy_encoder, "SMALL_CHARACTERS", 0)
        compiled = Tokenizer.load(tmp_path / "again")
        assert compiled.hash == plain.hash
        rng = random.Random(7)
        for _ in range(500):
            k = rng.choice([3, 12, 100])
            text = "".join(rng.choices(["a", "b", " ", "aa", "The cat", " 中文", END], k=k))
            expected = peer.encode(text, allowed_special="all")
            assert compiled.encode(text) == expected, text
            assert plain.encode(text) == expected, text

    def test_known_names_have_their_pattern_and_special_tokens(self, tmp_path):
        lines = [f"{base64.b64encode(bytes([b])).decode()} {b}\n" for b in range(256)]
        for name, pattern, n_ranks, (token, token_id), n_ids in (
            ("cl100k_base", "cl100k", 100256, ("<|endofprompt|>", 100276), 100277),
            ("o200k_base", "o200k", 199998, (END, 199999), 200019),
            ("p50k_base", "gpt2", 50256, (END, 50256), 50257),
            ("llama3", "llama3", 128000, ("<|eot_id|>", 128009), 128256),
        ):
            tokens = [*(f"{i:06d}".encode() for i in range(256, n_ranks))]
            more = [f"{base64.b64encode(t).decode()} {i}\n" for i, t in enumerate(tokens, 256)]
            (tmp_path / f"{name}.tiktoken").write_text("".join([*lines, *more]))
            tokenizer = Tokenizer.load(tmp_path / f"{name}.tiktoken")
            assert tokenizer.pattern == pattern
            assert tokenizer.special_tokens[token] == token_id
            assert tokenizer.vocab_size == n_ids

    @pytest.mark.parametrize("pattern", [r"\w+", r"a$", "(a", r"(?i:ss)|a", r"a{2}?"])
    def test_a_pattern_that_may_mean_something_else_there_is_refused(self, tmp_path, pattern):
        lines = [f"{base64.b64encode(bytes([b])).decode()} {b}\n" for b in range(256)]
        (tmp_path / "ranks.tiktoken").write_text("".join(lines))
        about = {"pat_str": pattern, "special_tokens": {}}
        (tmp_path / "encoding.json").write_text(json.dumps(about))
        with pytest.raises(ValueError, match=r"^[^\n]*encoding\.json: [^\n]*$"):
            Tokenizer.load(tmp_path)


class TestOtherModels:
    def test_sentence_piece_with_byte_fallback_is_refused_by_its_name(self, tmp_path):
        model = tokenizers.models.BPE({"▁": 0, "a": 1, "▁a": 2}, [("▁", "a")], byte_fallback=True)
        peer = tokenizers.Tokenizer(model)
        peer.normalizer = tokenizers.normalizers.Prepend("▁")
        peer.save(str(tmp_path / "tokenizer.json"))
        with pytest.raises(ValueError, match=r"model\.byte_fallback must be false, as it is in"):
            Tokenizer.load(tmp_path)

    def test_a_model_file_is_one_of_tiktoken_or_refused(self, tmp_path):
        lines = [f"{base64.b64encode(bytes([b])).decode()} {b}\n" for b in range(256)]
        (tmp_path / "gpt2.model").write_text("".join([*lines, "YWI= 256\n"]))
        with pytest.raises(ValueError, match="large gaps"):
            Tokenizer.load(tmp_path / "gpt2.model")
        about = {"pat_str": tokenizer_pattern(), "special_tokens": {}}
        (tmp_path / "encoding.json").write_text(json.dumps(about))
        assert Tokenizer.load(tmp_path / "gpt2.model").encode("ab b") == [256, 32, 98]
        (tmp_path / "tokenizer.model").write_bytes(b"\n\x0e\n\x05<unk>\x15\0\0\0\0\x18\x02")
        with pytest.raises(ValueError, match="got a model of SentencePiece or another"):
            Tokenizer.load(tmp_path / "tokenizer.model")

    def test_a_pair_of_files_is_read_with_a_pattern(self, tmp_path, described):
        made = Tokenizer({i: bytes([i]) for i in range(256)}, [], pattern="llama3")
        made.save(tmp_path)
        files = tmp_path / "vocab.json", tmp_path / "merges.txt"
        assert Tokenizer.from_files(*files, pattern="llama3").hash == made.hash
        assert Tokenizer.from_files(*files).pattern == "gpt2"


def tokenizer_pattern() -> str:
    from fastlm.tokenizer.bpe.patterns import CL100K

    return CL100K.steps[0].regex


def test_cases_differ(described):
    """No two of the cases above are one."""
    parts = [json.dumps(part, sort_keys=True) for part in cases(described).values()]
    assert all(a != b for a, b in itertools.combinations(parts, 2))


def compare_mutated(
    described: dict[str, Any], folder: Path, n_files: int, seed: int
) -> Counter[str]:
    """Read mutated files here and with `tokenizers`; returns how many ended in which way."""
    ended: Counter[str] = Counter()
    path = folder / "tokenizer.json"
    texts = texts_for(seed)[:40]
    for told in mutated_files(described, list(cases(described).values()), n_files, seed):
        path.write_text(json.dumps(told), encoding="utf-8")
        try:
            tokenizer = Tokenizer.load(path)
        except (ValueError, OSError) as error:
            ended["refused" if "\n" not in str(error) else str(error)] += 1
            continue
        try:
            peer = tokenizers.Tokenizer.from_file(str(path))
        except BaseException as error:  # a panic of Rust is no Exception
            if isinstance(error, KeyboardInterrupt):
                raise
            ended["read here alone"] += 1
            continue
        peer.no_truncation()
        peer.no_padding()
        ended["read"] += 1
        for text in texts:
            try:
                ids = tokenizer.encode(text)
            except UnknownByte:
                continue
            assert ids == peer.encode(text, add_special_tokens=False).ids, (told, text)
            around = tokenizer.encode(text, add_special_tokens=True)
            assert around == peer.encode(text).ids, (told, text)
    return ended


@pytest.mark.filterwarnings("ignore:.*will not be applied")
def test_mutated_files_are_read_with_the_same_ids_or_refused_in_a_line(described, tmp_path):
    ended = compare_mutated(described, tmp_path, 200, seed=1)
    assert ended.keys() <= {"read", "refused", "read here alone"}
    assert ended["read"] > 50
    assert ended["refused"] > 50
