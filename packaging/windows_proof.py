"""Proves the installer for Windows under Wine: `make package-windows-proof`.

What a Windows would do is done: installed silently over an older version into a folder with spaces, umlauts and an
emoji; files, registry and menu entry compared with what they should be; the guide asked in the terminal and in the
window; the kernels' own tests run; a running Rooftop updated in vain; removed, with and without the user's data. What
Wine cannot show is the list in packaging/README.md.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import sys
from pathlib import Path

import linux_screen
import wheels
import windows_package
import windows_python
import windows_tree
from packages import PACKAGES
from wine import Wine, add_what_is_lacking

WORK = PACKAGES / "work" / "wine-proof"
PICTURES = PACKAGES / "work" / "pictures"
FOLDER = "C:\\Eigene Programme ä 😀\\Rooftop"
_INTO = f"/D={FOLDER}".split(" ")  # the installer wants it without quotes, which Wine adds to arguments with spaces
OLDER = "0.0.1"
QUESTION, WORD = "What is an expert?", "expert"
UNINSTALL_KEY = "Software\\Microsoft\\Windows\\CurrentVersion\\Uninstall\\Rooftop"
_TEST_PACKAGES = ("pytest", "hypothesis", "gguf", "jsonschema")
_RUN_TESTS = """
import sys
repository, packages, library, tests = {given!r}
sys.path[:0] = [repository, packages]
import pytest
quiet = ["-q", "-x", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestConfigWarning"]
raise SystemExit(pytest.main([*quiet, "--rootdir", repository, "--native-library", library, tests]))
"""
KERNEL_TESTS = "tests/engine/kernels/test_cpu_library.py"


class Proof:
    """One Windows from its first installation to the last removal.

    Args:
        wine: The Windows.
        payload: The app's folder as it was packed.
    """

    def __init__(self, wine: Wine, payload: Path) -> None:
        self._wine = wine
        self._payload = payload
        self.installed = wine.folder(FOLDER)
        self._local = next(wine.prefix.glob("drive_c/users/*/AppData/Local"))
        self.data = self._local / "rooftop"

    def install(self, installer: Path, version: str) -> None:
        """Install silently and compare everything that an installation leaves."""
        code, said = self._wine.run(str(installer), "/S", *_INTO)
        expect(code == 0, f"the installer ended with {code}: {said}")
        entry = linux_screen.wait_for("the list of apps", lambda: self._wine.registry(UNINSTALL_KEY))
        expect(entry.get("DisplayVersion") == version, f"Windows' list of apps says {entry}")
        expect(entry.get("InstallLocation") == FOLDER, f"installed to {entry.get('InstallLocation')}")
        command = self._wine.registry("Software\\Classes\\Rooftop.gguf\\shell\\open\\command")
        expect(f'"{FOLDER}\\rooftop.exe" --model "%1"' in command.values(), f"model files are opened by {command}")
        expect(bool(self._shortcuts()), "there is no menu entry")
        say(f"installed {version} silently; menu entry, list of apps and model files are right")

    def compare_files(self) -> None:
        """The folder holds what was packed, and the uninstaller."""
        packed, there = files(self._payload), files(self.installed)
        expect(there - packed == {Path("uninstall.exe")}, f"too much is there: {sorted(there - packed)[:5]}")
        expect(not packed - there, f"missing: {sorted(packed - there)[:5]}")
        say(f"{len(packed)} files, as they were packed; nothing is left of the older version")

    def ask_in_terminal(self) -> None:
        """The version and an answer of the guide, through the launcher for terminals."""
        code, said = self._run("rooftop.com", "--version")
        expect(code == 0 and said.strip() == f"rooftop {wheels.version()}", f"--version: {code} {said!r}")
        code, said = self._run("rooftop.com", "--no-such")
        expect(code == 2, f"a wrong argument ended with {code}")
        code, said = self._run("rooftop.com", "chat", question=f"{QUESTION}\n")
        expect(code == 0 and WORD in said.lower(), f"chat: {code} {said[-500:]!r}")
        say(f"`rooftop chat` answers: {said.strip().splitlines()[1][:70]}...")

    def ask_in_window(self, display: linux_screen.Screen, picture: Path) -> None:
        """A question typed into the window; the answer is read from the user's chats."""
        self._wine.environment["DISPLAY"] = display.display
        with self._wine.start(str(self.installed / "rooftop.exe")) as process:
            process.wait(60)  # the window's own process goes on
        find = ("xdotool", "search", "--onlyvisible", "--name", "Rooftop")
        window = linux_screen.wait_for("the window", lambda: display.ask(*find).partition("\n")[0])
        linux_screen.wait_for("the engine", lambda: "Ready: " in self._log())
        display.ask("xdotool", "windowactivate", "--sync", window)
        display.type(QUESTION, "Return")
        answer = linux_screen.wait_for("the answer", self._answer)
        expect(WORD in answer.lower(), f"it answered {answer!r}")
        display.picture(picture)
        say(f"the window answers: {answer[:70]}...; {picture.relative_to(wheels.ROOT)}")

    def update_while_running(self, installer: Path) -> None:
        """An installer that finds Rooftop running changes nothing."""
        before = files(self.installed)
        code, _ = self._wine.run(str(installer), "/S", *_INTO)
        expect(code == 3, f"the installer ended with {code} while Rooftop ran")
        expect(files(self.installed) == before, "a refused update left something behind")
        say("an update while Rooftop runs is refused and changes nothing")

    def run_kernel_tests(self, packages: Path) -> None:
        """The kernels' own tests, with the private Python and the library that is installed."""
        python = self.installed / "python" / "python.exe"
        expect(not list((wheels.ROOT / "engine/kernels").glob("*.dll")), "the checkout has a library of its own")
        library = self.installed / "python" / windows_python.SITE_PACKAGES / windows_tree.NATIVE_LIBRARY
        given = [windows_path(path) for path in (wheels.ROOT, packages, library, wheels.ROOT / KERNEL_TESTS)]
        code = _RUN_TESTS.format(given=given)
        ended, said = self._wine.run(str(python), "-c", code, patience_s=1800)
        expect(ended == 0, f"the kernels' tests: {said[-2000:]}")
        say(f"the kernels' own tests: {said.strip().splitlines()[-1]}")

    def remove(self, *options: str, keeps_data: bool) -> None:
        """Uninstall silently; nothing but the user's data may be left."""
        data = files(self.data)
        code, _ = self._wine.run(str(self.installed / "uninstall.exe"), "/S", *options)
        expect(code == 0, f"the uninstaller ended with {code}")
        linux_screen.wait_for("the removal", lambda: not self.installed.exists())
        self._wine.end()
        expect(not self._wine.registry(UNINSTALL_KEY), "the list of apps still has it")
        expect(not self._wine.registry("Software\\Rooftop"), "the registry still has its folder")
        expect(not self._shortcuts(), "the menu entry is still there")
        expect(files(self.data) == (data if keeps_data else set()), f"user data: {sorted(files(self.data))[:5]}")
        say(f"removed; the user's data is {'kept' if keeps_data else 'deleted, as asked'}")

    def _run(self, program: str, *arguments: str, question: str = "") -> tuple[int, str]:
        return self._wine.run(str(self.installed / program), *arguments, question=question)

    def _shortcuts(self) -> list[Path]:
        return list(
            self._wine.prefix.glob("drive_c/users/*/AppData/Roaming/Microsoft/Windows/Start Menu/**/Rooftop.lnk")
        )

    def _log(self) -> str:
        log = self.data / "Logs" / "rooftop.log"
        return log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""

    def _answer(self) -> str:
        for database in self.data.rglob("*.db"):
            with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as chats:
                found = chats.execute(
                    "SELECT text FROM messages WHERE role = 'assistant' AND state = 'complete'"
                ).fetchone()
                if found:
                    return str(found[0])
        return ""


def main() -> int:
    """Run the whole proof; 1 where something is not as it should be."""
    payload = PACKAGES / "work" / f"rooftop-{wheels.version()}-windows-x86_64"
    installer = PACKAGES / f"{payload.name}.exe"
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    PICTURES.mkdir(parents=True, exist_ok=True)
    try:
        older = _older_installer(payload)
        tests = _test_packages()
        with linux_screen.screen() as display:
            _prove(Wine(WORK / "prefix"), payload, older, installer, tests, display)
    except wheels.BuildError as error:
        sys.stderr.write(f"packaging: {error}\n")
        return 1
    return 0


def _prove(wine: Wine, payload: Path, older: Path, installer: Path, tests: Path, display: linux_screen.Screen) -> None:
    try:
        wine.boot()
        proof = Proof(wine, payload)
        proof.install(older, OLDER)
        proof.install(installer, wheels.version())
        proof.compare_files()
        added = add_what_is_lacking(proof.installed / "python", WORK / "lacking")
        say("added, for Wine alone: " + ", ".join(path.name for path in added))
        proof.ask_in_terminal()
        proof.run_kernel_tests(tests)
        proof.ask_in_window(display, PICTURES / "windows.png")
        proof.update_while_running(installer)
        wine.end()
        proof.remove(keeps_data=True)
        proof.install(older, OLDER)
        proof.remove("/DELETEDATA", keeps_data=False)
    finally:
        wine.end()


def _older_installer(payload: Path) -> Path:
    """An older version's installer, with a file that today's does not have."""
    root = WORK / "older"
    (root / "python" / "gone").mkdir(parents=True)
    (root / "python" / "gone" / "module.py").write_text("", encoding="utf-8")
    (root / "licences").mkdir()
    (root / "licences" / "gone.txt").write_text("", encoding="utf-8")
    for name in (windows_tree.LAUNCHER, windows_tree.TERMINAL_LAUNCHER):
        shutil.copyfile(payload / name, root / name)
    installer = WORK / f"rooftop-{OLDER}.exe"
    windows_package.make_installer(root, OLDER, PACKAGES / "work", installer)
    return installer


def _test_packages() -> Path:
    """What the kernels' tests import, for Windows."""
    folder = WORK / "tests"
    command = [
        sys.executable,
        "-m",
        "uv",
        "pip",
        "install",
        "--quiet",
        "--target",
        str(folder),
        "--only-binary",
        ":all:",
    ]
    system = ["--python-platform", wheels.WINDOWS.platform, "--python-version", wheels.PYTHON_VERSION]
    wheels.run([*command, *system, *_TEST_PACKAGES])
    return folder


def files(folder: Path) -> set[Path]:
    """Every file below a folder, from there."""
    return {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()} if folder.is_dir() else set()


def windows_path(path: Path) -> str:
    """A path as Wine's programs see it."""
    return "Z:" + str(path.resolve()).replace("/", "\\")


def expect(met: bool, otherwise: str) -> None:
    """End the proof where something is not as it should be."""
    if not met:
        raise wheels.BuildError(otherwise)


def say(sentence: str) -> None:
    """Tell what was shown."""
    sys.stdout.write(f"- {sentence}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
