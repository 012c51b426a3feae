"""A clean system in a folder, made by debootstrap, in which the proof installs and starts the app as a user would.

Only for root. Everything is mounted in the caller's own mount namespace, so that nothing stays mounted behind it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import wheels

SUITES = {
    "bookworm": "http://deb.debian.org/debian",
    "trixie": "http://deb.debian.org/debian",
    "jammy": "http://archive.ubuntu.com/ubuntu",
    "noble": "http://archive.ubuntu.com/ubuntu",
    "bullseye": "http://deb.debian.org/debian",  # whose C library is too old
}
USER = "anna"
USER_ID = 4321
USER_HOME = "/home/anna müller"
_PATH = "/usr/local/bin:/usr/bin:/bin"
_WATCHED = ("bin", "etc", "home", "lib", "lib64", "opt", "root", "sbin", "srv", "usr", "var")
_NOISE = ("var/cache/", "var/log/", "var/lib/apt/", "var/lib/dpkg/", "etc/ld.so.cache", "home/")


@dataclass(frozen=True, slots=True)
class Root:
    """One clean system.

    Attributes:
        path: Its root folder.
    """

    path: Path

    def command(self, *arguments: str) -> list[str]:
        """A command line that runs in it as root, with the network."""
        return [
            "chroot",
            str(self.path),
            "/usr/bin/env",
            "-i",
            f"PATH=/usr/sbin:/sbin:{_PATH}",
            "LC_ALL=C.UTF-8",
            *arguments,
        ]

    def run(self, *arguments: str) -> str:
        """Run a command in it as root."""
        return wheels.run(self.command("DEBIAN_FRONTEND=noninteractive", *arguments))

    def user_command(self, environment: dict[str, str], *arguments: str) -> list[str]:
        """A command line that runs in it as the ordinary user, without any network."""
        identity = ["setpriv", f"--reuid={USER_ID}", f"--regid={USER_ID}", "--clear-groups", "--no-new-privs"]
        known = {"PATH": _PATH, "HOME": USER_HOME, "USER": USER, "LANG": "C.UTF-8"} | environment
        settings = [f"{name}={value}" for name, value in known.items()]
        return ["unshare", "--net", "chroot", str(self.path), *identity, "/usr/bin/env", "-i", *settings, *arguments]

    def install(self, package: Path) -> str:
        """Install a .deb with apt, as a user does; what it needs comes from the system's mirror."""
        shutil.copyfile(package, self.path / "srv" / package.name)
        hasty = ("-o", "Dpkg::Options::=--force-unsafe-io")  # the root is thrown away
        self.run("apt-get", "install", "-y", "--no-install-recommends", *hasty, f"/srv/{package.name}")
        (self.path / "srv" / package.name).unlink()
        return self.run("dpkg-query", "-W", "-f", "${Version}", "rooftop")

    def files(self) -> set[str]:
        """Every file and folder that packages may leave behind; not what apt and dpkg write about themselves."""
        found = set()
        for top in _WATCHED:
            for folder, folders, files in os.walk(self.path / top):
                inside = Path(folder).relative_to(self.path)
                names = (str(inside / name) for name in (*folders, *files))
                found |= {name for name in names if not name.startswith(_NOISE)}
        return found


def make_root(suite: str, work: Path) -> Root:
    """A fresh copy of a bare system with one ordinary user.

    Args:
        suite: Debian's or Ubuntu's name of it.
        work: Where bare systems are kept between runs.
    """
    base = work / f"{suite}-base"
    if not (base / "usr/bin/apt-get").exists() or not (base / "made").exists():
        shutil.rmtree(base, ignore_errors=True)
        base.mkdir(parents=True)
        # Debian has no key of Ubuntu; a root for a test may do without.
        unchecked = ["--no-check-gpg"] if "ubuntu" in SUITES[suite] else []
        wheels.run(["debootstrap", "--variant=minbase", *unchecked, suite, str(base), SUITES[suite]])
        (base / "made").touch()
    path = work / suite
    shutil.rmtree(path, ignore_errors=True)
    wheels.run(["cp", "-a", str(base), str(path)])
    root = Root(path)
    shutil.copyfile("/etc/resolv.conf", path / "etc/resolv.conf")
    (path / "usr/sbin/policy-rc.d").write_text("#!/bin/sh\nexit 101\n")
    (path / "usr/sbin/policy-rc.d").chmod(0o755)
    if "ubuntu" in SUITES[suite]:  # where half of what a desktop has is in universe
        lines = "".join(f"deb {SUITES[suite]} {name} main universe\n" for name in (suite, f"{suite}-updates"))
        (path / "etc/apt/sources.list").write_text(lines)
    wheels.run(["mount", "-t", "proc", "proc", str(path / "proc")])
    wheels.run(["mount", "--rbind", "/dev", str(path / "dev")])
    wheels.run(["mount", "-t", "tmpfs", "tmpfs", str(path / "tmp")])
    root.run("apt-get", "update", "-qq")
    root.run(
        "useradd", "--uid", str(USER_ID), "--user-group", "--badname", "--home-dir", USER_HOME, "--create-home", USER
    )
    return root


def in_own_mounts() -> bool:
    """Whether this process has mounts of its own already."""
    return os.environ.get("ROOFTOP_PROOF_MOUNTS") == "1"


def again_with_own_mounts(command: list[str]) -> int:
    """Run this program once more, where what it mounts ends with it."""
    environment = os.environ | {"ROOFTOP_PROOF_MOUNTS": "1"}
    wrapped = ["unshare", "--mount", "--propagation", "private", *command]
    return subprocess.run(wrapped, env=environment, check=False).returncode
