"""The ledger of a compile: what importing decided, what the passes folded, what was quantised, and what verification measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from snncompile.ir.graph import Graph
from snncompile.ir.integer import IntInput
from snncompile.ir.population import INTEGER_POPULATIONS
from snncompile.ledger import Decision
from snncompile.passes import PassRecord
from snncompile.passes.base import Pass
from snncompile.passes.pipeline import DEFAULT
from snncompile.quantize import PopulationReport, QuantResult


def ledger(decisions: Sequence[Decision], passes: Sequence[PassRecord], result: QuantResult | None) -> list[Decision]:
    """All lines up to the integer program, in order."""
    lines = [*decisions, *_passes(passes)]
    if result is not None:
        moved = max((r.membrane_error for r in passes), default=0.0)
        lines += [*_folded(result.graph, moved), *_inputs(result), *_populations(result)]
        lines += [_line("quantise", "note", note, "", "quantiser") for note in result.notes]
    return lines


def measured(evidence: Mapping[str, Any] | None) -> Iterator[Decision]:
    """What verification found, of the object that ``Verification.to_json`` makes: the measured size of what stands above."""
    found = evidence or {}
    samples = f"{found.get('samples')} samples"
    capture = found.get("capture")
    if capture is not None:
        effect = f"{capture['differing_spikes']} spikes differ, membranes by {capture['membrane_error']:.1e} relative"
        yield _line("verify", "the captured network against PyTorch", "", f"{capture['samples']} samples", "verification", effect)
    quantise = found.get("quantize") or {}
    for name, row in (quantise.get("error_split") or {}).items():
        effect = f"outputs move by {row['logit_error']:.1e} relative rms, {row['agreement']:.2%} of decisions agree"
        yield _line("verify", f"effect of {name.replace('_', ' ')}", "", samples, "verification", effect)
    dynamics = quantise.get("dynamics")
    if dynamics is not None:
        effect = ", ".join(
            f"{key.replace('_', ' ')} {_plain(value)}" for key, value in dynamics.items() if isinstance(value, (int, float, bool))
        )
        yield _line("verify", "dynamics against the network with the rounded weights", "", samples, "verification", effect)
    yield from _cut_off(found.get("saturation") or {"payloads": 0, "inputs": []}, samples)
    for name, row in (found.get("backend") or {}).items():
        effect = f"{row.get('differing_bits')} of {row.get('compared_bits')} bits differ from the integer reference"
        yield _line("verify", f"executor {name}", "", f"{row.get('samples')} samples", "verification", effect)


def _cut_off(found: Mapping[str, Any], samples: str) -> Iterator[Decision]:
    if found["payloads"]:
        parts = ", ".join(f"'{p['name']}' {p['saturated']}" for p in found["populations"] if p["saturated"])
        effect = f"saturated {found['saturated']} of {found['payloads']} payloads{': ' if parts else ''}{parts}"
        yield _line("verify", "payloads beyond the calibrated range", "", samples, "verification", effect)
    for p in found.get("programs", []):
        effect = f"{p['saturated']} registers saturated in {p['updates']} updates"
        yield _line("verify", f"registers of '{p['name']}' without a proved bound", "", samples, "verification", effect)
    for c in found["inputs"]:
        effect = f"{c['clipped']} of {c['values']} values clipped, they reach {c['least']:g}..{c['most']:g}"
        yield _line("verify", f"values of '{c['name']}' outside {c['low']:g}..{c['high']:g}", "", samples, "verification", effect)


def _line(stage: str, what: str, value: str, why: str, source: str, effect: str = "", where: str = "") -> Decision:
    return Decision(stage=stage, what=what, value=value, why=why, source=source, effect=effect, where=where)


def _passes(records: Sequence[PassRecord]) -> Iterator[Decision]:
    about = {p.name: (p.__doc__ or "").strip().splitlines()[0].rstrip(".") for p in _flat(DEFAULT)}
    for r in records:
        if r.executed:
            effect = (
                f"membranes move by {r.membrane_error:.1e} relative, outputs by {r.output_error:.1e}, {r.differing_spikes} spikes differ"
            )
            what = f"{r.rewrites} fold{'s' if r.rewrites != 1 else ''}, {r.nodes_before} to {r.nodes_after} nodes"
            yield _line("passes", what, "", about.get(r.name, ""), f"pass {r.name}", effect)


def _flat(parts: Sequence[Any]) -> Iterator[Pass]:
    for part in parts:
        yield from _flat(part) if isinstance(part, tuple) else (part,)


def _folded(graph: Graph, moved: float) -> Iterator[Decision]:
    """The nodes of the program that stand for several of the network; no pass moved a membrane by more than ``moved``."""
    for n in graph.nodes:
        if len(n.origin) > 1:
            where = "" if n.loc is None else str(n.loc)
            yield _line(
                "passes", f"'{n.name}' stands for", ", ".join(n.origin), "folded into one", "passes", f"at most {moved:.1e} relative", where
            )


def _inputs(result: QuantResult) -> Iterator[Decision]:
    for n in result.graph.of(IntInput):
        lsb = sorted({float(v) for v in n.lsb.flat})
        shown = f"{lsb[0]:g}" if len(lsb) == 1 else f"{lsb[0]:g} to {lsb[-1]:g}"
        declared = any(note.startswith(f"input '{n.name}'") and "as declared" in note for note in result.notes)
        effect = "0 off: its values are declared to be these" if declared else f"at most {lsb[-1] / 2:g} off"
        value, why = f"steps of {shown}, payloads {n.low} to {n.high}", "an input is sent as whole numbers"
        yield _line("quantise", f"input '{n.name}'", value, why, "quantiser", effect)


def _populations(result: QuantResult) -> Iterator[Decision]:
    for p in result.populations:
        n = result.graph.by_name[p.name]
        where = "" if n.loc is None else str(n.loc)
        if p.weight_error > 0:
            effect, why = f"{p.weight_error:.2e} relative rms", "synapses hold whole numbers"
            if p.adapted is not None:
                why += f", chosen so that their errors cancel on {p.adapted.samples} calibration samples"
                effect += (
                    f"; the current's error there is {p.adapted.after:.2e} relative rms, {p.adapted.before:.2e} with the nearest integers"
                )
            yield _line("quantise", f"weights into '{p.name}'", f"{p.weight_bits} bits", why, "quantiser", effect, where)
        if p.payload_lsb is not None and isinstance(n, INTEGER_POPULATIONS) and n.fire == "relu":
            effect = f"at most {p.payload_lsb / 2:g} off"
            yield _line(
                "quantise",
                f"graded output of '{p.name}'",
                f"steps of {p.payload_lsb:g}",
                "payloads are whole numbers",
                "quantiser",
                effect,
                where,
            )
        yield _dynamics(p, where)


def _dynamics(p: PopulationReport, where: str) -> Decision:
    value = "exact" if p.exact else "not exact"
    why = p.reason or f"{p.guard_bits} guard bits below the weights' scale leave nothing to round"
    return _line("quantise", f"dynamics of '{p.name}'", value, why, "quantiser", "proved" if p.exact else "measured under verify", where)


def _plain(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


__all__ = ["ledger", "measured"]
