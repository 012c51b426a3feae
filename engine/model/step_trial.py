"""The probe of decode steps at start: whole steps by our kernels and by torch, on a small random model.

Its layers have the real one's heads, types and mixes of formats, its dense matrices too; every token visits every
expert, of which half are in VRAM, so that both sides take part and no rounding can choose another expert. Graphs and
hand-off are the real ones.
"""

from __future__ import annotations

import math
from contextlib import closing
from dataclasses import replace
from itertools import cycle

import numpy as np
import torch

from engine.config import DTYPE_FORMATS, KvPrecision, ModelConfig
from engine.devices import Device
from engine.devices.gpu_products import GpuMatrix, Part
from engine.devices.step_tools import StepTools
from engine.errors import DeviceOutOfMemoryError
from engine.experts.cpu_experts import TorchCpuExperts
from engine.experts.executor import ExpertExecutor
from engine.experts.popularity import Popularity
from engine.experts.residency import Residency
from engine.experts.store import ExpertStore
from engine.kernels.cuda_driver import CudaDriverError
from engine.kernels.gpu_kernels import GpuKernelsUnavailableError
from engine.kernels.gpu_self_test import random_expert, random_weights
from engine.kernels.packed import PackedMatrix
from engine.messages import CostCurve, CostModel
from engine.model.decoder import Decoder
from engine.model.embedding import Embedding, LookedUp
from engine.model.gpu_steps import why_no_steps
from engine.model.kv_cache import KVCache
from engine.model.weights import TORCH_DTYPES, DenseWeights, LayerWeights, Matrix
from engine.quant.formats import FORMATS
from engine.sentences import Number, Sentence, said_by, say

# What may be lost of a result's length, beyond what the type's rounding costs in each layer: activations at the edge of
# two int8 codes may fall to the other side.
STEP_ERROR = 2e-2

_HIDDEN, _EXPERTS, _VOCABULARY, _CAPACITY, _LEAST_LAYERS = 256, 4, 24, 8, 2
_TOKENS = (3, 19, 1, 12)  # of both strips of the embedding
_SHIFT = -6  # so that experts say about as much as they were told
_ANY_COST = CostCurve(0.0, 0.0, 1.0)


def open_steps(model: ModelConfig, decoder: Decoder, device: Device) -> Sentence:
    """Have our kernels run a decoder's steps, if they can and compute what torch does.

    Args:
        model: Its shape.
        decoder: Torch's.
        device: Where its cache is.

    Returns:
        A sentence: why they do not, or not as quickly as they could; "" where there is nothing to say.
    """
    cache, tools = decoder.cache, device.step_tools
    if tools is None:
        return Sentence()
    reason = why_no_steps(model, cache)
    if reason:
        return reason
    try:
        if cache.precision not in tools.passed:
            with tools.trial():
                _test(model, cache, device, tools)
            tools.passed.add(cache.precision)
        decoder.open_steps(tools)
    except (GpuKernelsUnavailableError, CudaDriverError, DeviceOutOfMemoryError, torch.OutOfMemoryError) as error:
        return say(
            "Torch runs the GPU's decode steps, more slowly than our kernels would: {reason}", reason=said_by(error)
        )
    return decoder.steps.note if decoder.steps else Sentence()


def _test(model: ModelConfig, cache: KVCache, device: Device, tools: StepTools) -> None:
    """Compare single kernels, then steps, with torch.

    Raises:
        GpuKernelsUnavailableError: Something computes something else.
    """
    tools.kernels.load_decoder(model.head_dim, cache.keys.dtype)
    tools.kernels.self_test_decoder(model.heads, model.kv_heads, model.head_dim, cache.keys.dtype, device.torch_device)
    mismatch = find_step_mismatch(model, cache.precision, device, tools)
    if mismatch:
        raise GpuKernelsUnavailableError(mismatch)


def find_step_mismatch(model: ModelConfig, precision: KvPrecision, device: Device, tools: StepTools) -> str:
    """What steps compute otherwise than torch: a sentence, empty if nothing.

    Args:
        model: The model whose kind is tried.
        precision: Of its cache.
        device: Where.
        tools: Of that device.

    Raises:
        DeviceOutOfMemoryError: Not even a small model has room.
    """
    small = _small(model)
    with closing(SmallModel(small, precision, device)) as made, torch.inference_mode():
        decoder = made.decoder
        expected = [decoder.forward_at_once([token]) for token in _TOKENS]
        decoder.cache.tokens.clear()
        decoder.cache.keys.zero_()
        decoder.open_steps(tools)
        found = [decoder.forward_at_once([token]) for token in _TOKENS]
        error = max(_error(*pair) for pair in zip(found, expected, strict=True))
    limit = STEP_ERROR + small.layers * torch.finfo(TORCH_DTYPES[model.dtype]).eps * 4
    if not error <= limit:  # nor what is no number
        return say(
            "The GPU's decode steps are off by {error}, the limit is {limit}.",
            error=Number(f"{error:.2g}"),
            limit=Number(f"{limit:.2g}"),
        )
    return ""


