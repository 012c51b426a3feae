"""Our native CPU library through ctypes: packed matrices times activations, experts, decoder layers.

`native/cpu.h` is the interface and says what each call does; the types here mirror its structs. Imports no torch, so
that a plan can ask which instructions this machine has. Calls release the interpreter's lock. Where the library is
missing, because no compiler was there when Rooftop was installed, `available_isas` is empty and torch does the work.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import POINTER, byref, c_double, c_float, c_int, c_int32, c_int64, c_size_t, c_void_p
from functools import cache
from types import TracebackType
from typing import Any, Self

from engine.config import IsaName
from engine.errors import ConfigurationError, DeviceOutOfMemoryError
from engine.kernels import library_path
from engine.quant.formats import WeightFormat
from engine.sentences import say

ISAS: tuple[IsaName, ...] = ("scalar", "avx2", "avxvnni", "avx512")  # by their numbers in cpu.h

Check = Callable[[], None]

_NO_MEMORY = 2  # ROOFTOP_NO_MEMORY
_StopRequest = ctypes.CFUNCTYPE(c_int)


class MatrixRef(ctypes.Structure):
    """`rooftop_matrix`: a packed matrix by address."""

    _fields_ = (
        ("data", c_void_p),
        ("format", c_int32),
        ("rows", c_int32),
        ("columns", c_int32),
        ("reserved", c_int32),
    )

    @classmethod
    def of(cls, address: int, weight_format: WeightFormat, rows: int, columns: int) -> MatrixRef:
        """A matrix whose bytes begin at an address, or at an offset from an expert's beginning."""
        return cls(address, weight_format.native_id, rows, columns, 0)


class ExpertsRef(ctypes.Structure):
    """`rooftop_experts`: all experts of a layer, `stride` bytes apart."""

    _fields_ = (
        ("data", c_void_p),
        ("stride", c_int64),
        ("gate", MatrixRef),
        ("up", MatrixRef),
        ("down", MatrixRef),
        ("biases", c_int64),
        ("slope", c_float),
        ("limit", c_float),
    )


class LayerRef(ctypes.Structure):
    """`rooftop_layer`: one decoder layer."""

    _fields_ = (
        ("attention_norm", c_void_p),
        ("attention_norm_bias", c_void_p),
        ("query", MatrixRef),
        ("key", MatrixRef),
        ("value", MatrixRef),
        ("output", MatrixRef),
        ("qkv_bias", c_void_p),
        ("output_bias", c_void_p),
        ("query_norm", c_void_p),
        ("key_norm", c_void_p),
        ("sinks", c_void_p),
        ("expert_norm", c_void_p),
        ("expert_norm_bias", c_void_p),
        ("router", MatrixRef),
        ("router_bias", c_void_p),
        ("experts", ExpertsRef),
        ("shared", ExpertsRef),
        ("shared_gate", c_void_p),
        ("keys", c_void_p),
        ("values", c_void_p),
        ("window", c_int32),
        ("reserved", c_int32),
    )


class ModelRef(ctypes.Structure):
    """`rooftop_model`: a decoder and its cache."""

    _fields_ = (
        *((name, c_int32) for name in ("hidden", "heads", "kv_heads", "dim", "experts", "experts_per_token")),
        *((name, c_int32) for name in ("intermediate", "layers", "normalise_top_k", "cache_format")),
        ("capacity", c_int32),
        ("epsilon", c_float),
        ("wide_norms", c_int32),
        *((name, c_float) for name in ("embedding_scale", "residual_scale", "query_scale", "clip")),
        *((name, c_float) for name in ("rotation_scale", "router_jitter")),
        ("inverse_frequencies", c_void_p),
        ("embedding", MatrixRef),
        ("head", MatrixRef),
        ("norm", c_void_p),
        ("norm_bias", c_void_p),
        ("head_bias", c_void_p),
        ("layer", POINTER(LayerRef)),
    )


class TraceRef(ctypes.Structure):
    """`rooftop_trace`: where a forward pass writes what its layers did."""

    _fields_ = (("experts", c_void_p), ("seconds", c_void_p))


