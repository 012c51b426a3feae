"""The benchmark's figures are there, consistent, and made from the run that was asked for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.bench.overhead import decode_layer_seconds
from engine.bench.scenarios import prediction_lines, run
from engine.config import EngineConfig, IsaName
from engine.errors import CheckpointError
from engine.kernels.cpu_library import available_isas
from tests.checkpoints import write_mixtral

PROMISED = {
    "prefill_tokens_per_s",
    "decode_tokens_per_s",
    "ttft_s",
    "peak_rss_bytes",
    "peak_vram_bytes",
    "hit_rate",
    "layers",
    "device",
}


@pytest.mark.parametrize("device", ["cpu", "simulated"])
def test_every_promised_figure_is_there_and_sane(tmp_path: Path, device: str) -> None:
    folder = write_mixtral(tmp_path / "m", layers=3)
    config = EngineConfig(device="cpu" if device == "cpu" else "simulated", cpu_threads=1)
    figures = run(str(folder), config, prompt_tokens=20, new_tokens=4, repeat=2, remeasure=device == "cpu")
    assert figures.keys() >= PROMISED
    assert json.loads(json.dumps(figures)) == figures
    head, *lines = prediction_lines(figures)
    assert [line.split()[0] for line in (head, *lines)] == ["predictions", "decode", "prompt"]
    assert figures["plan_qwen3_30b_s"] > 0  # type: ignore[operator]
    assert figures["weights_bytes_per_s"] > 0  # type: ignore[operator]
    layers = figures["layers"]
    assert isinstance(layers, list)
    assert [layer["layer"] for layer in layers] == [0, 1, 2]
    assert all(layer["cpu"] + layer["gpu"] + layer["streamed"] == 2 for layer in layers)
    assert figures["hit_rate"] == (0.0 if device == "cpu" else 1.0)
    assert (figures["peak_vram_bytes"] == 0) == (device == "cpu")


def test_a_model_without_a_tokenizer_can_be_measured(tmp_path: Path) -> None:
    folder = write_mixtral(tmp_path / "m", tokenizer=False)
    config = EngineConfig(device="cpu", cpu_threads=1)
    assert run(str(folder), config, prompt_tokens=4, new_tokens=2, repeat=1)["prompt_tokens"] == 4


def test_a_missing_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError):
        run(str(tmp_path / "nope"), EngineConfig(device="cpu"), prompt_tokens=4, new_tokens=2, repeat=1)


@pytest.mark.parametrize("kernels", ["torch", *available_isas()])
def test_the_decoder_overhead_is_measured_on_a_working_decoder(kernels: IsaName) -> None:
    assert 0 < decode_layer_seconds(kernels) < 1
