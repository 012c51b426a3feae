"""`python -m engine bench --suite gpu`: its options reach the suite, its refusals are one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engine.__main__ import main
from engine.bench.gpu import suite, supervisor
from engine.bench.gpu.pcs import PCS
from engine.bench.gpu.suite import Options


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Options]:
    """What the suite was asked for; it finds nothing wrong."""
    options: list[Options] = []

    def run(wanted: Options) -> dict[str, Any]:
        options.append(wanted)
        return {"complete": wanted.minutes is None, "checks_failed": [], "markdown": "r.md"}

    monkeypatch.setattr(suite, "run", run)
    monkeypatch.setattr(supervisor, "supervise", lambda work, wanted, _: work(wanted))
    return options


def test_plain_it_measures_the_real_models_on_the_gpu(asked: list[Options], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--suite", "gpu"]) == 0
    assert (asked[0].size, asked[0].pc, asked[0].minutes, asked[0].repeat) == ("full", None, None, 3)
    assert capsys.readouterr().out == "Done: r.md\n"


def test_options_reach_it(asked: list[Options], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--size", "small", "--device", "simulated", "--pc", "24gb-ddr5-pcie4", "--minutes", "9.5"]
    folders = ["--out", str(tmp_path / "o"), "--models", str(tmp_path / "m"), "--cpu-threads", "2", "--repeat", "1"]
    assert main(["bench", "--suite", "gpu", *arguments, *folders]) == 0
    options = asked[0]
    assert options.pc is PCS["24gb-ddr5-pcie4"]
    assert (options.size, options.minutes, options.repeat, options.threads) == ("small", 9.5, 1, 2)
    assert (options.out, options.models) == (tmp_path / "o", tmp_path / "m")
    assert "run it again" in capsys.readouterr().out


def test_as_json_it_is_one_object(asked: list[Options], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--suite", "gpu", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["complete"] is True


def test_failed_checks_are_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = {"complete": True, "checks_failed": ["x"], "markdown": "r.md"}
    monkeypatch.setattr(supervisor, "supervise", lambda *_: failed)
    assert main(["bench", "--suite", "gpu"]) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "needs --model, or --suite"),
        (["--suite", "gpu", "--device", "cpu"], "needs a GPU"),
        (["--suite", "gpu", "--pc", "cray"], "no PC to simulate"),
        (["--suite", "gpu", "--minutes", "0"], "no number of minutes"),
        (["--suite", "gpu", "--minutes", "nan"], "no number of minutes"),
        (["--suite", "cpu"], "invalid choice"),
    ],
)
def test_what_makes_no_sense_is_refused(
    asked: list[Options], arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
    assert asked == []