_SIGNATURES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "rooftop_isas": (c_int, ()),
    "rooftop_pool_create": (c_void_p, (c_int, c_int, c_int)),
    "rooftop_pool_destroy": (None, (c_void_p,)),
    "rooftop_read_row": (None, (c_void_p, POINTER(MatrixRef), c_int, c_void_p)),
    "rooftop_matmul": (c_int, (c_void_p, POINTER(MatrixRef), c_void_p, c_int, c_void_p, _StopRequest)),
    "rooftop_run_experts": (
        c_int,
        (c_void_p, POINTER(ExpertsRef), c_void_p, c_int, c_int, *(c_void_p,) * 5, _StopRequest),
    ),
    "rooftop_forward": (
        c_int,
        (c_void_p, POINTER(ModelRef), c_int, c_int, c_void_p, c_int, c_int, c_void_p, c_void_p, _StopRequest),
    ),
    "rooftop_logits": (c_int, (c_void_p, POINTER(ModelRef), c_void_p, c_int, c_void_p, _StopRequest)),
    "rooftop_measure_bandwidth": (c_double, (c_void_p, c_void_p, c_size_t)),
    "rooftop_measure_int8": (c_double, (c_void_p, c_double)),
}


@cache
def _library() -> ctypes.CDLL | None:
    """The loaded library, None where there is none that this system can load, or one built from other sources."""
    path = library_path.find_library()
    if path is None:
        return None
    try:
        library = ctypes.CDLL(str(path))
    except OSError:
        return None
    if not _is_of_these_sources(library):
        return None
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def _is_of_these_sources(library: ctypes.CDLL) -> bool:
    """Whether a library's structs are as large as those here; one of an older build would read past them."""
    tell = getattr(library, "rooftop_struct_bytes", None)
    if tell is None:
        return False
    layer, model = c_int32(), c_int32()
    tell(byref(layer), byref(model))
    return (layer.value, model.value) == (ctypes.sizeof(LayerRef), ctypes.sizeof(ModelRef))


def available_isas() -> tuple[IsaName, ...]:
    """Instruction sets that the library has and this processor runs, the best last; empty without the library."""
    library = _library()
    bits = library.rooftop_isas() if library else 0
    return tuple(name for number, name in enumerate(ISAS) if bits >> number & 1)


def chosen_kernels(wanted: IsaName) -> IsaName:
    """What will compute on the CPU: an instruction set of our library, or "torch".

    Args:
        wanted: `EngineConfig.isa`; "auto" takes the best that is there.

    Raises:
        ConfigurationError: A named instruction set is not there.
    """
    available = available_isas()
    if wanted == "torch" or (wanted == "auto" and not available):
        return "torch"
    if wanted == "auto":
        return available[-1]
    if wanted not in available:
        choices = ", ".join((*available, "torch", "auto"))
        raise ConfigurationError(
            say("This processor and build have no {wanted} kernels.", wanted=wanted),
            say("Choose one of {choices}.", choices=choices),
        )
    return wanted


