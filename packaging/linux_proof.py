"""Proves the packages for Linux in a clean system: `make package-proof`, as root.

The .deb is installed over an older version, started by the Exec line of its menu entry as an ordinary user whose home
has a space and an umlaut in its name, without any network; a question is typed and the answer read from the user's
chats. Then the archive, from a folder with spaces, umlauts and an emoji, with variables set that would mislead another
Python and another Qt. At last the package is removed and what is left is compared with what was there before.
"""

from __future__ import annotations

import argparse
import configparser
import contextlib
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import linux_root
import wheels
from linux_screen import Screen, screen, wait_for
from linux_tree import OPTIONAL
from packages import PACKAGES

if TYPE_CHECKING:
    from collections.abc import Iterator

WORK = PACKAGES / "work" / "proof"
PICTURES = PACKAGES / "work" / "pictures"
OLDER = "0.0.1"
QUESTION, WORD = "What is an expert?", "expert"
ODD_FOLDER = "Eigene Programme ä 😀"
STARTS = 3
READY = "Ready: "  # in the log, once the engine has loaded a model
_LIBRARIES_NOT_FOUND = """find /usr/lib/rooftop -name '*.so*' -type f | while read -r file; do
    ldd "$file" 2>/dev/null | sed -n "s|^[[:space:]]*\\(.*\\) => not found|$file \\1|p"
done"""
_DESKTOP = "usr/share/applications/rooftop.desktop"


