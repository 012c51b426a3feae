from importlib import metadata
from pathlib import Path

import PySide6
import pytest

from app.licences import components, dependency_closure, qt_folder, versions

CUDA = {"cuda-toolkit", "nvidia-cusparselt-cu13"}  # where torch brings them: NVIDIA's metadata leaves it out


def test_the_closure_holds_what_is_needed_and_no_tools() -> None:
    closure = dependency_closure("rooftop")
    for needed in ("torch", "transformers", "pyside6-essentials", "shiboken6", "markupsafe", "mdurl"):
        assert needed in closure
    assert not closure & {"pytest", "mypy", "ruff", "hypothesis"}


def test_every_part_names_its_licence() -> None:
    parts = components()
    assert {part.name for part in parts if not part.licence} <= CUDA
    assert len(parts) == len(dependency_closure("rooftop")) + 1, "and the font"
    by_name = {part.name: part for part in parts}
    assert "Apache License" in by_name["Rooftop"].texts[0]
    assert "SIL OPEN FONT LICENSE" in by_name["Inter"].texts[0]
    assert "GNU LESSER GENERAL PUBLIC LICENSE" in by_name["PySide6_Essentials"].texts[0]
    assert "GNU GENERAL PUBLIC LICENSE" in by_name["PySide6_Essentials"].texts[1], "which the lesser one refers to"


def test_nearly_every_part_brings_its_text() -> None:
    without = {part.name for part in components() if not part.texts} - CUDA
    assert without <= {"nvidia-ml-py", "tokenizers", "latex2mathml"}, "these wheels have none"


def test_versions_are_those_installed() -> None:
    known = dict(versions())
    assert known["PySide6"] == PySide6.__version__
    assert known["torch"] == metadata.version("torch")
    assert known["Rooftop"] == metadata.version("rooftop")


def test_a_package_that_is_missing_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", absent)
    assert "torch" not in dict(versions())


def test_qt_lies_where_the_notice_says() -> None:
    assert any(Path(qt_folder()).glob("*Qt6Core*"))
