"""Files of tensors are those of the safetensors library."""

import pytest
import torch
from safetensors.torch import save

from fastlm.checkpoint import tensor_file
from fastlm.checkpoint.tensor_file import pieces


@pytest.mark.parametrize("shape", [(3, 5), (), (0, 4), (7,)], ids=str)
def test_files_are_byte_for_byte_those_of_the_library(shape, monkeypatch):
    monkeypatch.setattr(tensor_file, "_PIECE_BYTES", 8)
    tensors = {
        f'layers.{len(name)} "{name}" \N{GREEK SMALL LETTER LAMDA}': (torch.ones(shape) * 3).to(
            dtype
        )
        for dtype, name in tensor_file._DTYPES.items()
    }
    assert b"".join(map(bytes, pieces(tensors))) == save(tensors)


def test_no_tensors_are_a_file_too():
    assert b"".join(pieces({})) == save({})
