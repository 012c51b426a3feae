"""Tiny wheels that stand in for the GPU component's, a list of them, an index that has them, and what they make."""

from __future__ import annotations

import base64
import hashlib
import json
import sys
import threading
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from app.gpu_pins import PinnedWheel, Pins
from app.wheels import is_kept
from engine.gpu_packages import Build, Component, write_component

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
BUILD = Build("2.13.0", "13.0", PYTHON)
OWN = Build("2.13.0", "", PYTHON)

TORCH = """
import types
__version__ = "2.13.0+cu130"
version = types.SimpleNamespace(cuda="13.0")
cuda = types.SimpleNamespace(is_available=lambda: False)
_C = types.SimpleNamespace(_cuda_getArchFlags=lambda: "sm_89")
"""
BROKEN = "raise ImportError('libcublas.so.13: cannot open shared object file')\n"
DEADLY = "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n"

TORCH_WHEEL = "torch-2.13.0-cp311-cp311-manylinux_2_28_x86_64.whl"
CUBLAS_WHEEL = "nvidia_cublas-13.1.1.3-py3-none-manylinux_2_27_x86_64.whl"
CUBLAS_BYTES = 300_000


def wheel_files(torch: str = TORCH, cublas_bytes: int = CUBLAS_BYTES) -> dict[str, dict[str, bytes]]:
    """What is in each wheel."""
    return {
        TORCH_WHEEL: {
            "torch/__init__.py": torch.encode(),
            "torch/version.py": b"__version__ = '2.13.0+cu130'\ncuda: str = '13.0'\n",
            "torch/lib/libtorch_cuda.so": bytes(range(256)) * (cublas_bytes // 800),
            "torch/include/ATen/ATen.h": b"// only compilers read it",
        },
        CUBLAS_WHEEL: {"nvidia/cu13/lib/libcublas.so.13": hashlib.shake_128(b"cublas").digest(cublas_bytes)},
    }


def write_wheel(path: Path, files: Mapping[str, bytes]) -> Path:
    """A wheel with its list of files."""
    info = "-".join(path.name.split("-")[:2]) + ".dist-info"
    lines = []
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {**files, f"{info}/METADATA": b"Metadata-Version: 2.1\n"}.items():
            archive.writestr(zipfile.ZipInfo(name), content)
            code = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            lines.append(f"{name},sha256={code},{len(content)}")
        archive.writestr(zipfile.ZipInfo(f"{info}/RECORD"), "\n".join([*lines, f"{info}/RECORD,,"]) + "\n")
    return path


def write_wheels(folder: Path, torch: str = TORCH, cublas_bytes: int = CUBLAS_BYTES) -> Path:
    """All wheels in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, files in wheel_files(torch, cublas_bytes).items():
        write_wheel(folder / name, files)
    return folder


def pins_for(folder: Path, address: str = "https://example.invalid", **changes: Any) -> Pins:
    """The list for the wheels in a folder.

    Args:
        folder: Has them.
        address: What a file's name is added to.
        changes: Other values of the list.
    """
    wheels = []
    for path in sorted(folder.glob("*.whl")):
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(info.file_size for info in archive.infolist() if is_kept(info.filename))
        content = path.read_bytes()
        project = path.name.split("-")[0].replace("_", "-")
        sha256 = hashlib.sha256(content).hexdigest()
        wheels.append(PinnedWheel(project, path.name, f"{address}/{path.name}", len(content), sha256, unpacked))
    values = {"build": BUILD, "driver": "580", "capability": (7, 5), "wheels": tuple(wheels), **changes}
    return Pins(**values)


def write_installed(root: Path, torch: str = TORCH, build: Build = BUILD) -> Path:
    """A component as an engine finds it, without its wheels' lists."""
    folder = root / build.folder_name
    sizes = {}
    for files in wheel_files(torch).values():
        for name, content in files.items():
            if is_kept(name):
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
                sizes[name] = len(content)
    write_component(folder, Component(build, {}, {}, sizes))
    return folder


class Index:
    """A package index; `html` decides which of the two forms it answers in.

    Attributes:
        projects: Links of each project: file name -> (address, SHA-256).
        html: Whether it knows only HTML.
        status: What it answers with.
        page: What it answers instead; None for the project's files.
    """

    def __init__(self) -> None:
        self.projects: dict[str, dict[str, tuple[str, str]]] = {}
        self.html = False
        self.status = 200
        self.page: bytes | None = None
        self.asked: list[str] = []
        self.files: dict[str, bytes] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def add(self, folder: Path, address: str = "") -> None:
        """Have every wheel of a folder, at an address or here."""
        for path in folder.glob("*.whl"):
            project = path.name.split("-")[0].replace("_", "-")
            content = self.files[path.name] = path.read_bytes()
            links = self.projects.setdefault(project, {})
            links[path.name] = (f"{address or '..' + '/files'}/{path.name}", hashlib.sha256(content).hexdigest())

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        index = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args: Any) -> None:
                """Tests are quiet."""

            def do_HEAD(self) -> None:
                self._answer(200, index.files[self.path.rpartition("/")[2]], "application/octet-stream")

            def do_GET(self) -> None:
                index.asked.append(self.path)
                name = self.path.strip("/").rpartition("/")[2]
                if self.path.startswith("/simple/files/"):
                    content = index.files[name]
                    start, _, stop = self.headers["Range"].removeprefix("bytes=").partition("-")
                    self._answer(206, content[int(start) : int(stop) + 1], "application/octet-stream")
                elif name not in index.projects:
                    self._answer(404, b"", "text/html")
                else:
                    body, kind = index.listing(name)
                    self._answer(index.status, body, kind)

            def _answer(self, status: int, body: bytes, kind: str) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

        return Handler

    def listing(self, project: str) -> tuple[bytes, str]:
        """The page of a project."""
        links = self.projects[project]
        if self.page is not None:
            return self.page, "text/html" if self.html else "application/vnd.pypi.simple.v1+json"
        if self.html:
            lines = (f'<a href="{url}#sha256={sha256}">{name}</a><br>' for name, (url, sha256) in links.items())
            return "<html><body>{}</body></html>".format("\n".join(lines)).encode(), "text/html; charset=utf-8"
        files = [{"filename": name, "url": url, "hashes": {"sha256": sha256}} for name, (url, sha256) in links.items()]
        return json.dumps({"files": files}).encode(), "application/vnd.pypi.simple.v1+json"


@contextmanager
def package_index() -> Iterator[Index]:
    index = Index()
    try:
        yield index
    finally:
        index.close()
