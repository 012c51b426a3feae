from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.examples import EXAMPLES, EXPLORED, REPEATABLE, examples

repeatable = pytest.mark.skipif(settings.get_current_profile_name() != REPEATABLE, reason="others draw other examples")


def drawn() -> list[object]:
    """What a property sees."""
    seen: list[object] = []

    @given(st.lists(st.integers(0, 1 << 40)), st.floats(0, 1), st.text())
    def see(numbers: list[int], share: float, text: str) -> None:
        seen.append((numbers, share, text))

    see()
    return seen


@repeatable
def test_examples_do_not_depend_on_the_numbers_in_the_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = drawn()
    path = tmp_path / "numbers_of_nobody.py"
    path.write_text("\n".join(f"N{number} = {number**3 + 1000}" for number in range(400)))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec
    monkeypatch.setitem(sys.modules, path.stem, importlib.util.module_from_spec(spec))
    assert drawn() == before
    assert len(before) == EXAMPLES


def test_more_examples_are_more_of_every_property() -> None:
    assert examples(30).max_examples * EXAMPLES == 30 * settings().max_examples
    explore = settings.get_profile("explore")
    assert explore.max_examples == EXPLORED * EXAMPLES
    assert not explore.derandomize
    assert explore.deadline is settings.get_profile(REPEATABLE).deadline is None


@pytest.mark.parametrize("ci", ["", "true"])
def test_the_profiles_are_the_same_where_the_environment_says_ci(ci: str) -> None:
    code = (
        "from tests.examples import *; print(*(settings.get_profile(n).derandomize for n in (REPEATABLE, 'explore')))"
    )
    environment = {name: value for name, value in os.environ.items() if name != "CI"} | ({"CI": ci} if ci else {})
    command = [sys.executable, "-c", code]
    said = subprocess.run(
        command, check=True, env=environment, cwd=Path(__file__).parents[1], stdout=subprocess.PIPE, text=True
    )
    assert said.stdout.split() == ["True", "False"]
