"""Files of tokenizers: ours and GPT-2's, the same tokenizer from each."""

import contextlib
import errno
import hashlib
import json
import os
import random
import re
import struct
import subprocess
import sys
import warnings

import pytest
import tokenizers
from tokenizer_cases import END, SPECIAL, assert_same, small_tokenizer

from fastlm.tokenizer import Tokenizer, train_bpe_from_documents
from fastlm.tokenizer import folder as folder_module
from fastlm.tokenizer.bpe import machine_code, reference
from fastlm.tokenizer.formats import gpt2


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return small_tokenizer()


def test_one_that_replaces_another_is_broken_off_at_any_call(tokenizer, tmp_path, monkeypatch):
    """The folder can be read as one of the two, and other files in it stay."""
    vocab, merges = train_bpe_from_documents(["other text other text"], 265, [])
    other = Tokenizer(vocab, merges)
    n_calls = 0

    def counted(original, n_left):
        def call(*args, **kwargs):
            nonlocal n_calls
            n_calls += 1
            if n_calls == n_left:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return original(*args, **kwargs)

        return call

    def save(n_left: int) -> Tokenizer:
        nonlocal n_calls
        folder, n_calls = tmp_path / str(n_left), 0
        tokenizer.save(folder)
        (folder / "README.md").touch()
        with monkeypatch.context() as patched:
            for name in ("open", "unlink", "replace", "fsync"):
                patched.setattr(os, name, counted(getattr(os, name), n_left))
            with contextlib.suppress(OSError):
                other.save(folder, replace=True)
        assert (folder / "README.md").exists()
        return Tokenizer.load(folder)

    assert save(0).hash == other.hash
    loaded = [save(n_left) for n_left in range(1, n_calls + 1)]
    seen = [found.hash for found in loaded]
    assert {tokenizer.hash, other.hash} == set(seen)
    assert all(found.hash == other.hash or found.vocab == tokenizer.vocab for found in loaded)


