"""The trainer: a seeded loop over a labelled image set with progress, evaluation and checkpoints that survive an interrupt."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from snncompile.errors import fail
from snncompile.online.checkpoint import Checkpoint, save_checkpoint
from snncompile.online.console import log, progress
from snncompile.online.data import random_shift
from snncompile.online.ltl import LTLStudent, LTLTeacher, ltl_batch
from snncompile.online.multistep import SequenceNetwork, through_time
from snncompile.online.ots import OTSLIF, calibrate_thresholds
from snncompile.online.registry import build_network
from snncompile.online.rule import METHODS, RULES, summed_logits, time_steps, train_batch
from snncompile.online.seca import SECA, calibrate_gates
from snncompile.online.teacher import train_teacher

CALIBRATION_BATCHES = 8

Images = tuple[Tensor, Tensor]
"""Images [N,C,H,W] or sequences [N,T,C,H,W], uint8, and labels [N] int64."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """How to train. Units: lr per optimiser step, shift in pixels, steps in time steps; ``mse`` is the a of ``step_loss``.

    ``learning_steps`` is K, the number of randomly drawn time steps that learn in each batch, of the methods that draw them;
    ``settled`` is the fraction of the training, at its end, that learns with SECA's gates already fixed;
    ``teacher_epochs`` how long LTL's teacher learns before its student; the last quarter of the student's steps learns;
    ``shortcut_end`` is where the weight of Shortcut's heads ends: it goes from 1 to that, linearly with the batches (1: it stays).

    Errors   SNN730 a value out of range
    """

    method: str = "OTTT_A"
    steps: int = 6
    learning_steps: int = 1
    epochs: int = 12
    teacher_epochs: int = 1
    batch_size: int = 64
    optimiser: str = "adam"
    lr: float = 2e-3
    weight_decay: float = 0.0
    mse: float = 0.05
    shift: int = 0
    settled: float = 0.0
    shortcut_end: float = 1.0
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        """Check every value; all mistakes are reported at once."""
        notes = [f"{name} must be at least 1" for name in ("steps", "epochs", "teacher_epochs", "batch_size") if getattr(self, name) < 1]
        if self.method not in METHODS:
            notes.append(f"method must be one of {', '.join(METHODS)}, is {self.method!r}")
        if not 1 <= self.learning_steps <= max(self.steps, 1):
            notes.append(f"learning_steps must be 1 to steps, is {self.learning_steps}")
        if self.optimiser not in ("adam", "sgd"):
            notes.append(f"optimiser must be adam or sgd, is {self.optimiser!r}")
        if self.lr <= 0 or self.weight_decay < 0 or not 0 <= self.mse <= 1 or self.shift < 0:
            notes.append("needed: lr > 0, weight_decay >= 0, 0 <= mse <= 1, shift >= 0")
        if not 0 <= self.settled < 1:
            notes.append(f"settled must be at least 0 and below 1, is {self.settled:g}")
        if not 0 <= self.shortcut_end <= 1:
            notes.append(f"shortcut_end must be 0 to 1, is {self.shortcut_end:g}")
        if notes:
            raise fail("SNN730", "this training configuration cannot run", notes=notes)


@dataclass(kw_only=True)
class Trainer:
    """Train the registered network ``arch`` on images shown unchanged at every time step, or on sequences of T steps.

    The best checkpoint so far (by test accuracy) lies at ``out``; the newest at ``out`` with ``.last`` before the suffix, written after
    every epoch, also when the run is interrupted. ``facts`` go into the checkpoint's ``training`` record; ``high`` is the largest value
    that the data may hold (255 of a pixel, 1 of a spike).
    """

    arch: str
    arch_args: dict[str, Any]
    config: TrainConfig
    out: Path
    facts: dict[str, Any] = field(default_factory=dict)
    high: int = 255
    teacher: LTLTeacher | None = field(default=None, init=False)
    hold_at: int = field(default=-1, init=False)
    done: float = field(default=0.0, init=False)  # of the training: 0 at the first batch, 1 at the last

    def fit(self, train: Images, test: Images) -> Checkpoint:
        """Run all epochs and return the last checkpoint, with its measured test accuracy in ``training["test_accuracy"]``."""
        cfg = self.config
        torch.manual_seed(cfg.seed)
        net = build_network(self.arch, **self.arch_args).to(cfg.device).to(memory_format=torch.channels_last)
        optimiser = make_optimiser(net, cfg)
        batches = math.ceil(len(train[0]) / cfg.batch_size)
        self.hold_at = round((1 - cfg.settled) * cfg.epochs * batches) if cfg.settled else -1
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, cfg.epochs * batches)
        order = torch.Generator().manual_seed(cfg.seed)
        self._check_length(train)
        if RULES[cfg.method].kind == "tandem":
            self.teacher, fit = train_teacher(net, lambda: self._batches(train, order, "teacher"), cfg.teacher_epochs, cfg.lr)
            log(f"teacher: {100 * fit:.2f} % of the training images in its last epoch, while it learned")
        best, began = -1.0, time.monotonic()
        history: list[dict[str, float]] = []
        try:
            for epoch in range(1, cfg.epochs + 1):
                loss, train_accuracy = self._epoch(net, train, optimiser=optimiser, schedule=schedule, order=order, epoch=epoch)
                self._settle(net, train)
                accuracy = evaluate(net, test, cfg.steps, cfg.device)
                seconds = time.monotonic() - began
                history.append({"epoch": epoch, "loss": loss, "train_accuracy": train_accuracy, "test_accuracy": accuracy})
                log(
                    f"epoch {epoch}/{cfg.epochs}  loss {loss:.4f}  train {100 * train_accuracy:.2f} %  "
                    f"test {100 * accuracy:.2f} % of {len(test[0])}  {seconds:.0f} s"
                )
                newest = self._checkpoint(net, train, test, history, seconds)
                save_checkpoint(last_path(self.out), newest)
                if accuracy > best:
                    best = accuracy
                    save_checkpoint(self.out, newest)
        except KeyboardInterrupt:
            self._settle(net, train)
            interrupted = self._checkpoint(net, train, test, history, time.monotonic() - began, interrupted=True)
            save_checkpoint(last_path(self.out), interrupted)
            log(f"interrupted; the weights of this moment are in {last_path(self.out)}")
            raise
        return newest

    def _epoch(
        self,
        net: nn.Module,
        train: Images,
        *,
        optimiser: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LRScheduler,
        order: torch.Generator,
        epoch: int,
    ) -> tuple[float, float]:
        net.train()
        loss_sum, right = 0.0, 0
        for x, y in self._batches(train, order, f"epoch {epoch}/{self.config.epochs}"):
            if schedule.last_epoch == self.hold_at:
                self._hold(net, train)
            self.done = schedule.last_epoch / max(1, self.config.epochs * math.ceil(len(train[0]) / self.config.batch_size) - 1)
            logits, loss = self.learn(net, x, y, optimiser, order)
            schedule.step()
            loss_sum += loss * len(y)
            right += int((logits.argmax(1) == y).sum())
        return loss_sum / len(train[0]), right / len(train[0])

    def _batches(self, train: Images, order: torch.Generator, title: str) -> Iterator[tuple[Tensor, Tensor]]:
        """One epoch of the training set in random order, on the device."""
        cfg = self.config
        shuffled = torch.randperm(len(train[0]), generator=order)
        for index in progress(torch.split(shuffled, cfg.batch_size), title):
            x = train[0][index]
            if x.dim() == 4:
                x = random_shift(x, cfg.shift, order)
                yield x.to(cfg.device).float().contiguous(memory_format=torch.channels_last), train[1][index].to(cfg.device)
            else:
                yield x.to(cfg.device).float(), train[1][index].to(cfg.device)

    def learn(self, net: nn.Module, x: Tensor, y: Tensor, optimiser: torch.optim.Optimizer, order: torch.Generator) -> tuple[Tensor, float]:
        """One batch by the method's rule: the readout's logits [B,classes], and the loss."""
        cfg = self.config
        rule = RULES[cfg.method]
        frames = time_steps(x, cfg.steps)
        if rule.kind == "through_time":
            sequence = torch.stack(list(frames))
            shortcut = 1 + (cfg.shortcut_end - 1) * self.done
            return through_time(net, sequence, y, optimiser, lamb=cfg.mse, shortcut=shortcut, each_step=rule.each_step)
        if self.teacher is not None and isinstance(net, LTLStudent):
            warm = cfg.steps - max(1, cfg.steps // 4)
            scores = ltl_batch(net, self.teacher, x, y, optimiser, steps=cfg.steps, warm=warm)
            return scores, float(functional.cross_entropy(scores / sum(range(warm + 1, cfg.steps + 1)), y))
        learning = rule.draw(cfg.steps, cfg.learning_steps, order)
        return train_batch(
            net, frames, y, optimiser, steps=cfg.steps, online=rule.each_step, mse=cfg.mse, learning=learning, stop=rule.stop
        )

    def _check_length(self, train: Images) -> None:
        """Sequences must have the T of the configuration, and are not shifted (SNN730)."""
        cfg, shape = self.config, list(train[0].shape)
        if len(shape) == 5 and shape[1] != cfg.steps:
            raise fail("SNN730", f"the sequences have {shape[1]} time steps, the configuration has T = {cfg.steps}")
        if len(shape) == 5 and (cfg.shift or RULES[cfg.method].kind == "tandem"):
            raise fail("SNN730", "sequences can neither be shifted nor shown to a teacher", help="set shift to 0 and choose another method")

    def _hold(self, net: nn.Module, train: Images) -> None:
        """From here on the network learns with the gates that it will have when it is deployed."""
        self._settle(net, train)
        gates = [module for module in net.modules() if isinstance(module, SECA) and module.gates is not None]
        for seca in gates:
            seca.held = True
        if gates:
            log("the gates are fixed from here on")
        net.train()

    def _settle(self, net: nn.Module, train: Images) -> None:
        """Fix what followed the data in training, from the first training images: OTS's thresholds, SECA's gates."""
        cfg = self.config
        first = train[0][: CALIBRATION_BATCHES * cfg.batch_size].to(cfg.device).float()
        if any(isinstance(module, OTSLIF) for module in net.modules()):
            calibrate_thresholds(net, torch.split(first, cfg.batch_size), cfg.steps)
        if any(isinstance(module, SECA) and module.gates is not None and not module.held for module in net.modules()):
            calibrate_gates(net, torch.split(first, cfg.batch_size), cfg.steps)

    def _checkpoint(
        self, net: nn.Module, train: Images, test: Images, history: list[dict[str, float]], seconds: float, *, interrupted: bool = False
    ) -> Checkpoint:
        cfg = self.config
        one = train[0][:1].to(cfg.device).float()
        layout = "TB" if isinstance(net, SequenceNetwork) else "step"
        training = self.facts | asdict(cfg) | {"train_samples": len(train[0]), "test_samples": len(test[0])}
        training |= {"history": list(history), "seconds": round(seconds, 1), "torch": str(torch.__version__), "interrupted": interrupted}
        if history and not interrupted:
            training["test_accuracy"] = history[-1]["test_accuracy"]
        return Checkpoint(
            arch=self.arch,
            arch_args=self.arch_args,
            method=cfg.method,
            steps=cfg.steps,
            input={"shape": list(train[0].shape[-3:]), "layout": layout, "dtype": "uint8", "low": 0, "high": self.high},
            readout="mean" if RULES[cfg.method].kind != "online" else "sum",
            classes=summed_logits(net.eval(), time_steps(one, cfg.steps)).shape[1],
            training=training,
            state_dict=net.state_dict(),
        )


def make_optimiser(net: nn.Module, cfg: TrainConfig) -> torch.optim.Optimizer:
    """Adam, or SGD with momentum 0.9, over all parameters."""
    if cfg.optimiser == "adam":
        return torch.optim.Adam(net.parameters(), lr=cfg.lr, weight_decay=cfg.weight_decay)
    return torch.optim.SGD(net.parameters(), lr=cfg.lr, momentum=0.9, weight_decay=cfg.weight_decay)


def evaluate(net: nn.Module, test: Images, steps: int, device: str = "cpu", batch_size: int = 500) -> float:
    """The fraction of images decided rightly by the argmax of the logits summed over ``steps``, in eval mode."""
    net.eval()
    right = 0
    for x, y in zip(torch.split(test[0], batch_size), torch.split(test[1], batch_size), strict=True):
        logits = summed_logits(net, time_steps(x.to(device).float(), steps))
        right += int((logits.argmax(1).cpu() == y).sum())
    return right / len(test[0])


def last_path(out: Path) -> Path:
    """Where the newest checkpoint lies: model.pt -> model.last.pt."""
    return out.with_name(f"{out.stem}.last{out.suffix}")
