"""Delays in every container: lists, queues, shift registers, ring buffers; and what is written into a part of a tensor."""

from __future__ import annotations

import collections

import pytest
import torch
from agreement import agrees
from torch import nn

import snncompile
from snncompile.capture.capture import capture
from snncompile.errors import CompileError
from snncompile.ir.linear_ops import Delay


class Base(nn.Module):
    """A neuron between two dense layers; ``late(s)`` is what the second one reads."""

    def __init__(self, d: int = 3) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.w = nn.Linear(6, 8), nn.Linear(8, 3), nn.Linear(8, 8)
        self.v, self.t, self.d = 0.0, 0, d
        self.register_buffer("ring", torch.zeros(d, 1, 8))
        self.queue = None

    def fire(self, i):
        m = 0.7 * self.v + i
        s = (m >= 0.5).float()
        self.v = m - 0.5 * s
        return s

    def forward(self, x):
        s = self.fire(self.a(x))
        y = self.b(self.late(s))
        self.t += 1
        return y


class Deque(Base):
    def late(self, s):
        if self.queue is None:
            self.queue = collections.deque([torch.zeros_like(s)] * self.d)
        self.queue.append(s)
        return self.queue.popleft()


class Growing(Base):
    def late(self, s):
        self.queue = [*(self.queue or []), s]
        return self.queue[-1 - self.d] if len(self.queue) > self.d else torch.zeros_like(s)


class Shift(Base):
    def late(self, s):
        first, self.ring = self.ring[0], torch.cat([self.ring[1:], s[None]])
        return first


class ShiftAlongTheBatch(Base):
    def late(self, s):
        self.queue = torch.zeros(self.d, 8) if self.queue is None else self.queue
        first, self.queue = self.queue[:1], torch.cat([self.queue[1:], s])
        return first


class Roll(Base):
    def late(self, s):
        last, self.ring = self.ring[-1], torch.roll(self.ring, 1, 0)
        self.ring[0] = s
        return last


class MoveInPlace(Base):
    def late(self, s):
        first = self.ring[0].clone()
        self.ring[:-1] = self.ring[1:].clone()
        self.ring[-1] = s
        return first


class Unbound(Base):
    def late(self, s):
        first, *rest = self.ring.unbind(0)
        self.ring = torch.stack([*rest, s])
        return first


class Ring(Base):
    def late(self, s):
        late = self.ring[self.t % self.d].clone()
        self.ring[self.t % self.d] = s
        return late


class RingOfTensorIndex(Base):
    def late(self, s):
        k = torch.tensor(self.t) % self.d
        late = self.ring[k].clone()
        self.ring[k] = s
        return late


class RingAlongTheLastAxis(Base):
    def late(self, s):
        self.queue = torch.zeros(1, 8, self.d + 1) if self.queue is None else self.queue
        self.queue[:, :, self.t % (self.d + 1)] = s
        return self.queue[:, :, (self.t + 1) % (self.d + 1)]


@pytest.mark.parametrize("d", [1, 2, 3, 7])
@pytest.mark.parametrize(
    "net", [Deque, Growing, Shift, ShiftAlongTheBatch, Roll, MoveInPlace, Unbound, Ring, RingOfTensorIndex, RingAlongTheLastAxis]
)
def test_a_buffer_is_as_many_delays_as_it_has_places(net, d):
    assert len(agrees(net(d), (6,), steps=10).graph.of(Delay)) == d


class FeedbackFromARing(Base):
    """A layer with a bias reads the ring, which the first steps skip."""

    def forward(self, x):
        i = self.a(x)
        if self.t >= self.d:
            i = i + self.w(self.ring[self.t % self.d].clone())
        s = self.fire(i)
        self.ring[self.t % self.d] = s
        self.t += 1
        return self.b(s)


class WindowSum(Base):
    def late(self, s):
        self.ring[self.t % self.d] = s
        return self.ring.sum(0)


class Filter(Base):
    """A finite impulse response over the last steps."""

    def late(self, s):
        self.ring = torch.cat([self.ring[1:], s[None]])
        return (self.ring * torch.tensor([0.25, 0.5, 1.0]).view(3, 1, 1)).sum(0)


@pytest.mark.parametrize("net", [FeedbackFromARing, WindowSum, Filter])
def test_buffers_that_are_read_as_a_whole_or_fed_back(net):
    agrees(net(3), (6,), steps=10)


@pytest.mark.parametrize("net", [Ring, Filter, FeedbackFromARing])
def test_networks_with_buffers_become_programs(net):
    compiled = snncompile.compile(net(3), input_shape=(6,), steps=10, input_range=(0, 2, 0))
    assert compiled.result.graph.steps == 10


def test_a_long_delay_needs_no_more_steps_than_the_sample_has():
    assert len(agrees(Ring(30), (6,), steps=40).graph.of(Delay)) == 30


class Preallocated(Base):
    def forward(self, x):
        self.v, out = 0.0, torch.zeros(len(x), x.shape[1], 3)
        for t in range(x.shape[1]):
            out[:, t] = self.b(self.fire(self.a(x[:, t])))
        return out


@pytest.mark.parametrize("steps", [1, 4, 100])
def test_outputs_written_into_a_tensor_made_before_the_loop(steps):
    agrees(Preallocated(), (6,), layout="BT", steps=steps)


class KeptViews(Base):
    """A view taken before the write shows what was written."""

    def late(self, s):
        first = self.ring[0]
        self.ring[0] = s
        return first + self.ring.view(-1, 8)[:1]


def test_a_view_taken_before_a_write_sees_it():
    assert not agrees(KeptViews(), (6,)).graph.of(Delay)


class Strided(Base):
    def late(self, s):
        self.ring.as_strided((1, 8), (8, 1), 0).copy_(s)
        return self.ring[0]


def test_a_write_through_an_exotic_view_is_refused_at_its_line():
    with pytest.raises(CompileError, match="as_strided") as caught:
        capture(Strided(), input_shape=(6,), steps=5)
    assert caught.value.code == "SNN115"
    assert "test_buffers.py:" in str(caught.value)
    assert caught.value.diagnostics[0].help
