"""Exported models and tokenizers beside our own, in transformers, tokenizers and tiktoken."""

import dataclasses
import errno
import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tiktoken
import tiktoken.load
import tokenizers
import torch
import transformers
from exported_models import CODED, PLAIN, SHAPES, random_model, random_texts
from short_runs import config
from tokenizer_cases import END, TEXT
from transformers.loss.loss_utils import ForCausalLMLoss

from fastlm.export import export_hugging_face, export_tiktoken
from fastlm.export.__main__ import main
from fastlm.export.architectures import hugging_face_type
from fastlm.files import disk
from fastlm.model import TransformerLM
from fastlm.pretrained import Pretrained, load_pretrained
from fastlm.tokenizer import Tokenizer
from fastlm.train import train

ROOT = Path(__file__).resolve().parents[2]
BOUND = 1e-4
"""how far logits may be from ours"""


@pytest.mark.slow
@pytest.mark.parametrize("name", SHAPES)
def test_transformers_computes_the_same(name, tokenizer, tmp_path):
    """Logits of 64 random windows within 1e-4, and 64 tokens written greedily, all as ours would be."""
    ours = random_model(tokenizer, **SHAPES[name])
    export_hugging_face(ours, tmp_path / "hf")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "hf").eval()
    assert type(theirs).__module__.startswith("transformers.models")
    compare(ours, theirs)


def compare(ours: Pretrained, theirs) -> None:
    network = ours.config.model
    assert sum(p.numel() for p in theirs.parameters()) >= sum(
        p.numel() for p in ours.model.parameters()
    )
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(network.vocab_size, (64, network.context_length), generator=generator)
    with torch.no_grad():
        torch.testing.assert_close(theirs(ids).logits, ours.model(ids), rtol=0, atol=BOUND)
    written = theirs.generate(
        ids[:1, :4], do_sample=False, max_new_tokens=64, eos_token_id=None, pad_token_id=0
    )
    assert_greedy(ours.model, written[0], n_prompt=4)


def assert_greedy(model: TransformerLM, ids: torch.Tensor, *, n_prompt: int) -> None:
    """Each token after the prompt has our highest logit, or one that rounding may put there.

    Where both networks have each logit within BOUND, what is the highest to them lies at most twice
    as far below our highest. Which of two that near is taken depends on the processor.
    """
    with torch.no_grad():
        logits = model(ids[None, :-1])[0, n_prompt - 1 :]
    taken = logits.gather(1, ids[n_prompt:, None])[:, 0]
    assert len(taken) > 0
    assert (taken >= logits.max(1).values - 2 * BOUND).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", CODED)
def test_the_file_beside_the_weights_computes_the_same(name, tokenizer, tmp_path):
    ours = random_model(tokenizer, **CODED[name])
    export_hugging_face(ours, tmp_path / "hf", with_code=True)
    theirs = load_with_code(tmp_path / "hf")
    assert type(theirs).__name__ == "FastLMForCausalLM"
    assert sum(p.numel() for p in theirs.parameters()) == sum(
        p.numel() for p in ours.model.parameters()
    )
    compare(ours, theirs)
    # Texts of different lengths at once, the shorter one padded on its left.
    ids = torch.randint(ours.config.model.vocab_size, (2, 20), generator=torch.manual_seed(2))
    mask = torch.ones_like(ids)
    mask[0, :6] = 0
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    with torch.no_grad():
        padded = theirs(ids, attention_mask=mask, position_ids=positions).logits
        torch.testing.assert_close(padded[0, 6:], ours.model(ids[0, 6:]), rtol=0, atol=BOUND)
        torch.testing.assert_close(padded[1], ours.model(ids[1]), rtol=0, atol=BOUND)
        written = theirs.generate(
            ids, attention_mask=mask, do_sample=False, max_new_tokens=8, eos_token_id=None
        )
    assert_greedy(ours.model, written[0, 6:], n_prompt=14)
    assert_greedy(ours.model, written[1], n_prompt=20)
    told = theirs(ids, labels=ids).loss
    shifted = torch.nn.functional.cross_entropy(
        ours.model(ids)[:, :-1].flatten(0, 1), ids[:, 1:].flatten()
    )
    torch.testing.assert_close(told, shifted)


