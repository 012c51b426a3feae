"""Other engines: the setting that fits the VRAM, the best of those that do, and a reason for each that is absent."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from engine.bench.gpu import rivals
from engine.bench.gpu.cells import Model, Scenario
from engine.bench.gpu.rivals import LARGE_BATCH_TOKENS, Match
from engine.bench.models import SIZES, model_file
from engine.bench.peers import BATCH_TOKENS
from engine.errors import EngineFailure

pytest.importorskip("gguf")

MIX = "Q4_K_M"
MIB = 1 << 20


class Machine:
    """VRAM that peers take: some for each layer on the GPU, more with large batches."""

    layer_bytes, work_bytes = 100 * MIB, 400 * MIB

    def __init__(self) -> None:
        self.used, self.started = 1000 * MIB, list[tuple[int, int]]()

    def vram_used(self) -> int:
        return self.used

    def peer(self, name: str, path: Path, threads: int, context_tokens: int, **options: int) -> Peer:
        cpu_layers, batch = options["cpu_layers"], options["batch_tokens"]
        self.started.append((cpu_layers, batch))
        return Peer(self, cpu_layers, batch)


class Peer:
    """The fewer layers on the CPU, the faster; large batches are faster at prompts."""

    details = "a peer"

    def __init__(self, machine: Machine, cpu_layers: int, batch: int) -> None:
        self._machine, self._cpu_layers, self._batch = machine, cpu_layers, batch
        self._taken = machine.work_bytes * (batch // BATCH_TOKENS) + (4 - cpu_layers) * machine.layer_bytes

    def __enter__(self) -> Self:
        self._machine.used += self._taken
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._machine.used -= self._taken

    def prefill(self, tokens: Sequence[int]) -> float:
        return self._batch / (1 + self._cpu_layers)

    def decode(self, prompt: Sequence[int], tokens: Sequence[int]) -> float:
        return 100 / (1 + self._cpu_layers)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine()
    monkeypatch.setattr(rivals, "PeerProcess", machine.peer)
    monkeypatch.setattr(rivals, "_WORK_BYTES", 0)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: object())
    return machine


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_file(tmp_path_factory.mktemp("rivals"), SIZES["small"][0], MIX)


def _match(machine: Machine, file: Path, vram_bytes: int) -> Match:
    model = Model(SIZES["small"][0], MIX, SIZES["full"][0])
    scenarios = (Scenario(8, 4), Scenario(16))
    return Match(model, file, vram_bytes, scenarios, 1, 64, 2, machine.vram_used)


def test_the_fewest_layers_that_fit_are_found_and_the_best_counts(machine: Machine, file: Path) -> None:
    found = rivals.llama_cpp(_match(machine, file, 650 * MIB))
    # 400 MiB and two layers on the GPU fit; large batches leave room for nothing.
    fits = {(v["cpu_layers"], v["batch_tokens"]): v["fits"] for v in found["variants"]}
    assert fits[1, BATCH_TOKENS] is False
    assert fits[2, BATCH_TOKENS] is fits[3, BATCH_TOKENS] is True
    assert not any(fit for (_, batch), fit in fits.items() if batch == LARGE_BATCH_TOKENS)
    assert found["best"] == {
        "8+4": {"decode_tokens_per_s": pytest.approx(100 / 3)},
        "16+1": {"prefill_tokens_per_s": pytest.approx(BATCH_TOKENS / 3)},
    }


def test_large_batches_count_where_they_fit(machine: Machine, file: Path) -> None:
    found = rivals.llama_cpp(_match(machine, file, 1 << 40))
    assert found["best"]["16+1"]["prefill_tokens_per_s"] == LARGE_BATCH_TOKENS
    assert machine.started[0] == (0, BATCH_TOKENS)


def test_what_fits_nowhere_is_absent(machine: Machine, file: Path) -> None:
    found = rivals.llama_cpp(_match(machine, file, 300 * MIB))
    assert "No setting fits" in found["absent"]
    assert [variant["cpu_layers"] for variant in found["variants"]] == [0, 1, 2, 3, 4] * 2


def test_the_estimate_keeps_the_layers_that_have_no_room_on_the_cpu(file: Path, machine: Machine) -> None:
    match = _match(machine, file, 1 << 40)
    model = match.model.config
    assert rivals._estimate(match) == 0
    layer = model.experts * model.layer_expert_bytes(0)
    everything = match.path.stat().st_size + model.kv_bytes_per_token("auto") * match.context_tokens
    assert rivals._estimate(replace(match, vram_bytes=everything)) == 0
    assert rivals._estimate(replace(match, vram_bytes=everything - 1)) == 1
    assert rivals._estimate(replace(match, vram_bytes=everything - layer - 1)) == 2
    assert rivals._estimate(replace(match, vram_bytes=0)) == model.layers


def test_what_is_not_installed_is_absent(machine: Machine, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    for rival in (rivals.llama_cpp, rivals.accelerate):
        assert "not installed" in rival(_match(machine, file, 1 << 40))["absent"]


def test_an_engine_that_refuses_is_absent_with_its_words(
    machine: Machine, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **options: object) -> Peer:
        raise EngineFailure("It was built without a GPU.", "Build it again.")

    monkeypatch.setattr(rivals, "PeerProcess", refuse)
    for rival in (rivals.llama_cpp, rivals.accelerate):
        assert "without a GPU" in rival(_match(machine, file, 1 << 40))["absent"]


def test_accelerate_is_not_asked_for_the_real_models(machine: Machine, file: Path) -> None:
    full = SIZES["full"][0]
    match = replace(_match(machine, file, 1 << 40), model=Model(full, MIX, full))
    found: dict[str, Any] = rivals.accelerate(match)
    assert "16-bit" in found["absent"]
    assert machine.started == []
