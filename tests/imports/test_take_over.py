"""Models, token files and tokenizers that other tools made are imported as our own."""

import base64
import dataclasses
import json
from pathlib import Path

import pytest
import tiktoken.load
import torch
import transformers
from exported_models import SHAPES, random_model
from safetensors.torch import load_file, save_file
from short_runs import MODEL, config
from tokenizer_cases import END

from fastlm.export import export_hugging_face, export_tiktoken
from fastlm.export.architectures import model_config
from fastlm.imports import import_model
from fastlm.imports.__main__ import main
from fastlm.pretrained import load_pretrained
from fastlm.runs.state import state_of
from fastlm.tokenizer import Tokenizer
from fastlm.train import train
from fastlm.train.command import main as train_main


def logits(model, ids) -> torch.Tensor:
    with torch.no_grad():
        found = model(ids)
    return getattr(found, "logits", found)


@pytest.mark.parametrize("name", SHAPES)
def test_what_was_exported_comes_back(name, tokenizer, tmp_path):
    ours = random_model(tokenizer, **SHAPES[name])
    export_hugging_face(ours, tmp_path / "hf")
    assert import_model(tmp_path / "hf", tmp_path / "run") == []
    back = load_pretrained(tmp_path / "run")
    assert back.tokenizer.hash == tokenizer.hash
    ids = torch.randint(ours.config.model.vocab_size, (4, 80), generator=torch.manual_seed(0))
    torch.testing.assert_close(logits(back.model, ids), logits(ours.model, ids), atol=1e-5, rtol=0)


def llama(folder: Path, tokenizer: Tokenizer, *, max_shard_size="1GB", **changes):
    """A model that transformers made, whose heads share keys and values two by two."""
    settings = {
        "vocab_size": tokenizer.vocab_size,
        "hidden_size": 32,
        "intermediate_size": 56,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
        "rms_norm_eps": 1e-4,
        "rope_theta": 5000.0,
        "rope_parameters": {"rope_type": "default", "rope_theta": 5000.0},
        "initializer_range": 0.3,
    }
    torch.manual_seed(0)
    theirs = transformers.LlamaForCausalLM(transformers.LlamaConfig(**settings | changes)).eval()
    theirs.save_pretrained(folder, max_shard_size=max_shard_size)
    tokenizer.save(folder)
    return theirs


def test_a_model_of_transformers_in_several_files_computes_the_same(tokenizer, tmp_path):
    theirs = llama(tmp_path / "hf", tokenizer, max_shard_size="20KB")
    assert len(list((tmp_path / "hf").glob("*.safetensors"))) > 1
    import_model(tmp_path / "hf", tmp_path / "run")
    ours = load_pretrained(tmp_path / "run").model
    ids = torch.randint(tokenizer.vocab_size, (4, 64), generator=torch.manual_seed(1))
    torch.testing.assert_close(logits(ours, ids), logits(theirs, ids), atol=1e-4, rtol=0)


def test_a_model_that_transformers_saved_again_is_imported(tokenizer, tmp_path):
    """Our own export, loaded and saved there; an editor may have put a mark before the JSON."""
    export_hugging_face(random_model(tokenizer), tmp_path / "hf")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "hf")
    theirs.save_pretrained(tmp_path / "again")
    transformers.AutoTokenizer.from_pretrained(tmp_path / "hf").save_pretrained(tmp_path / "again")
    path = tmp_path / "again/config.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    import_model(tmp_path / "again", tmp_path / "run")
    ours = load_pretrained(tmp_path / "run")
    ids = torch.randint(tokenizer.vocab_size, (4, 20), generator=torch.manual_seed(4))
    with torch.no_grad():
        torch.testing.assert_close(ours.model(ids), theirs(ids).logits, rtol=0, atol=1e-4)
    assert ours.tokenizer.hash == tokenizer.hash


def test_rows_that_stand_for_no_token_are_left_out(tokenizer, tmp_path, capsys):
    n = tokenizer.vocab_size
    theirs = llama(tmp_path / "hf", tokenizer, vocab_size=n + 30, tie_word_embeddings=True)
    main(["model", str(tmp_path / "hf"), "--out", str(tmp_path / "run")])
    assert state_of(tmp_path / "run").name == "imported"
    assert f"note: rows {n:,} to {n + 29:,} stand for no token: left out" in capsys.readouterr().out
    ours = load_pretrained(tmp_path / "run").model
    ids = torch.randint(n, (2, 64), generator=torch.manual_seed(1))
    torch.testing.assert_close(logits(ours, ids), logits(theirs, ids)[..., :n], atol=1e-4, rtol=0)
    llama(tmp_path / "small", tokenizer, vocab_size=n - 1)
    with pytest.raises(ValueError, match=f"has {n} tokens, the network {n - 1} rows"):
        import_model(tmp_path / "small", tmp_path / "other")
    assert not (tmp_path / "other").exists()


