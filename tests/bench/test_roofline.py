"""The predicted step: its parts are the formulas', and what is not counted is said."""

import dataclasses
import json

import pytest
import roofline
import torch
from roofline import SHARES, Generated, of_kernels, predict

from fastlm.accounting import count_parameters, forward_flops, training_flops_per_token
from fastlm.config.recipes import load_recipe

LEADERBOARD = load_recipe("leaderboard")
KERNELS = ["qkv_norm_rope", "relu2_ffn"]
FULL = dict.fromkeys(SHARES, 1.0)


def seconds_of(prediction, name: str) -> float:
    return next((part.seconds for part in prediction.parts if part.name == name), 0.0)


def test_at_full_speed_the_model_alone_takes_its_flops():
    found = predict(LEADERBOARD, "H100", 512, [], None, FULL)
    model, n_tokens = LEADERBOARD.model, 512 * 512
    names = ("products", "attention forward", "attention backward")
    flops = sum(part.flops for part in found.parts if part.name in names)
    scores = 4 * 512 * 512 * model.d_model * model.n_layers * 512
    # The model's FLOPs have all pairs of tokens three times; half are masked, and the backward
    # pass computes the scores again.
    assert flops == 3 * forward_flops(model, 512) * 512 - 3 * scores + 3.5 * scores / 2
    assert found.seconds == sum(part.seconds for part in found.parts)
    assert found.tokens_per_second == n_tokens / found.seconds
    assert found.mfu == found.tokens_per_second * training_flops_per_token(model, 512) / 989.5e12


def test_kernels_take_their_own_share_of_products_and_their_own_bytes():
    plain, ours = (
        predict(LEADERBOARD, "H200", 256, names, None, SHARES) for names in ([], KERNELS)
    )
    moved = {part.name: part.flops for part in ours.parts}
    d, f = 1024, 4096
    assert moved["products of relu2_ffn"] == 2 * 2 * d * f * 14 * 512 * 512
    assert seconds_of(plain, "products") > seconds_of(ours, "products")
    (heads,) = of_kernels(LEADERBOARD.model, 512, KERNELS).values()
    assert heads == 14 * (6 + 8) * 512 * 512 * d * 2
    assert seconds_of(ours, "qkv_norm_rope") == pytest.approx(heads / (0.9 * 4.8e12))
    assert of_kernels(load_recipe("baseline").model, 512, KERNELS) == {}


def test_generated_kernels_are_added_up_by_part():
    generated = Generated(
        {"triton_red_fused_amax_1": 4, "triton_per_fused__fused_rms_norm_2": 10, "triton_x": 1},
        {"triton_red_fused_amax_1": 2.0, "triton_per_fused__fused_rms_norm_2": 0.5, "triton_x": 3},
    )
    found = predict(LEADERBOARD, "H100", 128, [], generated, FULL)
    n_bytes = {part.name: part.n_bytes for part in found.parts}
    assert n_bytes["loss"] == 8e9
    assert n_bytes["norms, residual, scalars"] == 5e9
    assert n_bytes["other generated kernels"] == 3e9
    assert found.pointwise_gigabytes == pytest.approx(16 / 4)
    assert n_bytes["gradients added up"] == 3 * 3 * 4 * count_parameters(LEADERBOARD.model)


def test_each_optimizer_moves_its_own_parameters():
    adamw = dataclasses.replace(LEADERBOARD, optim=load_recipe("baseline").optim)
    of_both, of_one = (predict(c, "H100", 512, [], None, FULL) for c in (LEADERBOARD, adamw))
    numbers = [
        {part.name: part.n_bytes / 4 for part in found.parts if part.name in ("adamw", "normuon")}
        for found in (of_both, of_one)
    ]
    n = count_parameters(LEADERBOARD.model)
    assert numbers[1] == {"adamw": 7 * n}
    assert numbers[0]["adamw"] / 7 + numbers[0]["normuon"] / 12 == n
    assert seconds_of(of_both, "products of normuon") > 0 == seconds_of(of_one, "products of muon")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nope"], "nope"),
        (["tiny", "--batch-size", "0"], "batch_size"),
        (["tiny", "--micro-batch", "3"], "micro_batch must divide batch_size: got micro_batch=3"),
        (["tiny", "baseline"], "baseline"),
        (["tiny", "--products", "0"], r"a share must lie in (0, 1]: got 0"),
        (["tiny", "--products", "nan"], r"a share must lie in (0, 1]: got nan"),
        (["tiny", "--bandwidth", "-1"], r"a share must lie in (0, 1]: got -1"),
        (["tiny", "--triton-ops", "adamw,"], "--triton-ops takes auto, none, all, or some of "),
        (
            ["tiny", "--triton-ops", "foo"],
            "--triton-ops foo: 'foo' is no Triton op: expected auto, none, all, or some of ",
        ),
    ],
)
def test_what_cannot_be_predicted_is_refused_in_a_line(words, told, capsys):
    with pytest.raises(SystemExit) as left:
        roofline.main(words)
    assert left.value.code == 2
    assert told in capsys.readouterr().err.splitlines()[-1]


def test_a_file_of_ones_own_is_kept(tmp_path, capsys):
    mine = tmp_path / "mine.json"
    mine.write_text("mine")
    with pytest.raises(SystemExit):
        roofline.main(["tiny", "--json", str(mine)])
    assert f"{mine} is there already" in capsys.readouterr().err
    assert mine.read_text() == "mine"


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without a GPU")
def test_without_a_gpu_the_table_says_what_it_leaves_out(tmp_path, capsys):
    out = tmp_path / "prediction.json"
    words = ["small-gpu", "--chip", "H200", "--triton-ops", "none", "--json", str(out)]
    assert roofline.main([*words, "--bandwidth", "0.5"]) == 0
    printed = capsys.readouterr().out
    assert "small-gpu on H200, predicted, not measured" in printed
    assert "kernels none" in printed
    assert "bandwidth 50%" in printed
    assert "generated kernels are not counted" in printed
    kept = json.loads(out.read_text())
    assert kept["predicted"] is True
    assert f"{kept['tokens_per_second']:,.0f} tokens/s" in printed
