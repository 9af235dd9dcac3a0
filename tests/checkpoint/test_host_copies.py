"""Copies of a device's tensors are what the tensors were, also if the device goes on meanwhile."""

import pytest
import torch

from fastlm.checkpoint.host_copies import HostCopies, reserve


def test_a_copy_is_a_tensor_of_its_own():
    tensor = torch.arange(6.0).reshape(2, 3).T
    copies = HostCopies()
    copy = copies(tensor)
    copies.hold_back()
    tensor.zero_()
    copies.wait()
    assert copy.is_contiguous()
    assert copy.tolist() == [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]


@pytest.mark.gpu
@pytest.mark.parametrize("is_reserved", [True, False])
def test_a_gpu_changes_nothing_before_it_is_copied(is_reserved):
    tensors = [torch.full((1 << 24,), float(i), device="cuda") for i in range(10)]
    if is_reserved:
        reserve(tensors)
    copies = HostCopies()
    for _ in range(3):
        kept = [copies(tensor) for tensor in tensors]
        copies.hold_back()
        for tensor in tensors:
            tensor += 1
        copies.wait()
        assert all((copy == copy[0]).all() for copy in kept)
        assert [copy[0].item() for copy in kept] == [t[0].item() - 1 for t in tensors]
