"""`python -m engine convert`: what it prints, and how it ends."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engine.__main__ import main
from engine.convert import command
from engine.convert.conversion import Progress
from engine.convert.workplace import unfinished_folder
from engine.sentences import Sentence, from_json
from tests.checkpoints import write_mixtral


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_mixtral(tmp_path / "model", layers=1, hidden=256, intermediate=64)


def test_one_json_object_and_lines_of_progress(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "PROGRESS_S", 0.0)
    assert main(["convert", "--model", str(model), "--to", str(tmp_path / "out"), "--format", "q8", "--json"]) == 0
    output = capsys.readouterr()
    result = json.loads(output.out)
    assert (result["path"], result["format"]) == (str(tmp_path / "out"), "q8")
    assert result["target_bytes"] < result["source_bytes"]
    assert {"name", "format", "weights", "relative_rmse", "rounded_relative_rmse"} == result["tensors"][0].keys()
    lines = [json.loads(line) for line in output.err.splitlines()]
    assert all(line.keys() == {"phase", "done_bytes", "total_bytes", "seconds_left"} for line in lines)
    assert lines[-1]["done_bytes"] == lines[-1]["total_bytes"]


def test_a_table_for_people(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", "--model", str(model), "--to", str(tmp_path / "out")]) == 0
    output = capsys.readouterr()
    assert output.err == ""  # nobody watches
    assert "rounded" in output.out.splitlines()[0]
    assert any(line.startswith("experts") and "Q4_K" in line for line in output.out.splitlines())
    assert output.out.splitlines()[-1] == str(tmp_path / "out")


def test_somebody_who_watches_sees_how_long_it_takes(capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    line = command._AsLine()
    line.show(Progress("converting", 250, 1000, None))
    line.show(Progress("converting", 500, 1000, 59.4))
    line.show(Progress("verifying", 900, 1000, 600.0))
    line.end()
    shown = capsys.readouterr().err.split("\r\x1b[K")
    assert shown == ["", "Converting: 25.0%", "Converting: 50.0%, 59 s left", "Verifying: 90.0%, 10 min left", ""]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model", "nowhere", "--to", "out"], "no folder or file"),
        (["--model", "guide", "--to", "out", "--format", "q3"], "invalid choice"),
        (["--model", "guide", "--to", "out", "--threads", "0"], "whole number"),
        (["--model", "guide"], "--to"),
    ],
)
def test_bad_usage_is_one_line(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["convert", *arguments]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert words in lines[0]
    assert not list(tmp_path.iterdir())


def test_an_error_is_data_too_where_json_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", "--model", "nowhere", "--to", "out", "--json"]) == 2
    output = capsys.readouterr()
    data, line = output.err.splitlines()
    told = json.loads(data)
    message = from_json(told["message"])
    assert told["error"] == "model-missing"
    assert isinstance(message, Sentence)
    assert message.template
    assert line == f"engine: {message} {from_json(told['remedy'])}"
    assert output.out == ""


@pytest.mark.skipif(sys.platform == "win32", reason="limits the size of files as POSIX can")
def test_a_process_that_may_write_no_more_says_so_and_goes_on_later(model: Path, tmp_path: Path) -> None:
    import resource

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))

    arguments = [sys.executable, "-m", "engine", "convert", "--model", str(model), "--to", str(tmp_path / "out")]
    done = subprocess.run(arguments, capture_output=True, text=True, preexec_fn=limit, check=False)
    assert done.returncode == 2
    assert "is full" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert unfinished_folder(tmp_path / "out").is_dir()
    assert main(arguments[3:]) == 0
