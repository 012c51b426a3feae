"""A library, a hub on this machine, and what downloads from it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytestqt.qtbot import QtBot

from app.conversions import Conversions
from app.downloads import Downloads
from app.library import Library
from app.model_places import Place
from engine.config import EngineConfig
from tests.engine.hub.conftest import HASTY
from tests.engine.hub.hub_server import FakeHub, FakeRepository, fake_hub
from tests.gguf_files import gguf_model

CPU = EngineConfig(device="cpu", isa="torch", context_tokens=64, cpu_threads=1)
CHILD = (sys.executable, "-S", "-E", str(Path(__file__).parents[2] / "convert_child.py"))
REPO = "acme/Mix-GGUF"


class FakeToken:
    """A token that is kept nowhere."""

    def __init__(self) -> None:
        self.token: str | None = None
        self.keeps = True

    def get(self) -> str | None:
        return self.token

    def set(self, token: str) -> bool:
        if " " in token:
            raise ValueError("not a token")
        self.token = token
        return self.keeps


@pytest.fixture
def token() -> FakeToken:
    return FakeToken()


@pytest.fixture
def models_folder(tmp_path: Path) -> Path:
    return tmp_path / "own"


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    content = gguf_model("llama").encode()
    with fake_hub() as server:
        server.repositories[REPO] = FakeRepository({"mix.Q4_0.gguf": content, "mix.F32.gguf": content + bytes(64)})
        yield server


@pytest.fixture
def downloads(hub: FakeHub, models_folder: Path, token: FakeToken, qtbot: QtBot) -> Iterator[Downloads]:
    made = Downloads(models_folder, token=token.get, endpoint=hub.endpoint, patience=HASTY)
    yield made
    made.shutdown()


@pytest.fixture
def conversions(models_folder: Path, qtbot: QtBot) -> Iterator[Conversions]:
    made = Conversions(models_folder, command=CHILD)
    yield made
    made.shutdown()


@pytest.fixture
def library(models_folder: Path, qtbot: QtBot) -> Iterator[Library]:
    library = Library(lambda: (Place("rooftop", models_folder),), lambda: CPU)
    yield library
    library.close()
