import os
import shutil
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "packaging" / "linux" / "launcher.c"
COMPILER = shutil.which("cc")
pytestmark = pytest.mark.skipif(COMPILER is None or os.name != "posix", reason="no C compiler")
SHOW = """#!/bin/sh
printf '%s|' "$0" "$@"
env | grep -E '^(PYTHON|QT_|KEPT)' | sort | tr '\\n' '|'
"""


@pytest.fixture(scope="module")
def launcher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The launcher, which asks a script instead of the system's loader for the version of glibc."""
    folder = tmp_path_factory.mktemp("launcher")
    loader = folder / "loader"
    loader.write_text('#!/bin/sh\necho "ld.so (GNU libc) stable release version $GLIBC."\n')
    loader.chmod(0o755)
    program = folder / "rooftop"
    options = ["-Wall", "-Wextra", "-Werror", "-std=c11", "-D_GNU_SOURCE", f'-DLOADER="{loader}"']
    subprocess.run([str(COMPILER), *options, "-o", program, SOURCE], check=True)
    return program


def lay_out(launcher: Path, folder: Path) -> Path:
    python = folder / "python/bin/python3.11"
    python.parent.mkdir(parents=True)
    python.write_text(SHOW)
    python.chmod(0o755)
    return Path(shutil.copy(launcher, folder / "rooftop"))


def start(program: Path, *arguments: str, glibc: str = "2.36", **environment: str) -> subprocess.CompletedProcess[str]:
    given = {"PATH": os.environ["PATH"], "GLIBC": glibc, **environment}
    return subprocess.run([program, *arguments], env=given, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", ["plain", "with a space", "Ärger ß", "😀"])
def test_it_becomes_the_private_python_from_any_folder(launcher: Path, tmp_path: Path, name: str) -> None:
    program = lay_out(launcher, tmp_path / name)
    (tmp_path / "link").symlink_to(program)
    done = start(tmp_path / "link", "--model", "a b.gguf")
    assert done.stdout.startswith(f"{tmp_path / name}/python/bin/python3.11|-m|app|--model|a b.gguf|")
    assert (done.returncode, done.stderr) == (0, "")


def test_nothing_that_is_said_of_python_or_qt_leaks_in(launcher: Path, tmp_path: Path) -> None:
    hostile = dict.fromkeys(
        ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "PYTHON" + "X" * 999, "QT_PLUGIN_PATH"), "/evil"
    )
    done = start(lay_out(launcher, tmp_path / "app"), **hostile, KEPT="1", QT_QPA_PLATFORM="xcb")
    settings = ["PYTHONDONTWRITEBYTECODE=1", "PYTHONNOUSERSITE=1", "PYTHONSAFEPATH=1"]
    assert done.stdout.split("|")[3:-1] == ["KEPT=1", *settings, "QT_QPA_PLATFORM=xcb"]


@pytest.mark.parametrize(
    ("glibc", "language", "sentence"),
    [
        ("2.31", "C", "This system has glibc 2.31; Rooftop needs 2.35 or newer"),
        ("2.34", "de_DE.UTF-8", "Dieses System hat glibc 2.34; Rooftop braucht 2.35 oder neuer"),
        ("", "C", "This system's C library is too old or not glibc; Rooftop needs glibc 2.35 or newer"),
    ],
)
def test_an_old_system_is_told_in_one_sentence(
    launcher: Path, tmp_path: Path, glibc: str, language: str, sentence: str
) -> None:
    done = start(lay_out(launcher, tmp_path / "app"), glibc=glibc, LANG=language)
    assert done.returncode == 1
    assert done.stderr.startswith(f"rooftop: {sentence}")
    assert done.stderr.count("\n") == 1
    assert not done.stdout


@pytest.mark.parametrize("glibc", ["2.35", "2.41", "3.0"])
def test_a_newer_system_will_do(launcher: Path, tmp_path: Path, glibc: str) -> None:
    assert start(lay_out(launcher, tmp_path / "app"), glibc=glibc).returncode == 0


def test_those_who_clicked_see_the_sentence_in_a_window(launcher: Path, tmp_path: Path) -> None:
    shown = tmp_path / "shown"
    zenity = tmp_path / "bin/zenity"
    zenity.parent.mkdir()
    zenity.write_text(f'#!/bin/sh\necho "$@" >"{shown}"\n')
    zenity.chmod(0o755)
    path = f"{zenity.parent}:{os.environ['PATH']}"
    start(lay_out(launcher, tmp_path / "app"), glibc="2.31", DISPLAY=":99", PATH=path)
    assert "glibc 2.31" in shown.read_text()


def test_an_incomplete_folder_and_a_drive_without_programs_are_told(launcher: Path, tmp_path: Path) -> None:
    program = lay_out(launcher, tmp_path / "app")
    python = tmp_path / "app/python/bin/python3.11"
    python.chmod(0o644)
    assert "may not be run: move Rooftop's folder to a drive that allows programs" in start(program).stderr
    python.unlink()
    assert "is not complete" in start(program).stderr
