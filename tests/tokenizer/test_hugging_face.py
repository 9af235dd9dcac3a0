"""tokenizer.json of Hugging Face: the same tokenizer from it, or a refusal that names the reason."""

import json
import random
from typing import Any

import pytest
import tokenizers
from exported_models import random_texts
from tokenizer_cases import END, assert_same, small_tokenizer

from fastlm.cli import run
from fastlm.imports.__main__ import main
from fastlm.tokenizer import Tokenizer
from fastlm.tokenizer.bpe import reference
from fastlm.tokenizer.bpe.patterns import GPT2, spellings_of
from fastlm.tokenizer.formats import hugging_face


def template(*special: str) -> dict[str, Any]:
    """A post-processor that puts special tokens before each text."""
    text = [{"Sequence": {"id": "A", "type_id": 0}}]
    other = [{"Sequence": {"id": "B", "type_id": 1}}]
    before = [{"SpecialToken": {"id": token, "type_id": 0}} for token in special]
    return {
        "type": "TemplateProcessing",
        "single": before + text,
        "pair": before + text + other,
        "special_tokens": {t: {"id": t, "ids": [296], "tokens": [t]} for t in special},
    }


BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}


def split(behavior: str, invert: bool) -> list[dict[str, Any]]:
    return [
        {
            "type": "Split",
            "pattern": {"Regex": reference.PATTERN},
            "behavior": behavior,
            "invert": invert,
        },
        BYTE_LEVEL | {"use_regex": False},
    ]


HARMLESS: dict[str, dict[str, Any]] = {
    "unknown token": {"model/unk_token": END},
    "byte fallback": {"model/byte_fallback": True},
    "template without tokens": {"post_processor": template()},
    "several post-processors": {
        "post_processor": {
            "type": "Sequence",
            "processors": [BYTE_LEVEL | {"use_regex": True}, template()],
        }
    },
    "no normalizers": {"normalizer": {"type": "Sequence", "normalizers": []}},
    "one decoder": {
        "decoder": {"type": "Sequence", "decoders": [BYTE_LEVEL | {"use_regex": True}]}
    },
    "one pre-tokenizer": {
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [BYTE_LEVEL | {"use_regex": True}],
        }
    },
    "what lies between matches removed": {
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": split("Removed", True)}
    },
    "matches and gaps the other way round": {
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": split("Isolated", True)}
    },
}


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return small_tokenizer()


