"""The app's folder on Windows, made on Linux: the private Python with all packages, the launchers, the licences."""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import notices
import tree
import wheels
import windows_python

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_PATH_CHARACTERS = 160
"""Of the longest path inside: Windows' 260 less what a user's folder for programs usually takes."""
LAUNCHER, TERMINAL_LAUNCHER = "rooftop.exe", "rooftop.com"
NATIVE_LIBRARY = Path("engine/kernels/rooftop_cpu.dll")
SOURCES = wheels.ROOT / "packaging" / "windows"
TOOLS = "x86_64-w64-mingw32-"
_ICON = wheels.ROOT / "resources" / "icons" / "rooftop.svg"
_ICON_SIZES = (16, 20, 24, 32, 40, 48, 64, 128, 256)
_RUNTIME_LICENCES = {"gcc-mingw-w64-base": "GPL-3.0-or-later WITH GCC-exception-3.1", "mingw-w64-common": "ZPL-2.1"}
SYSTEM = frozenset(
    [
        "advapi32",
        "authz",
        "bcrypt",
        "bcryptprimitives",
        "cabinet",
        "combase",
        "comdlg32",
        "crypt32",
        "d3d11",
        "d3d12",
        "d3d9",
        "dbghelp",
        "dnsapi",
        "dwmapi",
        "dwrite",
        "dxgi",
        "gdi32",
        "icuuc",
        "imagehlp",
        "imm32",
        "iphlpapi",
        "kernel32",
        "mpr",
        "msi",
        "msvcrt",
        "netapi32",
        "ntdll",
        "ole32",
        "oleaut32",
        "pdh",
        "powrprof",
        "psapi",
        "rpcrt4",
        "secur32",
        "setupapi",
        "shell32",
        "shlwapi",
        "uiautomationcore",
        "user32",
        "userenv",
        "uxtheme",
        "version",
        "winhttp",
        "winmm",
        "wintrust",
        "ws2_32",
        "wtsapi32",
        "d3dcompiler_47",
    ]
)
"""Libraries of Windows 10 1809 itself that the app may ask for, beside the `api-ms-win-*` names of its C library."""
_RUNTIME = """\
The files msvcp140*.dll and vcruntime140*.dll are Microsoft's Visual C++ runtime, unchanged. They are redistributable
code of Visual Studio (https://learn.microsoft.com/visualstudio/releases/2022/redistribution) under Microsoft's terms.
"""
_NOT_LOADED = ("vcamp140.dll", "concrt140.dll", "vccorlib140.dll", "vcomp140.dll")
_IMPORT = re.compile(r"DLL Name: (\S+)\.(?:dll|DLL)\s*$", re.MULTILINE)


def build(root: Path, work: Path) -> None:
    """Make the app's folder.

    Args:
        root: The folder; made anew.
        work: What is kept between builds.

    Raises:
        BuildError: Something is missing, or a check found what must not be.
    """
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    python = root / "python"
    windows_python.install(python, work / "windows")
    site_packages = python / windows_python.SITE_PACKAGES
    tree.fill(wheels.WINDOWS, site_packages, wheels.build_own_wheel(work))
    _put_native_library(site_packages, work / "native-windows")
    tree.compile_bytecode(site_packages)
    compile_launchers(root, work / "launcher")
    _write_notices(root)
    drop_deep_licences(site_packages)
    refuse_long_paths(root)
    check(root)


def check(root: Path) -> None:
    """Look through the finished folder.

    Args:
        root: The app's folder.

    Raises:
        BuildError: A program asks for a library that neither the app nor Windows has.
    """
    natives = [path for path in root.rglob("*") if path.suffix.lower() in {".exe", ".dll", ".pyd", ".com"}]
    names = {path.name.lower() for path in natives}
    for path in natives:
        unknown = missing(imports(path), names)
        if unknown and path.name not in _NOT_LOADED:
            raise wheels.BuildError(
                f"{path.name} needs {unknown[0]}, which is neither inside nor in windows_tree.SYSTEM."
            )


def drop_deep_licences(site_packages: Path) -> None:
    """Take out packages' licence texts whose paths are too long; they are in the folder `licences` too."""
    for path in site_packages.glob("*.dist-info/licenses/**/*"):
        if path.is_file() and len(str(path.relative_to(site_packages.parents[2]))) > MAX_PATH_CHARACTERS:
            path.unlink()
    tree.strip(site_packages)  # the packages' records follow


def refuse_long_paths(root: Path) -> None:
    """End the build where a file could not be unpacked into a usual folder."""
    longest = max((str(path.relative_to(root)) for path in root.rglob("*")), key=len)
    if len(longest) > MAX_PATH_CHARACTERS:
        raise wheels.BuildError(f"{longest} has {len(longest)} characters, more than the {MAX_PATH_CHARACTERS} it may.")


