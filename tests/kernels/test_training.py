"""A model and its optimizers, trained through all kernels as through plain PyTorch."""

import pytest
from kernel_training import CONFIG, OF_ONE_LAYER, OF_OTHER_PARTS, losses_of_training

import kernels

pytestmark = pytest.mark.interpreter

NETWORK_OF = {"relu2_ffn": OF_OTHER_PARTS, "qkv_norm_rope": OF_OTHER_PARTS}  # of the others: CONFIG


@pytest.mark.slow
def test_steps_through_all_kernels_equal_the_reference():
    """soak_kernels.py has 200."""
    plain = losses_of_training("none", 8, "adamw", 3e-3, OF_ONE_LAYER)
    ours = losses_of_training("all", 8, "adamw", 3e-3, OF_ONE_LAYER)
    assert ours == pytest.approx(plain, rel=1e-4)


@pytest.mark.parametrize("config", [CONFIG, OF_OTHER_PARTS], ids=["swiglu", "relu2"])
def test_muon_steps_through_all_kernels_equal_the_reference(config):
    plain = losses_of_training("none", 2, "muon", 1e-2, config)
    assert losses_of_training("all", 2, "muon", 1e-2, config) == pytest.approx(plain, rel=1e-4)


@pytest.mark.parametrize("name", sorted(kernels.OPS))
def test_a_kernel_that_is_asked_for_is_run(name, monkeypatch):
    called = []

    def watched(*arguments, **options):
        called.append(name)
        return real(*arguments, **options)

    real = kernels.OPS[name]
    monkeypatch.setitem(kernels.OPS, name, watched)
    losses_of_training(name, 1, "muon", 1e-2, NETWORK_OF.get(name, CONFIG))
    assert called