PLAIN = {
    "model_type": "llama",
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 56,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500.0,
}


def test_entries_of_a_configuration_are_read():
    assert model_config(PLAIN).rope_theta == 500.0
    both = {"rope_parameters": {"rope_theta": 7.0}, "rope_scaling": {"rope_theta": 9.0}}
    assert model_config(PLAIN | both).rope_theta == 9.0  # as in transformers
    mistral = PLAIN | {"model_type": "mistral", "sliding_window": None}
    assert model_config(mistral) == model_config(PLAIN)
    smollm3 = PLAIN | {"model_type": "smollm3", "no_rope_layers": [1] * 4}
    assert model_config(smollm3) == dataclasses.replace(model_config(PLAIN), tie_weights=True)
    # qwen3 has no sliding window unless use_sliding_window is set, whatever sliding_window says.
    assert model_config(PLAIN | {"model_type": "qwen3", "sliding_window": 128}).qk_norm


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"model_type": "gpt2"}, "expected a model_type of .*llama.*: got 'gpt2'"),
        ({"attention_bias": True}, "attention_bias True"),
        ({"mlp_bias": True, "hidden_act": "gelu"}, "mlp_bias True, hidden_act 'gelu'"),
        ({"head_dim": 16}, "head_dim 16"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "rope_parameters {.*llama3"),
        (
            {
                "rope_scaling": {"type": "linear", "factor": 2.0},
                "rope_parameters": {"rope_type": "default", "rope_theta": 1e4},
            },
            "rope_parameters {.*linear",
        ),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor 0.5"),
        ({"rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.5}}, "partial_rotary"),
        ({"model_type": "mistral"}, "sliding_window"),
        ({"model_type": "smollm3"}, "no_rope_layers"),
        ({"num_key_value_heads": 3}, "num_key_value_heads 3"),
        ({"hidden_size": "wide"}, "hidden_size 'wide' is no number"),
        ({"vocab_size": float("inf")}, "vocab_size 'inf' is no number"),
        ({"vocab_size": True}, "vocab_size 'True' is no number"),
        ({"vocab_size": 300.5}, "vocab_size 300.5 is no number of 1 or more"),
        ({"vocab_size": None}, "missing or is no number: vocab_size"),
        ({"num_attention_heads": 0}, "num_attention_heads 0 is no number of 1 or more"),
        ({"num_hidden_layers": 100_000_000}, "num_hidden_layers 100,000,000 is more than"),
        ({"rope_theta": "1e4"}, "rope_theta '1e4' is no number"),
        ({"rope_parameters": [1]}, "rope_parameters .* is no JSON object"),
        ({"head_dim": "8"}, "head_dim '8' is no number"),
    ],
)
def test_other_networks_are_refused_by_the_name_of_what_differs(changes, named):
    with pytest.raises(ValueError, match=named):
        model_config(PLAIN | changes)


def test_folders_that_cannot_be_read_are_refused_in_a_line(tokenizer, tmp_path):
    hf, out = tmp_path / "hf", tmp_path / "run"
    with pytest.raises(FileNotFoundError, match="expected a folder of transformers: no"):
        import_model(hf, out)
    (tmp_path / "file").touch()
    with pytest.raises(FileNotFoundError, match="expected a folder of transformers: no"):
        import_model(tmp_path / "file", out)
    llama(hf, tokenizer)
    weights = hf / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 1\n")
    with pytest.raises(
        ValueError, match=r"model\.safetensors is the pointer of Git LFS, not the f"
    ):
        import_model(hf, out)
    weights.write_bytes(whole[:-100])
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged: .*; get it again"):
        import_model(hf, out)
    weights.unlink()
    (hf / "pytorch_model.bin").write_bytes(b"\x80\x04")
    with pytest.raises(FileNotFoundError, match=r"pytorch_model\.bin is not read, as .* run code"):
        import_model(hf, out)
    weights.write_bytes(whole)
    told = json.loads((hf / "config.json").read_text())
    (hf / "config.json").write_text(json.dumps(told | {"num_hidden_layers": 3}))
    with pytest.raises(ValueError, match=r"tensor model\.layers\.2\.\S+ is missing"):
        import_model(hf, out)
    (hf / "config.json").write_text(json.dumps(told | {"num_hidden_layers": 1}))
    with pytest.raises(ValueError, match=r"no place for the tensor model\.layers\.1"):
        import_model(hf, out)
    for size in (57, 10**15):  # no memory has so many values: the sizes are compared before
        (hf / "config.json").write_text(json.dumps(told | {"intermediate_size": size}))
        with pytest.raises(
            ValueError, match=r"config\.json is of .* and the tensors have [\d,]+ va"
        ):
            import_model(hf, out)
    assert not out.exists()


