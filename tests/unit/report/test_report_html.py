"""The HTML report: self-contained, deterministic, and safe against names with markup."""

from __future__ import annotations

import json
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "cli"))

from user_project import FOREIGN, snn, user_folder

from snncompile.report import words
from snncompile.report.html import render


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    folder = user_folder(tmp_path_factory.mktemp("report"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        answer = snn("export", "weights.pt", *FOREIGN, "--data", "data.npz", "--no-lava", "-o", "net.snn")
        assert answer.status == 0, answer.err
    return json.loads((folder / "net.snn" / "manifest.json").read_text())


class Balance(HTMLParser):
    """Collects tags and checks that they close in order."""

    VOID = frozenset({"meta", "rect", "br"})

    def __init__(self):
        super().__init__()
        self.open, self.seen = [], set()

    def handle_starttag(self, tag, attrs):
        self.seen.add(tag)
        assert not {k for k, _ in attrs} & {"src", "href", "onclick"}
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag


def test_the_report_is_whole_and_needs_nothing_else(manifest):
    text = render(manifest)
    parser = Balance()
    parser.feed(text)
    assert parser.open == []
    assert parser.seen >= {"table", "svg", "h1"}
    assert not parser.seen & {"script", "link", "img", "iframe"}
    for part in ("Network", "Verification", "Proved bounds", "Approximations", "Passes", "Schedule", "Target", "fc2_readout", "lif"):
        assert part in text


def test_the_same_manifest_gives_the_same_bytes(manifest):
    assert render(manifest) == render(json.loads(json.dumps(manifest)))


def test_names_cannot_inject_markup(manifest):
    evil = json.loads(json.dumps(manifest).replace('"lif"', '"<script>alert(1)</script>"'))
    text = render(evil)
    assert "<script>" not in text
    assert "&lt;script&gt;" in text


def test_a_report_without_verification_says_so(manifest):
    assert "Not run." in render({**manifest, "verification": None})


def test_numbers_in_words():
    assert [words.size(n) for n in (12, 78_503, 1_420_000)] == ["12 B", "78.5 kB", "1.4 MB"]
    assert words.percent(0.9922) == "99.22 %"
    assert (words.rate(0), words.rate(1e-4)) == ("none", "1 in 10,000")
    assert words.bits(64_600_000) == "64.6 million bits"