@pytest.mark.parametrize("n_micro_batches", [1, 2, 8])
def test_the_loss_of_a_step_does_not_depend_on_its_micro_batches(
    n_micro_batches, tokenizer, tmp_path
):
    """transformers' Trainer gives the number of labels of a step, and adds up the losses."""
    ours = random_model(tokenizer)
    export_hugging_face(ours, tmp_path / "hf", with_code=True)
    theirs = load_with_code(tmp_path / "hf")
    ids = torch.randint(ours.config.model.vocab_size, (8, 20), generator=torch.manual_seed(3))
    labels = ids.clone()
    labels[0, 5:] = -100  # as of padding: micro-batches have different numbers of labels
    n_labels = labels[:, 1:].ne(-100).sum()
    with torch.no_grad():
        loss = sum(
            theirs(part, labels=told, num_items_in_batch=n_labels).loss
            for part, told in zip(
                ids.chunk(n_micro_batches), labels.chunk(n_micro_batches), strict=True
            )
        )
        logits = ours.model(ids)
        expected = ForCausalLMLoss(logits, labels, logits.shape[-1], num_items_in_batch=n_labels)
        torch.testing.assert_close(loss, expected, rtol=1e-4, atol=0)
        torch.testing.assert_close(loss, theirs(ids, labels=labels).loss)
        told = theirs(ids, labels=labels, num_items_in_batch=int(n_labels)).loss
        torch.testing.assert_close(loss, told)


def test_modes_of_exported_files_follow_the_umask(tokenizer, tmp_path):
    before = os.umask(0o027)
    try:
        export_hugging_face(random_model(tokenizer), tmp_path / "hf", with_code=True)
        export_tiktoken(tokenizer, tmp_path / "ranks")
    finally:
        os.umask(before)
    files = [*(tmp_path / "hf").iterdir(), *(tmp_path / "ranks").iterdir()]
    assert len(files) == 9
    assert {path.stat().st_mode & 0o777 for path in files} == {0o640}


@pytest.mark.parametrize("name", ["cache", "past_key_values"])
def test_what_earlier_calls_kept_is_taken_by_both_its_names(name, tokenizer, tmp_path):
    """Versions of transformers differ in which they use."""
    ours = random_model(tokenizer)
    export_hugging_face(ours, tmp_path / "hf", with_code=True)
    theirs = load_with_code(tmp_path / "hf")
    ids = torch.arange(40).view(2, 20)
    with torch.no_grad():
        _, kept = theirs(ids[:, :13], use_cache=True).to_tuple()
        logits = theirs(ids[:, 13:], **{name: kept}).logits
        torch.testing.assert_close(logits, ours.model(ids)[:, 13:], rtol=0, atol=BOUND)


def load_with_code(folder: Path):
    return transformers.AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True).eval()


def test_no_code_is_run_unless_it_is_asked_for(tokenizer, tmp_path):
    export_hugging_face(random_model(tokenizer, x0_scalars=True), tmp_path / "hf", with_code=True)
    with pytest.raises(ValueError, match="trust_remote_code=True"):
        transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "hf", trust_remote_code=False)


def test_tied_weights_are_one_tensor_there_too(tokenizer, tmp_path):
    export_hugging_face(random_model(tokenizer, tie_weights=True), tmp_path / "hf")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "hf")
    assert theirs.lm_head.weight is theirs.model.embed_tokens.weight


def test_ids_are_the_same_in_transformers_tokenizers_and_tiktoken(tokenizer, tmp_path):
    export_hugging_face(random_model(tokenizer), tmp_path / "hf")
    export_tiktoken(tokenizer, tmp_path / "tiktoken")
    hf = transformers.AutoTokenizer.from_pretrained(tmp_path / "hf")
    rust = tokenizers.Tokenizer.from_file(str(tmp_path / "hf/tokenizer.json"))
    told = json.loads((tmp_path / "tiktoken/encoding.json").read_text())
    encoding = tiktoken.Encoding(
        "exported", mergeable_ranks=read_ranks(tmp_path / "tiktoken"), **told
    )
    assert hf.eos_token_id == tokenizer.special_tokens[END]
    assert hf.model_max_length == 80
    texts = [TEXT, *random_texts(3000)]
    assert [e.ids for e in rust.encode_batch(texts)] == [tokenizer.encode(text) for text in texts]
    for text in texts:
        ids = tokenizer.encode(text)
        assert encoding.encode(text, allowed_special="all") == ids, repr(text)
    for text in texts[:300]:
        ids = tokenizer.encode(text)
        assert hf(text)["input_ids"] == ids, repr(text)
        assert hf.decode(ids) == text


def read_ranks(folder: Path) -> dict[bytes, int]:
    """As the documentation does: the hash keeps tiktoken from reading an earlier copy."""
    sha256, name = (folder / "ranks.tiktoken.sha256").read_text().split()
    return tiktoken.load.load_tiktoken_bpe(str(folder / name), expected_hash=sha256)


