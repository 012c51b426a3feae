"""The command that makes the list of wheels, against an index on this machine."""

from __future__ import annotations

import importlib.util
import json
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from app.gpu_pins import read_pins
from tests.gpu_wheels import TORCH, Index, package_index

ROOT = Path(__file__).parents[2]
LINUX = "manylinux_2_28_x86_64"
VERSION = b"__version__ = '2.13.0+cu130'\ncuda: str = '13.0'\n"


@pytest.fixture(scope="module")
def command() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("pin_gpu_component", ROOT / "packaging" / "pin_gpu_component.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "pin_gpu_component", module)
        patch.setattr(sys, "path", list(sys.path))
        spec.loader.exec_module(module)
        yield module


def metadata(*requires: str) -> bytes:
    return "\n".join(["Metadata-Version: 2.1", *(f"Requires-Dist: {one}" for one in requires), ""]).encode()


def add(folder: Path, name: str, requires: bytes, **files: bytes) -> None:
    info = "-".join(name.split("-")[:2]) + ".dist-info"
    with zipfile.ZipFile(folder / name, "w") as archive:
        for path, content in {**files, f"{info}/METADATA": requires, f"{info}/RECORD": b""}.items():
            archive.writestr(path, content)


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    folder = tmp_path / "served"
    folder.mkdir()
    torch = {"torch/__init__.py": TORCH.encode(), "torch/version.py": VERSION, "torch/include/a.h": b"x" * 99}
    needs = metadata(
        "filelock",
        'cuda-toolkit[cublas]==13.0.3; platform_system == "Linux"',
        'nvidia-nccl-cu13==2.29.7; platform_system == "Linux"',
        'nvidia-windows==1; platform_system == "Windows"',
        'triton==3.7.1; platform_system == "Linux"',
    )
    add(folder, f"torch-2.13.0-cp311-cp311-{LINUX}.whl", needs, **torch)
    add(folder, f"torch-2.13.0-cp312-cp312-{LINUX}.whl", needs, **torch)
    add(folder, f"torch-2.12.0-cp311-cp311-{LINUX}.whl", needs, **torch)
    add(
        folder,
        "torch-2.13.0+cu130-cp311-cp311-win_amd64.whl",
        metadata("nvidia-x; platform_system == 'Linux'"),
        **torch,
    )
    toolkit = metadata("nvidia-cublas==13.1.*; extra == 'cublas'", "nvidia-npp==13.0; extra == 'npp'")
    add(folder, "cuda_toolkit-13.0.3.0-py2.py3-none-any.whl", toolkit)
    for version in ("13.1.0", "13.1.1", "13.2.0"):
        add(
            folder,
            f"nvidia_cublas-{version}-py3-none-manylinux_2_27_x86_64.whl",
            metadata(),
            **{"nvidia/a.so": b"12345"},
        )
    add(folder, "nvidia_nccl_cu13-2.29.7-py3-none-manylinux_2_18_x86_64.whl", metadata("nvidia-cublas"))
    with package_index() as served:
        served.add(folder)
        yield served


def pins(command: ModuleType, index: Index, out: Path, *more: str) -> dict[str, list[str]]:
    arguments = ["--index", f"{index.address}/simple", "--out", str(out), "--torch", "2.13.0", *more]
    assert command.main(arguments) == 0
    values: dict[str, list[str]] = json.loads(out.read_text())
    return values


def test_what_comes_from_nvidia_is_pinned_and_nothing_else(command: ModuleType, index: Index, tmp_path: Path) -> None:
    out = tmp_path / "linux-x86_64.json"
    pins(command, index, out, "--platform", "linux")
    found = read_pins(out)
    assert found is not None
    assert [wheel.name for wheel in found.wheels] == [
        "nvidia_cublas-13.1.1-py3-none-manylinux_2_27_x86_64.whl",
        "nvidia_nccl_cu13-2.29.7-py3-none-manylinux_2_18_x86_64.whl",
        f"torch-2.13.0-cp311-cp311-{LINUX}.whl",
    ]
    for wheel in found.wheels:
        content = index.files[wheel.name]
        assert (wheel.size_bytes, wheel.sha256) == (len(content), index.projects[wheel.project][wheel.name][1])
        assert wheel.url == f"{index.address}/simple/files/{wheel.name}"
    torch = found.wheels[-1]
    assert torch.unpacked_bytes < len(TORCH) + len(VERSION) + 999, "headers are not counted"
    assert (found.build.version, found.build.cuda, found.build.python) == ("2.13.0", "13.0", "3.11")
    assert (found.driver, found.capability) == ("580", (7, 5))


def test_windows_takes_the_wheel_that_has_everything_inside(command: ModuleType, index: Index, tmp_path: Path) -> None:
    out = tmp_path / "windows-amd64.json"
    pins(command, index, out, "--platform", "windows")
    found = read_pins(out)
    assert found is not None
    assert [wheel.name for wheel in found.wheels] == ["torch-2.13.0+cu130-cp311-cp311-win_amd64.whl"]


def test_what_cannot_be_pinned_is_one_line(
    command: ModuleType, index: Index, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "list.json"

    def fails(*more: str) -> str:
        assert (
            command.main(["--platform", "linux", "--index", f"{index.address}/simple", "--out", str(out), *more]) == 1
        )
        assert not out.exists()
        return capsys.readouterr().err.splitlines()[-1]

    assert "has no wheel for torch==9.9" in fails("--torch", "9.9")
    assert "is not the address of a package index" in fails("--index", "nowhere")
    del index.projects["nvidia-nccl-cu13"]
    assert "does not have 'nvidia-nccl-cu13'" in fails()
    links = index.projects["torch"]
    index.projects["torch"] = {name: (url, "") for name, (url, _) in links.items()}
    assert "does not tell the SHA-256 of torch-2.13.0" in fails()


def test_the_index_of_a_build_without_cuda_is_refused(
    command: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add(tmp_path, f"torch-2.13.0-cp311-cp311-{LINUX}.whl", metadata(), **{"torch/version.py": b"cuda = None\n"})
    with package_index() as served:
        served.add(tmp_path)
        assert command.main(["--platform", "linux", "--index", f"{served.address}/simple"]) == 1
    assert "knows no GPU" in capsys.readouterr().err
