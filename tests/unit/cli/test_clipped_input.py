"""Values outside of the range that a program was made for are clipped by it: every command that runs it says so by name."""

from __future__ import annotations

import json

import numpy as np
from user_project import FOREIGN, snn

SAID = "values of 'x' lie outside its range"


def beyond(folder):
    """The same samples, two values of which are moved far outside."""
    with np.load(folder / "data.npz") as data:
        x, y = data["x"].astype(np.float64), data["y"]
    x[0].flat[:2] = x.min() - 1000, x.max() + 1000
    np.savez(folder / "beyond.npz", x=x, y=y)
    return x


def test_run_and_verify_count_and_name_them(bundle):
    x = beyond(bundle.parent)
    inside = snn("run", bundle, "--data", "data.npz", "--json")
    assert (inside.json["clipped_inputs"], SAID in inside.err) == ([], False)
    answer = snn("run", bundle, "--data", "beyond.npz", "--json")
    assert answer.status == 0, answer.err
    (row,) = answer.json["clipped_inputs"]
    assert (row["clipped"], row["values"], row["least"], row["most"]) == (2, x.size, x.min(), x.max())
    assert f"warning: 2 of {x.size} {SAID}" in answer.err
    assert "--input-range" in answer.err
    assert SAID in snn("verify", bundle, "--data", "beyond.npz").err
    found = snn("verify", bundle, "--data", "beyond.npz", "--json").json
    assert found["saturation"]["inputs"] == [row]
    shown = snn("verify", bundle, "--data", "beyond.npz").out
    assert f"2 of {x.size} values of 'x' clipped to" in shown


def test_export_says_so_and_keeps_it_in_manifest_report_and_ledger(here):
    beyond(here)
    calibrated = ("--calibration", "data.npz", "--data", "beyond.npz")
    answer = snn("export", "weights.pt", *FOREIGN, *calibrated, "--no-lava", "-o", "net.snn")
    assert answer.status == 0, answer.err
    assert SAID in answer.err
    manifest = json.loads((here / "net.snn" / "manifest.json").read_text())
    assert manifest["verification"]["saturation"]["inputs"][0]["clipped"] == 2
    assert any("outside" in row["what"] and "2 of" in row["effect"] for row in manifest["ledger"])
    assert "values of &#39;x&#39; clipped to" in (here / "net.snn" / "report.html").read_text()