def test_another_tokenizer_than_that_of_the_model_is_refused(tokenizer, tmp_path):
    llama(tmp_path / "hf", tokenizer)
    tokenizer.save(tmp_path / "same")
    fewer = {i: token for i, token in tokenizer.vocab.items() if i < 256}
    Tokenizer(fewer, [], [END]).save(tmp_path / "other")
    with pytest.raises(ValueError, match=r"other is not the tokenizer in \S+hf: leave --tokenizer"):
        import_model(tmp_path / "hf", tmp_path / "run", tokenizer=tmp_path / "other")
    assert not (tmp_path / "run").exists()
    import_model(tmp_path / "hf", tmp_path / "run", tokenizer=tmp_path / "same")
    for name in ("vocab.json", "tokenizer.json"):  # then the folder has none
        (tmp_path / "hf" / name).unlink()
    import_model(tmp_path / "hf", tmp_path / "run2", tokenizer=tmp_path / "same")


def test_weights_that_are_none_of_the_configuration_are_refused(tokenizer, tmp_path):
    hf, out = tmp_path / "hf", tmp_path / "run"
    llama(hf, tokenizer)
    weights, name = hf / "model.safetensors", "model.layers.0.mlp.up_proj.weight"
    tensors = load_file(weights)
    for changed, named in (
        (tensors[name].to(torch.int8), "is of torch.int8: expected weights that are not quantized"),
        (tensors[name] / 0, "has values that are NaN or infinite"),
    ):
        save_file(tensors | {name: changed}, weights)
        with pytest.raises(ValueError, match=rf"hf: the tensor {name} {named}"):
            import_model(hf, out)
    save_file(tensors, weights)
    told = json.loads((hf / "config.json").read_text())
    (hf / "config.json").write_text(json.dumps(told | {"vocab_size": 10**12}))
    with pytest.raises(ValueError, match=r"rows: vocab_size in config\.json is 1,000,000,000,000"):
        import_model(hf, out)
    (hf / "config.json").write_text(json.dumps(told))
    for value in (5, None, ""):
        index = {"weight_map": {name: value}}
        (hf / "model.safetensors.index.json").write_text(json.dumps(index))
        with pytest.raises(ValueError, match=rf"index\.json .*: got {value!r} for {name}"):
            import_model(hf, out)
    assert not out.exists()


@pytest.mark.slow
def test_training_goes_on_from_what_was_exported_and_imported(data, tmp_path, capsys):
    first, hf, run = (tmp_path / name for name in ("first", "hf", "run"))
    plain = dataclasses.replace(MODEL, qk_norm=True)
    summary = train(config(data, model=plain), first)
    export_hugging_face(load_pretrained(first), hf)
    import_model(hf, run)
    small = "--device cpu --max-steps 10 --batch-size 8 --eval-every 5"
    flags = ["--data", str(data), *small.split()]
    on = tmp_path / "on"
    train_main([*flags, "--init-from", str(run), "--out", str(on), "--eval-tokens", "999999"])
    told = [json.loads(line) for line in (on / "log.jsonl").read_text().splitlines()]
    losses = {row["step"]: row["val_loss"] for row in told if row["kind"] == "eval"}
    assert losses[0] == pytest.approx(summary.val_loss, abs=1e-4)
    assert losses[10] < losses[0] - 0.1
    assert load_pretrained(on).config.model.qk_norm
    # The run goes on by itself: what it began with may be gone.
    run.rename(tmp_path / "away")
    train_main([*flags, "--resume", str(on), "--max-steps", "12"])
    with pytest.raises(
        ValueError, match=r"no optimizer to go on with: begin a new run .*--init-from"
    ):
        train_main([*flags, "--resume", str(tmp_path / "away")])


