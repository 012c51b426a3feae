from __future__ import annotations

import ctypes
import importlib.resources
import subprocess
import sys
from pathlib import Path

import pytest

from engine.kernels import library_path
from engine.kernels.library_path import library_in


@pytest.mark.parametrize(
    ("platform", "name"),
    [("linux", "librooftop_cpu.so"), ("darwin", "librooftop_cpu.dylib"), ("win32", "rooftop_cpu.dll")],
)
def test_each_platform_has_its_own_file_name(
    platform: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    for file_name in ("librooftop_cpu.so", "librooftop_cpu.dylib", "rooftop_cpu.dll"):
        (tmp_path / file_name).touch()
    assert library_in([tmp_path]) == tmp_path / name


def test_the_first_folder_that_holds_a_library_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    empty, first, second = (tmp_path / name for name in ("empty", "first", "second"))
    for folder in (empty, first, second):
        folder.mkdir()
    for folder in (first, second):
        (folder / "librooftop_cpu.so").touch()
    assert library_in([tmp_path / "absent", str(empty), first, second]) == first / "librooftop_cpu.so"


def test_a_build_without_a_compiler_leaves_none(tmp_path: Path) -> None:
    (tmp_path / "librooftop_cpu.so").mkdir()
    assert library_in([tmp_path]) is None
    assert library_in([]) is None


def test_the_library_that_was_built_loads_and_asks_nothing_of_python() -> None:
    path = library_path.find_library()
    if path is None:
        pytest.skip("built without a C++ compiler")
    ctypes.CDLL(str(path))
    assert b"Py_Initialize" not in path.read_bytes()


def test_finding_the_library_costs_no_torch() -> None:
    script = "import sys, engine.kernels.library_path as p; p.find_library(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_resources_are_found_however_the_package_was_installed() -> None:
    assert (importlib.resources.files("resources") / "icons").is_dir()
    assert (importlib.resources.files("resources") / "guide" / "config.json").is_file()
