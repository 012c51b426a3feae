import hashlib
import re
from pathlib import Path

import linux_python
import pytest
import wheels


def test_debians_packages_are_pinned_by_hash() -> None:
    lines = linux_python.LOCK.read_text(encoding="utf-8").splitlines()
    assert all(re.fullmatch(r"[0-9a-f]{64}  debian(-security)?/pool/\S+_(amd64|all)\.deb", line) for line in lines)
    names = {line.rsplit("/", 1)[1].partition("_")[0] for line in lines}
    assert {"python3.11-minimal", "libpython3.11-stdlib", "libssl3", *linux_python.XCB_PACKAGES} <= names


def test_another_file_than_the_pinned_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "debian").mkdir()
    (tmp_path / "debian/a_1_amd64.deb").write_bytes(b"content")
    monkeypatch.setenv("ROOFTOP_DEBIAN_MIRROR", tmp_path.as_uri())
    good, downloads = hashlib.sha256(b"content").hexdigest(), tmp_path / "downloads"
    assert linux_python.fetch("debian/a_1_amd64.deb", good, downloads).read_bytes() == b"content"
    with pytest.raises(wheels.BuildError, match=r"is not the file .* run: make package-lock"):
        linux_python.fetch("debian/a_1_amd64.deb", "0" * 64, downloads)
    assert not list(downloads.iterdir()), "the wrong one is not kept"
    with pytest.raises(wheels.BuildError, match=r"cannot be read .*make package-lock"):
        linux_python.fetch("debian/gone.deb", good, downloads)
