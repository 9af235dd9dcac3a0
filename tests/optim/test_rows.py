"""AdaGrad by rows: against its formula, for rows seen once, often and never."""

import copy

import pytest
import torch

from fastlm.optim.rows import RowAdaGrad


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_rows_follow_the_formula_and_others_stay():
    tables = [torch.nn.Parameter(randn(10, 4)), torch.nn.Parameter(randn(7, 3, seed=1))]
    expected = [t.detach().clone() for t in tables]
    squares = [torch.zeros(10), torch.zeros(7)]
    optimizer = RowAdaGrad(tables, 0.1)
    for step in range(5):
        indices = [torch.tensor([[1, 3], [3, 9]]), torch.tensor([[0, 0], [0, 6]])]
        gradients = [randn(2, 2, 4, seed=step), randn(2, 2, 3, seed=step + 50)]
        optimizer.add(indices, gradients)
        optimizer.step()
        for table, v, index, gradient in zip(expected, squares, indices, gradients, strict=True):
            rows = index.flatten().tolist()
            for row, g in zip(rows, gradient.flatten(0, 1), strict=True):
                v[row] += g.square().mean()
            for row, g in zip(rows, gradient.flatten(0, 1), strict=True):
                table[row] -= 0.1 * g / v[row].sqrt()
    for table, other in zip(tables, expected, strict=True):
        torch.testing.assert_close(table.detach(), other)
    untouched = [0, 2, 4, 5, 6, 7, 8]
    assert torch.equal(tables[0][untouched], randn(10, 4)[untouched])


def test_gradients_of_parts_of_a_batch_are_one_step():
    whole, parts = (torch.nn.Parameter(randn(10, 4)) for _ in range(2))
    one, two = RowAdaGrad([whole]), RowAdaGrad([parts])
    index, gradient = torch.tensor([1, 3, 3, 9]), randn(4, 4)
    one.add([index], [gradient])
    for part in (slice(0, 2), slice(2, 4)):
        two.add([index[part]], [gradient[part]])
    one.step()
    two.step()
    torch.testing.assert_close(whole, parts)
    before = parts.detach().clone()
    two.step()  # without gradients
    assert torch.equal(parts, before)
    two.add([index], [gradient])
    two.zero_grad()
    two.step()
    assert torch.equal(parts, before)


def test_its_state_goes_through_a_state_dict():
    table = torch.nn.Parameter(randn(10, 4))
    optimizer = RowAdaGrad([table])
    index, gradient = [torch.tensor([1, 3])], [randn(2, 4)]
    optimizer.add(index, gradient)
    optimizer.step()
    other_table = torch.nn.Parameter(table.detach().clone())
    other = RowAdaGrad([other_table])
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for each in (optimizer, other):
        each.add(index, gradient)
        each.step()
    assert torch.equal(table, other_table)
    assert not table.requires_grad


def test_a_table_of_bfloat16_keeps_its_dtype():
    table = torch.nn.Parameter(randn(10, 4).bfloat16())
    optimizer = RowAdaGrad([table], 0.1)
    optimizer.add([torch.tensor([2])], [torch.ones(1, 4)])
    optimizer.step()
    expected = (randn(10, 4).bfloat16()[2] - 0.1).bfloat16()
    torch.testing.assert_close(table[2].detach(), expected)
    assert optimizer.state[table]["square_sum"].dtype == torch.float32


def test_a_tensor_for_each_table_is_needed():
    optimizer = RowAdaGrad([torch.nn.Parameter(randn(10, 4))])
    with pytest.raises(ValueError, match="argument 2 is longer"):
        optimizer.add([torch.tensor([1])] * 2, [torch.ones(1, 4)] * 2)
