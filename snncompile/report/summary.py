"""The summary on the terminal, as a researcher wants it: tables with rich, plain text where there is no terminal."""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from snncompile.report.words import bits, count, percent, rate, size

Json = Mapping[str, Any]
PLAIN_WIDTH = 160


def put(thing: RenderableType) -> None:
    """Print to standard output; wide, without colour and trailing blanks where it is no terminal."""
    if sys.stdout.isatty():
        Console(highlight=False).print(thing)
        return
    buffer = io.StringIO()
    Console(file=buffer, highlight=False, width=PLAIN_WIDTH, color_system=None).print(thing)
    click.echo("\n".join(line.rstrip() for line in buffer.getvalue().split("\n")), nl=False)


def table(*columns: tuple[str, str]) -> Table:
    """A table without lines; each column is (title, left or right)."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for title, side in columns:
        made.add_column(title, justify="right" if side == "right" else "left", no_wrap=True)
    return made


def network(manifest: Json) -> Table:
    """One line a population, then the totals."""
    made = table(
        ("layer", "left"), ("shape", "left"), ("neurons", "right"), ("synapses", "right"), ("weights", "right"), ("bits", "right"),
        ("guard bits", "right"), ("dynamics", "left"),
    )  # fmt: skip
    rows = manifest["populations"]
    for p in rows:
        shape = "x".join(map(str, p["shape"]))
        state = Text("exact", style="green") if p["exact"] else Text("not exact", style="yellow")
        made.add_row(
            p["name"],
            shape,
            count(p["neurons"]),
            count(p["synapses"]),
            count(p["weights"]),
            str(p["weight_bits"]),
            str(p["guard_bits"]),
            state,
        )
    totals = [count(sum(p[k] for p in rows)) for k in ("neurons", "synapses", "weights")]
    made.add_row("total", "", *totals, "", "", f"{sum(p['exact'] for p in rows)} of {len(rows)} exact", style="bold")
    return made


def facts(rows: Sequence[tuple[str, str]]) -> Table:
    """Labels and sentences."""
    made = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    made.add_column(style="bold", no_wrap=True)
    made.add_column(overflow="fold")
    for label, text in rows:
        made.add_row(label, Text(text))
    return made


def findings(found: Json, data: str) -> list[tuple[str, str]]:
    """What verification says, one sentence a claim."""
    rows: list[tuple[str, str]] = []
    quantize, steps = found["quantize"], found["steps"]
    before, after = quantize["float_accuracy"], quantize["integer_accuracy"]
    on = f"{count(found['samples'])} samples, T = {steps}; {data}"
    if after is None:
        rows.append(("accuracy", f"not measured: no labels ({on})"))
    else:
        rows.append(("accuracy", f"{f'{percent(before)} before, ' if before is not None else ''}{percent(after)} after ({on})"))
    capture = found.get("capture")
    if capture is not None:
        text = f"{count(capture['differing_spikes'])} spikes differ from PyTorch, membranes by {capture['membrane_error']:.1e} relative"
        rows.append(("capture", f"{text} ({count(capture['samples'])} samples)"))
    if "passes" in found:
        passes = found["passes"]
        rows.append(("passes", f"{count(passes['differing_spikes'])} spikes differ, membranes by {passes['membrane_error']:.1e} relative"))
    dynamics = quantize.get("dynamics")
    if dynamics is not None:
        text = f"{count(dynamics['differing_spikes'])} spikes differ in {dynamics['exact_populations']} exact populations"
        text += f", {count(dynamics['ties'])} ties apart"
        if dynamics["inexact_populations"]:
            text += f"; {rate(dynamics['inexact_rate'])} in {dynamics['inexact_populations']} others"
        rows.append(("dynamics", f"{text} ({count(dynamics['compared'])} compared)"))
    rows += cut_off(found["saturation"])
    for name, b in found["backend"].items():
        what = f"{count(b['differing_bits'])} of {bits(b['compared_bits'])} differ from the integer reference"
        rows.append((name, f"{what} ({b['samples']} samples, {b['steps']} steps, {b['populations']} populations, {b['seconds']:.1f} s)"))
    return rows


def cut_off(found: Json) -> list[tuple[str, str]]:
    """Payloads that saturated, and input values outside the range; nothing where nothing can be."""
    rows = []
    if found["payloads"]:
        parts = [
            f"{count(p['saturated'])} in '{p['name']}' (up to {p['most']}, limit {p['limit']})"
            for p in found["populations"]
            if p["saturated"]
        ]
        text = f"saturated {count(found['saturated'])} of {count(found['payloads'])} payloads whose range was calibrated"
        rows.append(("saturation", f"{text}{': ' if parts else ''}{', '.join(parts)}"))
    for p in found.get("programs", []):
        text = f"{count(p['saturated'])} registers of '{p['name']}' in {count(p['updates'])} updates, where no bound is proved"
        rows.append(("saturation", text))
    for c in found["inputs"]:
        text = f"{count(c['clipped'])} of {count(c['values'])} values of '{c['name']}' clipped to {c['low']:g}..{c['high']:g}"
        rows.append(("input", f"{text}, they reach {c['least']:g}..{c['most']:g}"))
    return rows


def print_export(manifest: Json, found: Json, outcome: Json) -> None:
    """The whole summary of ``export``."""
    source, schedule, target = manifest["source"], manifest["schedule"], manifest["target"]
    method = f" ({source['method']})" if source.get("method") else ""
    put(Text.assemble((f"{source.get('file') or source.get('arch')}{method} on {target['name']}", "bold"), f", T = {manifest['steps']}"))
    put("")
    put(network(manifest))
    put("")
    rows = findings(found, source_of(outcome["data"]))
    if not found["backend"]:
        rows.append(("lava", "not run"))
    rows += [(p["name"], f"not exact: {p['reason']}") for p in manifest["populations"] if not p["exact"]]
    if source.get("kind") == "lava-dl .net":
        rows.append(("meaning", f"{len(manifest['ledger'])} decisions: snncompile inspect {outcome['bundle']} --ledger"))
    interval = schedule["initiation_interval"]
    every = "hardware step" if interval == 1 else f"{interval} hardware steps"
    rows.append(("schedule", f"{schedule['total_hops']} hops from input to output, one model step every {every}"))
    if manifest.get("learning"):
        learned = manifest["learning"]
        sizes = {p["name"]: p["weights"] // 2 for p in manifest["populations"]}
        for layer in learned["layers"]:
            what = f"{learned['method']} on '{layer['synapse']}', eta {learned['rate']:g}"
            rows.append(("learning", f"{what}: dw = {layer['rule']['dw_lava']}"))
            size_of = count(sizes[layer["population"]])
            rows.append(("", f"beside its {size_of} trained weights {size_of} more, '{layer['change']}', hold what is learned"))
    if target["assumed"]:
        rows.append(("assumed", f"{', '.join(target['assumed'])} (see snncompile targets {target['name']})"))
    sizes = outcome["bytes"]
    checkpoint = f", float checkpoint {size(sizes['checkpoint'])}" if sizes["checkpoint"] else ""
    rows.append(("size", f"{size(sizes['bundle'])}, of which tensors {size(sizes['tensors'])}{checkpoint}"))
    rows += [("bundle", outcome["bundle"]), ("time", f"{outcome['seconds']:.1f} s")]
    put(facts(rows))


def source_of(data: Json) -> str:
    """Where samples come from, in words."""
    if data["random"]:
        return "seeded random input, so this says nothing about accuracy"
    return f"{data['source']}{', found beside the model' if data.get('found') else ''}"


def print_verification(found: Json, data: str) -> None:
    """The summary of ``verify``."""
    put(facts(findings(found, data)))
    put(Text("every checked claim holds", style="bold green") if found["ok"] else Text("a claim failed", style="bold red"))


__all__ = ["facts", "findings", "network", "print_export", "print_verification", "put", "source_of", "table"]
