import re
from pathlib import Path

import linux_package
import linux_tree
import pytest
import wheels


def test_sums_are_of_every_package_and_as_sha256sum_reads_them(tmp_path: Path) -> None:
    (tmp_path / "b.deb").write_bytes(b"")
    (tmp_path / "a.tar.zst").write_bytes(b"x")
    (tmp_path / "work").mkdir()
    for _ in range(2):  # the second time the file is there
        linux_package.write_sums(tmp_path)
    lines = (tmp_path / "SHA256SUMS").read_text().splitlines()
    assert [line.partition("  ")[2] for line in lines] == ["a.tar.zst", "b.deb"]
    assert lines[1].startswith("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")


def test_a_package_that_grew_too_large_ends_the_build() -> None:
    linux_package.refuse_larger("x.deb", 10, 10)
    with pytest.raises(wheels.BuildError, match=r"x.deb takes 351 MB, more than the 350 it may"):
        linux_package.refuse_larger("x.deb", 351_000_000, 350_000_000)


def test_modes_do_not_depend_on_the_builder(tmp_path: Path) -> None:
    for name in ("rooftop", "python/lib/libx.so", "python/bin/python3.11"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(0o600)
    linux_tree.set_modes(tmp_path)
    modes = {str(path.relative_to(tmp_path)): path.stat().st_mode & 0o777 for path in tmp_path.rglob("*")}
    assert {name for name, mode in modes.items() if mode == 0o644} == {"python/lib/libx.so"}
    assert set(modes.values()) == {0o644, 0o755}


def test_what_the_system_must_bring_has_a_package_that_brings_it() -> None:
    listed = (wheels.ROOT / "packaging/system_libraries.sh").read_text()
    for library in ("libEGL.so.1", "libgssapi_krb5.so.2", "libxkbcommon-x11.so.0"):
        assert library in linux_tree.SYSTEM
        stem = re.sub(r"[^a-z0-9]", "", library.lower().partition(".so")[0])
        assert stem in re.sub(r"[^a-z0-9\s]", "", listed.lower())
    assert linux_tree.missing(["libEGL.so.1", "libnew.so.3"], linux_tree.SYSTEM) == ["libnew.so.3"]