class TestHuggingFaceFiles:
    @pytest.fixture
    def described(self, tokenizer, tmp_path):
        """The file that save writes, as an object to be changed."""
        tokenizer.save(tmp_path / "t")
        return json.loads((tmp_path / "t" / "tokenizer.json").read_text(encoding="utf-8"))

    @staticmethod
    def load(described, tmp_path) -> Tokenizer:
        path = tmp_path / "tokenizer.json"
        path.write_text(json.dumps(described), encoding="utf-8")
        return Tokenizer.load(path)

    def test_what_save_wrote_is_read(self, tokenizer, described, tmp_path):
        assert_same(self.load(described, tmp_path), tokenizer)
        assert_same(Tokenizer.load(tmp_path), tokenizer)  # the folder that has only this file

    def test_other_spellings_of_the_same_are_read(self, tokenizer, described, tmp_path):
        model = described["model"]
        model["merges"] = [" ".join(pair) for pair in model["merges"]]
        for name in ("type", "dropout", "unk_token", "byte_fallback", "ignore_merges"):
            del model[name]
        model |= {"continuing_subword_prefix": "", "end_of_word_suffix": "", "dropout": 0.0}
        described["post_processor"] = {"type": "ByteLevel", "trim_offsets": False}
        del described["pre_tokenizer"]["use_regex"]
        assert_same(self.load(described, tmp_path), tokenizer)

    @pytest.mark.parametrize("pattern", spellings_of(GPT2))
    def test_split_by_gpt2s_pattern_is_read(self, tokenizer, described, tmp_path, pattern):
        byte_level = described["pre_tokenizer"] | {"use_regex": False}
        split = {
            "type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False,
        }  # fmt: skip
        described["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [split, byte_level]}
        loaded = self.load(described, tmp_path)
        assert_same(loaded, tokenizer)
        peer = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
        text = "it's  the\u3000cat's 12345 \n\n x"
        assert peer.encode(text).ids == loaded.encode(text)

    @pytest.mark.parametrize("change", HARMLESS)
    def test_what_changes_no_ids_is_read(self, tokenizer, described, tmp_path, change):
        """Each is what `tokenizers` or transformers writes, and gives the same ids there."""
        for where, value in HARMLESS[change].items():
            part = described
            *names, last = where.split("/")
            for name in names:
                part = part[name]
            part[last] = value
        loaded = self.load(described, tmp_path)
        assert_same(loaded, tokenizer)
        peer = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
        for text in random_texts(200):
            assert peer.encode(text).ids == loaded.encode(text), repr(text)

    @pytest.mark.parametrize(
        "told", ["truncation to 5 tokens", "padding", "truncation to 5 tokens and padding"]
    )
    def test_limits_that_a_call_has_set_are_left_out_and_told(self, described, tmp_path, told):
        peer = tokenizers.Tokenizer.from_str(json.dumps(described))
        if "truncation" in told:
            peer.enable_truncation(max_length=5, stride=1)
        if "padding" in told:
            peer.enable_padding(pad_id=3, length=7)
        peer.save(str(tmp_path / "tokenizer.json"))
        with pytest.warns(
            UserWarning, match=rf"tokenizer\.json: {told} will not be applied, unlike "
        ):
            loaded = Tokenizer.load(tmp_path / "tokenizer.json")
        peer.no_truncation()
        peer.no_padding()
        for text in random_texts(50):
            assert peer.encode(text).ids == loaded.encode(text), repr(text)

    def test_limits_are_told_in_one_line(self, described, tmp_path, capsys):
        described["truncation"] = {"max_length": 512, "strategy": "LongestFirst", "stride": 0}
        path = tmp_path / "tokenizer.json"
        path.write_text(json.dumps(described))
        with pytest.raises(SystemExit) as stop:
            run(lambda: main(["tokenizer", str(path), "--out", str(tmp_path / "out")]))
        assert not stop.value.code
        assert capsys.readouterr().err == (
            f"warning: {path}: truncation to 512 tokens will not be applied, unlike in "
            "`tokenizers`: each text gets all of its ids and no others\n"
        )

    def test_what_transformers_saves_again_is_read(self, tokenizer, tmp_path):
        transformers = pytest.importorskip("transformers")
        (tmp_path / "tokenizer_config.json").write_text(
            json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": END})
        )
        tokenizer.save(tmp_path)
        peer = transformers.AutoTokenizer.from_pretrained(tmp_path)
        peer(["a cat", "the cat and the dog"], padding=True, truncation=True, max_length=4)
        peer.save_pretrained(tmp_path / "again")
        with pytest.warns(UserWarning, match="truncation to 4 tokens and padding will not be"):
            assert_same(Tokenizer.load(tmp_path / "again"), tokenizer)

    @pytest.mark.parametrize("name", ["tokenizer.json", "vocab.json", "merges.txt"])
    def test_a_byte_order_mark_is_left_out(self, tokenizer, tmp_path, name):
        tokenizer.save(tmp_path)
        if name == "tokenizer.json":
            (tmp_path / "vocab.json").unlink()
        (tmp_path / "tables.npz").unlink()
        path = tmp_path / name
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
        assert_same(Tokenizer.load(tmp_path), tokenizer)

    @pytest.mark.parametrize(("name", "value"), [("unk_token", "a"), ("byte_fallback", True)])
    def test_settings_for_unknown_bytes_are_refused_where_there_are_some(
        self, described, tmp_path, name, value
    ):
        entries = described["model"]["vocab"]
        byte = next(key for key, token_id in entries.items() if token_id == 255)
        entries["another"] = entries.pop(byte)
        described["model"]["merges"] = []
        described["model"][name] = value
        with pytest.raises(ValueError, match=rf"model\.{name} must be"):
            self.load(described, tmp_path)

    @pytest.mark.parametrize("all_bytes", [True, False])
    def test_one_trained_there_gives_the_same_ids_here(self, tmp_path, all_bytes):
        peer = tokenizers.Tokenizer(tokenizers.models.BPE())
        peer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
        peer.decoder = tokenizers.decoders.ByteLevel()
        alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet() if all_bytes else []
        trainer = tokenizers.trainers.BpeTrainer(
            vocab_size=350,
            special_tokens=["<|pad|>", END],
            initial_alphabet=alphabet,
            show_progress=False,
        )
        rng = random.Random(1)
        words = ["the", "theme", "cat's", "中文", "émile", "12", "  ", "\n", "end."]
        text = " ".join(rng.choices(words, k=2000))
        peer.train_from_iterator([text], trainer)
        peer.add_tokens(["<added>"])
        peer.save(str(tmp_path / "tokenizer.json"))
        loaded = Tokenizer.load(tmp_path)
        assert loaded.vocab_size == peer.get_vocab_size()
        assert loaded.special_tokens[END] == 1
        sample = text[:500] + f"{END}the<|pad|><added> cat"
        ids = loaded.encode(sample)
        assert ids == peer.encode(sample).ids
        assert loaded.decode(ids) == peer.decode(ids, skip_special_tokens=False) == sample
        loaded.save(tmp_path / "ours")
        assert Tokenizer.load(tmp_path / "ours").hash == loaded.hash

    @pytest.mark.parametrize(
        ("where", "value", "message"),
        [
            (["normalizer"], {"type": "Lowercase"}, r"normalizer must be null, NFC"),
            (
                ["normalizer"],
                {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Strip"}]},
                r"normalizer",
            ),
            (
                ["normalizer"],
                {"type": "Replace", "pattern": {"Regex": "(a)"}, "content": "b"},
                r"normalizer\.pattern must be",
            ),
            (["pre_tokenizer"], None, r"pre_tokenizer must be ByteLevel"),
            (["pre_tokenizer"], {"type": "Whitespace"}, r"got \{\"type\": \"Whitespace\"\}"),
            (["pre_tokenizer", "add_prefix_space"], 1, r"pre_tokenizer\.add_prefix_space must be"),
            (["pre_tokenizer", "use_regex"], None, r"pre_tokenizer\.use_regex must be true"),
            (["post_processor"], {"type": "TemplateProcessing"}, r"post_processor must be null"),
            (["post_processor"], {"type": "Other"}, r"post_processor must be null"),
            (["decoder"], {"type": "WordPiece"}, r"decoder must be null or ByteLevel"),
            (
                ["decoder"],
                {"type": "Sequence", "decoders": [{"type": "ByteLevel"}, {"type": "Fuse"}]},
                r"decoder must be null or ByteLevel",
            ),
            *(
                (["model"], {"type": kind, "vocab": []}, rf"model\.type must be \"BPE\".*{kind}")
                for kind in ("Unigram", "WordPiece", "WordLevel")
            ),
            (["model", "dropout"], 0.1, r"model\.dropout must be null.* got 0\.1"),
            (["model", "ignore_merges"], 1, r"model\.ignore_merges must be true or false"),
            (["model", "continuing_subword_prefix"], "##", r"continuing_subword_prefix must be"),
            (["model", "end_of_word_suffix"], "</w>", r"end_of_word_suffix must be"),
            (["model", "vocab"], [], r"model\.vocab must be a JSON object"),
            (["model", "merges"], [1], r"model\.merges must be a list of pairs"),
            (["model", "merges"], [["a", "b", "c"]], r"line 1 must be two tokens"),
            (["model", "merges"], [["q", "x"]], r"merge 0, b'q' \+ b'x', needs b'qx'"),
            (["model"], 1, r"must be a tokenizer\.json of Hugging Face"),
            (["added_tokens", 0, "lstrip"], 1, r"added_tokens '<\|endoftext\|>'\.lstrip must"),
            (["added_tokens", 0, "id"], 3, r"added_tokens '<\|endoftext\|>'\.id must be 296"),
            (["added_tokens", 0, "content"], None, r"must each have a content and an id"),
        ],
    )
    def test_what_would_give_other_ids_is_refused_by_name(
        self, described, tmp_path, where, value, message
    ):
        part = described
        for name in where[:-1]:
            part = part[name]
        part[where[-1]] = value
        with pytest.raises(ValueError, match=rf"tokenizer\.json.*{message}"):
            self.load(described, tmp_path)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"pattern": {"Regex": r"\w+"}}, r"pre_tokenizer\.pattern must be an expression that"),
            ({"pattern": {"Regex": r"a$"}}, r"pre_tokenizer\.pattern must be an expression that"),
            ({"pattern": {"Regex": r"a{1,2}+"}}, r"pre_tokenizer\.pattern must be an expression"),
            ({"pattern": {"Regex": r"a*"}}, r"pattern must not match an empty text"),
            ({"pattern": {"Regex": r"(a"}}, r"pattern must be a regular expression"),
            ({"pattern": {"String": ""}}, r"pre_tokenizer\.pattern must be"),
            ({"behavior": "Other"}, r"must be one of Isolated, Removed"),
            ({"invert": 1}, r"pre_tokenizer\.invert must be true or false"),
        ],
    )
    def test_other_splits_are_refused(self, described, tmp_path, change, message):
        split = {
            "type": "Split",
            "pattern": {"Regex": reference.PATTERN},
            "behavior": "Isolated",
            "invert": False,
        }
        steps = [split | change, described["pre_tokenizer"] | {"use_regex": False}]
        described["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": steps}
        with pytest.raises(ValueError, match=message):
            self.load(described, tmp_path)

    def test_it_is_asked_before_a_pair_that_says_less(self, described, tmp_path):
        """Files of Qwen, say, look like GPT-2's, but cut the text by another pattern."""
        described["normalizer"] = {"type": "Lowercase"}
        folder = tmp_path / "t"
        (folder / "tokenizer.json").write_text(json.dumps(described))
        (folder / "special_tokens.json").unlink()
        with pytest.raises(ValueError, match=r"normalizer must be null"):
            Tokenizer.load(folder)


