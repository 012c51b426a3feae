"""Files that a lock names by their SHA-256, fetched from a mirror and kept between builds."""

from __future__ import annotations

import hashlib
import urllib.request
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import wheels


@dataclass(frozen=True, slots=True)
class PinnedFiles:
    """The files of one lock.

    Attributes:
        lock: Has a line for each: its SHA-256 and its address on the mirror.
        mirror: What the addresses follow.
        remedy: What to do where a file is gone or another one, said after a semicolon; "" where nothing helps.
    """

    lock: Path
    mirror: str
    remedy: str = ""

    def pins(self) -> list[tuple[str, str]]:
        """Address and SHA-256 of each."""
        lines = (line.split() for line in self.lock.read_text(encoding="utf-8").splitlines())
        return [(address, sha256) for sha256, address in lines]

    def fetch(self, address: str, sha256: str, downloads: Path) -> Path:
        """One of them, read from the mirror unless it is here.

        Args:
            address: On the mirror.
            sha256: What it must have.
            downloads: Where files are kept.

        Raises:
            BuildError: It cannot be had, or is another one.
        """
        path = downloads / PurePosixPath(address).name
        if not path.is_file() or _sha256(path) != sha256:
            downloads.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.read(address))
        if _sha256(path) != sha256:
            path.unlink()
            raise wheels.BuildError(f"{address} is not the file that {self.lock.name} names{self._ending()}")
        return path

    def read(self, address: str) -> bytes:
        """What the mirror has at an address.

        Raises:
            BuildError: It cannot be read: a newer version has taken its place, or the network is away.
        """
        try:
            with urllib.request.urlopen(f"{self.mirror}/{address}", timeout=60) as answer:  # noqa: S310 - the mirror's
                return bytes(answer.read())
        except OSError as error:
            raise wheels.BuildError(f"{self.mirror}/{address} cannot be read ({error}){self._ending()}") from error

    def _ending(self) -> str:
        return f"; {self.remedy}" if self.remedy else "."


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
