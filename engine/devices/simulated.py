"""A GPU that is not there: its budget is enforced, its two streams have clocks, its arithmetic is the CPU's.

Resident experts are found through the layer's table alone, as the kernels of a real GPU find them.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import torch

from engine.config import PAGEABLE_SLOWDOWN, SIMULATED_LAUNCH_S, EngineConfig, ExpertFormats
from engine.devices.device import Device
from engine.devices.pending import KnownSpan, Span
from engine.kernels.gpu_grouped_plans import Visits
from engine.kernels.gpu_plans import LayerTable, runs_tokens
from engine.kernels.torch_expert import ExpertWeights, expert_forward
from engine.quant.formats import FORMATS
from engine.sentences import say
from engine.uploads import TimedUpload, Upload, VirtualClock


class SimulatedDevice(Device):
    """Tensors and arithmetic on the CPU, budget and clocks of a GPU.

    Attributes:
        clock: Its virtual time.
    """

    kind, name, has_gpu, simulated = "simulated", say("Simulated GPU"), True, True

    def __init__(self, config: EngineConfig, budget_bytes: int) -> None:
        """Take the simulated speeds from the settings."""
        super().__init__(min(budget_bytes, config.simulated_vram_bytes))
        self.torch_device = torch.device("cpu")
        self._link = config.simulated_link_bytes_per_s
        self._memory = config.simulated_memory_bytes_per_s
        self._flops = config.simulated_flops
        self._compute_clock_s = 0.0
        self._copy_clock_s = 0.0
        self._ahead: list[tuple[int, float]] = []  # slots and seconds of copies that belong to the next layer
        self._carried: list[tuple[int, float]] = []  # that belong to this one, and how far they are is not known
        self._layer_s = self._lead_s = 0.0
        self._arrived_s: dict[int, float] = {}
        self._vacated_s: dict[int, float] = {}
        self.clock = VirtualClock()
        self._uploading_until_s = 0.0
        # Where a limit is set, what is not page-locked is as slow as on a real GPU.
        self.needs_pinning = config.pinned_budget_bytes is not None
        self._pinned: dict[int, int] = {}
        self._seen: dict[tuple[int, ExpertFormats], ExpertWeights] = {}

    def pin(self, tensor: torch.Tensor) -> bool:
        """Note where it lies."""
        self._pinned[tensor.data_ptr()] = tensor.nbytes
        return True

    def unpin(self, tensor: torch.Tensor) -> None:
        """Forget it."""
        del self._pinned[tensor.data_ptr()]

    def _copy_seconds(self, source: torch.Tensor) -> float:
        """Over the link, at the speed that the source's memory allows."""
        first = source.data_ptr()
        ends = (start + size for start, size in self._pinned.items() if start <= first)
        locked = not self.needs_pinning or any(first + source.nbytes <= end for end in ends)
        return (source.nbytes / self._link + SIMULATED_LAUNCH_S) * (1.0 if locked else PAGEABLE_SLOWDOWN)

    def begin_upload(self, target: torch.Tensor, source: torch.Tensor) -> Upload:
        """Copies share one link: this one follows what is on it; the bytes change hands when it is done."""
        start_s = max(self.clock.now_s, self._uploading_until_s)
        self._uploading_until_s = start_s + self._copy_seconds(source)
        return TimedUpload(self.clock, self._uploading_until_s, target, source)

    def elapse(self, seconds: float) -> None:
        """Move the virtual time on: what is copied ahead went on while the layer before did other things."""
        self.clock.now_s += seconds
        self._lead_s = max(0.0, seconds - self._layer_s)
        if self._carried:
            self._carry_on()

    def activation_round_trip_s(self, hidden: torch.Tensor) -> float:
        """Virtual time of both ways over the link."""
        return 2 * (hidden.nbytes / self._link + SIMULATED_LAUNCH_S)

    def begin_layer(self) -> None:
        """Set both virtual clocks to zero, less what copies ahead have behind them."""
        self._compute_clock_s = self._copy_clock_s = 0.0
        self._arrived_s.clear()
        self._vacated_s.clear()
        self._carried, self._ahead = self._ahead, []
        if self._lead_s:
            self._carry_on()

    def _carry_on(self) -> None:
        """Copies ahead follow each other from the end of the layer before, as soon as it is known how long ago."""
        done_s, self._lead_s = -self._lead_s, 0.0
        for slot, copy_s in self._carried:
            done_s += copy_s
            self._arrived_s[slot] = done_s
        self._copy_clock_s = max(self._copy_clock_s, done_s)
        self._carried = []

    def runs_at_once(self, table: LayerTable, tokens: int, per_token: int) -> bool:
        """As many as the kernels of a real GPU, of experts that they know."""
        return runs_tokens(tokens, per_token) and not table.biased

    def resident_experts(
        self,
        table: LayerTable,
        hidden: torch.Tensor,
        top_experts: torch.Tensor,
        top_weights: torch.Tensor,
        out: torch.Tensor,
    ) -> None:
        """Run those whose address the table has, on the virtual clock one after the other in one launch."""
        addresses = table.addresses.tolist()
        present = [expert for expert in dict.fromkeys(top_experts.flatten().tolist()) if addresses[expert]]
        self._compute_clock_s -= max(0, len(present) - 1) * SIMULATED_LAUNCH_S
        for expert in present:
            rows, choices = (top_experts == expert).nonzero(as_tuple=True)
            expert_out = self.run_expert(hidden[rows], self._at(addresses[expert], table))
            out.index_add_(0, rows, expert_out * top_weights[rows, choices, None])

    def _at(self, address: int, table: LayerTable) -> ExpertWeights:
        """The expert at an address."""
        known = self._seen.get((address, table.formats))
        if known is None:
            size = table.offsets[1] + FORMATS[table.formats[2]].packed_bytes(table.hidden_size, table.intermediate_size)
            run = torch.frombuffer((ctypes.c_uint8 * size).from_address(address), dtype=torch.uint8)
            known = ExpertWeights.view(run, table.formats, table.hidden_size, table.intermediate_size)
            self._seen[address, table.formats] = known
        return known

    def copy_in(self, slot: int, target: torch.Tensor, source: torch.Tensor) -> None:
        """Copy now; on the virtual clock it takes the link's time."""
        target.copy_(source)
        uploading_s = self._uploading_until_s - self.clock.now_s
        start = max(self._copy_clock_s, self._vacated_s.get(slot, 0.0), uploading_s)
        self._copy_clock_s = start + self._copy_seconds(source)
        self._arrived_s[slot] = self._copy_clock_s

    def copy_ahead(self, slot: int, target: torch.Tensor, source: torch.Tensor) -> None:
        """Copy now; on the virtual clock it goes on from the end of this layer."""
        target.copy_(source)
        self._layer_s = self._compute_clock_s
        self._ahead.append((slot, self._copy_seconds(source)))

    def copied(self, slot: int) -> bool:
        """By the virtual clock, at the beginning of a layer's experts."""
        return self._arrived_s[slot] <= self._compute_clock_s

    def wait_copy(self, slot: int) -> None:
        """Move the compute clock to the copy's end."""
        self._compute_clock_s = max(self._compute_clock_s, self._arrived_s[slot])

    def run_expert(self, hidden: torch.Tensor, weights: ExpertWeights, slot: int | None = None) -> torch.Tensor:
        """Compute on the CPU; on the virtual clock it takes the GPU's time."""
        bytes_s = weights.nbytes / self._memory
        arithmetic_s = 2 * weights.parameters * hidden.shape[0] / self._flops
        self._compute_clock_s += max(bytes_s, arithmetic_s) + SIMULATED_LAUNCH_S
        if slot is not None:
            self._vacated_s[slot] = self._compute_clock_s
        return expert_forward(hidden, weights)

    def run_group(self, visits: Visits, experts: Sequence[tuple[int, ExpertWeights]], slot: int | None = None) -> None:
        """Run them, on the virtual clock one after the other in one launch."""
        self._compute_clock_s -= (len(experts) - 1) * SIMULATED_LAUNCH_S
        super().run_group(visits, experts, slot)

    def end_layer(self) -> Span:
        """Virtual time: what a GPU of these speeds would have taken."""
        return KnownSpan(self._compute_clock_s)