class SmallModel:
    """A decoder with random weights, half of its experts in VRAM.

    Args:
        model: A small shape.
        precision: Of its cache.
        device: Where.

    Attributes:
        decoder: Torch's, without steps.
        residency: Its experts in VRAM.

    Raises:
        DeviceOutOfMemoryError: It has no room.
    """

    def __init__(self, model: ModelConfig, precision: KvPrecision, device: Device) -> None:
        """See the class."""
        random = np.random.default_rng(model.heads)
        self._store = ExpertStore(model, device)
        for layer in range(model.layers):
            for flat in self._store.layer(layer):
                flat.copy_(
                    random_expert(model.formats(layer), model.hidden_size, model.intermediate_size, random, _SHIFT)
                )
        self.residency = Residency(model, device, self._store)
        costs = CostModel(_ANY_COST, _ANY_COST, _ANY_COST, _ANY_COST, 0.0)
        cpu, popularity = TorchCpuExperts(self._store), Popularity(model)
        executor = ExpertExecutor(model, device, self._store, self.residency, cpu, popularity, costs, "fiddler")
        executor.adaptive = False
        self.decoder = Decoder(model, _dense(model, device), executor, KVCache(model, device, _CAPACITY, precision))
        self.residency.place([range(0, model.experts, 2)] * model.layers, staging=False)

    def close(self) -> None:
        """Give everything back."""
        self.decoder.steps = None
        self.decoder.cache.close()
        self.residency.close()
        self._store.close()


def _small(model: ModelConfig) -> ModelConfig:
    """A model of the same kind, with each mix of formats once."""
    mixes = tuple(dict.fromkeys(model.formats(layer) for layer in range(model.layers)))
    mixes = mixes if len(mixes) >= _LEAST_LAYERS else mixes * _LEAST_LAYERS
    return replace(
        model, layers=len(mixes), expert_formats=mixes, hidden_size=_HIDDEN, intermediate_size=_HIDDEN,
        experts=_EXPERTS * model.expert_parts, experts_per_token=_EXPERTS * model.expert_parts,
        vocab_size=_VOCABULARY,
    )  # fmt: skip


def _dense(model: ModelConfig, device: Device) -> DenseWeights:
    """Random weights that keep states about as long as they are."""
    random = _RandomDense(model, device)
    matrix, norm = random.matrix, random.norm
    hidden, width, heads = model.hidden_size, model.head_dim, model.heads
    layers = tuple(
        LayerWeights(
            attention_norm=norm(hidden),
            qkv=matrix(hidden, heads * width, model.kv_heads * width, model.kv_heads * width),
            output=matrix(heads * width, hidden),
            expert_norm=norm(hidden),
            router=random.floats(model.routed_experts, hidden),
            query_norm=norm(width) if model.query_key_norm else None,
            key_norm=norm(width) if model.query_key_norm else None,
        )
        for _ in range(model.layers)
    )
    return DenseWeights(random.embedding(), layers, norm(hidden), random.floats(model.vocab_size, hidden))


class _RandomDense:
    """Random weights in the formats that a model has outside its experts, one after the other."""

    def __init__(self, model: ModelConfig, device: Device) -> None:
        self._model, self._device, self._dtype = model, device, TORCH_DTYPES[model.dtype]
        self._generator = torch.Generator().manual_seed(model.heads)
        self._random = np.random.default_rng(model.heads)
        blocks = [blocks.format for blocks in model.dense_blocks] if device.products else []
        self._formats = cycle(blocks or [DTYPE_FORMATS[model.dtype]])

    def floats(self, rows: int, columns: int) -> torch.Tensor:
        """A matrix in the model's type."""
        values = torch.randn(rows, columns, generator=self._generator) / math.sqrt(columns)
        return values.to(self._device.torch_device, self._dtype)

    def norm(self, columns: int) -> torch.Tensor:
        """A norm's weights."""
        values = torch.rand(columns, generator=self._generator) + 0.5
        return values.to(self._device.torch_device, self._dtype)

    def matrix(self, columns: int, *rows: int) -> Matrix:
        """Matrices one above the other, each in the next format that has blocks for so many columns."""
        parts = tuple(self._part(count, columns) for count in rows)
        floats = [part for part in parts if isinstance(part, torch.Tensor)]
        if len(floats) == len(parts):
            return torch.cat(floats)
        assert self._device.products is not None, "only it multiplies blocks"
        return GpuMatrix(parts, self._device.products)

    def embedding(self) -> Embedding:
        """Where the model's own is, and in its format."""
        model, products = self._model, self._device.products
        rows, columns, stored = model.vocab_size, model.hidden_size, model.embedding_format
        floats = self.floats(rows, columns) * math.sqrt(columns)
        if products is None or (model.tie_word_embeddings and stored is None):
            return floats
        data = floats.cpu().view(torch.uint8).flatten()
        if stored is not None:
            data = random_weights(FORMATS[stored], rows, columns, self._random)
        matrix = PackedMatrix(data, FORMATS[stored or DTYPE_FORMATS[model.dtype]], rows, columns)
        if model.tie_word_embeddings:
            matrix = self._on_device(matrix)
        return LookedUp(matrix, products, floats.device, self._dtype, in_ram=not model.tie_word_embeddings)

    def _part(self, rows: int, columns: int) -> Part:
        """One matrix."""
        stored = FORMATS[next(self._formats)]
        if stored.is_float or columns % stored.block_columns:
            return self.floats(rows, columns)
        data = random_weights(stored, rows, columns, self._random, _SHIFT)
        return self._on_device(PackedMatrix(data, stored, rows, columns))

    def _on_device(self, matrix: PackedMatrix) -> PackedMatrix:
        """The same in the device's memory."""
        return PackedMatrix(matrix.data.to(self._device.torch_device), matrix.format, matrix.rows, matrix.columns)


def _error(found: torch.Tensor, expected: torch.Tensor) -> float:
    """The length of the difference over the length of what was expected."""
    return float((found.float() - expected.float()).norm() / expected.float().norm())
