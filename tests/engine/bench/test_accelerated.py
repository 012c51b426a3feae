"""The accelerate peer on the CPU: it has the file's shape, and answers what every peer does."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engine.bench.accelerated import Accelerated
from engine.bench.models import Shape, model_file
from tests.engine.bench.tiny import MIXTRAL, QWEN3, VOCABULARY

pytest.importorskip("gguf")


@pytest.fixture
def placed(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What accelerate was asked for, which does nothing."""
    asked: list[Any] = []

    def infer(model: Any, limits: dict[Any, int], no_split_module_classes: Any) -> dict[str, int]:
        asked.append((limits, no_split_module_classes))
        return {"": 0}

    def dispatch(model: Any, where: dict[str, Any], main_device: str) -> Any:
        asked.append((where, main_device))
        return model

    fake = SimpleNamespace(infer_auto_device_map=infer, dispatch_model=dispatch)
    monkeypatch.setitem(sys.modules, "accelerate", fake)
    return asked


@pytest.mark.parametrize("shape", [MIXTRAL, QWEN3], ids=lambda shape: shape.name)
def test_it_answers_what_a_peer_does(tmp_path: Path, placed: list[Any], shape: Shape) -> None:
    peer = Accelerated(str(model_file(tmp_path, shape, "Q4_0")), 1, 64)
    assert placed == [({"": "cpu"}, "cpu")]
    assert peer.prefill([5, 6, 7]) > 0
    assert peer.decode([5, 6, 7], [8, 9]) > 0
    assert len(peer.last_logits([5, 6])) == VOCABULARY
    config = peer._model.config
    assert (config.num_hidden_layers, config.hidden_size) == (shape.layers, shape.hidden)
    peer.close()


def test_with_vram_it_spreads_whole_layers(tmp_path: Path, placed: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    Accelerated(str(model_file(tmp_path, MIXTRAL, "Q4_0")), 1, 64, vram_bytes=1000)
    (limits, whole), (where, main) = placed
    assert limits[0] == 1000
    assert "MixtralDecoderLayer" in whole
    assert (where, main) == ({"": 0}, "cuda:0")
