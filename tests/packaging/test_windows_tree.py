import shutil
from pathlib import Path

import pytest
import windows_python
import windows_tree
import wine
from wheels import BuildError


@pytest.mark.parametrize(
    ("version", "numbers"), [("0.1.0", "0,1,0,0"), ("1.2", "1,2,0,0"), ("2.0.1rc1", "2,0,1,0"), ("1.2.3.4", "1,2,3,4")]
)
def test_a_version_becomes_four_numbers(version: str, numbers: str) -> None:
    assert windows_tree.version_numbers(version) == numbers


def test_a_version_without_numbers_is_refused() -> None:
    with pytest.raises(BuildError, match="begins with no number"):
        windows_tree.version_numbers("unknown")


def test_libraries_of_windows_and_our_own_are_not_missing() -> None:
    names = ["kernel32.dll", "api-ms-win-crt-math-l1-1-0.dll", "qt6core.dll", "msvcp140_atomic_wait.dll"]

    assert windows_tree.missing(names, {"qt6core.dll"}) == ["msvcp140_atomic_wait.dll"]


def test_paths_that_windows_could_not_unpack_are_refused(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("f" * 90)
    deep.parent.mkdir()
    deep.write_text("")

    with pytest.raises(BuildError, match="has 191 characters"):
        windows_tree.refuse_long_paths(tmp_path)


def test_a_file_that_is_not_the_pinned_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for line in windows_python.LOCK.read_text(encoding="utf-8").splitlines():
        path = tmp_path / "mirror" / line.split()[1]
        path.parent.mkdir(parents=True)
        path.write_bytes(b"something else")
    monkeypatch.setenv("ROOFTOP_PYPI_FILES", (tmp_path / "mirror").as_uri())

    with pytest.raises(BuildError, match=r"is not the file that windows-python\.txt names"):
        windows_python.install(tmp_path / "python", tmp_path)


def test_the_standin_for_the_c_library_hands_on_what_it_does_not_have() -> None:
    source, exports = wine._complex_functions(["cabs", "malloc"])

    assert "double my_cabs(D z)" in source
    assert "  cabs = my_cabs\n" in exports
    assert "  malloc = ucrtwine.malloc\n" in exports
    assert "ucrtwine.cabs" not in exports


@pytest.mark.skipif(not shutil.which("x86_64-w64-mingw32-gcc"), reason="needs MinGW-w64")
def test_what_a_program_imports_is_read(tmp_path: Path) -> None:
    import wheels

    source = tmp_path / "program.c"
    source.write_text('#include <windows.h>\nint main(void) { return MessageBoxW(0, L"", L"", 0); }\n')
    wheels.run(["x86_64-w64-mingw32-gcc", "-o", str(tmp_path / "program.exe"), str(source)])

    assert {"user32.dll", "kernel32.dll"} <= set(windows_tree.imports(tmp_path / "program.exe"))
