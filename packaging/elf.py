"""What a native library asks of the system, read with binutils' objdump: ELF here, and DLLs too."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import wheels

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

NEWEST: Mapping[str, tuple[int, ...]] = {
    "GLIBC": (2, 35),
    "GLIBCXX": (3, 4, 30),
    "CXXABI": (1, 3, 13),
    "GCC": (12, 0, 0),
}
"""The newest symbols of Ubuntu 22.04's libc6, libstdc++6 and libgcc-s1."""
_VERSION = re.compile(r"\b(GLIBC|GLIBCXX|CXXABI|GCC)_(\d+(?:\.\d+)*)\b")
_SEGMENT = re.compile(r"^\s+LOAD off\s+(0x[0-9a-f]+) vaddr (0x[0-9a-f]+) paddr \S+ align 2\*\*(\d+)", re.MULTILINE)
_LIBRARY = re.compile(r"^\s+(?:NEEDED\s+|DLL Name: )(\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Needs:
    """What one file asks for.

    Attributes:
        libraries: By their sonames, or names of DLLs.
        versions: Versions of symbols, such as GLIBC_2.34.
    """

    libraries: tuple[str, ...]
    versions: tuple[str, ...]


def parse_needs(dump: str) -> Needs:
    """Read what `objdump -p` printed.

    Args:
        dump: Its output for one file.
    """
    wanted = dump.partition("Version References:")[2]
    versions = sorted({found.group() for found in _VERSION.finditer(wanted)})
    return Needs(tuple(_LIBRARY.findall(dump)), tuple(versions))


def read_needs(path: Path) -> Needs:
    """What a native library or program asks for."""
    return parse_needs(wheels.run(["objdump", "-p", str(path)]))


def too_new(versions: Iterable[str]) -> list[str]:
    """Those versions of symbols that Ubuntu 22.04 does not have."""
    return [version for version in versions if _numbers(version) > NEWEST[version.partition("_")[0]]]


def is_native(path: Path) -> bool:
    """Whether a file is an ELF program or library."""
    if path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def strip_symbols(path: Path) -> None:
    """Take the symbols out of a library that nobody debugs here; one that would not load any more stays as it is.

    Libraries whose layout another tool has changed (auditwheel does) come out of `strip` damaged, which their segments
    show: a place in the file must fit its place in memory.

    Args:
        path: The library.
    """
    stripped = path.with_name(f"{path.name}.stripped")
    wheels.run(["strip", "--strip-unneeded", "-o", str(stripped), str(path)])
    if is_loadable(wheels.run(["objdump", "-p", str(stripped)])):
        stripped.replace(path)
    else:
        stripped.unlink()


def is_loadable(dump: str) -> bool:
    """Whether the segments are laid out as the system's loader wants them.

    Args:
        dump: What `objdump -p` printed.
    """
    segments = [(int(off, 16), int(address, 16), 1 << int(align)) for off, address, align in _SEGMENT.findall(dump)]
    return bool(segments) and all((off - address) % align == 0 for off, address, align in segments)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.partition("_")[2].split("."))
