"""Exported models and tokenizers beside our own, in transformers, tokenizers and tiktoken."""

import dataclasses
import errno
import json
import os
import random
from pathlib import Path

import pytest
import tiktoken
import tiktoken.load
import tokenizers
import torch
import transformers
from short_runs import config
from tokenizer_cases import END, TEXT
from torch import nn

from fastlm.config import ModelConfig, TrainConfig
from fastlm.export import export_hugging_face, export_tiktoken
from fastlm.export.__main__ import main
from fastlm.export.hugging_face import hugging_face_type
from fastlm.files import disk
from fastlm.model import TransformerLM
from fastlm.pretrained import Pretrained, load_pretrained
from fastlm.tokenizer import Tokenizer
from fastlm.train import train

LEADERBOARD_PARTS = (
    "value_embeddings", "x0_scalars", "residual_scalars", "attention_gate", "qk_norm",
    "embedding_norm",
)  # fmt: skip
PLAIN = ModelConfig(context_length=80, n_layers=3, d_model=48, n_heads=4, tie_weights=False)
NANOCHAT = {
    "norm_gain": False,
    "embedding_norm": True,
    "qk_norm": True,
    "ffn": "relu2",
    "logit_softcap": 5.0,
}
SHAPES = {
    "llama": {},
    "tied": {"tie_weights": True},
    "without gains": {"norm_gain": False},
    "normed embedding": {"embedding_norm": True},
    "other numbers": {"rope_theta": 500.0, "norm_eps": 1e-3, "d_ff": 100},
    "qwen3": {"qk_norm": True},
    "qwen3 without gains": {"qk_norm": True, "norm_gain": False, "tie_weights": True},
    "arcee": {"ffn": "relu2"},
    "silu": {"ffn": "silu"},
    "smollm3": {"position": "none"},
    "nanochat": NANOCHAT,
    "nanochat tied": NANOCHAT | {"tie_weights": True, "ffn": "silu", "logit_softcap": None},
}

# Networks that only a file of ours computes.
CODED = {
    "plain": {},
    "post-norm": {"norm": "post", "ffn": "silu"},
    "no norms": {"norm": "none", "position": "none", "tie_weights": True},
    "gates and scalars": {
        "value_embeddings": True,
        "attention_gate": True,
        "residual_scalars": True,
        "x0_scalars": True,
        "unet_skip": True,
        "backout": True,
        "logit_softcap": 4.0,
        "n_layers": 5,
    },
    "n-grams": {"ngram_rows": 1009, "embedding_norm": True, "qk_norm": True},
    "narrow n-grams": {"ngram_rows": 1009, "ngram_width": 8},
    "leaderboard": dict.fromkeys(LEADERBOARD_PARTS, True) | {"ffn": "relu2", "norm_gain": False},
}


def random_model(tokenizer: Tokenizer, **changes) -> Pretrained:
    """Every parameter drawn at random, gains too: nothing is equal to another by its start."""
    network = dataclasses.replace(PLAIN, vocab_size=tokenizer.vocab_size, **changes)
    model = TransformerLM(network)
    generator = torch.Generator().manual_seed(0)
    for p in model.parameters():
        near = 1.0 if p.ndim == 1 else 0.0
        size = 0.3 if p.ndim == 1 else p.shape[-1] ** -0.5
        nn.init.normal_(p, near, size, generator=generator)
    return Pretrained(model.eval(), tokenizer, TrainConfig(model=network, max_steps=1))


@pytest.mark.slow
@pytest.mark.parametrize("name", SHAPES)
def test_transformers_computes_the_same(name, tokenizer, tmp_path):
    """Logits of 64 random windows within 1e-4, and the same 64 tokens, greedily."""
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
        torch.testing.assert_close(theirs(ids).logits, ours.model(ids), rtol=0, atol=1e-4)
    prompt = ids[:1, :4]
    written = theirs.generate(
        prompt, do_sample=False, max_new_tokens=64, eos_token_id=None, pad_token_id=0
    )
    own = prompt
    for _ in range(64):
        with torch.no_grad():
            own = torch.cat([own, ours.model(own)[:, -1:].argmax(-1)], dim=1)
    assert written.tolist() == own.tolist()


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
        torch.testing.assert_close(padded[0, 6:], ours.model(ids[0, 6:]), rtol=0, atol=1e-4)
        torch.testing.assert_close(padded[1], ours.model(ids[1]), rtol=0, atol=1e-4)
        written = theirs.generate(
            ids, attention_mask=mask, do_sample=False, max_new_tokens=8, eos_token_id=None
        )
        alone = theirs.generate(ids[:1, 6:], do_sample=False, max_new_tokens=8, eos_token_id=None)
    assert written[0, 20:].tolist() == alone[0, 14:].tolist()
    told = theirs(ids, labels=ids).loss
    shifted = torch.nn.functional.cross_entropy(
        ours.model(ids)[:, :-1].flatten(0, 1), ids[:, 1:].flatten()
    )
    torch.testing.assert_close(told, shifted)


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


def random_texts(n: int) -> list[str]:
    """Of all planes, with what tokenizers stumble over: white space, digits, the special token."""
    rng = random.Random(0)
    pieces = [
        "\u00e9",
        "e\u0301",
        " ",
        "  ",
        "\n",
        "\t",
        "'s",
        "'S",
        "1",
        "23",
        "\u4e2d",
        "\U0001f600",
        END,
        "a",
        "the",
        ".",
    ]
    ranges = [(32, 127), (0xA0, 0x24F), (0x370, 0x52F), (0x4E00, 0x9FFF), (0x1F300, 0x1FAFF)]
    ranges += [(1, 0xD7FF), (0xE000, 0x10FFFF)]  # all there are
    texts = []
    for _ in range(n):
        text = ""
        for _ in range(rng.randrange(24)):
            low, high = rng.choice(ranges)
            text += rng.choice(pieces) if rng.random() < 0.5 else chr(rng.randrange(low, high))
        texts.append(text)
    return texts


def test_ids_are_the_same_in_transformers_tokenizers_and_tiktoken(tokenizer, tmp_path):
    export_hugging_face(random_model(tokenizer), tmp_path / "hf")
    export_tiktoken(tokenizer, tmp_path / "tiktoken")
    hf = transformers.AutoTokenizer.from_pretrained(tmp_path / "hf")
    rust = tokenizers.Tokenizer.from_file(str(tmp_path / "hf/tokenizer.json"))
    told = json.loads((tmp_path / "tiktoken/encoding.json").read_text())
    encoding = tiktoken.Encoding(
        "exported",
        mergeable_ranks=tiktoken.load.load_tiktoken_bpe(str(tmp_path / "tiktoken/ranks.tiktoken")),
        **told,
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


@pytest.mark.parametrize("name", ["tokenizer.json", "config.json", "encoding.json"])
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
        "encoding.json", "ranks.tiktoken",
    ]  # fmt: skip
