"""llama.cpp on the same PC, by arithmetic: some layers' experts stay in RAM for good, and nothing overlaps.

It is given what it can be given: RAM, VRAM and link at full speed, arithmetic and launches as ours but all experts of a
layer in one, dense weights as small as in the file. A prompt's experts in RAM are computed where that is quicker, on
the CPU or, batch by batch, on the GPU after all that are in use were copied.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from engine.bench.gpu.pcs import Pc
from engine.bench.predict.conversation import KERNELS
from engine.bench.predict.stream import Chosen, Counts
from engine.config import EngineConfig, ModelConfig
from engine.experts.cost_model import predict
from engine.experts.footprint import read_dense_bytes
from engine.experts.forecast import dense_chunk_seconds
from engine.experts.memory import Vram, workspace_bytes
from engine.messages import CostCurve, CostModel

BATCHES_TOKENS = (512, 2048)


@dataclass(frozen=True, slots=True)
class Setting:
    """How llama.cpp is started.

    Attributes:
        cpu_layers: Layers whose experts stay in RAM.
        whole_layers: Whether their attention stays there too, as with --n-gpu-layers; else as with --n-cpu-moe.
        batch_tokens: Prompt tokens per pass.
    """

    cpu_layers: int
    whole_layers: bool
    batch_tokens: int

    @property
    def words(self) -> str:
        """On its command line."""
        layers = (
            f"--n-gpu-layers (without {self.cpu_layers})" if self.whole_layers else f"--n-cpu-moe {self.cpu_layers}"
        )
        return f"{layers} --ubatch-size {self.batch_tokens}"


@dataclass(frozen=True, slots=True)
class Rival:
    """llama.cpp on a PC.

    Attributes:
        model: Its shape and formats, with experts in one part.
        pc: The PC.
        costs: What an expert costs on it.
        config: Context of the KV cache.
    """

    model: ModelConfig
    pc: Pc
    costs: CostModel
    config: EngineConfig

    def settings(self, *, whole_layers: bool) -> Iterator[Setting]:
        """As few layers in RAM as fit, for each size of a batch that fits at all."""
        for batch_tokens in BATCHES_TOKENS:
            for cpu_layers in range(self.model.layers + 1):
                setting = Setting(cpu_layers, whole_layers, batch_tokens)
                if self._vram_bytes(setting) <= Vram(self.pc.vram_bytes, 0, None).room:
                    yield setting
                    break

    def token_seconds(self, setting: Setting, context_tokens: float) -> float:
        """One token of a reply.

        Args:
            setting: How it runs.
            context_tokens: Keys and values that it attends to.
        """
        model, pc = self.model, self.pc
        expert = model.experts_bytes / model.total_experts * model.experts_per_token
        around = self._dense_bytes / model.layers + model.kv_bytes_per_token("auto") / model.layers * context_tokens
        assert self.costs.gpu_expert is not None, "a PC has a GPU"
        gpu_layer_s = (around + expert) / pc.vram_bytes_per_s + self.costs.gpu_expert.overhead_s
        cpu_layer_s = (around / (pc.ram_bytes_per_s if setting.whole_layers else pc.vram_bytes_per_s)) + (
            model.experts_per_token * predict(self._cpu, 1) + self.costs.cpu_call_s + self._round_trip(1)
        )
        return (model.layers - setting.cpu_layers) * gpu_layer_s + setting.cpu_layers * cpu_layer_s

    def prompt_seconds(self, setting: Setting, chosen: Chosen) -> float:
        """A prompt in an empty context.

        Args:
            setting: How it runs.
            chosen: Its experts [T, L, A].
        """
        seconds, size = 0.0, setting.batch_tokens
        for first in range(0, len(chosen), size):
            counts = Counts.of(chosen[first : first + size], self.model.experts)
            dense_s = dense_chunk_seconds(self.model, self.costs, counts.tokens, first)
            for layer, row in enumerate(counts.by_layer):
                seconds += dense_s + self._experts_seconds(row, counts.tokens, in_ram=layer < setting.cpu_layers)
        return seconds

    def _experts_seconds(self, row: Sequence[tuple[int, int]], tokens: int, *, in_ram: bool) -> float:
        """One layer's experts of a pass."""
        gpu, copy = self.costs.gpu_expert, self.costs.weight_copy
        assert gpu is not None, "a PC has a GPU"
        assert copy is not None, "a PC has a GPU"
        here_s = gpu.overhead_s + sum(predict(gpu, visits) - gpu.overhead_s for _, visits in row)
        if not in_ram:
            return here_s
        cpu_s = sum(predict(self._cpu, visits) for _, visits in row) + self.costs.cpu_call_s + self._round_trip(tokens)
        return min(cpu_s, len(row) * copy.per_unit_s + here_s)

    @property
    def _cpu(self) -> CostCurve:
        return self.costs.cpu_expert

    def _round_trip(self, tokens: int) -> float:
        return predict(self.costs.activation_copy, tokens) if self.costs.activation_copy else 0.0

    @property
    def _dense_bytes(self) -> float:
        """Of the file, without the embedding, which is looked up in RAM."""
        return read_dense_bytes(self.model, "cuda", KERNELS)

    def _vram_bytes(self, setting: Setting) -> float:
        """What it takes of VRAM."""
        model, layers = self.model, self.model.layers
        config = replace(self.config, prefill_chunk_tokens=setting.batch_tokens)
        kept = sum(model.experts * model.layer_expert_bytes(layer) for layer in range(setting.cpu_layers, layers))
        around = self._dense_bytes + model.kv_bytes_per_token("auto") * config.context_tokens
        share = 1 - setting.cpu_layers / layers if setting.whole_layers else 1.0
        return around * share + kept + workspace_bytes(model, config)
