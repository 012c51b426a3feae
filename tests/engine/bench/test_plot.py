"""The plot is a PNG of the README's width, for one file or many, with or without goals."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

import pytest

from engine.bench.plot import write_plot
from tests.engine.bench.reports import FILE, REPORT

pytest.importorskip("matplotlib")

PNG_HEADER = b"\x89PNG\r\n\x1a\n"


def _size(path: Path) -> tuple[int, int]:
    content = path.read_bytes()
    assert content.startswith(PNG_HEADER)
    width, height = struct.unpack(">II", content[16:24])
    return width, height


@pytest.mark.parametrize("files", [1, 8])
def test_the_picture_is_written(tmp_path: Path, files: int) -> None:
    write_plot(replace(REPORT, files=(FILE,) * files), tmp_path / "plot.png")
    width, height = _size(tmp_path / "plot.png")
    assert width > 1400
    assert 2 < width / height < 3


def test_a_metric_without_a_goal_or_of_some_files_only_is_drawn(tmp_path: Path) -> None:
    fewer = replace(FILE, pairs=(replace(FILE.pairs[0], goal=None),))
    write_plot(replace(REPORT, files=(FILE, fewer)), tmp_path / "plot.png")
    assert _size(tmp_path / "plot.png")[0] > 1400


def test_a_folder_that_is_not_there_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        write_plot(REPORT, tmp_path / "missing" / "plot.png")
