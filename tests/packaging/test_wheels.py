import re
from importlib import metadata

import pytest
import wheels


def test_the_version_is_pyprojects() -> None:
    assert wheels.version() == metadata.version("rooftop")


@pytest.mark.parametrize("target", wheels.TARGETS.values(), ids=str)
def test_the_lock_pins_all_that_the_app_needs_by_hash(target: wheels.Target) -> None:
    wheels.check_fresh(target)
    text = wheels.lock_path(target).read_text(encoding="utf-8")
    entries = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
    assert len(entries) == len(wheels.pins(text)) > 40
    assert all("--hash=sha256:" in entry for entry in entries)
    assert "file:" not in text


def test_each_system_gets_its_own() -> None:
    linux, windows = (wheels.pins(wheels.lock_path(one).read_text(encoding="utf-8")) for one in wheels.TARGETS.values())
    assert "secretstorage" in linux
    assert "pywin32-ctypes" in windows
    assert linux["torch"].partition("+")[0] == windows["torch"].partition("+")[0]
    assert not [name for name in (*linux, *windows) if name.startswith("nvidia-cu")], "CUDA is fetched by the app"


def test_a_stale_lock_is_told(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheels, "lock_path", lambda _target: wheels.ROOT / "requirements-torch.txt")
    with pytest.raises(wheels.BuildError, match=r"has no .*make package-lock"):
        wheels.check_fresh(wheels.LINUX)


def test_a_missing_tool_is_told_with_where_to_look() -> None:
    with pytest.raises(wheels.BuildError, match=r"not installed; see packaging/build_tools\.sh"):
        wheels.run(["no-such-tool-anywhere"])


def test_a_failing_tool_ends_the_build_with_what_it_said() -> None:
    with pytest.raises(wheels.BuildError, match=r"failed with 3:\s+because"):
        wheels.run(["sh", "-c", "echo because; exit 3"])
