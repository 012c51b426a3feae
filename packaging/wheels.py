"""The packages of the installed app: pinned in packaging/locks, fetched as wheels for the system it is built for.

`python packaging/wheels.py lock` renews both locks from pyproject.toml and requirements-torch.txt; building installs
exactly what they name, each file checked against its SHA-256. uv does the work: unlike pip it evaluates what a wheel
needs for the system that is asked for, not for the one that it runs on.

PyTorch's CPU build for Linux is not on PyPI: `UV_FIND_LINKS` (or pip's `PIP_FIND_LINKS`) names where it is, by default
PyTorch's own page. `UV_DEFAULT_INDEX` names a mirror of PyPI.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ROOT / "packaging" / "locks"
PYTHON_VERSION = "3.11"
TORCH_PAGE = "https://download.pytorch.org/whl/cpu/torch/"
_PIN = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^\s;\\]+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Target:
    """A system that the app is built for.

    Attributes:
        name: Of the lock file.
        platform: As uv calls it; decides about wheels and about what they need.
        glob: Native libraries of Python packages there.
    """

    name: str
    platform: str
    glob: str


LINUX = Target("linux", "x86_64-manylinux_2_34", "*.so*")
WINDOWS = Target("windows", "x86_64-pc-windows-msvc", "*.dll")
TARGETS = {target.name: target for target in (LINUX, WINDOWS)}


class BuildError(Exception):
    """The package cannot be built; the sentence says why and what to do."""


def version() -> str:
    """Rooftop's version, from pyproject.toml."""
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"])


def lock_path(target: Target) -> Path:
    """Where the pins for a system are."""
    return LOCKS / f"{target.name}.txt"


def pins(lock: str) -> dict[str, str]:
    """Names and exact versions in a lock's text."""
    return {found["name"]: found["version"] for found in _PIN.finditer(lock)}


def renew_lock(target: Target, *, upgrade: bool = False) -> None:
    """Resolve what the app needs there; keeps the versions of an older lock where they still fit.

    Args:
        target: The system.
        upgrade: Take the newest versions instead.

    Raises:
        BuildError: uv finds no solution, or only the build of PyTorch with CUDA.
    """
    path = lock_path(target)
    path.parent.mkdir(exist_ok=True)
    sources = ["pyproject.toml", "requirements-torch.txt"]
    options = ["--generate-hashes", "--no-annotate", "--no-header", "--quiet", *(["--upgrade"] if upgrade else [])]
    _uv("compile", target, *sources, *options, "--output-file", str(path))
    cuda = [
        name for name in pins(path.read_text(encoding="utf-8")) if name.startswith(("nvidia-cu", "cuda-", "triton"))
    ]
    if cuda:
        raise BuildError(
            f"The lock asks for {cuda[0]}: PyTorch's CPU build was not found; set UV_FIND_LINKS to its page."
        )


def install(target: Target, site_packages: Path, own_wheel: Path) -> None:
    """Unpack what the lock names, and Rooftop's own wheel, into a folder.

    Args:
        target: The system.
        site_packages: The folder; made if it is missing.
        own_wheel: What `build_own_wheel` gave. Its native library is this machine's: on another system, replace it.
    """
    lock = lock_path(target)
    check_fresh(target)
    # A copy, not a link: the files are stripped, and uv's cache must stay whole.
    into = ["--no-deps", "--link-mode=copy", "--target", str(site_packages), "--quiet"]
    _uv("install", target, "--require-hashes", *into, "--requirements", str(lock))
    command = [sys.executable, "-m", "uv", "pip", "install", "--python", sys.executable, *into]
    run([*command, "--python-platform", LINUX.platform, "--reinstall", str(own_wheel)])


def build_own_wheel(folder: Path) -> Path:
    """Build Rooftop's wheel, with the native library if there is a C++ compiler.

    Args:
        folder: Where it goes; emptied of older ones.

    Returns:
        The wheel.
    """
    for old in folder.glob("rooftop-*.whl"):
        old.unlink()
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps"]
    # A lasting build folder: the kernels, minutes of compiling, are only renewed where they changed.
    settings = ["--config-settings=build-dir=build/native-wheel", "--config-settings=install.strip=true"]
    run([*command, "--no-build-isolation", *settings, "--wheel-dir", str(folder), str(ROOT)])
    return next(folder.glob("rooftop-*.whl"))


def check_fresh(target: Target) -> None:
    """See that a lock names every package that pyproject.toml does.

    Args:
        target: The system.

    Raises:
        BuildError: One is missing, or has a version that is not allowed.
    """
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    path = lock_path(target)
    pinned = pins(path.read_text(encoding="utf-8")) if path.is_file() else {}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *(ROOT / "requirements-torch.txt").read_text(encoding="utf-8").split()]
    for requirement in map(Requirement, wanted):
        found = pinned.get(canonicalize_name(requirement.name))
        if found is None or not requirement.specifier.contains(found, prereleases=True):
            raise BuildError(f"packaging/locks/{target.name}.txt has no {requirement}; run: make package-lock")


def run(command: list[str], cwd: Path = ROOT, environment: dict[str, str] | None = None) -> str:
    """Run a program and return what it prints; a failure ends the build with what it said.

    Args:
        command: The program and its arguments.
        cwd: Where.
        environment: Instead of ours.

    Raises:
        BuildError: The program is missing or failed.
    """
    try:
        done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise BuildError(f"{command[0]} is not installed; see packaging/build_tools.sh.") from error
    if done.returncode:
        raise BuildError(f"{' '.join(command[:6])} failed with {done.returncode}:\n{done.stdout}{done.stderr}".rstrip())
    return done.stdout


def _uv(command: str, target: Target, *arguments: str) -> None:
    places = os.environ.get("UV_FIND_LINKS") or os.environ.get("PIP_FIND_LINKS") or TORCH_PAGE
    environment = os.environ | {"UV_FIND_LINKS": places.replace(" ", ",")}
    system = ["--python-platform", target.platform, "--python-version", PYTHON_VERSION, "--only-binary", ":all:"]
    run([sys.executable, "-m", "uv", "pip", command, *system, *arguments], environment=environment)


def main() -> int:
    """Renew the locks."""
    parser = argparse.ArgumentParser(description="Renew the locks of the installed app's packages.")
    parser.add_argument("command", choices=["lock"])
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions that fit")
    options = parser.parse_args()
    try:
        for target in TARGETS.values():
            renew_lock(target, upgrade=options.upgrade)
    except BuildError as error:
        sys.stderr.write(f"packaging: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
