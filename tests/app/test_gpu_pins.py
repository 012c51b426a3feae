"""The lists of wheels: those that Rooftop has are sound, and others are none."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from app import gpu_pins
from app.gpu_pins import FOLDER, fits, platform_name, read_pins
from engine.gpu_packages import own_build
from tests.gpu_wheels import OWN, pins_for, write_wheels

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.json")), ids=lambda path: path.stem)
def test_every_list_is_for_the_pinned_torch(path: Path) -> None:
    pins = read_pins(path)
    assert pins is not None
    assert f"torch=={pins.build.version}" == (ROOT / "requirements-torch.txt").read_text().strip()
    assert pins.build.python == "3.11"
    assert {wheel.project for wheel in pins.wheels} >= {"torch"}
    assert len({wheel.name for wheel in pins.wheels}) == len(pins.wheels)
    assert 1e9 < pins.download_bytes < pins.unpacked_bytes < 9e9
    assert all(wheel.url.startswith("https://") for wheel in pins.wheels)
    assert fits(pins, own_build()) == (own_build().python == "3.11")


def test_linux_has_a_list_with_all_that_torch_is_linked_to() -> None:
    pins = read_pins(FOLDER / "linux-x86_64.json")
    assert pins is not None
    projects = " ".join(wheel.project for wheel in pins.wheels)
    for library in ("cublas", "cudnn", "cuda-runtime", "nvrtc", "cusparse", "cusparselt", "nccl", "nvshmem", "cufile"):
        assert library in projects
    assert "triton" not in projects


@pytest.mark.parametrize(
    ("system", "machine", "name"), [("Linux", "x86_64", "linux-x86_64"), ("Windows", "AMD64", "windows-amd64")]
)
def test_each_platform_has_its_list(monkeypatch: pytest.MonkeyPatch, system: str, machine: str, name: str) -> None:
    monkeypatch.setattr("platform.system", lambda: system)
    monkeypatch.setattr("platform.machine", lambda: machine)
    assert platform_name() == name
    monkeypatch.setattr(gpu_pins, "FOLDER", Path("/nonexistent"))
    assert read_pins() is None


def test_a_list_fits_one_torch_and_one_python(tmp_path: Path) -> None:
    pins = pins_for(write_wheels(tmp_path))
    assert fits(pins, OWN)
    assert not fits(pins, replace(OWN, version="2.13.1"))
    assert not fits(pins, replace(OWN, python="3.12"))


@pytest.mark.parametrize(
    "change",
    [
        {"name": "../x.whl"}, {"name": "x/y.whl"}, {"name": "x.exe"}, {"sha256": "0"}, {"sha256": "Z" * 64},
        {"size_bytes": 0}, {"size_bytes": "1"}, {"url": "file:///etc/passwd"}, {"more": 1}, {"unpacked_bytes": -1},
    ],
)  # fmt: skip
def test_a_list_with_one_bad_entry_is_none(tmp_path: Path, change: dict[str, Any]) -> None:
    values = json.loads(json.dumps(asdict(pins_for(write_wheels(tmp_path / "wheels")))))
    path = tmp_path / "list.json"
    path.write_text(json.dumps(values))
    assert read_pins(path) is not None
    values["wheels"][0] |= change
    path.write_text(json.dumps(values))
    assert read_pins(path) is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"wheels": []}', "[" * 5000])
def test_what_is_no_list_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "list.json").write_text(text)
    assert read_pins(tmp_path / "list.json") is None
