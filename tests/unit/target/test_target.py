"""Targets load only when every number says its unit, its source and how sure it is."""

import re

import pytest

from snncompile.errors import CompileError
from snncompile.target import list_targets, load_target

GOOD = load_target("loihi2-sim")


def source_text():
    from pathlib import Path

    import snncompile

    return (Path(snncompile.__file__).parents[1] / "targets" / "loihi2-sim.toml").read_text()


def test_every_shipped_target_loads():
    assert {"loihi2-sim", "reference"} <= set(list_targets())
    for name in list_targets():
        assert load_target(name).name == name


def test_loihi2_has_the_documented_widths():
    assert (GOOD.weight.high, GOOD.membrane.high, GOOD.membrane.low, GOOD.accumulator.high) == (127, 2**23 - 1, -(2**23) + 1, 2**23 - 1)
    assert (GOOD.decay_fraction, GOOD.delay, GOOD.hop_limit, GOOD.executor) == (16, 63, 64, "lava")
    assert "targets/loihi2-sim.toml: formats.membrane = s24" in GOOD.cite("formats.membrane")
    assert {q.status for q in GOOD.assumed} == {"assumed"}


def test_an_unknown_name_lists_targets_and_the_nearest():
    with pytest.raises(CompileError) as e:
        load_target("loihi2_sim")
    assert e.value.code == "SNN401"
    assert "did you mean loihi2-sim?" in str(e.value)
    assert "reference" in str(e.value)


@pytest.mark.parametrize(
    ("pattern", "replacement", "message"),
    [
        (r'unit = "weight LSB", ', "", "formats.weight has no unit"),
        (r', status = "assumed" }', " }", "has no status"),
        (r'status = "assumed"', 'status = "guessed"', "status 'guessed' is not one of"),
        (r'source = "lava-nc 0.10.0, proc/conv[^"]*"', 'source = ""', "formats.accumulator has no source"),
        (r'"s24", unit = "membrane LSB"', '"s24.5", unit = "membrane LSB"', "is not a number format"),
        (r"value = 63", 'value = "many"', "is not a number"),
        (r"value = 63, ", "", "limits.delay needs either a value or a format"),
        (r"(?m)^membrane .*$", "", "formats.membrane is missing"),
        (r"(?m)^delay .*$", "delay = 63", "limits.delay must be a table"),
        (r"schema   = 1", "schema = 2", "schema is 2"),
        (r"value = 63", "value = 63, extra = 1", "unknown field 'extra'"),
        (r'name     = "loihi2-sim"', "", "name must be a text"),
        (r"(?m)^fire .*$", "", "rules.fire must list texts"),
        (r"\[formats\]", "[formats", "cannot read target file"),
    ],
)
def test_a_number_without_its_facts_does_not_load(tmp_path, pattern, replacement, message):
    text, count = re.subn(pattern, replacement, source_text(), count=1)
    assert count == 1
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(CompileError, match=re.escape(message)) as e:
        load_target(str(path))
    assert e.value.code == "SNN402"


def test_a_file_of_ones_own_loads(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(source_text().replace('"loihi2-sim"', '"mine"'))
    assert load_target(str(path)).name == "mine"
