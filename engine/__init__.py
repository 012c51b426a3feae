"""The Fiddler engine as a library: `Engine.load()` -> `generate()` -> events.

Importing this package costs no torch: `Engine` is handed out on first use, so that the window may import plans,
messages and settings freely.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.config import EngineConfig, ModelConfig, SamplingParams
from engine.errors import RooftopError

if TYPE_CHECKING:
    from engine.engine import Engine

__all__ = ["Engine", "EngineConfig", "ModelConfig", "RooftopError", "SamplingParams"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - the type of a module attribute
    """Import `Engine`, and with it torch, when it is first asked for."""
    if name == "Engine":
        import importlib

        return importlib.import_module("engine.engine").Engine
    raise AttributeError(f"module 'engine' has no attribute {name!r}")
