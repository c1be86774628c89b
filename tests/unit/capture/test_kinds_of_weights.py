"""Values of a checkpoint whose type is not the network's: taken where nothing is lost, refused where something would be."""

import pytest
import torch
from torch import nn

from snncompile.capture.weights import fit
from snncompile.errors import CompileError


def state(count):
    return {**nn.BatchNorm1d(2).state_dict(), "num_batches_tracked": count}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_count_that_went_through_an_average_loads(dtype):
    norm = nn.BatchNorm1d(2)
    fit(norm, state(torch.tensor(48.0, dtype=dtype)), "net.pt", "batch_norm")
    assert norm.num_batches_tracked.item() == 48


@pytest.mark.parametrize("value", [0.5, float("inf"), float("nan"), 1e30])
def test_a_float_that_no_integer_is_does_not(value):
    with pytest.raises(CompileError) as caught:
        fit(nn.BatchNorm1d(2), state(torch.tensor(value)), "net.pt", "batch_norm")
    assert caught.value.code == "SNN136"
    assert any("num_batches_tracked is float32, the network needs int64" in note for note in caught.value.diagnostics[0].notes)
