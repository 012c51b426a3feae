"""A hub for each test, and what it holds."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.hub.api import Hub
from engine.hub.places import unfinished
from engine.hub.progress import TransferProgress
from engine.hub.record import MANIFEST
from engine.hub.repository import Choice, choices
from engine.hub.transfer import Patience, Transfer
from tests.engine.hub.hub_server import FakeHub, FakeRepository, fake_hub

REPO = "acme/Mix-GGUF"
FILE = "mix.Q4_K_M.gguf"
CONTENT = random.Random(1).randbytes(2_000_003)
HASTY = Patience(tries=4, first_wait_s=0.01, longest_wait_s=0.05, silence_s=0.3)


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is room for one: downloads make every step durable, which drives take long for."""
    memory = Path("/dev/shm")
    if not memory.is_dir() or shutil.disk_usage(memory).free < 1 << 30:
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory) as name:
        yield Path(name)


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with fake_hub() as server:
        server.repositories[REPO] = FakeRepository({FILE: CONTENT})
        yield server


def chosen(hub: FakeHub, repo_id: str = REPO, number: int = 0) -> Choice:
    return choices(Hub("secret", hub.endpoint).look_up(repo_id))[number]


def transfer(
    hub: FakeHub,
    models: Path,
    choice: Choice | None = None,
    *,
    patience: Patience = HASTY,
    connections: int = 4,
    told: list[TransferProgress] | None = None,
) -> Transfer:
    heard = [] if told is None else told
    return Transfer(
        choice or chosen(hub),
        models,
        endpoint=hub.endpoint,
        token=lambda: "secret",
        on_progress=heard.append,
        connections=connections,
        patience=patience,
    )


def assert_complete(path: Path, models: Path) -> None:
    assert path.read_bytes() == CONTENT
    assert path == models / "acme" / "Mix-GGUF--Q4_K_M" / FILE
    assert sorted(item.name for item in path.parent.iterdir()) == [FILE, MANIFEST]
    assert unfinished(models) == {}
