"""Windows programs on Linux, for the proof: Wine in a folder of its own, with what Wine 8 lacks of Windows 10.

Three libraries of Windows are wanting, without which NumPy, llguidance and Qt do not load: complex functions of the C
library, `ProcessPrng`, and ICU's converters. Small ones are made here and put beside the private Python: for the proof
alone, never into an installer.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import wheels
from windows_tree import TOOLS

_BUILTIN_MARK = b"Wine builtin DLL"
_SYSTEM_LIBRARIES = (Path("/usr/lib/x86_64-linux-gnu/wine/x86_64-windows"), Path("/usr/lib64/wine/x86_64-windows"))
_NUMBERS = ["cabs", "carg", "cimag", "creal"]
_FUNCTIONS = [
    "cacos",
    "cacosh",
    "casin",
    "casinh",
    "catan",
    "catanh",
    "ccos",
    "ccosh",
    "cexp",
    "clog",
    "csin",
    "csinh",
    "csqrt",
    "ctan",
    "ctanh",
    "conj",
    "cproj",
]
_KINDS = (("", "double", "D", ""), ("l", "double", "D", ""), ("f", "float", "F", "f"))  # long double is double there
_HEAD = """\
#include <complex.h>
typedef struct { float re, im; } F;
typedef struct { double re, im; } D;
static float complex inF(F z) { float complex w; __real__ w = z.re; __imag__ w = z.im; return w; }
static double complex inD(D z) { double complex w; __real__ w = z.re; __imag__ w = z.im; return w; }
static F outF(float complex w) { F z = {__real__ w, __imag__ w}; return z; }
static D outD(double complex w) { D z = {__real__ w, __imag__ w}; return z; }
"""
_RANDOM = """\
#include <windows.h>
#include <ntsecapi.h>
__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE data, SIZE_T size) { return RtlGenRandom(data, (ULONG)size); }
"""
_CONVERTERS = [
    "ucnv_cbFromUWriteUChars",
    "ucnv_cbToUWriteUChars",
    "ucnv_close",
    "ucnv_countAvailable",
    "ucnv_fromUCountPending",
    "ucnv_fromUnicode",
    "ucnv_getAvailableName",
    "ucnv_getFromUCallBack",
    "ucnv_getMaxCharSize",
    "ucnv_getName",
    "ucnv_getStandardName",
    "ucnv_getToUCallBack",
    "ucnv_open",
    "ucnv_reset",
    "ucnv_setFromUCallBack",
    "ucnv_setToUCallBack",
    "ucnv_toUCountPending",
    "ucnv_toUnicode",
    "UCNV_FROM_U_CALLBACK_SUBSTITUTE",
    "UCNV_TO_U_CALLBACK_SUBSTITUTE",
]


class Wine:
    """A Windows of our own.

    Args:
        prefix: Its folder.
        display: An X display for windows; "" for none.
    """

    def __init__(self, prefix: Path, display: str = "") -> None:
        self.prefix = prefix
        variables = {
            "WINEPREFIX": str(prefix),
            "WINEDEBUG": "-all",
            "WINEDLLOVERRIDES": "ucrtbase=n,b;mscoree,mshtml=;winemenubuilder.exe=d",
            "KMP_AFFINITY": "disabled",  # Wine does not tell Intel's OpenMP about processors
            "KMP_TOPOLOGY_METHOD": "flat",
            "DISPLAY": display,
        }
        self.environment = os.environ | variables

    def run(self, *command: str, question: str = "", patience_s: float = 300.0) -> tuple[int, str]:
        """Run a program to its end.

        Args:
            command: The program and its arguments.
            question: What it reads.
            patience_s: How long it may take.

        Returns:
            Its exit code and what it printed.
        """
        with self.start(*command) as process:
            try:
                printed, _ = process.communicate(question.encode(), timeout=patience_s)
            except subprocess.TimeoutExpired:
                process.kill()
                raise wheels.BuildError(f"{command[0]} did not end within {patience_s:.0f} s.") from None
            return process.returncode, printed.decode("utf-8", "replace")

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        """Start a program; pipes, because Windows' C library does not take Wine's other files."""
        pipe = subprocess.PIPE
        return subprocess.Popen(
            ["wine", *command], env=self.environment, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT
        )

    def boot(self) -> None:
        """Make the folder, as Windows 10."""
        self.run("wineboot", "--init")
        self.run("winecfg", "-v", "win10")
        self.end()

    def end(self) -> None:
        """End what still runs and wait until all is written."""
        subprocess.run(["wineserver", "-k"], env=self.environment, check=False)
        subprocess.run(["wineserver", "-w"], env=self.environment, check=False)

    def registry(self, key: str) -> dict[str, str]:
        """Texts in a key of the user's, by name ("" for its own); empty where there is no such key."""
        exported = self.prefix / "drive_c" / "key.reg"  # a terminal would lose the letters that its code page lacks
        exported.unlink(missing_ok=True)
        self.run("reg", "export", f"HKCU\\{key}", "C:\\key.reg", "/y")
        text = exported.read_text(encoding="utf-16") if exported.is_file() else ""
        found = re.findall(r'^(?:@|"((?:[^"\\]|\\.)*)")="((?:[^"\\]|\\.)*)"', text, re.MULTILINE)
        return {name: re.sub(r"\\(.)", r"\1", value) for name, value in found}

    def folder(self, path: str) -> Path:
        r"""Where a path such as `C:\x` is here."""
        return self.prefix / "drive_c" / path.removeprefix("C:\\").replace("\\", "/")


