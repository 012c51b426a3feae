"""Writes the list of wheels of the GPU component: `python packaging/pin_gpu_component.py --platform linux`.

Takes the torch of requirements-torch.txt in its CUDA build and, of what that asks for, what comes from NVIDIA. All else
that it asks for is part of the app. Nothing is downloaded but the wheels' own lists of content, by ranges.

    --platform linux      from PyPI, whose torch for Linux is the CUDA build
    --platform windows    from PyTorch's own index: PyPI's torch for Windows knows no GPU
"""

from __future__ import annotations

import argparse
import email.parser
import io
import json
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx2
from packaging.requirements import Requirement
from packaging.tags import compatible_tags, cpython_tags
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the checkout's own app, whatever else is installed

from app.gpu_pins import PinnedWheel  # noqa: E402
from app.wheel_index import IndexedFile, project_files  # noqa: E402
from app.wheels import is_kept  # noqa: E402
from engine.errors import RooftopError  # noqa: E402
from engine.gpu_packages import Build, assigned_literals  # noqa: E402

PYTHON = (3, 11)
DRIVERS = {"12": "525", "13": "580"}  # docs.nvidia.com/deploy/cuda-compatibility: the oldest for each major version
CAPABILITIES = {"12": (5, 0), "13": (7, 5)}
FROM_NVIDIA = ("nvidia-", "cuda-")
# Asked for by torch, and not for inference: triton and the Python bindings are torch.compile's, cuda-toolkit is empty.
LEFT_OUT = frozenset({"triton", "cuda-bindings", "cuda-pathfinder"})
EMPTY = frozenset({"cuda-toolkit"})


@dataclass(frozen=True)
class Target:
    """A platform.

    Attributes:
        name: Of its list.
        index: Where its wheels are.
        system: As `platform.system` says it.
        tags: Platform tags, best first.
    """

    name: str
    index: str
    system: str
    sys_platform: str
    machine: str
    tags: tuple[str, ...]


TARGETS = {
    "linux": Target(
        "linux-x86_64",
        "https://pypi.org/simple",
        "Linux",
        "linux",
        "x86_64",
        # Debian 12 has glibc 2.36, Ubuntu 22.04 has 2.35
        (*(f"manylinux_2_{minor}_x86_64" for minor in range(35, 4, -1)), "manylinux2014_x86_64", "linux_x86_64"),
    ),
    "windows": Target(
        "windows-amd64", "https://download.pytorch.org/whl/cu130", "Windows", "win32", "AMD64", ("win_amd64",)
    ),
}


class PinError(Exception):
    """The list cannot be made."""