class Proof:
    """One run through everything in one clean system.

    Args:
        root: The system.
        display: Where the app shows itself.
    """

    def __init__(self, root: linux_root.Root, display: Screen) -> None:
        self._root = root
        self._screen = display
        self.home = root.path / linux_root.USER_HOME.strip("/")
        self._answers = 0
        self._loaded = 0
        self.shown_s = 0.0

    def install(self, deb: Path, version: str) -> None:
        """Install a .deb; nothing that it needs is missing then."""
        found = self._root.install(deb)
        expect(found == version, f"installed {found}, wanted {version}")
        for line in self._root.run("sh", "-c", _LIBRARIES_NOT_FOUND).splitlines():
            path, _, library = line.partition(" ")
            expect(Path(path).name in OPTIONAL, f"{path} lacks {library}")
        say(f"installed {version} by apt; every library finds what it needs")

    def menu_command(self) -> list[str]:
        """What the menu entry runs."""
        return [part for part in self._entry()["Exec"].split() if not part.startswith("%")]

    def _entry(self) -> configparser.SectionProxy:
        entry = configparser.ConfigParser(interpolation=None)
        entry.read_string((self._root.path / _DESKTOP).read_text(encoding="utf-8"))
        return entry["Desktop Entry"]

    @contextlib.contextmanager
    def started(self, command: list[str], environment: dict[str, str]) -> Iterator[str]:
        """The app while it runs, and its window; it is quit by its own key, and must say nothing and leave nothing."""
        settings = {"DISPLAY": self._screen.display, **environment}
        begun_s = time.monotonic()
        with subprocess.Popen(
            self._root.user_command(settings, *command), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            try:
                window = wait_for("the window", self._screen.window)
                self.shown_s = time.monotonic() - begun_s
                yield window
                self._screen.type("", "ctrl+q")
                said, _ = process.communicate(timeout=30)
            except BaseException:
                self._screen.picture(PICTURES / "failed.png")
                process.send_signal(signal.SIGTERM)
                raise
        expect(process.returncode == 0, f"ended with {process.returncode}: {said}")
        expect(not said.strip(), f"said: {said}")
        left = subprocess.run(
            ["pgrep", "-u", str(linux_root.USER_ID), "-l"], capture_output=True, text=True, check=False
        )
        expect(not left.stdout, f"still running: {left.stdout}")

    def ask(self, name: str, command: list[str], environment: dict[str, str] | None = None) -> None:
        """Start, ask, read the answer from the user's chats, take a picture, quit."""
        with self.started(command, environment or {}) as window:
            classes = self._screen.classes(window)
            expect(f'"{self._entry()["StartupWMClass"]}"' in classes, f"the menu entry does not fit {classes}")
            wait_for("the guide", self._is_ready)
            self._screen.type(QUESTION, "Return")
            answers = wait_for("the answer", self._new_answers)
            self._answers = len(answers)
            expect(WORD in answers[-1].casefold(), f"the answer was: {answers[-1]}")
            time.sleep(0.5)  # the last frame
            self._screen.picture(PICTURES / f"{name}.png")
        say(f"{name}: window after {self.shown_s:.2f} s; asked {QUESTION!r}, was told {answers[-1][:60]!r}...; quit")

    def times(self, command: list[str]) -> None:
        """Seconds from the command to the visible window: with nothing in the disk's cache, then with everything."""
        wheels.run(["sync"])
        with contextlib.suppress(OSError):
            Path("/proc/sys/vm/drop_caches").write_text("3")
        seconds = []
        for _ in range(1 + STARTS):
            with self.started(command, {}):
                seconds.append(self.shown_s)
                wait_for("the guide", self._is_ready)
        later = ", ".join(f"{one:.2f}" for one in seconds[1:])
        say(f"window visible after {seconds[0]:.2f} s with an empty disk cache, then {later} s")

    def data(self) -> dict[str, bytes]:
        """The user's own files."""
        return {str(path.relative_to(self.home)): path.read_bytes() for path in self.home.rglob("*") if path.is_file()}

    def put_model(self) -> None:
        """A model of the user's."""
        folder = self.home / ".local/share/rooftop/models/mine"
        folder.mkdir(parents=True)
        (folder / "notes.gguf").write_bytes(b"GGUF, not a whole one")
        wheels.run(["chown", "-R", f"{linux_root.USER_ID}:{linux_root.USER_ID}", str(self.home / ".local")])

    def unpack(self, archive: Path) -> str:
        """Unpack the archive into an odd folder of the user's; returns the program as the user sees it."""
        folder = self.home / ODD_FOLDER
        folder.mkdir(parents=True)
        wheels.run(["tar", "--zstd", "-xf", str(archive), "-C", str(folder)])
        return f"{linux_root.USER_HOME}/{ODD_FOLDER}/{archive.name.removesuffix('.tar.zst')}/rooftop"

    def lay_traps(self) -> dict[str, str]:
        """Modules and variables that mislead a Python which listens to them."""
        traps = self.home / "traps"
        for folder in (traps, self.home / ".local/lib/python3.11/site-packages"):
            folder.mkdir(parents=True, exist_ok=True)
            for name in ("torch", "numpy", "app", "engine", "json", "sitecustomize", "usercustomize"):
                (folder / f"{name}.py").write_text("raise SystemExit('a trap')\n")
        inside = f"{linux_root.USER_HOME}/traps"
        names = ("PYTHONPATH", "PYTHONHOME", "PYTHONUSERBASE", "QT_PLUGIN_PATH", "QT_QPA_PLATFORM_PLUGIN_PATH")
        return dict.fromkeys(names, inside) | {"PYTHONSTARTUP": f"{inside}/json.py", "PYTHONSAFEPATH": ""}

    def _is_ready(self) -> bool:
        """The log says once more that the guide is loaded."""
        path = self.home / ".local/state/rooftop/log/rooftop.log"
        loaded = path.read_text(encoding="utf-8").count(READY) if path.exists() else 0
        if loaded <= self._loaded:
            return False
        self._loaded = loaded
        return True

    def _new_answers(self) -> list[str]:
        path = self.home / ".local/share/rooftop/chats.db"
        if not path.exists():
            return []
        with contextlib.closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as chats:
            query = "SELECT text FROM messages WHERE role = 'assistant' AND state = 'complete' ORDER BY id"
            found = [text for (text,) in chats.execute(query)]
        return found if len(found) > self._answers else []


def older_version(deb: Path, folder: Path) -> Path:
    """The same package with a lower version number, as something to upgrade from."""
    unpacked = folder / "older"
    shutil.rmtree(unpacked, ignore_errors=True)
    wheels.run(["dpkg-deb", "-R", str(deb), str(unpacked)])
    control = unpacked / "DEBIAN/control"
    text = control.read_text(encoding="utf-8").replace(f"\nVersion: {wheels.version()}\n", f"\nVersion: {OLDER}\n")
    control.write_text(text, encoding="utf-8")
    older = folder / f"rooftop_{OLDER}_amd64.deb"
    wheels.run(["dpkg-deb", "--root-owner-group", "-Zzstd", "-z1", "--build", str(unpacked), str(older)])
    shutil.rmtree(unpacked)
    return older


def check_papers(deb: Path, share: Path) -> None:
    """Let the distributions' own checkers look at the package and at its description.

    Args:
        deb: The package.
        share: What it installs below /usr/share.
    """
    wheels.run(["lintian", "--allow-root", "--fail-on", "error", str(deb)])
    wheels.run(["desktop-file-validate", *map(str, (share / "applications").glob("rooftop*.desktop"))])
    wheels.run(["appstreamcli", "validate", "--no-net", *map(str, (share / "metainfo").glob("*Rooftop*.xml"))])
    say("lintian, desktop-file-validate and appstreamcli find no error")


def prove(suite: str, deb: Path, archive: Path) -> None:
    """Everything, in one clean system.

    Args:
        suite: Which one.
        deb: The package.
        archive: The archive that runs from any folder.

    Raises:
        BuildError: Something is not as it must be.
    """
    root = linux_root.make_root(suite, WORK)
    PICTURES.mkdir(parents=True, exist_ok=True)
    before = root.files()
    with screen(root.path / "tmp/.X11-unix") as display:
        proof = Proof(root, display)
        proof.install(older_version(deb, WORK), OLDER)
        proof.put_model()
        proof.ask("older", proof.menu_command())
        kept = proof.data()
        proof.install(deb, wheels.version())
        expect(proof.data() == kept, "the upgrade touched the user's files")
        installed = root.files()
        proof.ask("installed", proof.menu_command())
        proof.times(proof.menu_command())
        expect(root.files() == installed, f"written where it is installed: {sorted(root.files() - installed)[:5]}")
        say("upgraded with chats, settings and models kept; nothing was written where it is installed")
        program = proof.unpack(archive)
        proof.ask("portable", [program], proof.lay_traps())
        kept = proof.data()
        needed = root.run("apt-get", "-s", "autoremove", "rooftop")
        root.run("apt-get", "purge", "--autoremove", "-y", "rooftop")
        expect("rooftop" in needed and proof.data() == kept, "removing touched the user's files")
        left = sorted(name for name in root.files() - before)
        expect(not left, f"left behind: {left[:5]}")
        say("removed: nothing is left but the user's own files")
    check_papers(deb, PACKAGES / "work/deb/usr/share")


def expect(holds: bool, otherwise: str) -> None:
    """End the proof with a sentence unless something holds."""
    if not holds:
        raise wheels.BuildError(otherwise)


def say(line: str) -> None:
    """Tell how far the proof is."""
    sys.stdout.write(f"proof: {line}\n")
    sys.stdout.flush()


def main() -> int:
    """Prove; 1 with a sentence where something does not hold."""
    parser = argparse.ArgumentParser(description="Prove the packages for Linux in a clean system, as root.")
    parser.add_argument("--suite", choices=linux_root.SUITES, default="bookworm")
    options = parser.parse_args()
    if not linux_root.in_own_mounts():
        return linux_root.again_with_own_mounts([sys.executable, *sys.argv])
    version = wheels.version()
    try:
        prove(
            options.suite,
            PACKAGES / f"rooftop_{version}_amd64.deb",
            PACKAGES / f"rooftop-{version}-linux-x86_64.tar.zst",
        )
    except wheels.BuildError as error:
        sys.stderr.write(f"proof: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
