"""What a network's modules declare as approximated reaches the manifest, in the order of the modules."""

from __future__ import annotations

import torch

from snncompile import pipeline
from snncompile.backends.bundle.manifest import approximations
from snncompile.capture.stand_ins import stand_ins
from snncompile.online import Approximation, build_network, calibrate_gates, calibrate_thresholds


class Boring(torch.nn.Module):
    approximation = "a word, not a declaration"


class Other(torch.nn.Module):
    def approximation(self):
        return "of a user's own kind"


class Declared(torch.nn.Module):
    def __init__(self, size):
        super().__init__()
        self.size = size

    def approximation(self):
        return Approximation("tables for a product", self.size, "relative")


def test_only_approximations_are_listed_and_an_unmeasured_size_is_none():
    net = torch.nn.Sequential(Boring(), Other(), Declared(0.25), Declared(float("nan")))
    assert stand_ins(net) == (
        {"population": "2", "what": "tables for a product", "size": 0.25, "unit": "relative", "declared": True},
        {"population": "3", "what": "tables for a product", "size": None, "unit": "relative", "declared": True},
    )
    assert stand_ins(lambda x: x) == ()


def test_fixed_thresholds_are_in_the_manifest_with_their_measured_spread():
    torch.manual_seed(0)
    net = build_network("osr_vgg", config=[3], in_channels=1, num_classes=2, input_size=[4, 4], classifier="gap", steps=3)
    calibrate_thresholds(net, torch.randn(3, 8, 1, 4, 4), 3)
    compiled = pipeline.compile(net, input_shape=(1, 4, 4), steps=3, input_range=(-4.0, 4.0, 0.0))
    first = approximations(compiled)[0]
    assert "OTS" in first["what"]
    assert 0 < first["size"] < 1
    assert first["size"] == float(net.body[0][2].spread)


def test_gates_that_follow_the_sample_are_not_declared_and_fixed_ones_are():
    arguments = {"widths": [3], "depths": [1], "in_channels": 1, "num_classes": 2, "steps": 2, "seca": 1}
    assert stand_ins(build_network("empf_resnet", **arguments)) == ()
    net = build_network("empf_resnet", **arguments, gates="fixed")
    assert [row["size"] for row in stand_ins(net)] == [None, None]
    calibrate_gates(net, [torch.randn(5, 1, 4, 4)], 2)
    assert all(row["size"] > 0 for row in stand_ins(net))
