import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import tree
import wheels


def put(site: Path, *names: str) -> None:
    for name in names:
        path = site / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x = 1\n")


def test_stripping_takes_files_empty_folders_and_lines_of_records(tmp_path: Path) -> None:
    put(tmp_path, "numpy/a.py", "numpy/tests/b.py", "numpy-1.dist-info/METADATA", "bin/f2py")
    rows = ["numpy/a.py,sha256=x,6", "numpy/tests/b.py,sha256=y,6", "bin/f2py,,", "numpy-1.dist-info/RECORD,,"]
    (tmp_path / "numpy-1.dist-info/RECORD").write_text("\n".join(rows) + "\n")
    assert tree.strip(tmp_path) == 12
    assert not (tmp_path / "numpy/tests").exists()
    assert not (tmp_path / "bin").exists()
    (package,) = metadata.distributions(path=[str(tmp_path)])
    assert [str(file) for file in package.files or ()] == ["numpy/a.py", "numpy-1.dist-info/RECORD"]


def test_a_planted_module_under_the_gpl_ends_the_build(tmp_path: Path) -> None:
    put(tmp_path, "PySide6/Qt/lib/libQt6Gui.so.6")
    tree.refuse_gpl(tmp_path)
    put(tmp_path, "PySide6/Qt/lib/libQt6VirtualKeyboard.so.6")
    with pytest.raises(wheels.BuildError, match=r"GPL alone.*libQt6VirtualKeyboard"):
        tree.refuse_gpl(tmp_path)


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="the app's own Python is 3.11")
def test_bytecode_outlives_a_change_of_dates_and_tells_no_folder(tmp_path: Path) -> None:
    put(tmp_path, "shown.py", "broken.py", "sympy/rare.py")
    (tmp_path / "broken.py").write_text("this is no Python\n")
    tree.compile_bytecode(tmp_path)
    (compiled,) = (tmp_path / "__pycache__").iterdir()
    assert str(tmp_path).encode() not in compiled.read_bytes()
    assert not (tmp_path / "sympy/__pycache__").exists(), "left out on purpose"
    (tmp_path / "shown.py").write_text("x = 2\n")  # newer, and other, than its bytecode
    command = [sys.executable, "-c", "import shown; print(shown.x)"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout == "1\n"


def test_sizes_are_of_files(tmp_path: Path) -> None:
    put(tmp_path, "a", "b/c")
    assert tree.size_bytes(tmp_path) == 12