def test_weights_of_another_network_or_tokenizer_are_not_begun_with(
    data,
    tokenizer,
    tmp_path,
):
    train(config(data, max_steps=1), tmp_path / "first")
    begun = config(data, init_from=str(tmp_path / "first"), max_steps=1)
    longer = dataclasses.replace(MODEL, context_length=16, n_layers=3)
    with pytest.raises(ValueError, match=r"of a network with n_layers 2 \(asked for 3\)$"):
        train(dataclasses.replace(begun, model=longer), tmp_path / "x")
    export_hugging_face(random_model(tokenizer), tmp_path / "hf")
    import_model(tmp_path / "hf", tmp_path / "other")
    with pytest.raises(ValueError, match="trained with another tokenizer .* --tokenizer .*other"):
        train(dataclasses.replace(begun, init_from=str(tmp_path / "other")), tmp_path / "x")
    with pytest.raises(FileNotFoundError, match="no run in nowhere"):
        train(dataclasses.replace(begun, init_from="nowhere"), tmp_path / "x")
    with pytest.raises(ValueError, match="would overwrite the head of init_from"):
        dataclasses.replace(begun, optim=dataclasses.replace(begun.optim, tie_until=0.5))
    assert not (tmp_path / "x").exists()


def test_a_tokenizer_comes_back_from_its_ranks(tokenizer, tmp_path):
    export_tiktoken(tokenizer, tmp_path / "ranks")
    main(["tokenizer", str(tmp_path / "ranks"), "--out", str(tmp_path / "back")])
    assert Tokenizer.load(tmp_path / "back").hash == tokenizer.hash
    assert Tokenizer.load(tmp_path / "ranks/ranks.tiktoken").merges == tokenizer.merges
    about = tmp_path / "ranks/encoding.json"
    told = json.loads(about.read_text())
    about.write_text(json.dumps(told | {"pat_str": r"\w+"}))
    with pytest.raises(ValueError, match="expected a pat_str that means the same"):
        Tokenizer.load(tmp_path / "ranks")
    about.write_text(json.dumps(told | {"pat_str": [told["pat_str"]]}))
    with pytest.raises(ValueError, match="pat_str must be a regular expression: got"):
        Tokenizer.load(tmp_path / "ranks")
    about.write_text(json.dumps(told | {"special_tokens": {END: 5}}))
    with pytest.raises(ValueError, match="rank 5 belongs to another token"):
        Tokenizer.load(tmp_path / "ranks")
    about.unlink()
    with pytest.raises(ValueError, match="does not say which pattern cuts the text"):
        Tokenizer.load(tmp_path / "ranks")


@pytest.mark.parametrize(
    ("lines", "named"),
    [
        ("YQ== 0\nYg== 1\nYWI= x\n", "line 3: expected a token in base64"),
        ("YQ== 0\nYg==\n", "line 2: expected a token in base64"),
        ("YQ== 0\nYg== 0\n", "line 2: rank 0 belongs to an earlier line"),
        ("YQ== 0\nYg== 1\nYWJhYg== 2\n", "no two tokens of lower rank make the token b'abab'"),
    ],
)
def test_rank_files_that_are_none_are_refused(lines, named, tmp_path):
    path = tmp_path / "gpt2.tiktoken"
    path.write_text(lines)
    with pytest.raises(ValueError, match=named):
        Tokenizer.load(path)


def test_the_ranks_of_gpt2_are_its_merges(text_dir, tmp_path):
    """The ranks are made from GPT-2's two files by tiktoken, and written in its format."""
    merges = (text_dir / "gpt2/merges.txt").read_text(encoding="utf-8").strip("\n")
    (tmp_path / "vocab.bpe").write_text(f"#version: 0.2\n{merges}\n", encoding="utf-8")
    ranks = tiktoken.load.data_gym_to_mergeable_bpe_ranks(
        str(tmp_path / "vocab.bpe"), str(text_dir / "gpt2/vocab.json")
    )
    (tmp_path / "r50k_base.tiktoken").write_bytes(
        b"".join(base64.b64encode(token) + b" %d\n" % rank for token, rank in ranks.items())
    )
    found = Tokenizer.load(tmp_path / "r50k_base.tiktoken")
    assert found.special_tokens == {END: 50256}
    assert found.hash == Tokenizer.load(text_dir / "gpt2").hash
