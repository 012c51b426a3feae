"""A whole comparison: both engines really run on tiny files, and what they did is written down."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from engine.__main__ import main
from engine.bench import comparison
from engine.bench.comparison import DISK_RESERVE_BYTES, compare, make_room, run
from engine.bench.duel import Course
from engine.bench.limits import LimitMeter, MachineLimits
from engine.bench.results import Report
from engine.errors import ConfigurationError
from engine.kernels.cpu_library import available_isas
from tests.engine.bench.reports import REPORT
from tests.engine.bench.tiny import METRICS, MIXTRAL, QWEN3

_Usage = namedtuple("_Usage", ["total", "used", "free"])


def _need_packages() -> None:
    for name in ("gguf", "llama_cpp", "matplotlib"):
        pytest.importorskip(name)


# ---- end to end ----


def test_both_engines_run_on_the_same_files(tmp_path: Path) -> None:
    _need_packages()
    notes: list[str] = []
    meter = cast("LimitMeter", SimpleNamespace(measure=lambda: MachineLimits(33e9, 680e9)))
    course = Course(1, 2, METRICS, meter, avx2=False, on_note=notes.append)
    models, out = tmp_path / "models", tmp_path / "out"
    report = compare([MIXTRAL, QWEN3], ["Q4_K_M"], models, out, course)
    assert [file.name for file in report.files] == ["tiny-mixtral Q4_K_M", "tiny-qwen3 Q4_K_M"]
    for file in report.files:
        assert [pairs.metric for pairs in file.pairs] == ["decode", "prefill 512", "prefill 32"]
        assert all(len(pairs.ours) == len(pairs.theirs) == 2 for pairs in file.pairs)
        assert all(sample > 0 for pairs in file.pairs for sample in (*pairs.ours, *pairs.theirs))
        assert all(len(pairs.limits) == 2 for pairs in file.pairs)
        assert file.agreement > 0.98
        assert file.ours.idle_share < 0.5
        assert file.theirs.idle_share < 0.5
        assert file.ours.peak_rss_bytes > file.file_bytes
        assert "CPU" in file.theirs.details
    assert json.loads((out / "comparison.json").read_text()) == json.loads(json.dumps(report.as_json()))
    assert (out / "comparison.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert len(list(models.iterdir())) == 2
    assert "tiny-mixtral Q4_K_M: decode" in notes
    assert report.versions["llama_cpp_python"]
    assert report.cpu


def test_our_own_instruction_sets_are_compared_too(tmp_path: Path) -> None:
    _need_packages()
    if "avx2" not in available_isas():
        pytest.skip("this processor and build have no AVX2 kernels")
    report = compare([MIXTRAL], ["Q4_0"], tmp_path, tmp_path, Course(1, 1, METRICS[:1]))
    (file,) = report.files
    assert file.avx2 is not None
    assert file.avx2.metric == "decode, AVX2 only"
    assert file.avx2.goal == 0.8
    assert file.avx2.ratio > 0


# ---- the command ----


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--shapes", "mixtral,gpt"], "'gpt' is no shape. Choose among mixtral, qwen3, mixtral-8x7b, qwen3-30b-a3b."),
        (["--formats", "Q4_0,Q9"], "'Q9' is no format. Choose among F16, Q4_0"),
        (["--repeat", "0"], "'0' is not a whole number"),
    ],
)
def test_bad_usage_is_refused(capsys: pytest.CaptureFixture[str], arguments: list[str], words: str) -> None:
    assert main(["compare", *arguments]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("missing", ["gguf", "llama_cpp", "matplotlib"])
def test_missing_packages_are_one_sentence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == missing else found("json"))
    assert main(["compare"]) == 2
    error = capsys.readouterr().err
    assert error == "engine: The comparison needs extra packages. Run: pip install -e '.[bench]'\n"


@pytest.mark.parametrize("as_json", [False, True])
def test_the_command_prints_a_table_or_json(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, as_json: bool
) -> None:
    asked: list[Any] = []

    def fake(*arguments: object, **named: object) -> Report:
        asked.append((arguments, named))
        return REPORT

    monkeypatch.setattr(comparison, "run", fake)
    assert main(["compare", "--threads", "2", "--out", "o", *(["--json"] if as_json else [])]) == 0
    out = capsys.readouterr().out
    assert json.loads(out) == json.loads(json.dumps(REPORT.as_json())) if as_json else "1.50x" in out
    ((arguments, named),) = asked
    assert arguments == ("mixtral,qwen3", "Q4_0,Q8_0,Q4_K_M,Q6_K")
    assert (named["threads"], named["repeat"], named["models"], named["out"]) == (
        2, 5, Path("build/bench"), Path("o"),
    )  # fmt: skip


def test_the_names_choose_shapes_and_mixes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[Any] = []

    def fake(*arguments: object) -> Report:
        asked.append(arguments)
        return REPORT

    monkeypatch.setattr(comparison, "compare", fake)
    monkeypatch.setattr(comparison, "check_packages", lambda: None)
    monkeypatch.setattr(comparison, "open_meter", lambda _threads: None)
    run("qwen3", "Q8_0, Q4_0,Q8_0", threads=None, repeat=3, models=tmp_path, out=tmp_path, on_note=print)
    ((shapes, mixes, _, _, course),) = asked
    assert [shape.name for shape in shapes] == ["qwen3"]
    assert mixes == ["Q8_0", "Q4_0"]
    assert course.threads >= 1
    assert course.meter is None
    assert course.repeat == 3


# ---- the disk ----


def test_files_go_one_by_one_until_there_is_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [tmp_path / name for name in ("a", "b", "c")]
    for file in files:
        file.touch()
    # Each file holds a reserve's worth of the disk.
    free = {3: 0, 2: DISK_RESERVE_BYTES, 1: 2 * DISK_RESERVE_BYTES}
    monkeypatch.setattr(shutil, "disk_usage", lambda path: _Usage(0, 0, free[len(list(path.iterdir()))]))
    make_room(tmp_path, DISK_RESERVE_BYTES, [tmp_path / "gone", *files])
    assert [file.exists() for file in files] == [False, False, True]


def test_nothing_goes_while_there_is_room(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    make_room(tmp_path, -DISK_RESERVE_BYTES, [tmp_path / "a"])
    assert (tmp_path / "a").exists()


def test_a_full_disk_is_refused_with_the_figures(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"needs 910 TiB in .* Choose another folder with --models"):
        make_room(tmp_path, 10**15, [])


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    _need_packages()
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match=r"cannot be written .* --models"):
        compare([MIXTRAL], ["Q4_0"], tmp_path / "file", tmp_path, Course(1, 1))
