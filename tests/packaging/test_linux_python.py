import re

import linux_python


def test_debians_packages_are_pinned_by_hash() -> None:
    lines = linux_python.LOCK.read_text(encoding="utf-8").splitlines()
    assert all(re.fullmatch(r"[0-9a-f]{64}  debian(-security)?/pool/\S+_(amd64|all)\.deb", line) for line in lines)
    names = {line.rsplit("/", 1)[1].partition("_")[0] for line in lines}
    assert {"python3.11-minimal", "libpython3.11-stdlib", "libssl3", *linux_python.XCB_PACKAGES} <= names
