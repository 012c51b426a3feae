"""Which torch an engine takes: the component's where it fits and is whole, else the interpreter's own."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from engine.gpu_packages import (
    MARKER,
    Build,
    adopt,
    default_root,
    find_component,
    forgive,
    import_torch,
    own_build,
    read_component,
    refuse,
    usable_packages,
)
from engine.sentences import say
from tests.gpu_wheels import BROKEN, BUILD, OWN, TORCH, write_installed


def test_the_interpreters_own_torch_is_known_without_importing_it() -> None:
    code = "import sys; from engine.gpu_packages import own_build as o; print(o().version, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    version, imported = done.stdout.split()
    assert (version, imported) == (own_build().version, "False")
    pinned = (Path(__file__).parents[2] / "requirements-torch.txt").read_text().strip()
    assert pinned == f"torch=={version}"


def test_a_torch_that_cannot_be_read_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    assert own_build().version == ""
    (tmp_path / "torch" / "version.py").write_text("__version__ = '2.13.0+cu130'\ncuda: str = '13.0'\nx = f(")
    assert own_build().version == ""
    (tmp_path / "torch" / "version.py").write_text("__version__ = '2.13.0+cu130'\ncuda: str = '13.0'\n")
    assert own_build() == BUILD


def test_nothing_is_installed(tmp_path: Path) -> None:
    assert find_component(tmp_path / "nowhere", OWN).state == "absent"
    (tmp_path / ".unpacking").mkdir()
    (tmp_path / "wheels").mkdir()
    assert find_component(tmp_path, OWN).state == "absent"


def test_a_whole_component_is_ready(tmp_path: Path) -> None:
    folder = write_installed(tmp_path)
    found = find_component(tmp_path, OWN)
    assert (found.state, found.folder, found.problem) == ("ready", folder, "")
    (folder / "torch" / "__pycache__").mkdir()
    (folder / "torch" / "__pycache__" / "more.pyc").write_bytes(b"Python's own")
    assert find_component(tmp_path, OWN).state == "ready"


@pytest.mark.parametrize("fault", ["missing", "short", "marker", "no marker", "symlink"])
def test_damage_is_noticed_by_the_sizes_of_the_files(tmp_path: Path, fault: str) -> None:
    folder = write_installed(tmp_path)
    library = folder / "torch" / "lib" / "libtorch_cuda.so"
    if fault == "missing":
        library.unlink()
    elif fault == "short":
        library.write_bytes(library.read_bytes()[:-1])
    elif fault == "marker":
        (folder / MARKER).write_text("{")
    elif fault == "symlink":
        library.rename(tmp_path / "elsewhere")
        library.symlink_to(tmp_path / "elsewhere")
    else:
        (folder / MARKER).unlink()
    found = find_component(tmp_path, OWN)
    assert found.state == "damaged"
    assert found.problem.startswith("GPU support is damaged: ")


@pytest.mark.parametrize("content", ["[]", '{"build": 1}', '{"build": {}, "wheels": {}, "records": {}, "sizes": {}}'])
def test_a_marker_of_another_make_is_none(tmp_path: Path, content: str) -> None:
    folder = write_installed(tmp_path)
    (folder / MARKER).write_text(content)
    assert read_component(folder) is None


def test_another_torch_or_python_is_not_taken(tmp_path: Path) -> None:
    write_installed(tmp_path, build=replace(BUILD, version="2.12.1"))
    found = find_component(tmp_path, OWN)
    assert found.state == "other-version"
    assert found.problem == "GPU support is there for torch 2.12.1+cu130, and this Rooftop needs 2.13.0."
    write_installed(tmp_path, build=replace(BUILD, python="3.9"))
    found = find_component(tmp_path, OWN)
    assert found.state == "other-version"
    assert "Python 3.9" in found.problem


def test_a_refused_component_is_left_alone_until_it_is_forgiven(tmp_path: Path) -> None:
    folder = write_installed(tmp_path)
    refuse(folder, say("The engine process ended unexpectedly ({how}).", how=say("exit code {code}", code=3)))
    found = find_component(tmp_path, OWN)
    assert found.state == "refused"
    assert found.problem == "GPU support did not start. The engine process ended unexpectedly (exit code 3)."
    (tmp_path / f"{folder.name}.refused").write_text("torn")
    assert find_component(tmp_path, OWN).problem == "GPU support did not start."
    forgive(folder)
    forgive(folder)
    assert find_component(tmp_path, OWN).state == "ready"


def test_a_note_that_cannot_be_written_is_no_new_trouble(tmp_path: Path) -> None:
    refuse(tmp_path / "nowhere" / "2.13.0+cu130", "because")


def test_usable_is_what_is_ready_and_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_installed(tmp_path)
    monkeypatch.setattr("engine.gpu_packages.own_build", lambda: OWN)
    assert usable_packages(tmp_path) == folder
    (folder / "torch" / "version.py").unlink()
    assert usable_packages(tmp_path) is None
    write_installed(tmp_path)
    for own in (BUILD, Build("", "", "3.11")):  # a torch that knows GPUs already; no torch at all
        monkeypatch.setattr("engine.gpu_packages.own_build", lambda own=own: own)
        assert usable_packages(tmp_path) is None


def test_the_users_components_lie_beside_the_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert default_root() == tmp_path / "rooftop" / "gpu"


def test_torch_comes_from_the_component(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_installed(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "engine.gpu_packages", str(folder)], capture_output=True, text=True, check=True
    )
    told = json.loads(done.stdout)
    assert (told["version"], told["cuda"]) == ("2.13.0+cu130", "13.0")
    assert Path(told["file"]).parent == folder / "torch"
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.setattr(sys, "path", ["elsewhere"])
    adopt(folder)
    assert sys.path == [str(folder), "elsewhere"]


@pytest.mark.parametrize(
    ("source", "reason"), [(TORCH, ""), (BROKEN, "ImportError: libcublas.so.13"), ("x = (", "Syntax")]
)
def test_what_cannot_be_imported_is_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, reason: str
) -> None:
    folder = write_installed(tmp_path, source)
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))
    build, why = import_torch(folder)
    sys.modules.pop("torch", None)
    assert why.startswith(reason)
    assert bool(why) == bool(reason)
    assert build.cuda == ("" if reason else "13.0")
