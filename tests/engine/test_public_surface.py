"""The names that others may rely on, the tree of errors as its docstring draws it, and messages that cross a pipe."""

from __future__ import annotations

import dataclasses
import pickle
import re
import subprocess
import sys
from types import ModuleType

import pytest

import engine
from engine import config, errors, messages
from engine.config import EngineConfig, SamplingParams
from engine.errors import ConfigurationError, RooftopError
from tests.engine.shapes import TINY


def test_the_engine_hands_out_exactly_these_names() -> None:
    assert sorted(engine.__all__) == ["Engine", "EngineConfig", "ModelConfig", "RooftopError", "SamplingParams"]
    assert all(hasattr(engine, name) for name in engine.__all__)
    with pytest.raises(AttributeError):
        _ = engine.nothing_of_that_name


def test_importing_the_engine_and_its_messages_costs_no_torch() -> None:
    script = "import sys, engine, engine.messages, engine.planning, engine.host; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def _public_classes(module: ModuleType) -> list[type]:
    return [item for item in vars(module).values() if isinstance(item, type) and item.__module__ == module.__name__]


def test_the_errors_are_the_tree_that_the_docstring_draws() -> None:
    parents: dict[int, str] = {}
    drawn: dict[str, str] = {}
    for line in (errors.__doc__ or "").splitlines():
        if found := re.match(r"    ((?:\|   |    |\+-- )*)(\w+Error|\w+Failure)\b", line):
            depth, name = len(found[1]) // 4, found[2]
            parents[depth] = name
            drawn[name] = parents[depth - 1] if depth else "Exception"
    real = {item.__name__: item.__bases__[0].__name__ for item in _public_classes(errors)}
    assert drawn == real


def test_every_error_has_its_own_code() -> None:
    codes = [item.code for item in _public_classes(errors) if issubclass(item, RooftopError)]
    assert len(set(codes)) == len(codes)


def test_no_message_can_be_changed() -> None:
    for item in _public_classes(messages):
        if not (issubclass(item, tuple) and hasattr(item, "_fields")):
            assert dataclasses.is_dataclass(item), item
            assert item.__dataclass_params__.frozen, item  # type: ignore[attr-defined]


def test_errors_and_settings_cross_a_pipe() -> None:
    error = errors.DoesNotFitError("Needs more.", "Buy more.", 2, 1)
    for item in (EngineConfig(), SamplingParams(stop=("a",)), TINY, messages.ErrorReport.of(error)):
        assert pickle.loads(pickle.dumps(item)) == item  # noqa: S301 - our own bytes


@pytest.mark.parametrize(
    ("make", "field", "value"),
    [
        (EngineConfig, "device", "tpu"),
        (EngineConfig, "context_tokens", 3),
        (EngineConfig, "context_tokens", float("nan")),
        (EngineConfig, "cpu_threads", 0),
        (EngineConfig, "kv_precision", "q4"),
        (EngineConfig, "vram_budget_bytes", -1),
        (EngineConfig, "policy", ""),
        (EngineConfig, "simulated_flops", 0.0),
        (SamplingParams, "temperature", -0.1),
        (SamplingParams, "temperature", float("nan")),
        (SamplingParams, "top_p", 0.0),
        (SamplingParams, "max_tokens", True),
        (SamplingParams, "seed", 1 << 70),
        (SamplingParams, "seed", 1.5),
        (SamplingParams, "stop", "end"),
        (SamplingParams, "stop", (1,)),
        (SamplingParams, "stop", ("x",) * 17),
        (SamplingParams, "stop", ("x" * 1025,)),
        (SamplingParams, "grammar", " "),
        (EngineConfig, "vram_reserve_bytes", -1),
    ],
)
def test_settings_outside_their_limits_are_refused_by_name(make: type, field: str, value: object) -> None:
    with pytest.raises(ConfigurationError, match=field):
        make(**{field: value})


def test_model_arithmetic_agrees_with_mixtrals_published_size() -> None:
    mixtral = config.ModelConfig("m", "mixtral", 4096, 14336, 32, 32, 8, 128, 8, 2, 32000, 32768)
    assert mixtral.expert_parameters == 176_160_768
    assert mixtral.dense_parameters + mixtral.total_experts * mixtral.expert_parameters == 46_702_792_704
    assert mixtral.kv_bytes_per_token("auto") == mixtral.kv_bytes_per_token("f16") == 131_072
    assert mixtral.kv_bytes_per_token("q8") == 131_072 * 136 // 256