def test_ranks_exported_again_are_not_read_from_tiktokens_cache(tokenizer, tmp_path, monkeypatch):
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path / "cache"))
    vocab = dict(enumerate(bytes([i]) for i in range(256)))
    other = Tokenizer({**vocab, 256: b"th"}, [(b"t", b"h")], [])
    for exported in (other, tokenizer):
        shutil.rmtree(tmp_path / "ranks", ignore_errors=True)
        export_tiktoken(exported, tmp_path / "ranks")
        special = set(exported.special_tokens.values())
        expected = {t: i for i, t in exported.vocab.items() if i not in special}
        assert read_ranks(tmp_path / "ranks") == expected
    assert len(list((tmp_path / "cache").iterdir())) == 1  # it keeps copies


BYTES = [bytes([i]) for i in range(256)]
OTHER_RANKS = {
    "ids not in the order of merges": ([*BYTES, b"abc", b"ab"], [(b"a", b"b"), (b"ab", b"c")]),
    "two merges in another order": ([*BYTES, b"cd", b"ab"], [(b"a", b"b"), (b"c", b"d")]),
    "another merge of the same token": (
        [*BYTES, b"ab", b"bc", b"abc"], [(b"a", b"b"), (b"b", b"c"), (b"a", b"bc")],
    ),
    "a token that no merge makes": ([*BYTES, b"ab", b"xyz"], [(b"a", b"b")]),
    "a merge fewer than ranks give": ([*BYTES, b"ab", b"abc"], [(b"a", b"b")]),
    "a byte without a token": ([*BYTES[:255], b"ab"], [(b"a", b"b")]),
}  # fmt: skip


@pytest.mark.parametrize("case", OTHER_RANKS)
def test_a_tokenizer_to_which_tiktoken_would_give_other_ids_is_refused(case, tmp_path):
    tokens, merges = OTHER_RANKS[case]
    with pytest.raises(ValueError, match=r"tiktoken.*tokenizer\.json with the package tokenizers"):
        export_tiktoken(Tokenizer(dict(enumerate(tokens)), merges), tmp_path / "ranks")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("first", "second"),
    [("  ", "   "), ("<|endoftext|>", "<|end"), ("\n\n\n", "\n\n"), ("<a>", "<a>1")],
)
def test_special_tokens_that_begin_with_another_are_refused_for_tiktoken(first, second, tmp_path):
    """tiktoken joins them to a regular expression in the order of a hash table."""
    special = ["<b", first, "b>", second]
    ours = Tokenizer(dict(enumerate(BYTES)), [], special)
    with pytest.raises(
        ValueError, match=r"begins with.*tokenizer\.json with the package"
    ) as refusal:
        export_tiktoken(ours, tmp_path / "ranks")
    assert repr(first) in str(refusal.value)
    assert repr(second) in str(refusal.value)
    assert list(tmp_path.iterdir()) == []


def test_special_tokens_that_overlap_otherwise_have_the_same_ids_in_tiktoken(tmp_path):
    """As suffix and prefix, or one inside another, with all or some of them allowed."""
    rng = random.Random(0)
    n_exported = 0
    for trial in range(20):
        special = {"".join(rng.choices("ab \né", k=rng.randint(2, 4))) for _ in range(3)}
        ours = Tokenizer(dict(enumerate(BYTES)), [], sorted(special, reverse=True))
        folder = tmp_path / str(trial)
        if any(a != b and b.startswith(a) for a in special for b in special):
            with pytest.raises(ValueError, match="begins with"):
                export_tiktoken(ours, folder)
            continue
        n_exported += 1
        export_tiktoken(ours, folder)
        told = json.loads((folder / "encoding.json").read_text())
        encoding = tiktoken.Encoding("e", mergeable_ranks=read_ranks(folder), **told)
        for _ in range(10):
            text = "".join(rng.choices("ab \néc", k=30))
            choice = {
                "allowed_special": set(rng.sample(sorted(special), rng.randint(0, len(special)))),
                "disallowed_special": (),
            }
            assert encoding.encode(text, **choice) == ours.encode(text, **choice), (special, text)
    assert 5 < n_exported < 20


