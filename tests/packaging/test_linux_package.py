import re
from pathlib import Path

import linux_tree
import wheels


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
