"""The commands on a user's own network, in this process and without Lava."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from user_project import FOREIGN, snn

COMMANDS = ("export", "check", "verify", "run", "convert", "inspect", "targets", "doctor")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_shows_an_example(command):
    answer = snn(command, "--help")
    assert answer.status == 0
    assert f"Example:\n    snncompile {command}" in answer.out


def test_the_version_is_printed():
    assert re.fullmatch(r"snncompile \d+\.\d+\.\d+\n", snn("--version").out)


def test_export_prints_the_summary(here):
    answer = snn("export", "weights.pt", *FOREIGN, "--data", "data.npz", "--no-lava")
    assert answer.status == 0, answer.err
    assert "weights.pt on loihi2-sim, T = 4" in answer.out
    assert re.search(r"lif +6 +6 +96 +96 +8 +4 +exact", answer.out)
    assert re.search(r"accuracy +\d+\.\d\d % before, \d+\.\d\d % after \(8 samples, T = 4; data.npz\)", answer.out)
    assert re.search(r"dynamics +0 spikes differ in 2 exact populations", answer.out)
    assert "lava      not run" in answer.out
    assert "capturing the network by running it ..." in answer.err
    assert (here / "weights.snn" / "report.html").is_file()
    assert all(line == line.rstrip() for line in answer.out.splitlines())


def test_check_prints_verdicts_and_its_status_says_whether_anything_is_in_the_way(here):
    answer = snn("check", "weights.pt", *FOREIGN, "--data", "data.npz")
    assert answer.status == 0, answer.err
    assert re.search(r"lif +neuron +custom neuron program", answer.out)
    assert "nothing is in the way: the network compiles for loihi2-sim" in answer.out
    rows = json.loads(snn("check", "weights.pt", *FOREIGN, "--json").out)
    assert rows["ok"]
    assert rows["diagnostics"] == []
    wrong = snn("check", "weights.pt", *FOREIGN, "--input-shape", "3", "--json")
    assert wrong.status == 1
    assert [d["code"] for d in json.loads(wrong.out)["diagnostics"]] == ["SNN113"]


def test_two_exports_are_the_same_bytes(here):
    for name in ("a.zip", "b.zip"):
        assert snn("export", "weights.pt", *FOREIGN, "--data", "data.npz", "--no-lava", "-o", name).status == 0
    assert (here / "a.zip").read_bytes() == (here / "b.zip").read_bytes()


def test_a_factory_alone_compiles_and_its_prints_stay_out_of_the_json(here):
    answer = snn(
        "export", "--arch", "net:make", "--arch-args", '{"width": 4}', "--input-shape", "1x4x4", "--steps", "4", "--no-lava", "--json"
    )
    assert answer.status == 0, answer.err
    found = answer.json
    assert (found["ok"], found["data"]["random"], found["bundle"]) == (True, True, "make.snn")
    assert "a user's own print" in answer.err
    assert "warning: the input range is assumed to be 0..1" in answer.err
    assert snn("inspect", "make.snn").out.startswith('graph "make" integer steps=4\n')


def test_a_pickled_module_is_taken_when_it_is_trusted(here):
    import torch

    from snncompile.capture.factory import build

    torch.save(build("net:Tiny"), here / "whole.pt")
    refused = snn("export", "whole.pt", *FOREIGN[2:], "--no-lava")
    assert refused.status == 1
    assert "--trust-pickle" in refused.err
    assert snn("-q", "export", "whole.pt", *FOREIGN[2:], "--no-lava", "--trust-pickle").status == 0


def test_verify_gives_the_promised_json(bundle):
    answer = snn("verify", bundle, "--data", "data.npz", "--against", "weights.pt", *FOREIGN, "--json")
    assert answer.status == 0, answer.err
    found = answer.json
    assert found["ok"] is True
    assert {"float_accuracy", "integer_accuracy", "dynamics"} <= found["quantize"].keys()
    dynamics = found["quantize"]["dynamics"]
    assert dynamics["differing_spikes"] == 0
    assert {"exact_populations", "ties", "inexact_populations", "inexact_rate"} <= dynamics.keys()
    assert found["backend"]["reference"]["differing_bits"] == 0
    assert {"samples", "steps", "populations"} <= found["backend"]["reference"].keys()
    assert found["capture"]["differing_spikes"] == 0


def test_verify_names_the_first_divergence_and_writes_the_traces(bundle, monkeypatch):
    from snncompile.verify import flow

    honest = flow.run_scheduled

    def wrong(*arguments):
        traces = {k: v.copy() for k, v in honest(*arguments).items()}
        traces["lif.v"][2, 1, 3] += 1
        return traces

    monkeypatch.setattr(flow, "run_scheduled", wrong)
    answer = snn("verify", bundle, "--data", "data.npz")
    assert answer.status == 1
    assert "first divergence: population 'lif', step 2, neuron [3], sample 2: membrane" in answer.err
    assert "(threshold " in answer.err
    with np.load("net.snn.divergence.npz") as traces:
        assert "lif_v" in traces.files


def test_verify_refuses_a_model_that_the_bundle_was_not_made_from(bundle):
    answer = snn("verify", bundle, "--data", "data.npz", "--arch", "net.py:Tiny", "--arch-args", '{"width": 5}')
    assert answer.status == 1
    assert "error[SNN040]" in answer.err


def test_run_writes_predictions(bundle):
    answer = snn("run", bundle, "--data", "data.npz", "-o", "out.npz", "--json")
    assert answer.status == 0, answer.err
    with np.load("out.npz") as out:
        assert out["predictions"].tolist() == answer.json["predictions"]
        assert out["outputs"].shape == (8, 4, 3)
        assert out["outputs"].dtype.kind == "i"
        np.testing.assert_array_equal((out["outputs"] * out["output_scale"]).sum(axis=1), out["logits"])
    assert answer.json["accuracy"] == np.mean(np.asarray(answer.json["predictions"]) == np.arange(8) % 3)


@pytest.mark.parametrize("stage", ["captured", "folded", "integer"])
def test_inspect_prints_every_stage(here, stage):
    answer = snn("inspect", "weights.pt", *FOREIGN, "--stage", stage)
    assert answer.status == 0, answer.err
    assert answer.out.startswith('graph "weights" ' + ("integer" if stage == "integer" else "float"))
    assert "net.py:" in answer.out


def test_inspect_prints_the_ledger(bundle):
    assert "fold-affine" in snn("inspect", bundle, "--ledger").out
    assert snn("inspect", bundle, "--ledger", "--json").json["passes"][0].keys() >= {"name", "rewrites", "membrane_error", "bound"}


def test_targets_lists_and_details():
    assert {"loihi2-sim", "reference"} <= {t["name"] for t in snn("targets", "--json").json["targets"]}
    assert "loihi2-sim" in snn("targets").out
    quantities = snn("targets", "loihi2-sim", "--json").json["quantities"]
    assert all(q["unit"] and q["source"] and q["status"] for q in quantities)
    assert "formats.membrane" in snn("targets", "loihi2-sim").out


def test_doctor_says_what_it_found():
    found = snn("doctor", "--json")
    assert {f["name"] for f in found.json["findings"]} >= {"python", "torch", "numpy", "uv", "lava", "cache folder"}
    assert "Lava interpreters" in snn("doctor").out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["exprt"], "No such command 'exprt'"),
        (["export", "--steps", "0"], "--steps"),
        (["export", "--input-shape", "a,b"], "'a,b' is not a shape"),
        (["export", "--input-range", "3"], "'3' is not a range"),
        (["export", "--input-range", "0,inf"], "'0,inf' is not a range"),
        (["verify", "net.snn"], "Missing option '--data'"),
    ],
)
def test_a_wrong_command_line_is_a_usage_error(arguments, said):
    answer = snn(*arguments)
    assert answer.status == 2
    assert said in answer.err
    assert "--help" in answer.err
    assert answer.out == ""
    answer = snn(*arguments, "--json")
    assert answer.status == 2
    assert said in answer.err
    assert answer.json["ok"] is False
    assert said in answer.json["usage_error"]
    assert answer.json["help"].endswith("--help")


def test_an_internal_error_is_short_and_kept_in_a_file(monkeypatch):
    def broken(*_, **__):
        raise ValueError("the sky fell")

    monkeypatch.setattr("snncompile.cli.work.targets.targets", broken)
    answer = snn("targets", "--json")
    assert answer.status == 70
    assert "internal error: ValueError: the sky fell" in answer.err
    assert "Traceback" not in answer.err
    log = Path(answer.json["log"])
    assert "Traceback" in log.read_text()
    log.unlink()


def test_ctrl_c_is_130_without_a_traceback(monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("snncompile.cli.work.targets.targets", interrupted)
    answer = snn("targets")
    assert (answer.status, answer.err.strip(), answer.out) == (130, "interrupted", "")
    assert snn("targets", "--json").json == {"ok": False, "interrupted": "SIGINT"}


def test_an_error_is_json_too_where_that_was_asked_for(here):
    answer = snn("export", "wieghts.pt", *FOREIGN, "--json")
    assert answer.status == 1
    assert json.loads(answer.out)["diagnostics"][0]["code"] == "SNN001"
    assert "did you mean weights.pt?" in answer.err


def test_an_operation_that_cannot_be_deployed_names_the_users_line(here):
    answer = snn("export", "weights.pt", "--arch", "net.py:Sorting", *FOREIGN[2:], "--no-lava")
    assert answer.status == 1
    line = next(n for n, text in enumerate((here / "net.py").read_text().splitlines(), 1) if "torch.sort" in text)
    assert f"--> net.py:{line} in forward" in answer.err
    assert not [*here.glob("*.snn"), *here.glob(".*")]