class Ranges(io.RawIOBase):
    """A file on a server, read by ranges.

    Args:
        client: Asks.
        url: Where it is.
    """

    def __init__(self, client: httpx2.Client, url: str) -> None:
        super().__init__()
        self._client, self._url, self._position = client, url, 0
        answer = client.head(url)
        if answer.status_code != 200:
            raise PinError(f"{url} answers with error {answer.status_code}")
        self.size = int(answer.headers["Content-Length"])

    def seekable(self) -> bool:
        """As zip files need it."""
        return True

    def readable(self) -> bool:
        """Nothing else."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Read from there next."""
        self._position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence]
        return self._position

    def tell(self) -> int:
        """Where it is read next."""
        return self._position

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Ask for as many bytes as fit."""
        wanted = min(len(buffer), self.size - self._position)
        if wanted <= 0:
            return 0
        span = f"bytes={self._position}-{self._position + wanted - 1}"
        answer = self._client.get(self._url, headers={"Range": span})
        if answer.status_code != 206 or len(answer.content) != wanted:
            raise PinError(f"{self._url} does not answer with the range that was asked for")
        buffer[:wanted] = answer.content
        self._position += wanted
        return wanted


@dataclass(frozen=True)
class Looked:
    """A wheel that was looked into."""

    pin: PinnedWheel
    requires: tuple[Requirement, ...]
    cuda: str


class Pinner:
    """Finds the wheels for one platform.

    Args:
        target: The platform.
        index: Where to look first.
        client: Asks.
    """

    def __init__(self, target: Target, index: str, client: httpx2.Client) -> None:
        self._target, self._index, self._client = target, index, client
        self._tags = [*cpython_tags(PYTHON, platforms=target.tags), *compatible_tags(PYTHON, "cp311", target.tags)]

    def pins(self, torch_version: str) -> dict[str, object]:
        """The list as JSON has it."""
        torch = self._look(Requirement(f"torch=={torch_version}"))
        if not torch.cuda:
            raise PinError(f"{torch.pin.name} at {self._index} knows no GPU")
        wheels = {"torch": torch.pin}
        waiting = list(torch.requires)
        followed = []
        while waiting:
            asked = waiting.pop(0)
            followed.append(asked)
            name = canonicalize_name(asked.name)
            if name in wheels or name in LEFT_OUT or not name.startswith(FROM_NVIDIA):
                continue
            found = self._look(asked)
            waiting += found.requires
            if name not in EMPTY:
                wheels[name] = found.pin
        for asked in followed:
            chosen = wheels.get(canonicalize_name(asked.name))
            if chosen and not asked.specifier.contains(parse_wheel_filename(chosen.name)[1]):
                raise PinError(f"{chosen.name} does not satisfy {asked}, which is also asked for")
        major = torch.cuda.partition(".")[0]
        return {
            "build": asdict(Build(torch_version, torch.cuda, ".".join(map(str, PYTHON)))),
            "driver": DRIVERS[major],
            "capability": CAPABILITIES[major],
            "wheels": [asdict(wheels[name]) for name in sorted(wheels)],
        }

    def _look(self, asked: Requirement) -> Looked:
        """The best wheel for a requirement, and what it asks for itself."""
        project = canonicalize_name(asked.name)
        fitting = [(rank, file) for file in project_files(self._index, project) for rank in self._rank(asked, file)]
        if not fitting:
            raise PinError(f"{self._index} has no wheel for {asked} on {self._target.name}")
        _, file = max(fitting, key=lambda one: one[0])
        if not file.sha256:
            raise PinError(f"{self._index} does not tell the SHA-256 of {file.name}")
        content = Ranges(self._client, file.url)
        if file.size_bytes not in (None, content.size):
            raise PinError(f"{file.name} is {content.size} bytes long instead of {file.size_bytes}")
        with zipfile.ZipFile(io.BufferedReader(content, 1 << 20)) as wheel:
            metadata = next(name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
            requires = self._requirements(wheel.read(metadata).decode(), asked.extras)
            unpacked = sum(info.file_size for info in wheel.infolist() if is_kept(info.filename))
            source = wheel.read("torch/version.py").decode() if project == "torch" else ""
        pin = PinnedWheel(project, file.name, file.url, content.size, file.sha256, unpacked)
        sys.stderr.write(f"{file.name}: {content.size / 1e6:.1f} MB, unpacked {unpacked / 1e6:.1f} MB\n")
        return Looked(pin, tuple(requires), str(assigned_literals(source).get("cuda") or ""))

    def _rank(self, asked: Requirement, file: IndexedFile) -> Iterator[tuple[Version, int]]:
        """How good a file is; nothing where it does not fit."""
        try:
            _, version, _, tags = parse_wheel_filename(file.name)
        except InvalidWheelFilename:
            return
        places = [self._tags.index(tag) for tag in tags if tag in self._tags]
        if places and asked.specifier.contains(version):
            yield version, -min(places)

    def _requirements(self, metadata: str, extras: set[str]) -> Iterator[Requirement]:
        """What a wheel asks for on the platform."""
        environment = {
            "platform_system": self._target.system,
            "sys_platform": self._target.sys_platform,
            "platform_machine": self._target.machine,
            "os_name": "nt" if self._target.system == "Windows" else "posix",
            "python_version": ".".join(map(str, PYTHON)),
            "python_full_version": ".".join(map(str, (*PYTHON, 0))),
        }
        for text in email.parser.HeaderParser().parsestr(metadata).get_all("Requires-Dist", []):
            required = Requirement(text)
            if required.marker is None or any(
                required.marker.evaluate({**environment, "extra": extra}) for extra in ("", *extras)
            ):
                yield required


def pinned_torch() -> str:
    """The version in requirements-torch.txt."""
    line = (ROOT / "requirements-torch.txt").read_text(encoding="utf-8").strip()
    return line.removeprefix("torch==")


def main(arguments: list[str] | None = None) -> int:
    """Write the list; returns the exit code."""
    parser = argparse.ArgumentParser(description="Pin the wheels of the GPU component.")
    parser.add_argument("--platform", choices=TARGETS, required=True)
    parser.add_argument("--index", help="another index than the platform's own")
    parser.add_argument("--torch", default=pinned_torch(), help="another version than requirements-torch.txt's")
    parser.add_argument("--out", type=Path, help="where to; else resources/gpu/PLATFORM.json")
    options = parser.parse_args(arguments)
    target = TARGETS[options.platform]
    try:
        with httpx2.Client(follow_redirects=True, timeout=60.0) as client:
            pins = Pinner(target, options.index or target.index, client).pins(options.torch)
    except (PinError, RooftopError, httpx2.HTTPError, zipfile.BadZipFile) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    out = options.out or ROOT / "resources" / "gpu" / f"{target.name}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(pins, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
