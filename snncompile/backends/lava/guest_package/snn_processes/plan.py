"""Read and check the plan folder: ``plan.json`` and the integer ``.npy`` tensors that it names.

Model step t of each sample, exact integers, v = v_init and i = 0 at its start:

    a = sum over ports of  synapse(payload of source at step t - model_delay, 0 before the sample)  <<  exponent
    i = decay(i, alpha[t]) + a  with alpha, else a;   m = decay(v, leak[t]) + scaled(i, gain[t]) + bias[t]
    n = fire(m, threshold[t] + w);                    v = reset(m, n)                          see neuron.py, synapse.py

Hardware time: a population at ``depth`` does step t of sample s at hardware step interval * (s * T + t) + depth and sends 0 otherwise; a
port delivers ``hop_delay`` hardware steps after the source's update, and hop_delay = interval * model_delay + depth - source depth.

Parameters have a leading axis of T or 1 and then broadcast to the shape. A null leak or multiplier is 1; a null alpha, gain, spike_step,
reset_keep, v_min or adapt_jump switches that part of the neuron off; others are 0.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .packed import small, unpack
from .program_plan import Program, read_program

SCHEMA = 4
INT32 = 2**31
FIRE = ("step", "relu", "none")
RESET = ("subtract", "set", "clamp", "keep", "stateless")
KINDS = ("conv2d", "linear", "diagonal")


class PlanError(Exception):
    """The plan folder is damaged or contradicts itself."""


class InputError(Exception):
    """The input arrays do not fit the plan."""


class RangeViolation(Exception):  # noqa: N818 - a proved bound that failed
    """A membrane, current or payload left the range that the compiler had proved."""


@dataclass(frozen=True)
class Range:
    """Closed integer interval."""

    low: int
    high: int

    @property
    def magnitude(self) -> int:
        """Largest absolute value inside."""
        return max(abs(self.low), abs(self.high))


@dataclass(frozen=True)
class Port:
    """One synapse group: payload of ``source`` -> accumulator of the population.

    Of a program: the current that it feeds, and its accumulators in the first ``model_delay`` steps of a sample (0 without).
    """

    source: str
    gather: np.ndarray | None
    kind: str
    weight: np.ndarray
    stride: tuple[int, int]
    padding: tuple[int, int, int, int]
    dilation: tuple[int, int]
    groups: int
    exponent: int
    model_delay: int
    hop_delay: int
    source_shape: tuple[int, ...]
    current: int = 0
    initial: np.ndarray | None = None


@dataclass(frozen=True)
class Neuron:
    """Parameters of the neuron step; arrays have a leading axis of length T or 1 (``v_init``, ``multiplier`` and shifts none)."""

    fire: str
    reset: str
    leak: np.ndarray
    bias: np.ndarray
    threshold: np.ndarray
    reset_amount: np.ndarray
    reset_value: np.ndarray
    v_init: np.ndarray
    alpha: np.ndarray | None
    late_current: bool
    gain: np.ndarray | None
    gain_shift: np.ndarray
    multiplier: np.ndarray
    shift: np.ndarray
    payload_min: int
    payload_max: int
    max_spikes: int
    spike_step: np.ndarray | None
    reset_keep: np.ndarray | None
    v_min: np.ndarray | None
    adapt_decay: np.ndarray
    adapt_jump: np.ndarray | None
    adapt_reset: bool


@dataclass(frozen=True)
class Population:
    """A layer of neurons at ``depth`` hardware steps behind the input; each runs the neuron step, or else a program."""

    name: str
    shape: tuple[int, ...]
    depth: int
    ports: tuple[Port, ...]
    neuron: Neuron | None
    payload: Range
    program: Program | None = None

    @property
    def size(self) -> int:
        """Number of neurons."""
        return int(np.prod(self.shape))


@dataclass(frozen=True)
class Plan:
    """The whole program."""

    steps: int
    interval: int
    decay_bits: int
    membrane: Range
    payload: Range
    inputs: dict[str, tuple[int, ...]]
    populations: tuple[Population, ...]
    outputs: tuple[str, ...]

    def hardware_steps(self, samples: int) -> int:
        """Hardware steps until the last population has done the last model step."""
        return self.interval * (samples * self.steps - 1) + max([p.depth for p in self.populations], default=0) + 1


def load_plan(folder: Path) -> Plan:
    """Read ``folder``; raise PlanError with a sentence that says what is wrong."""
    try:
        raw = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    except OSError as error:
        raise PlanError(f"cannot read plan.json: {error.strerror}") from error
    except ValueError as error:
        raise PlanError(f"plan.json is not valid JSON: {error}") from error
    try:
        return _Reader(folder, raw).plan()
    except KeyError as error:
        raise PlanError(f"plan.json lacks the field {error}") from error
    except (TypeError, AttributeError, ValueError, OverflowError) as error:
        raise PlanError(f"plan.json does not follow schema {SCHEMA}: {error}") from error


class _Reader:
    def __init__(self, folder: Path, raw: dict[str, Any]) -> None:
        self.folder = folder.resolve()
        self.raw = raw
        _require(isinstance(raw, dict), "plan.json must hold an object")
        _require(raw.get("schema") == SCHEMA, f"schema is {raw.get('schema')!r}, this runner reads {SCHEMA}")
        self.steps = _integer(raw["steps"], "steps", 1)
        self.interval = _integer(raw["initiation_interval"], "initiation_interval", 1)
        self.bits = _integer(raw["decay_bits"], "decay_bits", 0, 30)
        self.membrane = _range(raw["membrane"], "membrane")
        self.payload = _range(raw["payload"], "payload")

    def plan(self) -> Plan:
        inputs = {_name(i["name"]): _shape(i["shape"], i["name"]) for i in self.raw["inputs"]}
        _require(all(_integer(i.get("depth", 0), "depth of an input", 0) == 0 for i in self.raw["inputs"]), "inputs have depth 0")
        rows = self.raw["populations"]
        self.shapes = inputs | {_name(p["name"]): _shape(p["shape"], p["name"]) for p in rows}
        self.depths = dict.fromkeys(inputs, 0) | {p["name"]: _integer(p["depth"], f"depth of {p['name']}", 1) for p in rows}
        _require(len(self.shapes) == len(self.raw["inputs"]) + len(rows), "two inputs or populations have the same name")
        _require(len(rows) > 0, "the plan has no population")
        outputs = tuple(self.raw["outputs"])
        _require(set(outputs) <= {p["name"] for p in rows}, f"outputs {outputs} are not all populations")
        populations = tuple(self.population(p) for p in rows)
        return Plan(self.steps, self.interval, self.bits, self.membrane, self.payload, inputs, populations, outputs)

    def population(self, row: dict[str, Any]) -> Population:
        name, shape = row["name"], self.shapes[row["name"]]
        ports = tuple(self.port(p, name) for p in row["ports"])
        if row.get("program"):
            program = read_program(row["program"], self.tensor, _require)
            _require({p.current for p in ports} == {*range(len(program.gains))}, f"'{name}': its ports do not feed each of its currents")
            for array in (*program.initial, *(a[0] for a in (*program.gains, *program.biases, *program.constants))):
                _broadcasts(array.shape, shape, f"'{name}': a parameter of its program")
            payload = Range(program.payload_min, program.payload_max)
            _require(self.payload.low <= payload.low and payload.high <= self.payload.high, f"'{name}' can send more than a payload holds")
            return Population(name, shape, self.depths[name], ports, None, payload, program)
        neuron = self.neuron(row["neuron"], name, shape)
        if neuron.fire == "none":
            payload = Range(max(self.payload.low, self.membrane.low), min(self.payload.high, self.membrane.high))
        else:
            spikes = Range(0, neuron.max_spikes)
            payload = spikes if neuron.fire == "step" else Range(neuron.payload_min, neuron.payload_max)
            for value in (payload.low, payload.high):
                fits = self.payload.low <= value <= self.payload.high
                _require(fits, f"'{name}' can send {value}, the payload range is {self.payload.low}..{self.payload.high}")
        return Population(name, shape, self.depths[name], ports, neuron, payload)

    def port(self, row: dict[str, Any], name: str) -> Port:
        source, where = row["source"], f"'{name}' <- '{row['source']}'"
        _require(source in self.shapes, f"{where}: no such source")
        kind = row["kind"]
        _require(kind in KINDS, f"{where}: unknown synapse kind {kind!r}")
        hop, delay = _integer(row["hop_delay"], f"hop_delay of {where}", 1), _integer(row["model_delay"], f"model_delay of {where}", 0)
        due = self.interval * delay + self.depths[name] - self.depths[source]
        _require(due == hop, f"{where}: hop_delay is {hop}, depths and model_delay need {due}")
        conv = kind == "conv2d"
        return Port(
            source=source,
            gather=self.tensor(row["gather"]) if row.get("gather") else None,
            kind=kind,
            weight=self.tensor(row["weight"]),
            stride=_pair(row["stride"], 1) if conv else (1, 1),
            padding=_four(row["padding"]) if conv else (0, 0, 0, 0),
            dilation=_pair(row["dilation"], 1) if conv else (1, 1),
            groups=_integer(row["groups"], "groups", 1) if conv else 1,
            exponent=_integer(row["exponent"], f"exponent of {where}", 0, 62),
            model_delay=delay,
            hop_delay=hop,
            source_shape=self.shapes[source],
            current=_integer(row.get("current", 0), f"current of {where}", 0),
            initial=self.tensor(row["initial"]).astype(np.int64) if row.get("initial") else None,
        )

    def neuron(self, row: dict[str, Any], name: str, shape: tuple[int, ...]) -> Neuron:
        fire, reset = row["fire"], row["reset"]
        _require(fire in FIRE, f"'{name}': unknown fire {fire!r}")
        _require(reset in RESET, f"'{name}': unknown reset {reset!r}")
        needs = {"threshold": fire != "none" or reset == "clamp", "reset_amount": reset == "subtract", "reset_value": reset == "set"}
        for key, needed in needs.items():
            _require(not needed or bool(row.get(key)), f"'{name}': fire {fire}, reset {reset} need '{key}'")

        def per_step(key: str, default: int) -> np.ndarray:
            array = self.tensor(row[key]).astype(np.int64) if row.get(key) else np.full((1,), default, np.int64)
            leading = array.shape[0] if array.ndim else 0
            _require(leading in (1, self.steps), f"'{name}': {key} has a leading axis of {leading}, not 1 or {self.steps}")
            _broadcasts(array.shape[1:], shape, f"'{name}': {key}")
            return array

        def plain(key: str, default: int) -> np.ndarray:
            array = self.tensor(row[key]).astype(np.int64) if row.get(key) else np.full((), default, np.int64)
            _broadcasts(array.shape, shape, f"'{name}': {key}")
            return array

        def shifts(key: str) -> np.ndarray:
            array = plain(key, 0)
            _require(array.size == 0 or (int(array.min()) >= 0 and int(array.max()) <= 62), f"'{name}': {key} is not in 0..62")
            return array

        def maybe(key: str) -> np.ndarray | None:
            return per_step(key, 0) if row.get(key) else None

        one = 1 << self.bits
        leak, alpha, keep, adapt = per_step("leak", one), maybe("alpha"), maybe("reset_keep"), per_step("adapt_decay", 0)
        threshold, multiplier, gain, spike_step = per_step("threshold", 0), plain("multiplier", 1), maybe("gain"), maybe("spike_step")
        for key, q in (("leak", leak), ("alpha", alpha), ("reset_keep", keep), ("adapt_decay", adapt), ("gain", gain)):
            _require(q is None or self.membrane.magnitude * _magnitude(q) < 2**62, f"'{name}': {key} overflows 64 bits")
        product = (2 * self.membrane.magnitude + _magnitude(threshold)) * _magnitude(multiplier)
        _require(product < 2**62, f"'{name}': multiplier overflows 64 bits")
        _require(spike_step is None or int(spike_step.min()) > 0, f"'{name}': spike_step is not positive")
        max_spikes = _integer(row.get("max_spikes", 1), f"max_spikes of '{name}'", 1)
        _require(max_spikes == 1 or (fire == "step" and spike_step is not None), f"'{name}': max_spikes {max_spikes} needs 'spike_step'")
        return Neuron(
            fire=fire,
            reset=reset,
            leak=leak,
            bias=per_step("bias", 0),
            threshold=threshold,
            reset_amount=per_step("reset_amount", 0),
            reset_value=per_step("reset_value", 0),
            v_init=plain("v_init", 0),
            alpha=alpha,
            late_current=bool(row.get("late_current")),
            gain=gain,
            gain_shift=shifts("gain_shift"),
            multiplier=multiplier,
            shift=shifts("shift"),
            payload_min=_integer(row.get("payload_min") or 0, f"payload_min of '{name}'", -INT32 + 1) if fire == "relu" else 0,
            payload_max=_integer(row["payload_max"], f"payload_max of '{name}'", 0) if fire == "relu" else 1,
            max_spikes=max_spikes,
            spike_step=spike_step,
            reset_keep=keep,
            v_min=maybe("v_min"),
            adapt_decay=adapt,
            adapt_jump=maybe("adapt_jump"),
            adapt_reset=bool(row.get("adapt_reset")),
        )

    def tensor(self, name: str) -> np.ndarray:
        file, _, entry = name.partition("#")  # small tensors share an archive
        path = (self.folder / file).resolve()
        inside = self.folder in path.parents or self.folder.parent / "tensors" == path.parent  # a bundle's tensors lie beside its plan
        _require(inside, f"{name!r} points out of the plan folder")
        try:
            array: np.ndarray = small(path, entry) if entry else np.load(path, mmap_mode="r", allow_pickle=False)
        except OSError as error:
            raise PlanError(f"cannot read {name}: {error.strerror or error}") from error
        except (ValueError, EOFError, OverflowError, MemoryError) as error:
            raise PlanError(f"{name} is not a usable tensor: {error}") from error
        try:
            array = unpack(array) if array.dtype.names else array
        except ValueError as error:
            raise PlanError(f"{name} {error}") from error
        _require(array.dtype.kind in "iub", f"{name} holds {array.dtype}, not integers")
        _require(_magnitude(array) < 2**62, f"{name} holds values beyond 62 bits")
        return array


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise PlanError(message)


def _integer(value: Any, what: str, low: int, high: int = INT32 - 1) -> int:
    good = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
    _require(good, f"{what} is {value!r}, not an integer in {low}..{high}")
    return int(value)


def _name(value: Any) -> str:
    _require(isinstance(value, str) and re.fullmatch(r"\w[\w.\-]*", value) is not None, f"{value!r} cannot name a file")
    return str(value)


def _shape(value: Any, name: str) -> tuple[int, ...]:
    _require(1 <= len(value) <= 3, f"shape of '{name}' is {value}, not [n], [n, m] or [C, H, W]")
    return tuple(_integer(n, f"shape of '{name}'", 1) for n in value)


def _range(value: Any, what: str) -> Range:
    low, high = _integer(value["low"], f"{what}.low", -INT32), _integer(value["high"], f"{what}.high", -INT32)
    _require(low <= 0 <= high, f"{what} range {low}..{high} does not hold 0")
    return Range(low, high)


def _pair(value: Any, low: int) -> tuple[int, int]:
    first, second = (_integer(n, "stride or dilation", low) for n in value)
    return first, second


def _four(value: Any) -> tuple[int, int, int, int]:
    top, bottom, left, right = (_integer(n, "padding", -INT32) for n in value)
    return top, bottom, left, right


def _magnitude(array: np.ndarray) -> int:
    return max(abs(int(array.max())), abs(int(array.min()))) if array.size else 0


def _broadcasts(shape: tuple[int, ...], target: tuple[int, ...], what: str) -> None:
    try:
        fits = np.broadcast_shapes(shape, target) == target
    except ValueError:
        fits = False
    _require(fits, f"{what} of shape {shape} does not broadcast to {target}")