def test_a_folder_that_cannot_be_written_to_its_end_is_not_there(tokenizer, tmp_path, monkeypatch):
    def refuse(path, raw):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(folder_module.disk, "write_new", refuse)
    with pytest.raises(OSError, match="No space left on device: .*new"):
        tokenizer.save(tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


def test_a_saved_tokenizer_is_replaced_only_if_that_is_asked_for(tokenizer, tmp_path):
    vocab, merges = train_bpe_from_documents(["other text other text"], 265, [])
    other = Tokenizer(vocab, merges)
    tokenizer.save(tmp_path)
    (tmp_path / "notes.md").write_text("mine")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(FileExistsError, match=r"holds another tokenizer, with vocab\.json"):
        other.save(tmp_path)
    tokenizer.save(tmp_path)  # the same one
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    (tmp_path / "tokenizer.json").unlink()
    tokenizer.save(tmp_path)  # what is missing is added
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    (tmp_path / "added_tokens.json").write_text(json.dumps(tokenizer.special_tokens))
    other.save(tmp_path, replace=True)
    assert Tokenizer.load(tmp_path).hash == other.hash
    assert (tmp_path / "notes.md").read_text() == "mine"


def test_a_tokenizer_copied_again_leaves_files_of_others(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "from")
    (tmp_path / "from/notes.md").write_text("theirs")
    for damage in (False, True):
        folder_module.copy_tokenizer(tmp_path / "from", tmp_path / "to")
        assert Tokenizer.load(tmp_path / "to").hash == tokenizer.hash
        if damage:
            break
        (tmp_path / "to/notes.md").write_text("mine")
        (tmp_path / "to/merges.txt").write_text("")
    assert (tmp_path / "to/notes.md").read_text() == "mine"
    before = {path: path.stat().st_ino for path in (tmp_path / "to").iterdir()}
    folder_module.copy_tokenizer(tmp_path / "from", tmp_path / "to")
    assert {path: path.stat().st_ino for path in (tmp_path / "to").iterdir()} == before


class TestAddedTokens:
    """added_tokens.json, which transformers up to 4 kept beside GPT-2's two files."""

    @pytest.fixture
    def pair(self, tmp_path):
        peer = tokenizers.ByteLevelBPETokenizer()
        peer.train_from_iterator(
            ["a cat and a dog"] * 9, vocab_size=270, special_tokens=[END], show_progress=False
        )
        peer.save_model(str(tmp_path))
        return tmp_path, json.loads((tmp_path / "vocab.json").read_text())

    def test_their_ids_are_those_of_transformers(self, pair):
        transformers = pytest.importorskip("transformers")
        folder, entries = pair
        added = {"<|pad|>": len(entries) + 1, "[PAD]": len(entries), END: entries[END]}
        (folder / "added_tokens.json").write_text(json.dumps(added))
        (folder / "tokenizer_config.json").write_text(
            json.dumps({"tokenizer_class": "GPT2Tokenizer", "pad_token": "[PAD]"})
        )
        peer = transformers.AutoTokenizer.from_pretrained(folder)
        loaded = Tokenizer.load(folder)
        assert loaded.vocab_size == len(peer) == len(entries) + 2
        for text in ("a [PAD]dog", f"[PAD]{END}<|pad|> cat", "[PA D]", "a dog"):
            assert loaded.encode(text) == peer.encode(text, add_special_tokens=False), text

    @pytest.mark.parametrize("is_added", [False, True])
    @pytest.mark.parametrize("name", ["add_prefix_space", "add_bos_token", "add_eos_token"])
    def test_what_transformers_would_add_is_refused(self, pair, name, is_added):
        transformers = pytest.importorskip("transformers")
        folder, _ = pair
        config = {"tokenizer_class": "GPT2Tokenizer", "bos_token": END, "eos_token": END}
        (folder / "tokenizer_config.json").write_text(json.dumps(config | {name: is_added}))
        peer = transformers.AutoTokenizer.from_pretrained(folder)
        if not is_added:
            assert Tokenizer.load(folder).encode("cat") == peer.encode("cat")
            return
        with pytest.raises(ValueError, match=f"{name} must be false"):
            Tokenizer.load(folder)
        (folder / "tokenizer_config.json").unlink()
        assert Tokenizer.load(folder).encode("cat") != peer.encode("cat")

    @pytest.mark.parametrize("has_json", [False, True])
    @pytest.mark.parametrize("fault", ["", "other id", "other token", "lstrip", "odd"])
    def test_tokens_of_the_configuration_are_those_of_the_files(self, pair, has_json, fault):
        folder, entries = pair
        if has_json:
            Tokenizer.load(folder).save(folder / "whole")
            (folder / "whole/tokenizer.json").rename(folder / "tokenizer.json")
        added = {"content": END, "lstrip": fault == "lstrip", "special": True}
        ids = {str(entries[END]): added}
        if fault == "other id":
            ids = {str(entries[END] + 1): added}
        elif fault == "other token":
            ids[str(len(entries))] = {**added, "content": "<|pad|>"}
        elif fault == "odd":
            ids["x"] = added
        (folder / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": ids}))
        if not fault:
            assert Tokenizer.load(folder).special_tokens == {END: entries[END]}
            return
        with pytest.raises(ValueError, match=r"tokenizer_config\.json(:| has the token)"):
            Tokenizer.load(folder)

    def test_what_transformers_saved_into_our_folder_is_not_passed_over(self, tokenizer, tmp_path):
        transformers = pytest.importorskip("transformers")
        tokenizer.save(tmp_path)
        path = tmp_path / "tokenizer.json"
        peer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(path))
        peer.save_pretrained(tmp_path)
        assert Tokenizer.load(tmp_path).hash == tokenizer.hash
        peer.add_special_tokens({"pad_token": "<|pad|>"})
        peer.save_pretrained(tmp_path)
        with pytest.raises(ValueError, match=r"are of two tokenizers: remove special_tokens\.json"):
            Tokenizer.load(tmp_path)
        (tmp_path / "special_tokens.json").unlink()
        assert Tokenizer.load(tmp_path).vocab_size == len(peer) == tokenizer.vocab_size + 1

    def test_a_folder_that_holds_one_leads_to_it(self, tokenizer, tmp_path):
        tokenizer.save(tmp_path / "data/tokenizer")
        with pytest.raises(
            FileNotFoundError, match=r"there is one in \S+data/tokenizer: give that"
        ):
            Tokenizer.load(tmp_path / "data")

    def test_another_id_than_that_of_the_vocabulary_is_refused(self, pair):
        folder, entries = pair
        (folder / "added_tokens.json").write_text(json.dumps({END: len(entries)}))
        with pytest.raises(ValueError, match=r"vocab\.json gives .* the id 0, added_tokens\.json"):
            Tokenizer.load(folder)

    def test_tokens_that_other_files_do_not_have_are_refused(self, tokenizer, tmp_path):
        tokenizer.save(tmp_path)
        added = {END: tokenizer.special_tokens[END]}
        (tmp_path / "added_tokens.json").write_text(json.dumps(added))
        assert Tokenizer.load(tmp_path).hash == tokenizer.hash
        for wrong in ({"[PAD]": tokenizer.vocab_size}, {"a": tokenizer.token_to_id("a")}):
            (tmp_path / "added_tokens.json").write_text(json.dumps(wrong))
            with pytest.raises(ValueError, match=r"added_tokens\.json has the token .* remove it"):
                Tokenizer.load(tmp_path)


class TestFiles:
    def test_load_gives_what_was_saved(self, tokenizer, tmp_path):
        tokenizer.save(tmp_path / "new" / "folder")
        loaded = Tokenizer.load(tmp_path / "new" / "folder")
        assert (loaded.vocab, loaded.merges) == (tokenizer.vocab, tokenizer.merges)
        assert loaded.special_tokens == tokenizer.special_tokens
        assert loaded.hash == tokenizer.hash
        names = {path.name for path in (tmp_path / "new" / "folder").iterdir()}
        assert names == {
            "vocab.json", "merges.txt", "special_tokens.json", "tokenizer.json", "tables.npz",
        }  # fmt: skip

    def test_printable_bytes_are_gpt2s(self):
        assert gpt2.to_printable(b" \n\x00\xad!\xff") == "ĠĊĀŃ!ÿ"
        everything = gpt2.to_printable(bytes(range(256)))
        assert gpt2.from_printable(everything) == bytes(range(256))
        assert gpt2.spell_all(["", everything, "Ġt"]) == [b"", bytes(range(256)), b" t"]
        for wrong in (" ", "\xad", "\u0144", "中", "\ud800", "\U0010ffff"):
            with pytest.raises(KeyError, match=re.escape(repr(wrong))):
                gpt2.spell_all(["a", f"b{wrong}"])

    def test_of_a_merge_that_is_there_twice_the_last_one_counts(self, tmp_path):
        """As in `tokenizers` and in GPT-2's own code, which keep the last rank of a pair."""
        letters = "".join(map(chr, range(ord("a"), ord("e"))))
        tokens = [*letters, "ab", "bc", "abc", "cd"]
        lines = ["a b", "b c", "ab c", "c d", "a b"]
        (tmp_path / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate(tokens)}))
        (tmp_path / "merges.txt").write_text("\n".join(lines) + "\n")
        loaded = Tokenizer.from_files(tmp_path / "vocab.json", tmp_path / "merges.txt")
        peer = tokenizers.ByteLevelBPETokenizer(
            str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt")
        )
        for text in ("abcd", "abab", "dabcabcd", "bcd"):
            assert loaded.encode(text) == peer.encode(text).ids
        assert loaded.merges[0] == (b"b", b"c")

    def test_merges_that_begin_with_a_hash_are_no_comments(self, tmp_path):
        vocab, merges = train_bpe_from_documents(["##", "a#a#"], 257, [])
        Tokenizer(vocab, merges).save(tmp_path)
        assert (b"#", b"#") in merges
        assert Tokenizer.load(tmp_path).merges == merges

    def test_hash_tells_tokenizers_apart_and_not_processes(self, tokenizer):
        other = Tokenizer(tokenizer.vocab, tokenizer.merges[:-1], SPECIAL)
        assert (
            len({tokenizer.hash, other.hash, Tokenizer(tokenizer.vocab, tokenizer.merges).hash})
            == 3
        )
        code = (
            "from fastlm.tokenizer import Tokenizer, train_bpe_from_documents as train\n"
            "vocab, merges = train(['the cat sat on the mat ' * 3], 275, ['<b>', '<a>'])\n"
            "print(Tokenizer(vocab, merges, ['<b>', '<a>']).hash)"
        )
        hashes = set()
        for seed in ("0", "1"):
            environment = os.environ | {"PYTHONHASHSEED": seed}
            done = subprocess.run(
                [sys.executable, "-c", code],
                env=environment,
                capture_output=True,
                text=True,
                check=True,
            )
            hashes.add(done.stdout)
        assert len(hashes) == 1

    def test_hash_of_a_tokenizer_never_changes(self):
        tokens = [b" ", b"a", b"t", b"\xff", b"at", b" at", b"<|end|>"]
        merges = [(b"a", b"t"), (b" ", b"at")]
        tokenizer = Tokenizer(dict(enumerate(tokens)), merges, ["<|end|>", "<|x|>"])
        # The definition by hand: sizes and lengths in 8 bytes, tokens, merge parts, special tokens.
        groups = [[*tokens, b"<|x|>"], [b"a", b"t", b" ", b"at"], [b"<|end|>", b"<|x|>"]]
        number = struct.Struct("<Q").pack
        spelled = b"".join(
            number(len(group)) + b"".join(number(len(item)) + item for item in group)
            for group in groups
        )
        assert tokenizer.hash == hashlib.sha256(spelled).hexdigest()
        assert tokenizer.hash == "fa9ee20ba2911221b04e337a13d586590e7456e7df6df1dd138377d809c1a8e9"

    @pytest.mark.parametrize(
        ("vocab", "merges", "message"),
        [
            ("{", "", r"vocab\.json must be a JSON object"),
            ("[1]", "", r"vocab\.json must be a JSON object"),
            ('{"a": "0"}', "", r"integer ids"),
            ('{"a": 0, "b": 0}', "", r"gives id 0 to two tokens"),
            ('{"a b": 0}', "", r"'a b' holds ' '.* name it as one"),
            ('{"a": 0, "b": 2}', "", r"ids must be 0 to 1.* id 1 is missing"),
            ('{"": 0}', "", r"tokens must not be empty: the one with id 0 is"),
            ('{"a": 0, "b": 1}', "a b\n", r"merge 0, b'a' \+ b'b', needs b'ab'"),
            ('{"a": 0}', "#version: 0.2\na\n", r"merges\.txt line 2 must be two tokens"),
            ('{"a": 0}', "a b c\n", r"merges\.txt line 1 must be two tokens .* got 'a b c'"),
            ('{"a": 0}', "a a\n\r\na\n", r"merges\.txt line 3 must be two tokens .* got 'a'"),
            ('{"a": 0}', "a \u4e2d\n", r"merges\.txt line 1 holds '\u4e2d'"),
        ],
    )
    def test_malformed_files_are_named(self, tmp_path, vocab, merges, message):
        (tmp_path / "vocab.json").write_text(vocab, encoding="utf-8")
        (tmp_path / "merges.txt").write_text(merges, encoding="utf-8")
        with pytest.raises(ValueError, match=message):
            Tokenizer.load(tmp_path)

    def test_missing_files_are_named(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"vocab\.json and merges\.txt or .* is none"):
            Tokenizer.load(tmp_path)
        with pytest.raises(FileNotFoundError, match=r"there is no such folder"):
            Tokenizer.load(tmp_path / "no")
        (tmp_path / "vocab.json").write_text("{}")
        with pytest.raises(FileNotFoundError, match=r"merges\.txt"):
            Tokenizer.load(tmp_path)

    def test_special_tokens_with_other_ids_are_refused(self, tokenizer, tmp_path):
        tokenizer.save(tmp_path)
        (tmp_path / "special_tokens.json").write_text(
            json.dumps(tokenizer.special_tokens | {END: 3})
        )
        with pytest.raises(ValueError, match=r"gives '<\|endoftext\|>' the id 3, vocab\.json the"):
            Tokenizer.load(tmp_path)

    def test_a_special_token_that_is_not_listed_is_told(self, tmp_path):
        vocab, merges = train_bpe_from_documents(["the cat"], 260, [END, "<|end|>"])
        tokenizer = Tokenizer(vocab, merges, [END, "<|end|>"])
        tokenizer.save(tmp_path)
        path = tmp_path / "special_tokens.json"
        for listed, more in (({}, 1), ({"<|end|>": tokenizer.special_tokens["<|end|>"]}, 0)):
            path.write_text(json.dumps(listed))
            message = rf"special_tokens\.json does not list '<.*, id \d+ of .* \(and {more} more\)"
            with pytest.warns(UserWarning, match=message):
                assert tokenizer.special_tokens[END] not in Tokenizer.load(tmp_path).encode(END)

    def test_double_tokens_are_refused(self):
        with pytest.raises(ValueError, match=r"ids 0 and 1 are both b'a'"):
            Tokenizer({0: b"a", 1: b"a"}, [])


