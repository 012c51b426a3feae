"""A conversion killed at any moment leaves the old state or the new one, and goes on where it stopped."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.checkpoints import write_mixtral

PATIENCE_S = 120.0


@pytest.mark.skipif(sys.platform == "win32", reason="forks, and kills without warning")
def test_killed_at_every_write_and_rename(tmp_path: Path) -> None:
    model = write_mixtral(tmp_path / "model", layers=1, hidden=32, intermediate=32, experts=2, vocab_size=260)
    command = [sys.executable, "-m", "tests.engine.convert.kill_driver", str(model), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stderr
    deaths = json.loads(done.stdout)
    assert len(deaths) > 30
    assert all(death["killed"] and death["resumed"] for death in deaths)
    states = [death["after"] for death in deaths]
    assert set(states) == {"none", "whole"}
    assert states == sorted(states)  # once it is there it stays
    assert sum(death["kept"] for death in deaths) > len(deaths) - 10  # offered for resuming