def places(part, path=()):
    """The path to every value of a JSON object but those of the vocabulary and the merges."""
    yield path
    if path and path[-1] in ("vocab", "merges"):
        return
    inner = dict(enumerate(part)) if isinstance(part, list) else part
    for key, value in inner.items() if isinstance(inner, dict) else ():
        yield from places(value, (*path, key))


def test_odd_values_anywhere_are_read_or_refused_in_a_line(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "tok")
    split = {"type": "Split", "pattern": {"Regex": reference.PATTERN}}
    split |= {"behavior": "Isolated", "invert": False}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}
    steps = {"type": "Sequence", "pretokenizers": [split, byte_level]}
    described = json.loads((tmp_path / "tok" / "tokenizer.json").read_text())
    whole = json.dumps(described | {"pre_tokenizer": steps})
    told = []
    n_read = 0
    for path in places(json.loads(whole)):
        for odd in (5, -1, 1e400, "x", True, None, [], [1], [[]], {}, {"a": 1}, {"type": []}):
            described = {"whole": json.loads(whole)}
            inner = described
            *parents, last = ("whole", *path)
            for key in parents:
                inner = inner[key]
            inner[last] = odd
            try:
                hugging_face.parse_tokenizer_json(json.dumps(described["whole"]), "t.json")
                n_read += 1
            except ValueError as error:
                told.append(str(error))
    assert len(told) > 100
    assert all(line.startswith("t.json") for line in told)
    assert n_read > 10
