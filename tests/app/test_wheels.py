"""Wheels: held against their checksum, unpacked where they belong, and nowhere else."""

from __future__ import annotations

import hashlib
import stat
import zipfile
from pathlib import Path

import pytest

from app.wheels import Stop, is_kept, recorded, sha256_of, unpack
from engine.errors import DamagedDownloadError, OperationCancelledError
from tests.gpu_wheels import CUBLAS_BYTES, CUBLAS_WHEEL, TORCH_WHEEL, write_wheel, write_wheels

GO_ON = Stop()


def ignored(count: int) -> None:
    """Progress that nobody looks at."""


def zipped(path: Path, *names: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"content")
    return path


def test_a_wheel_is_unpacked_without_what_only_compilers_read(tmp_path: Path) -> None:
    wheels, folder = write_wheels(tmp_path / "wheels"), tmp_path / "there"
    told: list[int] = []
    done = unpack(wheels / TORCH_WHEEL, folder, told.append, GO_ON)
    files = {str(path.relative_to(folder)): path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    assert done.sizes == files
    assert "torch/lib/libtorch_cuda.so" in files
    assert not [name for name in files if "include" in name]
    assert sum(told) == sum(files.values())
    assert done.record_path == "torch-2.13.0.dist-info/RECORD"
    assert done.record_sha256 == hashlib.sha256((folder / done.record_path).read_bytes()).hexdigest()
    listed = dict(recorded(folder, done.record_path))
    assert listed.keys() == files.keys() - {done.record_path}
    assert all(sha256_of(folder / name, ignored, GO_ON) == sha256 for name, sha256 in listed.items())


@pytest.mark.parametrize(
    ("path", "kept"),
    [
        ("torch/lib/libtorch_cuda.so", True), ("nvidia/cu13/lib/libcudart.so.13", True), ("torch/_C.pyi", True),
        ("include.py", True), ("torch/include", True), ("nvidia/cu13/include/cuda.h", False),
        ("torch/share/cmake/Torch/TorchConfig.cmake", False), ("torch/lib/dnnl.lib", False), ("a/libx.a", False),
        ("torch/lib/", False),
    ],
)  # fmt: skip
def test_what_is_kept(path: str, kept: bool) -> None:
    assert is_kept(path) == kept


@pytest.mark.parametrize(
    "names",
    [
        ("../evil.py",), ("torch/../../evil.py",), ("/etc/evil",), ("C:/evil.py",), ("torch\\..\\evil.py",),
        ("torch/aux",), ("torch/nul.py",), ("torch/x.py ",), ("torch/a:b",), ("torch/\u202egpj.py",),
        ("torch/A.py", "torch/a.py"), ("torch//x.py",), ("x" * 300,),
    ],
)  # fmt: skip
def test_a_name_that_leads_elsewhere_spoils_the_wheel(tmp_path: Path, names: tuple[str, ...]) -> None:
    wheel = zipped(tmp_path / "torch-1-py3-none-any.whl", "torch/fine.py", *names, "torch-1.dist-info/RECORD")
    folder = tmp_path / "inside" / "there"
    with pytest.raises(DamagedDownloadError, match="no wheel that can be taken"):
        unpack(wheel, folder, ignored, GO_ON)
    assert not (tmp_path / "inside").exists(), "nothing is unpacked, not even what is fine"


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_files_of_one_name_and_links_are_not_taken(tmp_path: Path) -> None:
    twice = zipped(tmp_path / "twice.whl", "torch/x.py", "torch/x.py", "torch-1.dist-info/RECORD")
    linked = tmp_path / "linked.whl"
    with zipfile.ZipFile(linked, "w") as archive:
        link = zipfile.ZipInfo("torch/link.py")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    for wheel in (twice, linked):
        with pytest.raises(DamagedDownloadError):
            unpack(wheel, tmp_path / "there", ignored, GO_ON)
    assert not (tmp_path / "there").exists()


@pytest.mark.parametrize("fault", ["no zip", "cut", "flipped", "no list"])
def test_a_damaged_wheel_is_a_sentence(tmp_path: Path, fault: str) -> None:
    wheel = write_wheel(tmp_path / TORCH_WHEEL, {"torch/x.py": b"x" * 10_000})
    content = bytearray(wheel.read_bytes())
    if fault == "no zip":
        content = bytearray(b"<html>Sign in</html>")
    elif fault == "cut":
        content = content[:-30]
    elif fault == "flipped":
        content[5_000] ^= 1
    wheel.write_bytes(content)
    if fault == "no list":
        zipped(wheel, "torch/x.py")
    with pytest.raises(DamagedDownloadError, match="is damaged, or no wheel that can be taken"):
        unpack(wheel, tmp_path / "there", ignored, GO_ON)


def test_work_ends_between_two_blocks(tmp_path: Path) -> None:
    wheels = write_wheels(tmp_path / "wheels")
    told: list[int] = []
    stop = Stop(lambda: bool(told))
    with pytest.raises(OperationCancelledError):
        unpack(wheels / CUBLAS_WHEEL, tmp_path / "there", told.append, stop)
    assert told == [CUBLAS_BYTES]
    with pytest.raises(OperationCancelledError):
        sha256_of(wheels / CUBLAS_WHEEL, told.append, stop)


def test_programs_can_be_run(tmp_path: Path) -> None:
    wheel = tmp_path / TORCH_WHEEL
    with zipfile.ZipFile(wheel, "w") as archive:
        program = zipfile.ZipInfo("torch/bin/torch_shm_manager")
        program.external_attr = (stat.S_IFREG | 0o755) << 16
        archive.writestr(program, b"#!")
        archive.writestr("torch-2.13.0.dist-info/RECORD", b"")
    unpack(wheel, tmp_path / "there", ignored, GO_ON)
    assert (tmp_path / "there" / "torch" / "bin" / "torch_shm_manager").stat().st_mode & 0o100
