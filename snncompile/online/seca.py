"""SECA: channel attention computed from the same step's currents (EM-PF)."""

from __future__ import annotations

from torch import Tensor, nn


class SECA(nn.Module):
    """I' = I * sigmoid(conv1d_5(GAP(I))): each channel is weighted by what its own and four neighbouring channels carry.

    Source   EM-PF (arXiv 2410.07547), eq. (9)
    Shapes   I, I' [B,C,H,W]; the convolution runs along the channels, kernel 5, padding 2, with bias: 6 parameters
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 1, 5, padding=2)

    def forward(self, current: Tensor) -> Tensor:
        """Return the weighted currents."""
        gate: Tensor = self.conv(current.mean(dim=(2, 3)).unsqueeze(1)).sigmoid()
        return current * gate.squeeze(1)[:, :, None, None]