class TestTables:
    """tables.npz only makes load quick: it is never believed against the other files."""

    @pytest.fixture
    def folder(self, tokenizer, tmp_path):
        tokenizer.save(tmp_path / "t")
        return tmp_path / "t"

    @pytest.fixture
    def parsed(self, monkeypatch):
        """Folders whose vocab.json was parsed."""
        parsed = []
        parse = folder_module.read_vocab_and_merges

        def note(vocab_path, *others):
            parsed.append(vocab_path)
            return parse(vocab_path, *others)

        monkeypatch.setattr(folder_module, "read_vocab_and_merges", note)
        return parsed

    def test_they_hold_the_same_tokenizer(self, tokenizer, folder, parsed):
        loaded = Tokenizer.load(folder)
        assert not parsed
        assert_same(loaded, tokenizer)
        (folder / "tables.npz").unlink()
        assert_same(Tokenizer.load(folder), tokenizer)
        assert parsed

    def test_equal_tokenizers_give_equal_files(self, tokenizer, folder, tmp_path):
        Tokenizer.load(folder).save(tmp_path / "again")
        for path in folder.iterdir():
            assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()

    def test_an_edited_vocabulary_wins(self, tokenizer, folder, parsed):
        path = folder / "vocab.json"
        entries = json.loads(path.read_text(encoding="utf-8"))
        entries["!"], entries["A"] = entries["A"], entries["!"]
        path.write_text(json.dumps(entries), encoding="utf-8")
        loaded = Tokenizer.load(folder)
        assert parsed
        assert loaded.encode("A") == tokenizer.encode("!")
        assert loaded.hash != tokenizer.hash

    @pytest.mark.parametrize("name", ["merges.txt", "special_tokens.json"])
    def test_other_edits_win(self, tokenizer, folder, parsed, name):
        if name == "merges.txt":
            lines = (folder / name).read_text(encoding="utf-8").split("\n")
            (folder / name).write_text("\n".join(lines[:-2]), encoding="utf-8")
            assert Tokenizer.load(folder).merges == tokenizer.merges[:-1]
        else:
            entries = json.loads((folder / name).read_text())
            del entries["<|a b|>"], entries["<|end|>"]
            vocab = (folder / "vocab.json").read_text(encoding="utf-8")
            (folder / "vocab.json").write_text(
                vocab.replace("<|a b|>", "<|aXb|>"), encoding="utf-8"
            )
            (folder / name).write_text(json.dumps(entries))
            with pytest.warns(UserWarning, match=r"does not list '<\|end\|>'"):
                assert set(Tokenizer.load(folder).special_tokens) == {END, END + END}
        assert parsed

    def test_damaged_tables_are_passed_over(self, tokenizer, folder):
        packed = (folder / "tables.npz").read_bytes()
        rng = random.Random(5)
        damaged = [b"", b"PK", packed[:-1], packed[: len(packed) // 2], b"x" * 100]
        for _ in range(200):
            place = rng.randrange(len(packed))
            damaged.append(
                packed[:place]
                + bytes([packed[place] ^ 1 << rng.randrange(8)])
                + packed[place + 1 :]
            )
        for data in damaged:
            (folder / "tables.npz").write_bytes(data)
            assert_same(Tokenizer.load(folder), tokenizer)

    def test_ids_outside_of_the_vocabulary_are_passed_over(
        self, tokenizer, folder, parsed, monkeypatch
    ):
        from fastlm.tokenizer.tables import pack_tables

        files = ("vocab.json", "merges.txt", "special_tokens.json")
        made_from = folder_module._hash_files([(folder / name).read_bytes() for name in files])
        tables = tokenizer._tables
        for place, token_id in ((11, tokenizer.vocab_size), (9, -1), (10, tables.rows[-1])):
            rows = tables.rows[:]
            rows[place] = token_id
            packed = pack_tables(tables._replace(rows=rows), tokenizer.hash, made_from)
            (folder / "tables.npz").write_bytes(packed)
            parsed.clear()
            for is_at_hand in (False, True):
                with monkeypatch.context() as patch:
                    if is_at_hand:
                        machine_code.loaded()
                    else:
                        patch.setattr(machine_code, "is_at_hand", lambda: False)
                    assert_same(Tokenizer.load(folder), tokenizer)
                assert len(parsed) == 1 + is_at_hand


def gpt2_files(tokenizer: Tokenizer) -> tuple[bytes, bytes]:
    vocab = gpt2.printable_vocab(tokenizer.vocab, tokenizer.special_tokens)
    merges = "#version: 0.2\n" + gpt2.format_merges(tokenizer.merges).removeprefix(
        "#version: 0.2\n"
    )
    return json.dumps(vocab).encode(), merges.encode()


class TestQuickReading:
    """A kernel reads GPT-2's two files if nothing is unusual, and gives what is read slowly."""

    @pytest.fixture
    def tokenizer(self):
        machine_code.loaded()
        texts = ['low lower lowest, new newer newest: a \\ "wider" é 中 tale/told\n\n'] * 3
        return Tokenizer(*train_bpe_from_documents(texts, 290, [END]), [END])

    def test_it_reads_what_the_plain_functions_read(self, tokenizer, monkeypatch, tmp_path):
        vocab, merges = gpt2_files(tokenizer)
        spellings = [
            (vocab, merges),
            (json.dumps(json.loads(vocab), ensure_ascii=False, indent=2).encode(), merges),
            (vocab, merges.removesuffix(b"\n")),
            (vocab, merges.partition(b"\n")[2]),
        ]
        for pair in spellings:
            (tmp_path / "vocab.json").write_bytes(pair[0])
            (tmp_path / "merges.txt").write_bytes(pair[1])
            quick = gpt2.read_quickly(*pair)
            assert quick is not None
            with monkeypatch.context() as patch:
                patch.setattr(gpt2, "read_quickly", lambda *_: None)
                slow = Tokenizer.load(tmp_path)
            assert (*quick[0][:3], quick[1]) == slow._tables[:4]
            assert_same(Tokenizer.load(tmp_path), tokenizer)

    def test_the_unusual_is_left_to_the_plain_functions(self, tokenizer):
        vocab, merges = gpt2_files(tokenizer)
        entries = json.loads(vocab)
        first, second, *others = entries
        swapped = {first: 1, second: 0} | {key: entries[key] for key in others}
        line = merges.splitlines()[1]
        for changed in (
            (vocab, merges + line + b"\n"),  # a merge that is there twice
            (vocab, merges.replace(line, b" " + line)),
            (vocab, merges.replace(line, line + b" x")),
            (vocab, merges.replace(line, line.replace(b" ", b""))),
            (vocab, merges + b"\n\n"),
            (vocab, merges.replace(b"\n", b"\r\n")),
            (vocab, merges + b"\xff a\n"),
            (vocab, merges.replace(line + b"\n", b"")),  # a token that no merge makes
            (json.dumps(swapped).encode(), merges),
            (json.dumps(entries | {"new": len(entries)}).encode(), merges),
            (json.dumps(entries | {"<a b>": len(entries)}).encode(), merges),
            (json.dumps(entries | {"": len(entries)}).encode(), merges),
            (json.dumps(entries | {"<\U0001f600>": len(entries)}).encode(), merges),
            (vocab.replace(b": 0,", b": 00,"), merges),
            (vocab.replace(b": 0,", b": -0,"), merges),
            (vocab.replace(b": 0,", b": 0.0,"), merges),
            (vocab.replace(b": 1,", b": 4294967297,"), merges),
            (vocab + b"x", merges),
            (vocab + b"}", merges),
            (b"[" + vocab[1:], merges),
            (vocab.replace(b"}", b",}"), merges),
            (b"", merges),
            (b"{}", b""),
        ):
            assert gpt2.read_quickly(*changed) is None, changed

    def test_any_truncation_is_left_to_the_plain_functions(self, tokenizer):
        vocab, merges = gpt2_files(tokenizer)
        for n_bytes in range(len(vocab)):
            assert gpt2.read_quickly(vocab[:n_bytes], merges) is None
        for n_bytes in range(len(merges) - 1):
            assert gpt2.read_quickly(vocab, merges[:n_bytes]) is None


class TestGpt2Folders:
    """GPT-2's own files do not say what is special."""

    @pytest.fixture
    def pair(self, tokenizer, tmp_path):
        tokenizer.save(tmp_path)
        for name in ("special_tokens.json", "tables.npz", "tokenizer.json"):
            (tmp_path / name).unlink()
        return tmp_path

    def test_tokens_in_angle_brackets_become_special(self, tokenizer, pair):
        entries = json.loads((pair / "vocab.json").read_text(encoding="utf-8"))
        del entries[END + END]
        entries["<|a b|>"] = len(entries) - 1
        (pair / "vocab.json").write_text(json.dumps(entries))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            loaded = Tokenizer.load(pair)
        assert loaded.special_tokens == {END: 296, "<|end|>": 297, "<|a b|>": 298}
        assert loaded.encode(f"the{END}")[-1] == 296

    @pytest.mark.filterwarnings("ignore:.*neither bytes nor made")
    def test_openais_names_are_read_too(self, pair):
        expected = Tokenizer.load(pair)
        (pair / "vocab.json").rename(pair / "encoder.json")
        (pair / "merges.txt").rename(pair / "vocab.bpe")
        assert_same(Tokenizer.load(pair), expected)

    def test_tokens_that_a_merge_makes_are_none(self, tmp_path):
        vocab = {byte: bytes([byte]) for byte in range(256)} | {256: b"<a", 257: b"<a>"}
        Tokenizer(vocab, [(b"<", b"a"), (b"<a", b">")]).save(tmp_path)
        for name in ("special_tokens.json", "tables.npz", "tokenizer.json"):
            (tmp_path / name).unlink()
        assert Tokenizer.load(tmp_path).special_tokens == {}

    def test_other_tokens_that_nothing_makes_are_told(self, tokenizer, pair):
        entries = json.loads((pair / "vocab.json").read_text(encoding="utf-8"))
        entries |= {"[CLS]": len(entries), "madeup": len(entries) + 1}
        (pair / "vocab.json").write_text(json.dumps(entries))
        # <|endoftext|><|endoftext|> is one of the three.
        with pytest.warns(UserWarning, match=r"vocab\.json: 3 tokens are neither bytes nor made"):
            loaded = Tokenizer.load(pair)
        assert loaded.encode("[CLS]madeup") == tokenizer.encode("[CLS]madeup")

    def test_gpt2_equals_tiktoken(self, text_dir):
        tiktoken = pytest.importorskip("tiktoken")
        folder = text_dir / "gpt2"
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            loaded = Tokenizer.load(folder)
        assert loaded.special_tokens == {END: 50256}
        entries = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
        ranks = {gpt2.from_printable(k): i for k, i in entries.items() if k != END}
        peer = tiktoken.Encoding(
            "gpt2", pat_str=reference.PATTERN, mergeable_ranks=ranks, special_tokens={END: 50256}
        )
        text = (text_dir / "owt_sample.txt").read_bytes()[:500_000].decode("utf-8", "ignore")
        text += END + (text_dir / "tinystories_valid.txt").read_bytes()[:300_000].decode()
        ids = loaded.encode(text)
        assert ids == peer.encode(text, allowed_special="all")
        assert loaded.encode(text, allowed_special=()) == peer.encode_ordinary(text)
        assert loaded.decode_with_offsets(ids) == peer.decode_with_offsets(ids)

    def test_gpt2_survives_a_round_trip_through_tables(self, text_dir, tmp_path):
        loaded = Tokenizer.load(text_dir / "gpt2")
        loaded.save(tmp_path)
        assert_same(Tokenizer.load(tmp_path), loaded)
