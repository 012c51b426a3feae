"""The engines that are compared, each behind the same few calls: this one, and llama.cpp through its own C interface.

Both are measured as they are used: this engine by `Engine.generate`, drawing and events included; llama.cpp as its own
`llama-bench` does, batches of 512 tokens, decoding tokens that are given, nothing drawn. llama.cpp runs as it was built
and with its default settings: memory-mapped file, weights repacked where it has a better layout for this CPU. Beside a
GPU it keeps the experts of some layers on the CPU, as its own `--n-cpu-moe` does.
"""

from __future__ import annotations

import ctypes
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from engine.config import EngineConfig, IsaName, SamplingParams
from engine.errors import EngineFailure
from engine.messages import Finished, Timings

BATCH_TOKENS = 512

_ALL_LAYERS = 999


class Peer(ABC):
    """A loaded model in one of the engines. Every call starts from an empty context."""

    @property
    @abstractmethod
    def details(self) -> str:
        """What the engine says of itself: the instructions it uses."""

    @abstractmethod
    def prefill(self, tokens: Sequence[int]) -> float:
        """Compute a prompt; returns tokens/s, the logits after its last token included."""

    @abstractmethod
    def decode(self, prompt: Sequence[int], tokens: Sequence[int]) -> float:
        """Compute a prompt, then as many tokens as are given, one by one; returns tokens/s of the latter.

        Args:
            prompt: Token ids.
            tokens: Ids to feed; an engine that draws its own takes only their number.
        """

    @abstractmethod
    def last_logits(self, tokens: Sequence[int]) -> list[float]:
        """Logits after the last of some tokens."""

    @abstractmethod
    def close(self) -> None:
        """Give memory back."""


class Rooftop(Peer):
    """This engine.

    Args:
        path: A GGUF file.
        threads: CPU threads.
        context_tokens: Length of the context.
        isa: As `EngineConfig.isa`.
    """

    def __init__(self, path: str, threads: int, context_tokens: int, isa: str = "auto") -> None:
        """Load the file."""
        from engine.engine import Engine  # torch must not be in the other peers' processes

        chosen = cast("IsaName", isa)  # EngineConfig refuses any other
        config = EngineConfig(device="cpu", cpu_threads=threads, context_tokens=context_tokens, isa=chosen)
        self._engine = Engine.load(path, config)

    @property
    def details(self) -> str:
        """The device and the kernels that compute on it."""
        ready = self._engine.ready
        return f"{ready.device_name}, {ready.planning.kernels} kernels"

    def prefill(self, tokens: Sequence[int]) -> float:
        """Until the first token is drawn."""
        return len(tokens) / self._reply(tokens, 1).ttft_s

    def decode(self, prompt: Sequence[int], tokens: Sequence[int]) -> float:
        """From the first drawn token to the last."""
        return self._reply(prompt, len(tokens) + 1).decode_tokens_per_s

    def last_logits(self, tokens: Sequence[int]) -> list[float]:
        """Logits after the last of some tokens."""
        return [float(value) for value in self._engine.logits(tokens)[-1]]

    def close(self) -> None:
        """Close the engine."""
        self._engine.close()

    def _reply(self, prompt: Sequence[int], count: int) -> Timings:
        """Timings of a reply of `count` tokens, drawn greedily past any end."""
        sampling = SamplingParams(max_tokens=count, temperature=0.0, ignore_eos=True)
        *_, last = self._engine.generate(list(prompt), sampling)
        assert isinstance(last, Finished)
        return last.timings


