"""Which build of torch an engine process takes: the interpreter's own, or the GPU component's. Imports no torch.

The GPU component is the CUDA build of the very torch that is installed, in a folder of the user's:

    ROOT/2.13.0+cu130/                   complete, since it was given this name as the last step
    ROOT/2.13.0+cu130/component.json     which torch it is, and how large each of its files must be
    ROOT/2.13.0+cu130.refused            why no engine takes it until it has been repaired

This is the one place that decides. Whoever starts an engine asks `usable_packages` and hands the folder to the engine
process, which puts it in front of everything else before torch is imported. There nothing else has to be done: torch
itself loads NVIDIA's libraries from beside it, on Linux by its run path and on Windows by its DLL folders.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import json
import logging
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import platformdirs

from engine.log_lines import describe
from engine.sentences import from_json, join, say, to_json

if TYPE_CHECKING:
    from collections.abc import Iterator

State = Literal["absent", "ready", "other-version", "damaged", "refused"]

MARKER = "component.json"
REFUSED_SUFFIX = ".refused"
MAX_MARKER_BYTES = 16 << 20

_APP = "rooftop"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Build:
    """A build of torch.

    Attributes:
        version: Without what tells its builds apart, e.g. "2.13.0"; "" where there is no torch.
        cuda: The CUDA that it was made for, e.g. "13.0"; "" for one that knows no GPU.
        python: The Python that it is for, e.g. "3.11".
    """

    version: str
    cuda: str
    python: str

    @property
    def folder_name(self) -> str:
        """What its folder is called among the components."""
        return f"{self.version}+cu{self.cuda.replace('.', '')}"


@dataclass(frozen=True, slots=True)
class Component:
    """What an unpacked component says of itself.

    Attributes:
        build: Which torch it is.
        wheels: SHA-256 of every wheel that it was made of, by file name.
        records: SHA-256 of every wheel's own list of files, by its path.
        sizes: Bytes of every file, by its path.
    """

    build: Build
    wheels: dict[str, str]
    records: dict[str, str]
    sizes: dict[str, int]


@dataclass(frozen=True, slots=True)
class Found:
    """What there is of a component for the torch that is installed.

    Attributes:
        state: Whether it can be used.
        folder: Where it is; None where there is none.
        problem: A sentence: why it is not used; "" where nothing is wrong.
    """

    state: State
    folder: Path | None = None
    problem: str = ""


def default_root() -> Path:
    """The folder of components."""
    return platformdirs.user_data_path(_APP, appauthor=False) / "gpu"


def own_build() -> Build:
    """The build of torch that the interpreter has; its files are looked at, nothing is imported."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return Build("", "", python)
    try:
        values = assigned_literals(Path(spec.origin).with_name("version.py").read_text(encoding="utf-8"))
    except (OSError, ValueError, SyntaxError):
        return Build("", "", python)
    return Build(str(values.get("__version__") or "").partition("+")[0], str(values.get("cuda") or ""), python)


def find_component(root: Path | None = None, own: Build | None = None) -> Found:
    """Look for a component that fits the torch that is installed; costs one look at each of its files.

    Args:
        root: The folder of components; None for the user's.
        own: What is installed; None to look.
    """
    root, own = root or default_root(), own or own_build()
    folders = sorted(components(root))
    fitting = [folder for folder in folders if folder.name.startswith(f"{own.version}+cu")]
    if not fitting:
        if folders:
            names = ", ".join(folder.name for folder in folders)
            problem = say(
                "GPU support is there for torch {other}, and this Rooftop needs {version}.",
                other=names,
                version=own.version,
            )
            return Found("other-version", folders[-1], problem)
        return Found("absent")
    return _judge(fitting[-1], own)


def usable_packages(root: Path | None = None) -> Path | None:
    """The folder that an engine process is to take torch from; None for the interpreter's own torch."""
    own = own_build()
    if own.cuda or not own.version:
        return None
    found = find_component(root, own)
    if found.problem:
        _log.warning("%s", found.problem)
    return found.folder if found.state == "ready" else None


def adopt(folder: Path) -> None:
    """Have this process take torch from a component; to be called before anything imports torch."""
    assert "torch" not in sys.modules
    sys.path.insert(0, str(folder))


def import_torch(folder: Path) -> tuple[Build, str]:
    """Import torch from a component.

    Returns:
        What was imported, and why it could not be, "" where it was; a process where it could not be is spoiled.
    """
    adopt(folder)
    try:
        torch = importlib.import_module("torch")
        return Build(str(torch.__version__), str(torch.version.cuda or ""), ""), ""
    except Exception as error:  # noqa: BLE001 - whatever a damaged package raises
        _log.info("The GPU component cannot be imported", exc_info=True)
        return Build("", "", ""), describe(error)