def add_what_is_lacking(python: Path, work: Path) -> list[Path]:
    """Put the libraries that Wine lacks beside a private Python.

    Args:
        python: Its folder.
        work: For what comes in between.

    Returns:
        What was added.
    """
    work.mkdir(parents=True, exist_ok=True)
    (work / "random.c").write_text(_RANDOM, encoding="utf-8")
    _link(python / "bcryptprimitives.dll", work / "random.c", "-ladvapi32")
    empty = "".join(f"__declspec(dllexport) void *{name}(void) {{ return 0; }}\n" for name in _CONVERTERS)
    (work / "converters.c").write_text(empty, encoding="utf-8")
    _link(python / "icuuc.dll", work / "converters.c")
    wines = next(folder / "ucrtbase.dll" for folder in _SYSTEM_LIBRARIES if (folder / "ucrtbase.dll").is_file())
    source, exports = _complex_functions(_exported(wines))
    (work / "complex.c").write_text(source, encoding="utf-8")
    (work / "complex.def").write_text(exports, encoding="utf-8")
    _link(python / "ucrtbase.dll", work / "complex.c", str(work / "complex.def"), "-static")
    # Under another name, and without the mark by which Wine would look for its own file of that name.
    (python / "ucrtwine.dll").write_bytes(wines.read_bytes().replace(_BUILTIN_MARK, bytes(len(_BUILTIN_MARK))))
    return [python / name for name in ("bcryptprimitives.dll", "icuuc.dll", "ucrtbase.dll", "ucrtwine.dll")]


def _link(library: Path, *parts: str | Path) -> None:
    wheels.run([f"{TOOLS}gcc", "-O1", "-shared", "-o", str(library), *map(str, parts)])


def _exported(library: Path) -> list[str]:
    listed = wheels.run([f"{TOOLS}objdump", "-p", str(library)])
    table = listed[listed.index("[Ordinal/Name Pointer] Table") :]
    return re.findall(r"^\s*\[\s*\d+\].*?\s(\S+)$", table, re.MULTILINE)


def _complex_functions(exported: list[str]) -> tuple[str, str]:
    """A C library that has complex functions and hands everything else on to Wine's: its source and its exports."""
    lines, ours = [_HEAD], []
    for ending, number, pair, suffix in _KINDS:
        first, second = f"in{pair}(z)", f"in{pair}(y)"
        lines += [f"{number} my_{name}{ending}({pair} z) {{ return {name}{suffix}({first}); }}" for name in _NUMBERS]
        lines += [
            f"{pair} my_{name}{ending}({pair} z) {{ return out{pair}({name}{suffix}({first})); }}"
            for name in _FUNCTIONS
        ]
        power = f"out{pair}(cpow{suffix}({first}, {second}))"
        lines.append(f"{pair} my_cpow{ending}({pair} z, {pair} y) {{ return {power}; }}")
        ours += [f"{name}{ending}" for name in (*_NUMBERS, *_FUNCTIONS, "cpow")]
    exports = ["LIBRARY ucrtbase.dll", "EXPORTS", *(f"  {name} = my_{name}" for name in ours)]
    exports += [f"  {name} = ucrtwine.{name}" for name in exported if name not in ours]
    return "\n".join(lines) + "\n", "\n".join(exports) + "\n"