def imports(path: Path) -> list[str]:
    """The libraries that a program or library of Windows names, in small letters."""
    listed = wheels.run([f"{TOOLS}objdump", "-p", str(path)])
    return [f"{name.lower()}.dll" for name in _IMPORT.findall(listed)]


def missing(libraries: Iterable[str], present: Iterable[str]) -> list[str]:
    """The libraries that neither the app nor Windows has."""
    there = set(present)
    return [
        name
        for name in libraries
        if name not in there and name.removesuffix(".dll") not in SYSTEM and not name.startswith("api-ms-win-")
    ]


def version_numbers(version: str) -> str:
    """A version as Windows wants it in a program: four numbers with commas."""
    release = re.match(r"\d+(\.\d+){0,3}", version)
    if release is None:
        raise wheels.BuildError(f"The version {version} begins with no number.")
    parts = release[0].split(".")
    return ",".join((parts + ["0"] * 4)[:4])


def compile_launchers(root: Path, work: Path) -> None:
    """Compile both launchers, with icon, version and manifest.

    Args:
        root: Where they go.
        work: For what comes in between.
    """
    work.mkdir(parents=True, exist_ok=True)
    numbers = version_numbers(wheels.version())
    _write_icon(work / "rooftop.ico")
    manifest = (SOURCES / "launcher.manifest").read_text(encoding="utf-8")
    manifest = manifest.replace("@VERSION@", numbers.replace(",", "."))
    (work / "launcher.manifest").write_text(manifest, encoding="utf-8")
    version = [f"-DVERSION_NUMBERS={numbers}", f'-DVERSION_TEXT=\\"{wheels.version()}\\"']
    resource = work / "launcher.res"
    wheels.run([f"{TOOLS}windres", f"-I{work}", *version, "-O", "coff", str(SOURCES / "launcher.rc"), str(resource)])
    options = ["-Os", "-s", "-static", "-Wall", "-Wextra", "-Werror", "-std=c11"]
    for name, kind in ((LAUNCHER, ["-mwindows"]), (TERMINAL_LAUNCHER, ["-mconsole", "-DCONSOLE"])):
        command = [f"{TOOLS}gcc", *options, *kind, str(SOURCES / "launcher.c"), str(resource)]
        wheels.run([*command, "-o", str(root / name)])


def _write_icon(path: Path) -> None:
    pictures = []
    for size in _ICON_SIZES:
        picture = path.with_name(f"icon-{size}.png")
        wheels.run(["rsvg-convert", "-w", str(size), "-h", str(size), "-o", str(picture), str(_ICON)])
        pictures.append(str(picture))
    wheels.run(["icotool", "--create", "--output", str(path), *pictures])


def _put_native_library(site_packages: Path, build_folder: Path) -> None:
    """The CPU kernels for Windows in place of those that the wheel brought from this machine."""
    for other in (site_packages / NATIVE_LIBRARY.parent).glob("librooftop_cpu.*"):
        other.unlink()
    programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    environment = os.environ | {"PATH": programs}
    system = ["-DCMAKE_SYSTEM_NAME=Windows", f"-DCMAKE_CXX_COMPILER={TOOLS}g++-posix", "-DROOFTOP_WERROR=ON"]
    command = ["cmake", "-S", str(wheels.ROOT), "-B", str(build_folder), "-G", "Ninja", *system]
    wheels.run(command, environment=environment)
    wheels.run(["cmake", "--build", str(build_folder)], environment=environment)
    target = site_packages / NATIVE_LIBRARY
    wheels.run([f"{TOOLS}strip", "-o", str(target), str(build_folder / NATIVE_LIBRARY.name)])


def _write_notices(root: Path) -> None:
    python = root / "python"
    licence = (python / windows_python.LICENCE).read_text(encoding="utf-8", errors="replace")
    home = "https://www.python.org"
    parts = [
        *notices.packages(python / windows_python.SITE_PACKAGES),
        *(part for part in notices.bundled() if part.name != "ICU"),  # Windows brings its own
        notices.Part("CPython", windows_python.VERSION, "PSF-2.0", {"LICENSE.txt": licence}, "", home),
        notices.Part(
            "Microsoft Visual C++ runtime", "14.44", "LicenseRef-Microsoft-redistributable", {"terms.txt": _RUNTIME}
        ),
        *(_compiler_part(name, expression) for name, expression in _RUNTIME_LICENCES.items()),
    ]
    notices.write(root / "licences", parts, f"python/{windows_python.SITE_PACKAGES}/PySide6")


def _compiler_part(package: str, expression: str) -> notices.Part:
    """What the cross compiler links into the launchers and the kernels."""
    text = Path(f"/usr/share/doc/{package}/copyright").read_text(encoding="utf-8")
    return notices.Part(package, "", expression, {"copyright.txt": text}, "", f"https://packages.debian.org/{package}")