class LlamaCpp(Peer):
    """llama.cpp, as the `llama-cpp-python` package brings it.

    Args:
        path: A GGUF file.
        threads: CPU threads, for prefill and decode.
        context_tokens: Length of the context.
        cpu_layers: Layers whose experts stay on the CPU while all else is on the GPU; None uses no GPU.
        batch_tokens: Prompt tokens that it computes at once.

    Raises:
        EngineFailure: It cannot load the file, or was built without the GPU that is asked for.
    """

    def __init__(
        self,
        path: str,
        threads: int,
        context_tokens: int,
        cpu_layers: int | None = None,
        batch_tokens: int = BATCH_TOKENS,
    ) -> None:
        """Load the file."""
        import llama_cpp

        self._api = llama_cpp
        llama_cpp.llama_backend_init()
        if cpu_layers is not None and not llama_cpp.llama_supports_gpu_offload():
            raise EngineFailure("llama.cpp was built without a GPU.", "Install llama-cpp-python with CUDA.")
        how = llama_cpp.llama_model_default_params()
        how.n_gpu_layers = 0 if cpu_layers is None else _ALL_LAYERS
        self._overrides = _experts_on_cpu(llama_cpp, cpu_layers or 0)  # held while llama.cpp reads it
        if cpu_layers:
            how.tensor_buft_overrides = ctypes.cast(self._overrides, ctypes.c_void_p)
        self._model = llama_cpp.llama_model_load_from_file(os.fsencode(path), how)
        if self._model is None:
            raise EngineFailure(f"llama.cpp cannot load {path}.", "Build the file again.")
        settings = llama_cpp.llama_context_default_params()
        settings.n_ctx, settings.n_batch, settings.n_ubatch = context_tokens, batch_tokens, batch_tokens
        settings.n_threads = settings.n_threads_batch = threads
        self._context = llama_cpp.llama_init_from_model(self._model, settings)
        if self._context is None:
            raise EngineFailure(f"llama.cpp has no context of {context_tokens} tokens for {path}.", "Free some memory.")
        self._batch_tokens = int(llama_cpp.llama_n_batch(self._context))  # a short context makes it smaller

    @property
    def details(self) -> str:
        """Its own line on the system."""
        return str(self._api.llama_print_system_info().decode()).strip(" |\n")

    def prefill(self, tokens: Sequence[int]) -> float:
        """In batches, as llama-bench does."""
        self._clear()
        started = time.perf_counter()
        self._feed(tokens)
        return len(tokens) / (time.perf_counter() - started)

    def decode(self, prompt: Sequence[int], tokens: Sequence[int]) -> float:
        """One batch per token."""
        self._clear()
        self._feed(prompt)
        started = time.perf_counter()
        for token in tokens:
            self._feed([token])
        return len(tokens) / (time.perf_counter() - started)

    def last_logits(self, tokens: Sequence[int]) -> list[float]:
        """Logits after the last of some tokens."""
        self._clear()
        self._feed(tokens)
        count = self._api.llama_vocab_n_tokens(self._api.llama_model_get_vocab(self._model))
        logits = self._api.llama_get_logits_ith(self._context, -1)
        return [float(logits[index]) for index in range(count)]

    def close(self) -> None:
        """Free the context and the model."""
        self._api.llama_free(self._context)
        self._api.llama_model_free(self._model)

    def _clear(self) -> None:
        """Forget the context."""
        self._api.llama_memory_clear(self._api.llama_get_memory(self._context), False)  # noqa: FBT003 - its C interface

    def _feed(self, tokens: Sequence[int]) -> None:
        """Compute tokens after those before, and wait until it is done.

        Raises:
            EngineFailure: It could not.
        """
        for first in range(0, len(tokens), self._batch_tokens):
            batch = tokens[first : first + self._batch_tokens]
            ids = (ctypes.c_int32 * len(batch))(*batch)
            code = self._api.llama_decode(self._context, self._api.llama_batch_get_one(ids, len(batch)))
            if code != 0:
                raise EngineFailure(f"llama.cpp stopped with code {code}.", "Give it a longer context.")
        self._api.llama_synchronize(self._context)


class _BufferOverride(ctypes.Structure):
    """`llama_model_tensor_buft_override`: where tensors go whose names match."""

    _fields_ = (("pattern", ctypes.c_char_p), ("buffer_type", ctypes.c_void_p))


def _experts_on_cpu(api: Any, layers: int) -> ctypes.Array[_BufferOverride]:  # noqa: ANN401 - a module without types
    """The experts of the first layers, kept in the CPU's buffers; ends with an empty entry, as llama.cpp wants it."""
    from llama_cpp._ctypes_extensions import load_shared_library

    library = load_shared_library("ggml-base", Path(api.__file__).parent / "lib")
    library.ggml_backend_cpu_buffer_type.restype = ctypes.c_void_p
    where = library.ggml_backend_cpu_buffer_type()
    patterns = [rf"blk\.{layer}\.ffn_(up|down|gate|gate_up)_(ch|)exps".encode() for layer in range(layers)]
    entries = [_BufferOverride(pattern, where) for pattern in patterns]
    return (_BufferOverride * (layers + 1))(*entries, _BufferOverride(None, None))