def test_ids_of_bytes_in_any_order_are_exported(tmp_path):
    """Their ranks play no part in tiktoken: special tokens may come first, and bytes last."""
    tokens = [b"<|end|>", b"ab", b"abc", b"bc", *reversed(BYTES)]
    merges = [(b"a", b"b"), (b"ab", b"c"), (b"b", b"c")]
    ours = Tokenizer(dict(enumerate(tokens)), merges, ["<|end|>"])
    export_tiktoken(ours, tmp_path / "ranks")
    told = json.loads((tmp_path / "ranks/encoding.json").read_text())
    encoding = tiktoken.Encoding("e", mergeable_ranks=read_ranks(tmp_path / "ranks"), **told)
    for text in ("abcab cbc<|end|>abbcabc", TEXT, *random_texts(300)):
        assert encoding.encode(text, allowed_special="all") == ours.encode(text), repr(text)
    assert Tokenizer.load(tmp_path / "ranks").hash == ours.hash


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"norm": "post"}, "post-norm"),
        ({"norm": "none"}, "no norms"),
        ({"value_embeddings": True, "logit_softcap": 15.0}, "value embeddings, logit softcap"),
        ({"x0_scalars": True}, "x0 scalars"),
        ({"attention_gate": True, "backout": True}, "attention gate, backout"),
        ({"ngram_rows": 10}, "n-gram tables"),
        ({"embedding_norm": True, "tie_weights": True}, "a normed embedding that is the head too"),
        ({"qk_norm": True, "ffn": "relu2"}, "QK-norm with feed-forward relu2"),
    ],
)
def test_what_no_class_computes_is_refused_by_name(changes, named):
    with pytest.raises(ValueError, match=f"this network's {named}: give --with-code"):
        hugging_face_type(dataclasses.replace(PLAIN, **changes))


def test_nothing_is_overwritten_and_a_tokenizer_without_an_end_is_refused(tokenizer, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine").write_text("x")
    with pytest.raises(FileExistsError, match="is there already: give another --out"):
        export_hugging_face(random_model(tokenizer), tmp_path / "full")
    bare = Tokenizer(dict(enumerate(bytes([i]) for i in range(256))), [])
    with pytest.raises(ValueError, match=r"has no <\|endoftext\|>"):
        export_hugging_face(random_model(bare), tmp_path / "hf")
    with pytest.raises(FileNotFoundError, match="no run in"):
        main([str(tmp_path / "nowhere"), "--to", "hf", "--out", str(tmp_path / "x")])
    assert sorted(p.name for p in Path(tmp_path).iterdir()) == ["full"]


def test_an_output_that_exists_is_told_before_torch_is_loaded(tmp_path):
    for folder in ("full", "folder", "run/checkpoints/step-000001"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "full/mine").write_text("x")
    (tmp_path / "run/config.json").write_text("{}")
    code = (
        "import sys\n"
        "from fastlm.export.__main__ import main as export\n"
        "from fastlm.imports.__main__ import main as imports\n"
        "for main, words in ((export, 'run --to hf'), (imports, 'model folder')):\n"
        "    try:\n"
        "        main([*words.split(), '--out', 'full'])\n"
        "    except FileExistsError:\n"
        "        assert 'torch' not in sys.modules\n"
        "    else:\n"
        "        sys.exit(1)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)


@pytest.mark.parametrize(
    "name", ["model.safetensors", "tokenizer.json", "config.json", "encoding.json"]
)
def test_an_export_that_is_broken_off_leaves_nothing(name, tokenizer, tmp_path, monkeypatch):
    write_new = disk.write_new

    def full(path, raw):
        if path.name == name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write_new(path, raw)

    def export() -> None:
        if name == "encoding.json":
            export_tiktoken(tokenizer, tmp_path / "out")
        else:
            export_hugging_face(random_model(tokenizer), tmp_path / "out")

    monkeypatch.setattr(disk, "write_new", full)
    with pytest.raises(OSError, match="No space left on device: .*out"):
        export()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_command_exports_a_run(data, tmp_path, capsys):
    run = tmp_path / "run"
    train(config(data, max_steps=2), run)
    main([str(run), "--to", "hf", "--out", str(tmp_path / "hf"), "--dtype", "bfloat16"])
    assert "from_pretrained reads it" in capsys.readouterr().out
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "hf")
    assert theirs.dtype == torch.bfloat16
    ours = load_pretrained(run).model.state_dict()
    name = "layers.0.ffn.w2.weight"
    exported = theirs.model.layers[0].mlp.down_proj.weight
    assert torch.equal(exported, ours[name].to(torch.bfloat16))
    pipe = transformers.pipeline("text-generation", model=str(tmp_path / "hf"), device="cpu")
    assert pipe("Once", max_new_tokens=4)[0]["generated_text"].startswith("Once")
    main([str(run), "--to", "tiktoken", "--out", str(tmp_path / "ranks")])
    assert sorted(p.name for p in (tmp_path / "ranks").iterdir()) == [
        "encoding.json", "ranks.tiktoken", "ranks.tiktoken.sha256",
    ]  # fmt: skip
