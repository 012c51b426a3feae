import ctypes
import shutil
import subprocess
import sys
from pathlib import Path

import elf
import pytest

DUMP = """
Dynamic Section:
  NEEDED               libdl.so.2
  NEEDED               libc.so.6
  RUNPATH              $ORIGIN

Version definitions:
1 0x01 0x0865f4e6 GLIBC_9.9

Version References:
  required from libc.so.6:
    0x06969194 0x00 05 GLIBC_2.14
    0x069691b6 0x00 03 GLIBC_{minor}
  required from libstdc++.so.6:
    0x0297f870 0x00 02 GLIBCXX_3.4.30
"""


def test_what_a_library_asks_for_is_read() -> None:
    needs = elf.parse_needs(DUMP.format(minor="2.35"))
    assert needs.libraries == ("libdl.so.2", "libc.so.6")
    assert needs.versions == ("GLIBCXX_3.4.30", "GLIBC_2.14", "GLIBC_2.35")
    assert elf.too_new(needs.versions) == []


def test_a_symbol_that_ubuntu_22_04_lacks_is_found() -> None:
    assert elf.too_new(elf.parse_needs(DUMP.format(minor="2.36")).versions) == ["GLIBC_2.36"]
    assert elf.too_new(["GLIBCXX_3.4.31", "GLIBC_2.4", "CXXABI_1.3.13"]) == ["GLIBCXX_3.4.31"]


def test_dlls_are_read_too() -> None:
    assert elf.parse_needs("\tDLL Name: KERNEL32.dll\n\tDLL Name: msvcrt.dll\n").libraries == (
        "KERNEL32.dll",
        "msvcrt.dll",
    )


@pytest.mark.skipif(not shutil.which("objdump"), reason="binutils are not installed")
def test_a_real_program_is_read() -> None:
    program = Path(sys.executable).resolve()
    assert elf.is_native(program)
    assert "libc.so.6" in elf.read_needs(program).libraries


def test_a_library_that_stripping_damages_is_known_by_its_segments() -> None:
    line = "    LOAD off    0x{:016x} vaddr 0x{:016x} paddr 0x{:016x} align 2**12\n"
    good = "Program Header:\n" + line.format(0x1000, 0x3000, 0x3000)
    assert elf.is_loadable(good)
    assert not elf.is_loadable(good + line.format(0x2340, 0x5000, 0x5000))
    assert not elf.is_loadable("")


@pytest.mark.skipif(not (shutil.which("strip") and shutil.which("cc")), reason="no compiler")
def test_symbols_are_taken_out(tmp_path: Path) -> None:
    library = tmp_path / "libx.so"
    (tmp_path / "x.c").write_text("static int hidden(void) { return 42; } int shown(void) { return hidden(); }\n")
    subprocess.run(["cc", "-g", "-O0", "-shared", "-fPIC", "-o", library, tmp_path / "x.c"], check=True)
    elf.strip_symbols(library)
    assert b"hidden" not in library.read_bytes()
    assert ctypes.CDLL(str(library)).shown() == 42
    assert [path.name for path in tmp_path.glob("lib*")] == ["libx.so"]


def test_text_is_no_program(tmp_path: Path) -> None:
    (tmp_path / "note").write_text("ELF")
    assert not elf.is_native(tmp_path / "note")
    assert not elf.is_native(tmp_path)