class CpuPool:
    """Threads and work space of the native library; one thread at a time may use it.

    Attributes:
        isa: Its instruction set.
        threads: Its threads, the caller's included.
    """

    def __init__(self, isa: IsaName, threads: int, *, pin: bool = True) -> None:
        """Start the threads.

        Args:
            isa: One of `available_isas`.
            threads: At least 1.
            pin: Keep each of our own threads on a core.

        Raises:
            ConfigurationError: The system gives no threads or memory.
        """
        library = _library()
        assert library is not None, "ask available_isas first"
        self._library, self._pin, self.isa = library, pin, isa
        self._pool: int | None = None
        self.threads = 0
        self._check: Check | None = None
        self._raised: BaseException | None = None
        self._stop = _StopRequest(self._asked)  # one for all calls: making one for each would take longer than asking
        self.resize(threads)

    def resize(self, threads: int) -> None:
        """Go on with another number of threads.

        Raises:
            ConfigurationError: The system gives no threads or memory; what was there goes on.
        """
        if self._pool and threads == self.threads:
            return
        pool = self._library.rooftop_pool_create(threads, ISAS.index(self.isa), self._pin)
        if not pool:
            raise ConfigurationError(
                say("The system did not give {threads} threads for the CPU kernels.", threads=threads),
                say("Choose fewer CPU threads."),
            )
        self.close()
        self._pool, self.threads = pool, threads

    def read_row(self, matrix: MatrixRef, row: int, out: int) -> None:
        """One row as fp32.

        Args:
            matrix: Packed.
            row: Below its rows.
            out: Address of `columns` floats.
        """
        self._library.rooftop_read_row(self._pool, byref(matrix), row, out)

    def matmul(self, matrix: MatrixRef, x: int, tokens: int, y: int, check: Check | None = None) -> None:
        """Multiply: x fp32 [tokens, columns] -> y fp32 [tokens, rows], both by address."""
        self._stoppable(check, lambda stop: self._library.rooftop_matmul(self._pool, byref(matrix), x, tokens, y, stop))

    def run_experts(
        self,
        experts: ExpertsRef,
        hidden: int,
        tokens: int,
        visits: tuple[int, ...],
        out: int,
        check: Check,
    ) -> None:
        """Add some experts' weighted outputs.

        Args:
            experts: Of a layer.
            hidden: Address of fp32 [tokens, H].
            tokens: Rows of it.
            visits: How many experts, and addresses of: their indices, their first visits (one more), the visits'
                tokens, the visits' weights.
            out: Address of fp32 [tokens, H].
            check: Called every few milliseconds; raises to stop.
        """
        run = self._library.rooftop_run_experts
        self._stoppable(check, lambda stop: run(self._pool, byref(experts), hidden, tokens, *visits, out, stop))

    def forward(
        self,
        model: ModelRef,
        layers: tuple[int, int],
        token_ids: int | None,
        tokens: int,
        start: int,
        hidden: int,
        trace: TraceRef,
        check: Check,
    ) -> None:
        """Run layers over tokens; see `rooftop_forward`.

        Args:
            model: The decoder.
            layers: First, and one past the last.
            token_ids: Address of int32 [tokens] to begin from the embedding, None to go on with `hidden`.
            tokens: How many.
            start: Position of the first.
            hidden: Address of fp32 [tokens, H], changed in place.
            trace: Where the layers' choices and times go.
            check: Called every few milliseconds; raises to stop.
        """
        run = self._library.rooftop_forward
        self._stoppable(
            check,
            lambda stop: run(
                self._pool, byref(model), *layers, token_ids, tokens, start, hidden, ctypes.addressof(trace), stop
            ),
        )

    def logits(self, model: ModelRef, hidden: int, tokens: int, logits: int) -> None:
        """Final norm and head: fp32 [tokens, H] -> fp32 [tokens, V], both by address."""
        run = self._library.rooftop_logits
        self._stoppable(None, lambda stop: run(self._pool, byref(model), hidden, tokens, logits, stop))

    def measure_bandwidth(self, memory: int, size_bytes: int) -> float:
        """Bytes per second that all threads read from memory at an address."""
        return float(self._library.rooftop_measure_bandwidth(self._pool, memory, size_bytes))

    def measure_int8(self, seconds: float) -> float:
        """Operations per second of int8 dot products in registers, all threads together."""
        return float(self._library.rooftop_measure_int8(self._pool, seconds))

    def _stoppable(self, check: Check | None, call: Callable[[Any], int]) -> None:
        """Make a call that asks `check` as it runs; what that raises is raised here, after the threads stopped."""
        self._check, self._raised = check, None
        result = call(self._stop if check else _NO_STOP)
        raised, self._raised, self._check = self._raised, None, None
        if raised is not None:
            raise raised
        if result == _NO_MEMORY:
            raise DeviceOutOfMemoryError(
                say("The system did not give the CPU kernels memory to work in."),
                say("Close other programs, or shorten the context in the settings."),
            )

    def _asked(self) -> int:
        """Whether the call under way is to stop."""
        assert self._check is not None, "asked only where there is somebody to ask"
        if self._raised is None:
            try:
                self._check()
            except BaseException as error:  # noqa: BLE001 - carried over the C call, raised behind it
                self._raised = error
        return int(self._raised is not None)

    def close(self) -> None:
        """Stop the threads; closing twice does no harm."""
        if self._pool:
            self._library.rooftop_pool_destroy(self._pool)
            self._pool = None

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()


_NO_STOP = _StopRequest()