def refuse(folder: Path, reason: str) -> None:
    """Note that a component does not work here; no engine takes it any more."""
    note = {"reason": to_json(reason)}
    try:
        _refusal(folder).write_text(json.dumps(note), encoding="utf-8")
    except OSError as error:
        _log.warning("%s cannot be written: %s", _refusal(folder), error)


def forgive(folder: Path) -> None:
    """A component may be tried again."""
    _refusal(folder).unlink(missing_ok=True)


def write_component(folder: Path, component: Component) -> None:
    """Leave the marker in a folder, which is complete with it.

    Raises:
        OSError: It cannot be written.
    """
    with (folder / MARKER).open("w", encoding="utf-8") as file:
        json.dump(asdict(component), file)
        file.flush()
        os.fsync(file.fileno())


def read_component(folder: Path) -> Component | None:
    """What `write_component` has left; None where that cannot be read."""
    try:
        path = folder / MARKER
        if path.stat().st_size > MAX_MARKER_BYTES:
            return None
        values: dict[str, Any] = json.loads(path.read_bytes())
        component = Component(
            Build(**values["build"]), dict(values["wheels"]), dict(values["records"]), dict(values["sizes"])
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    sound = all(isinstance(name, str) and isinstance(size, int) for name, size in component.sizes.items())
    return component if sound and component.sizes else None


def wrong_files(folder: Path, component: Component) -> Iterator[str]:
    """The files of a component that are missing or of another size."""
    here = dict(_sizes(folder, ""))
    return (path for path, size in component.sizes.items() if here.get(path) != size)


def _judge(folder: Path, own: Build) -> Found:
    """Whether a component of the right version can be used."""
    component = read_component(folder)
    if component is None or component.build.version != own.version:
        return Found("damaged", folder, say("GPU support is damaged: what it holds cannot be read."))
    if component.build.python != own.python:
        problem = say(
            "GPU support is there for Python {other}, and this Rooftop runs on {version}.",
            other=component.build.python,
            version=own.python,
        )
        return Found("other-version", folder, problem)
    wrong = next(wrong_files(folder, component), None)
    if wrong is not None:
        return Found("damaged", folder, say("GPU support is damaged: {file} is missing or changed.", file=wrong))
    reason = _reason(folder)
    return Found("refused", folder, reason) if reason else Found("ready", folder)


def _reason(folder: Path) -> str:
    """Why a component was refused, "" where it was not."""
    path = _refusal(folder)
    if not path.exists():
        return ""
    did_not = say("GPU support did not start.")
    try:
        reason = from_json(json.loads(path.read_bytes())["reason"])
        return join([did_not, reason if isinstance(reason, str) else str(reason)])
    except (OSError, ValueError, TypeError, KeyError):
        return did_not


def _refusal(folder: Path) -> Path:
    return folder.with_name(folder.name + REFUSED_SUFFIX)


def components(root: Path) -> list[Path]:
    """Every component that has its name."""
    try:
        return [folder for folder in root.iterdir() if "+cu" in folder.name and folder.is_dir()]
    except OSError:
        return []


def _sizes(folder: Path, prefix: str) -> Iterator[tuple[str, int]]:
    """Every file below a folder with its size."""
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _sizes(Path(entry.path), f"{prefix}{entry.name}/")
        elif entry.is_file(follow_symlinks=False):
            yield f"{prefix}{entry.name}", entry.stat(follow_symlinks=False).st_size


def assigned_literals(source: str) -> dict[str, object]:
    """What a module assigns to plain names at its top, as far as these are literals."""
    found: dict[str, object] = {}
    for line in ast.parse(source).body:
        target = line.targets[0] if isinstance(line, ast.Assign) else getattr(line, "target", None)
        value = getattr(line, "value", None)
        if isinstance(target, ast.Name) and isinstance(value, ast.Constant):
            found[target.id] = value.value
    return found


def main() -> None:
    """`python -m engine.gpu_packages FOLDER`: import torch from a component, and tell what it is as JSON."""
    adopt(Path(sys.argv[1]))
    torch = importlib.import_module("torch")
    told = {
        "file": torch.__file__,
        "version": torch.__version__,
        "cuda": torch.version.cuda,
        "gpu": torch.cuda.is_available(),
        "architectures": torch._C._cuda_getArchFlags(),
    }
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main()
