"""The rows of docs/results.md: one trained network each, and what is said about it besides what is measured."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

EXAMPLES = Path(__file__).parents[1] / "examples"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """``name`` is the folder under examples/, ``data`` the folder under --data, ``online`` whether the method is trained online,
    ``weight_bits`` what ``export`` is told."""

    name: str
    method: str
    network: str
    data: str
    online: bool = True
    weight_bits: int = 8

    @property
    def model(self) -> Path:
        """The committed checkpoint."""
        return EXAMPLES / self.name / "model.pt"


ROWS = (
    Row(name="ottt", method="OTTT", network="16C3-P2-32C3-P2-64C3-FC", data="fashion-mnist"),
    Row(name="mnist_ottt", method="OTTT", network="16C3-P2-32C3-P2-32C3-FC", data="mnist"),
    Row(name="fsdd", method="OTTT, spikes", network="24C3-P2-48C3-FC", data="fsdd"),
    Row(name="ndot", method="NDOT", network="16C3-P2-32C3-P2-32C3-FC", data="mnist"),
    Row(name="sltt", method="SLTT", network="16C3-P2-32C3-P2-32C3-FC", data="mnist"),
    Row(name="osr", method="OSR with OTS", network="16C3-P2-32C3-P2-32C3-FC", data="mnist"),
    Row(name="empf", method="EM-PF: binary, 4-bit, Mem-BN, parallel", network="32C3-P2-32C3-P2-64C3-FC", data="fashion-mnist"),
    Row(name="empf_ternary", method="EM-PF: ternary, 4-bit, parallel", network="16C3-P2-32C3-P2-32C3-FC", data="mnist"),
    Row(name="empf_seca1", method="EM-PF: binary, 4-bit, parallel, SECA-I", network="ResNet 12-24, residual stream", data="mnist"),
    Row(name="empf_seca2", method="EM-PF: binary, 4-bit, parallel, SECA-II", network="ResNet 12-24, residual stream", data="mnist"),
    Row(name="ltl", method="LTL (student)", network="16C3s2-32C3s2-32C3s2-64-FC", data="mnist"),
    Row(name="tet", method="TET", network="16C3-P2-32C3-P2-32C3-FC", data="mnist", online=False),
    Row(name="glif", method="GLIF", network="ResNet 8-16-32, post-activation", data="mnist", online=False, weight_bits=15),
    Row(name="asgl", method="ASGL", network="8C3-P2-16C3-P2-32C3-FC", data="mnist", online=False),
    Row(name="shortcut", method="Dspike and Shortcut", network="8C3-P2-16C3-P2-32C3-FC", data="mnist", online=False),
)
