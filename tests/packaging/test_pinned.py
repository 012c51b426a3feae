import hashlib
from pathlib import Path

import pinned
import pytest
import wheels

GOOD, OTHER = (hashlib.sha256(content).hexdigest() for content in (b"content", b"other"))


@pytest.fixture
def files(tmp_path: Path) -> pinned.PinnedFiles:
    """A mirror with one file."""
    (tmp_path / "mirror/debian").mkdir(parents=True)
    (tmp_path / "mirror/debian/a_1_amd64.deb").write_bytes(b"content")
    (tmp_path / "lock.txt").write_text(f"{GOOD}  debian/a_1_amd64.deb\n{OTHER}  debian/b.deb\n")
    return pinned.PinnedFiles(tmp_path / "lock.txt", (tmp_path / "mirror").as_uri(), "run: make package-lock")


def test_a_file_is_fetched_once_and_again_where_it_is_damaged(files: pinned.PinnedFiles, tmp_path: Path) -> None:
    address, sha256 = files.pins()[0]
    assert (address, sha256) == ("debian/a_1_amd64.deb", GOOD)
    fetched = files.fetch(address, sha256, tmp_path / "downloads")
    assert fetched.read_bytes() == b"content"
    fetched.write_bytes(b"cont")
    assert files.fetch(address, sha256, tmp_path / "downloads").read_bytes() == b"content"
    (tmp_path / "mirror" / address).unlink()
    assert files.fetch(address, sha256, tmp_path / "downloads") == fetched


def test_another_file_than_the_pinned_one_is_refused(files: pinned.PinnedFiles, tmp_path: Path) -> None:
    downloads = tmp_path / "downloads"
    with pytest.raises(wheels.BuildError, match=r"is not the file that lock.txt names; run: make package-lock"):
        files.fetch("debian/a_1_amd64.deb", OTHER, downloads)
    assert not list(downloads.iterdir()), "the wrong one is not kept"
    with pytest.raises(wheels.BuildError, match=r"b.deb cannot be read .*; run: make package-lock"):
        files.fetch("debian/b.deb", OTHER, downloads)
    bare = pinned.PinnedFiles(files.lock, files.mirror)
    with pytest.raises(wheels.BuildError, match=r"cannot be read \(.*\)\.$"):
        bare.fetch("debian/b.deb", OTHER, downloads)
