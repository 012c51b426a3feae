"""The commands of `python -m engine`: output, exit codes, one-line errors."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine import Engine, EngineConfig, SamplingParams
from engine.__main__ import main
from engine.checkpoint.checkpoint import read_config
from engine.config import ExpertFormats
from engine.gpu_packages import find_component, own_build
from engine.messages import Token
from engine.planning import plan_model
from tests.checkpoints import write_mixtral
from tests.gguf_files import write_gguf
from tests.gpu_wheels import BROKEN, BUILD, write_installed

PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_mixtral(tmp_path_factory.mktemp("main") / "tiny"))


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


def _json(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main([*arguments, "--json"]) == 0
    out = capsys.readouterr().out
    assert len(out.splitlines()) == 1
    value: dict[str, Any] = json.loads(out)
    return value


def _refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(arguments) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("engine: ")
    return lines[0]


# ---- plan ----


def test_plan_has_the_promised_fields(capsys: pytest.CaptureFixture[str], model: str) -> None:
    plan = _json(capsys, "plan", "--model", model, "--device", "simulated", "--simulated-vram", "1GiB")
    assert plan["fits"] is True
    assert plan["resident_experts"] == sum(map(len, plan["resident_by_layer"])) == plan["total_experts"] == 8
    for terms in (plan["vram_bytes"], plan["host_bytes"]):
        assert terms["total"] == sum(size for name, size in terms.items() if name != "total")
    assert plan["predicted_decode_tokens_per_s"] > 0
    assert plan["predicted_prefill_tokens_per_s"] > 0
    assert all(isinstance(reason, str) for reason in plan["reasons"])


def test_plan_without_a_gpu_has_an_empty_vram_total(capsys: pytest.CaptureFixture[str], model: str) -> None:
    plan = _json(capsys, "plan", "--model", model, "--device", "cpu", "--context-tokens", "64", "--cpu-threads", "1")
    assert plan["vram_bytes"] == {"total": 0}
    assert plan["resident_experts"] == 0
    assert plan["context_tokens"] == 64


def test_plan_with_a_smaller_kv_cache(capsys: pytest.CaptureFixture[str], model: str) -> None:
    options = ("plan", "--model", model, "--device", "simulated")
    sixteen = _json(capsys, *options)
    eight = _json(capsys, *options, "--kv-precision", "q8")
    assert (sixteen["kv_precision"], eight["kv_precision"]) == ("auto", "q8")
    assert eight["vram_bytes"]["kv"] < 0.6 * sixteen["vram_bytes"]["kv"]


def test_plan_as_a_table(capsys: pytest.CaptureFixture[str], model: str) -> None:
    assert main(["plan", "--model", model, "--device", "simulated", "--vram-budget", "512MiB"]) == 0
    out = capsys.readouterr().out
    for words in ("VRAM", "512 MiB available", "experts", "total", "layer   1: 0 1 2 3", "tokens/s"):
        assert words in out


def test_plan_that_does_not_fit_is_printed_and_refused(capsys: pytest.CaptureFixture[str], model: str) -> None:
    arguments = ["plan", "--model", model, "--device", "simulated", "--vram-budget", "1KiB"]
    assert main([*arguments, "--json"]) == 2
    captured = capsys.readouterr()
    plan = json.loads(captured.out)
    assert plan["fits"] is False
    assert plan["needed_bytes"] > plan["available_bytes"]
    assert len(captured.err.splitlines()) == 1
    assert "Raise the VRAM budget" in captured.err
    assert main(arguments) == 2
    assert "Raise the VRAM budget" in capsys.readouterr().out


def test_plan_of_a_quantised_model_names_its_mix(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    formats: list[ExpertFormats] = [("Q4_K", "Q4_K", "Q6_K"), ("Q4_K", "Q4_K", "Q4_K")]
    path = str(write_gguf(tmp_path / "m.gguf", "qwen3moe", formats=formats, dense_format="Q4_K", file_type=15))
    arguments = ["plan", "--model", path, "--device", "cpu", "--isa", "torch"]
    plan = _json(capsys, *arguments)
    assert plan["quantization"] == "Q4_K_M"
    assert plan["host_bytes"]["experts"] == read_config(Path(path)).experts_bytes
    assert main(arguments) == 0
    assert "(qwen3_moe, 2 layers x 4 experts, Q4_K_M)" in capsys.readouterr().out


def test_plan_with_experts_on_disk_leaves_them_out_of_ram(capsys: pytest.CaptureFixture[str], model: str) -> None:
    arguments = ["plan", "--model", model, "--device", "cpu", "--isa", "torch"]
    in_ram, on_disk = _json(capsys, *arguments), _json(capsys, *arguments, "--experts-on-disk")
    assert "experts" not in on_disk["host_bytes"]
    assert on_disk["host_bytes"]["experts_on_disk"] == in_ram["host_bytes"]["experts"]
    assert on_disk["host_bytes"]["total"] == in_ram["host_bytes"]["total"] - in_ram["host_bytes"]["experts"]
    assert any("kept on disk" in reason for reason in on_disk["reasons"])


def test_a_reply_with_experts_on_disk_is_the_same(capsys: pytest.CaptureFixture[str], model: str) -> None:
    arguments = ["generate", "--model", model, "--device", "cpu", "--isa", "torch", "--prompt", "a", "--temperature"]
    arguments += ["0", "--max-tokens", "5", "--cpu-threads", "1"]
    assert _json(capsys, *arguments)["tokens"] == _json(capsys, *arguments, "--experts-on-disk")["tokens"]


def test_plan_needs_no_weights_and_no_torch(tmp_path: Path, model: str) -> None:
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "config.json").write_bytes(Path(model, "config.json").read_bytes())
    source = (
        "import sys; from engine.__main__ import main; code = main(['plan', '--model', sys.argv[1]]);"
        "sys.exit(code or any(name in sys.modules for name in ('torch', 'transformers')))"
    )
    ended = subprocess.run([sys.executable, "-c", source, str(tmp_path / "bare")], capture_output=True, check=False)
    assert ended.returncode == 0


def test_plan_uses_what_the_engine_measured_and_saw(tmp_path: Path, model: str) -> None:
    kept = EngineConfig(cpu_threads=1, cost_cache_dir=str(tmp_path / "c"), popularity_dir=str(tmp_path / "p"))
    for config in (replace(kept, device="cpu"), replace(kept, device="simulated")):
        before, _ = plan_model(model, config)
        with Engine.load(model, config) as engine:
            list(engine.generate("hello", SamplingParams(max_tokens=2)))
        inputs, plan = plan_model(model, config)
        assert (before.costs.source, inputs.costs.source) == ("assumed", "cached")
        assert inputs.popularity != before.popularity
        assert plan.fits


# ---- generate, logits, bench ----


def test_generate_is_what_the_engine_generates(capsys: pytest.CaptureFixture[str], model: str) -> None:
    options = [
        "generate",
        "--model",
        model,
        "--prompt",
        "hi",
        "--max-tokens",
        "5",
        "--temperature",
        "0",
        "--device",
        "cpu",
    ]
    reply = _json(capsys, *options)
    with Engine.load(model, EngineConfig(device="cpu")) as engine:
        events = engine.generate([{"role": "user", "content": "hi"}], SamplingParams(max_tokens=5, temperature=0.0))
        tokens = [event for event in events if isinstance(event, Token)]
    assert reply["tokens"] == [token.id for token in tokens]
    assert reply["text"] == "".join(token.text for token in tokens)
    assert reply["reason"] in ("length", "stop")
    assert reply["usage"]["completion_tokens"] == len(tokens)
    assert reply["timings"]["ttft_s"] > 0
    assert main(options) == 0
    captured = capsys.readouterr()
    assert captured.out == reply["text"] + "\n"
    assert "tokens/s" in captured.err


def test_raw_prompt_and_seed(capsys: pytest.CaptureFixture[str], model: str) -> None:
    options = ["generate", "--model", model, "--prompt", "hi", "--max-tokens", "4", "--seed", "3", "--temperature", "2"]
    chat, raw, again = _json(capsys, *options), _json(capsys, *options, "--raw"), _json(capsys, *options, "--raw")
    assert raw["usage"]["prompt_tokens"] == 3
    assert chat["usage"]["prompt_tokens"] > 3
    assert raw["tokens"] == again["tokens"]


def test_logits_are_written(capsys: pytest.CaptureFixture[str], model: str, tmp_path: Path) -> None:
    out = tmp_path / "some.logits"
    told = _json(capsys, "logits", "--model", model, "--tokens", "1, 5,9", "--out", str(out), "--device", "cpu")
    assert told["shape"] == [3, 300]
    logits = np.load(out)
    assert logits.dtype == np.float32
    with Engine.load(model, EngineConfig(device="cpu")) as engine:
        np.testing.assert_allclose(logits, engine.logits([1, 5, 9]), rtol=1e-5, atol=1e-5)


def test_bench_prints_its_figures(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    pair = {"promised_decode": 9.0, "decode": 10.0, "promised_prefill": 120.0, "prefill": 100.0}
    found = {"pairs": [pair], "layer_errors": {"decode": None, "prompt": None}}

    def run(model: str, config: EngineConfig, **counts: int) -> dict[str, object]:
        print("chatter")  # noqa: T201 - must not reach stdout
        return {"model": model, "device": config.device, "speed": 1.25, "layers": [], "predictions": found, **counts}

    monkeypatch.setattr("engine.bench.scenarios.run", run)
    figures = _json(capsys, "bench", "--model", "m", "--repeat", "2", "--policy", "cpu_only")
    counts = {"prompt_tokens": 128, "new_tokens": 32, "repeat": 2, "remeasure": False}
    assert figures == {"model": "m", "device": "auto", "speed": 1.25, "layers": [], "predictions": found, **counts}
    assert main(["bench", "--model", "m"]) == 0
    out = capsys.readouterr().out
    assert "1.25" in out
    assert "-10.0%" in out
    assert "+20.0%" in out


# ---- refusals ----


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["plan", "--model", "/nope"], "no folder or file '/nope'"),
        (["plan"], "--model"),
        ([], "arguments are required"),
        (["nothing"], "invalid choice"),
        (["convert", "--model", "m"], "--to"),
        (["plan", "--model", "m", "--device", "tpu"], "--device"),
        (["plan", "--model", "m", "--isa", "sse"], "--isa"),
        (["plan", "--model", "m", "--vram-budget", "8X"], "not a size"),
        (["plan", "--model", "m", "--context-tokens", "1"], "context_tokens is 1"),
        (["plan", "--model", "m", "--cpu-threads", "many"], "--cpu-threads"),
        (["generate", "--model", "/nope", "--prompt", "a"], "no folder"),
        (["generate", "--model", "m", "--prompt", "a", "--temperature", "99"], "temperature is 99"),
        (["generate", "--model", "m", "--prompt", "a", "--max-tokens", "0"], "max_tokens is 0"),
        (["logits", "--model", "m", "--tokens", "1,x", "--out", "o"], "not a list of token ids"),
        (["logits", "--model", "m", "--tokens", "1", "--out", "/no/such/place"], "no folder /no/such"),
        (["bench", "--model", "m", "--repeat", "0"], "whole number"),
    ],
)
def test_bad_input_is_one_line_and_code_2(capsys: pytest.CaptureFixture[str], arguments: list[str], words: str) -> None:
    assert words in _refusal(capsys, *arguments)


def test_token_outside_the_vocabulary_is_refused(
    capsys: pytest.CaptureFixture[str], model: str, tmp_path: Path
) -> None:
    line = _refusal(capsys, "logits", "--model", model, "--tokens", "999", "--out", str(tmp_path / "o"))
    assert "vocabulary" in line
    assert not (tmp_path / "o").exists()


def test_help_is_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["generate", "--help"])
    assert caught.value.code == 0
    assert "--max-tokens" in capsys.readouterr().out


# ---- as a process ----


def test_unexpected_error_is_one_line_and_code_1(tmp_path: Path) -> None:
    source = (
        "import runpy, sys, engine.planning\n"
        "def broken(*_): raise ZeroDivisionError('a bug')\n"
        "engine.planning.plan_model = broken\n"
        "sys.argv = ['engine', 'plan', '--model', 'm']\n"
        "runpy.run_module('engine', run_name='__main__', alter_sys=True)\n"
    )
    ended = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr.splitlines() == [
        "engine: Something unexpected went wrong (ZeroDivisionError: a bug). Set ROOFTOP_TRACEBACK=1 to see where."
    ]


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
def test_interrupt_ends_quietly(model: str) -> None:
    command = [sys.executable, "-m", "engine", "generate", "--model", model, "--prompt", "hi", "--max-tokens", "400"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.read(1)
    process.send_signal(signal.SIGINT)
    errors = process.communicate(timeout=PATIENCE_S)[1]
    assert process.returncode in (0, 1)  # 0: it was quicker
    assert b"Traceback" not in errors


def test_closed_stdout_is_no_traceback(model: str) -> None:
    command = [sys.executable, "-m", "engine", "plan", "--model", model]
    read, write = os.pipe()
    os.close(read)
    ended = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert ended.stderr == b""
    assert ended.returncode == 1


@pytest.mark.skipif(bool(own_build().cuda), reason="this torch knows GPUs itself and needs no component")
def test_a_component_that_cannot_be_imported_is_refused_in_one_line(tmp_path: Path, model: str) -> None:
    folder = write_installed(tmp_path / "data" / "rooftop" / "gpu", BROKEN, replace(BUILD, version=own_build().version))
    command = [
        sys.executable,
        "-m",
        "engine",
        "logits",
        "--model",
        model,
        "--tokens",
        "1",
        "--out",
        str(tmp_path / "l"),
    ]
    environment = {**os.environ, "XDG_DATA_HOME": str(tmp_path / "data")}

    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=PATIENCE_S, env=environment)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "GPU support could not be used. ImportError: libcublas.so.13" in line
    assert "repaired GPU support" in line
    assert find_component(folder.parent).state == "refused", "the next time the CPU computes alone"
