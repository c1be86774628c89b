"""A dense layer behind one window that covers (part of) the map: each weight once per place of the window."""

import numpy as np
import pytest

from snncompile.ir.conv import correlate
from snncompile.ir.linear_ops import Conv2d
from snncompile.passes.compose import dense_behind_depthwise


@pytest.mark.parametrize(
    ("kernel", "padding", "dilation"),
    [((7, 5), (0, 0, 0, 0), (1, 1)), ((8, 5), (1, 0, 0, 0), (1, 1)), ((9, 7), (1, 1, 1, 1), (1, 1)), ((3, 2), (0, 0, 0, 0), (3, 3)),
     ((3, 3), (1, 0, 1, 0), (3, 2)), ((5, 5), (-1, -1, 0, 0), (1, 1))],
)  # fmt: skip
def test_one_window_is_folded_into_the_dense_layer(kernel, padding, dilation):
    rng = np.random.default_rng(0)
    inner = Conv2d(
        name="pool", inputs=("x",), weight=rng.normal(size=(4, 1, *kernel)), padding=padding, dilation=dilation, stride=(9, 9), groups=4
    )
    x = rng.normal(size=(6, 4, 7, 5))
    w = rng.normal(size=(3, 4)).astype(np.float32)
    assert inner.infer((4, 7, 5)) == (4, 1, 1)
    folded = dense_behind_depthwise(w, inner, (4, 7, 5), (4, 1, 1))
    assert np.allclose(x.reshape(6, -1) @ folded.T, correlate(x, inner).reshape(6, -1) @ w.T, rtol=1e-12, atol=1e-12)
