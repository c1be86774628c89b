"""ONNX on the command line: convert a bundle, and run and verify it on ONNX Runtime."""

from __future__ import annotations

import json
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
from user_project import snn

from snncompile.backends.onnx import runtime


def test_convert_writes_a_model_that_was_compared_with_the_reference(bundle):
    answer = snn("convert", bundle, "-o", "net.onnx")
    assert answer.status == 0, answer.err
    assert "net.onnx" in answer.out
    assert "0 of" in answer.out
    assert "lif.v_in, fc2_readout.v_in" in answer.out
    onnx.checker.check_model(onnx.load("net.onnx"), full_check=True)


def test_two_conversions_are_the_same_bytes_and_the_name_follows_the_bundle(bundle):
    first = snn("convert", bundle, "--json").json
    assert (first["output"], first["opset"], first["backend"]["differing_bits"]) == ("net.step.onnx", 17, 0)
    content = bundle.with_name("net.step.onnx").read_bytes()
    assert snn("-q", "convert", bundle).status == 0
    assert bundle.with_name("net.step.onnx").read_bytes() == content


def test_a_converted_model_runs_with_onnxruntime_alone(bundle):
    """As the manual does it: everything that is needed is in the file."""
    assert snn("convert", bundle).status == 0
    assert snn("run", bundle, "--data", "data.npz", "-o", "want.npz").status == 0
    session = onnxruntime.InferenceSession("net.step.onnx", providers=["CPUExecutionProvider"])
    facts = {k.removeprefix("snncompile."): json.loads(v) for k, v in session.get_modelmeta().custom_metadata_map.items()}
    x = np.load("data.npz")["x"]
    q, out = facts["inputs"]["x"], facts["outputs"]["out"]
    payload = np.clip(np.rint((x - q["offset"]) / q["lsb"]), q["low"], q["high"]).astype(np.int32)
    shapes = {i.name: i.shape[1:] for i in session.get_inputs()}
    state = {name: np.zeros((len(x), *shapes[name]), np.int32) for name in facts["states"]}
    outputs = []
    for t in range(4):
        found = session.run(None, {"step": np.array(t), "x": payload, **state})
        values = dict(zip([o.name for o in session.get_outputs()], found, strict=True))
        state = {given: values[left] for given, left in facts["states"].items()}
        outputs.append(values[out["name"]])
    assert np.array_equal(np.stack(outputs, axis=1), np.load("want.npz")["outputs"])


def test_run_gives_the_same_predictions_on_onnx_runtime(bundle):
    ours, theirs = (snn("run", bundle, "--data", "data.npz", "--backend", b, "--json").json for b in ("reference", "onnx"))
    assert theirs["backend"] == "onnx"
    assert ours["logits"] == theirs["logits"]


def test_verify_compares_payloads_and_both_membranes_on_onnx_runtime(bundle):
    answer = snn("verify", bundle, "--data", "data.npz", "--backend", "onnx", "--backend", "reference", "--json")
    assert answer.status == 0, answer.err
    found = answer.json["backend"]
    assert found["onnx"]["differing_bits"] == 0
    assert found["onnx"]["compared_bits"] == found["reference"]["compared_bits"] == 8 * 4 * (6 * (1 + 32 + 32) + 3 * 96)


def test_verify_reports_a_runtime_that_computes_something_else(bundle, monkeypatch):
    run = runtime.run_onnx

    def wrong(graph, payloads, **options):
        found, seconds = run(graph, payloads, **options)
        found["lif.m"][1, 2, 3] += 1
        return found, seconds

    monkeypatch.setattr(runtime, "run_onnx", wrong)
    answer = snn("verify", bundle, "--data", "data.npz", "--backend", "onnx")
    assert answer.status == 1
    assert "error[SNN603]: onnx differs from the reference in" in answer.err
    assert "population 'lif', step 3, neuron [3], sample 1: membrane before the reset" in answer.err


@pytest.mark.parametrize("command", [("run",), ("verify",)])
def test_without_onnx_runtime_the_way_out_is_said_before_any_work(bundle, monkeypatch, command):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    answer = snn("-q", *command, bundle, "--data", "data.npz", "--backend", "onnx")
    assert answer.status == 1
    assert answer.err.startswith("error[SNN520]: ONNX Runtime is not installed\n  help: install it beside snncompile: ")


def test_nothing_but_an_older_step_model_is_replaced(bundle):
    model = bundle.with_name("net.onnx")
    model.write_bytes(b"the user's own model")
    answer = snn("-q", "convert", bundle, "-o", model.name)
    assert answer.status == 1
    assert answer.err.startswith("error[SNN031]: net.onnx is no step model that snncompile wrote; it is left alone\n")
    assert model.read_bytes() == b"the user's own model"


def test_a_place_that_cannot_be_written_is_said(bundle):
    answer = snn("-q", "convert", bundle, "-o", "nowhere/net.onnx")
    assert answer.status == 1
    assert answer.err.startswith("error[SNN030]: cannot write nowhere/net.onnx: ")
