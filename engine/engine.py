"""Engine: the whole system in one class. Load a model, answer conversations, change settings while it stays loaded.

    load:     checkpoint -> plan (refuse what does not fit) -> dense onto the device, experts into RAM, residents
              into VRAM -> measure costs (first start) -> plan again with them
    generate: tokens -> keep the cached prefix -> prefill in chunks -> sample, decode, sample, ... -> Finished

One thread owns an engine. Nothing here knows of queues or windows: progress goes to a callback, replies are an
iterator of events.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
from collections.abc import Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from engine.checkpoint.catalog import resolve_model
from engine.checkpoint.checkpoint import open_checkpoint
from engine.config import DEVICE_FIELDS, EngineConfig, ModelConfig, SamplingParams
from engine.devices import device_faults
from engine.errors import ConfigurationError
from engine.experts.assumed_costs import assumed_costs
from engine.experts.calibration import calibrate, learn_from_reply
from engine.experts.cost_model import planned_threads
from engine.experts.explain import make_way_words
from engine.experts.memory import Vram, planned_device
from engine.experts.parts import placed_model
from engine.experts.placement import budget_range, check_fits, in_force
from engine.experts.popularity import Popularity
from engine.hardware import HardwareProfile
from engine.loaded_model import LoadedModel
from engine.loading import Cancelled, LoadProgress, OnEvent, load_model
from engine.messages import (
    ChatMessage,
    CostModel,
    Event,
    LeftOut,
    Loading,
    Overflow,
    PlacementPlan,
    Ready,
    Snapshot,
    TokensCounted,
)
from engine.model.weights import TORCH_DTYPES
from engine.planning import keep_costs, keep_popularity, kept_costs, kept_popularity, planned_kernels
from engine.premises import Premises, usable_hardware, with_others
from engine.prompts import Prompt, PromptReader, as_message
from engine.reply import Reply, trial_passes
from engine.sentences import say
from engine.tokenizer import ChatTokenizer
from engine.vram_watch import OtherPrograms, Reader


def _ignore(event: Event) -> None:
    """An event that nobody listens to."""


def _never() -> bool:
    """Nothing cancels."""
    return False


@cache
def _keep_what_was_imported() -> None:
    """It stays for good: looking for garbage there would hold a reply up for 0.1 s."""
    gc.freeze()


class Engine:
    """A loaded model: made by `Engine.load`, given back by `close` or a with statement.

    Attributes:
        model: Its shape.
        ready: The plan and settings in force, with all that a preview of others needs.
        other_programs: Reads what other programs hold of the GPU; None where there is nothing to watch.
    """

    @classmethod
    def load(
        cls,
        model: str,
        config: EngineConfig | None = None,
        on_event: OnEvent = _ignore,
        cancelled: Cancelled = _never,
        *,
        require_tokenizer: bool = False,
    ) -> Engine:
        """Load a model.

        Args:
            model: A folder with safetensors, a .gguf file, or "guide".
            config: How to run it; None takes the defaults.
            on_event: Hears `Loading` events.
            cancelled: Asked often; True stops the load.
            require_tokenizer: Refuse at once a model that cannot chat, before anything large is read.

        Raises:
            InputError: The model or the settings cannot be used, or do not fit; said before weights are read
                wherever that can be known.
            OperationCancelledError: `cancelled` said so.
        """
        config = config or EngineConfig()
        _keep_what_was_imported()
        return cls(resolve_model(model, config.models_dir), config, on_event, cancelled, require_tokenizer)

    def __init__(
        self, path: Path, config: EngineConfig, on_event: OnEvent, cancelled: Cancelled, require_tokenizer: bool
    ) -> None:
        """Use `Engine.load`."""
        on_event(Loading("checking", 0, 0))
        self._path, self._config = path, config
        kernels = planned_kernels(config)
        hardware, gpu_note = usable_hardware(config)
        with open_checkpoint(path) as checkpoint:
            self.model: ModelConfig = checkpoint.config
            placed = placed_model(self.model, planned_device(config, hardware))
            self._prompts = PromptReader(path, self.model.vocab_size)
            if require_tokenizer:
                self._prompts.open_tokenizer()
            popularity = kept_popularity(path, placed, config)
            self._premises = Premises(placed, hardware, popularity, kernels, gpu_note)
            known = kept_costs(placed, hardware, config)
            costs = known or assumed_costs(placed, hardware, config, kernels)
            plan = self._premises.plan(config, costs)
            check_fits(plan)
            self._loaded: LoadedModel = load_model(
                checkpoint, plan, partial(self._plan_without_kernels, costs), config, hardware, costs,
                popularity, kernels, on_event, cancelled,
            )  # fmt: skip
        device, gpu = self._loaded.device, hardware.gpu
        self.other_programs: Reader | None = None
        if device.kind == "cuda" and gpu is not None:
            self.other_programs = OtherPrograms(
                partial(torch.cuda.memory_reserved, device.torch_device), gpu.used_bytes, gpu.uuid
            )
        with contextlib.ExitStack() as undo:
            undo.callback(self.close)
            self._premises.gpu_note = gpu_note or self._loaded.device.limitation or self._loaded.step_note
            if known is None:
                self._measure(on_event, cancelled)
            self._settle(self._premises.plan(config, self._loaded.record.costs))
            undo.pop_all()

    # ---- what is in force ---------------------------------------------------------------------------------------

    @property
    def config(self) -> EngineConfig:
        """The settings in force as they were asked for, what is automatic left so; `ready.effective` resolves it."""
        return self._config

    @property
    def loaded(self) -> LoadedModel:
        """The parts of the model in memory, for benchmarks that look inside."""
        return self._loaded

    @property
    def popularity(self) -> Popularity:
        """What is known of the experts' popularity, for benchmarks that begin with a profile of their own."""
        return self._premises.popularity

    @property
    def plan(self) -> PlacementPlan:
        """The placement in force, as data."""
        return self.ready.plan

    def reconfigure(self, config: EngineConfig) -> None:
        """Take other settings while the model stays loaded; `ready` then tells what is in force.

        A changed context length or KV precision gives up the cached conversation.

        Raises:
            ConfigurationError: A setting changed that needs the model to be loaded again, or the system does not give
                the threads; the old settings stay in force.
            DoesNotFitError: The new settings do not fit; the old ones stay in force.
            GpuLostError: The GPU broke off.
        """
        changed = [name for name in DEVICE_FIELDS if getattr(config, name) != getattr(self._config, name)]
        if changed:
            raise ConfigurationError(
                say("{names} cannot change while the model is loaded.", names=", ".join(changed)),
                say("Load the model again."),
            )
        premises = self._premises
        premises.hardware = self._hardware_without_us()
        plan = premises.plan(config, self._loaded.record.costs)
        check_fits(plan)
        self._loaded.use_threads(planned_threads(premises.model, premises.hardware, config))
        with device_faults():
            self._loaded.place(plan)
        self._config = config
        self._loaded.record.policy, self._loaded.record.adaptive = config.policy, config.adaptive
        self._settle(plan)

    @property
    def vram(self) -> Vram:
        """What the GPU offered when the plan in force was made."""
        return Vram.of(self._config, self._premises.hardware)

    def make_way(self, others_bytes: int) -> bool:
        """Plan anew because other programs hold more VRAM, or less: residents leave or come back, all else goes on.

        May be called between any two events of a reply. Where there is too little room for what must be in VRAM, that
        stays, and every resident leaves.

        Args:
            others_bytes: What other programs hold now.

        Returns:
            Whether that changed the budget; `ready.because` then says why.

        Raises:
            GpuLostError: The GPU broke off.
        """
        premises, device, vram = self._premises, self._loaded.device, self.vram
        before, held = premises.hardware, self._loaded.residency.by_layer()
        premises.hardware = with_others(before, device, 0)
        least = budget_range(premises.inputs(self._loaded.record.costs), self._config)[0]
        premises.hardware = with_others(before, device, max(0, min(others_bytes, vram.total - least)))
        plan = self._plan_around(held)
        if not plan.fits or plan.vram_budget_bytes == self.plan.vram_budget_bytes:
            premises.hardware = before
            return False
        with device_faults():
            self._loaded.place(plan)
        came = sum(map(len, self._loaded.residency.by_layer())) - sum(map(len, held))
        parts = premises.model.expert_parts
        self._settle(plan, make_way_words(others_bytes - vram.used, came // parts if came < 0 else -(-came // parts)))
        return True

    def recalibrate(self, on_event: OnEvent = _ignore, cancelled: Cancelled = _never) -> None:
        """Measure the cost model again and plan with it.

        Raises:
            OperationCancelledError: `cancelled` said so; the old costs stay in force.
        """
        self._measure(on_event, cancelled)
        self.reconfigure(self._config)

    def snapshot(self) -> Snapshot:
        """The inside, now."""
        return self._loaded.snapshot(0.0)

    # ---- answering ----------------------------------------------------------------------------------------------

    def logits(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """Logits after each of some tokens, from an empty context: float32 [T, V].

        Raises:
            PromptTooLongError: More tokens than the context holds.
            ConfigurationError: No tokens, or an id outside the vocabulary.
        """
        prompt = list(tokens)
        self._prompts.check(prompt, self._loaded.decoder.cache.capacity, room=0)
        loaded, decoder, chunk = self._loaded, self._loaded.decoder, self._loaded.chunk_tokens
        decoder.cache.tokens.clear()
        decoder.expect(len(prompt))
        rows = np.empty((len(prompt), self.model.vocab_size), np.float32)
        with loaded.reading(len(prompt)):
            for first in range(0, len(prompt), chunk):
                hidden = loaded.with_room(partial(decoder.forward_at_once, prompt[first : first + chunk]))
                rows[first : first + chunk] = loaded.with_room(partial(decoder.logits, hidden)).float().cpu().numpy()
                del hidden
        self._settle_shortages(loaded)
        return rows

    def generate(
        self,
        messages: Prompt,
        sampling: SamplingParams | None = None,
        cancelled: Cancelled = _never,
        overflow: Overflow = "stop",
        *,
        continue_reply: bool = False,
    ) -> Iterator[Event]:
        """Answer a conversation.

        Args:
            messages: `ChatMessage`s or mappings with role and content. A str is a prompt to continue, taken as it is;
                token ids are continued without a tokenizer (texts stay empty then).
            sampling: How to draw tokens; None takes the defaults.
            cancelled: Asked before every layer and expert; True ends the reply.
            overflow: What may be left out of a conversation that outgrew the context, as in `Generate`.
            continue_reply: The last message is a reply that goes on where it ended; only what is new is told.

        Yields:
            `LeftOut` where that was needed, `PromptProgress`, then `Token`s, `Snapshot`s in between, and one `Finished`
            at the end.

        Raises:
            PromptTooLongError: The prompt leaves no room in the context.
            CheckpointError: The model has no usable tokenizer or chat template.
            ConfigurationError: The schema or grammar cannot be followed.
            GpuLostError: The GPU broke off; the tokens so far stand.
        """
        sampling = sampling or SamplingParams()
        loaded, capacity = self._loaded, self._loaded.decoder.cache.capacity
        fitted = self._prompts.read(messages, sampling, overflow, capacity, continue_reply=continue_reply)
        prompt, tokenizer = fitted.prompt, self._prompts.tokenizer_of(messages)
        self._prompts.check(prompt, capacity, room=1)
        constraint = self._prompts.constraint(sampling, tokenizer)
        if constraint is not None and continue_reply:
            constraint.resume(as_message(messages[-1]).content)
        if fitted.left_out:
            yield LeftOut(fitted.left_out, fitted.left_out_tokens)
        try:
            with device_faults():
                reply = Reply(loaded, tokenizer, prompt, sampling, cancelled, constraint, continues=continue_reply)
                yield from reply.events()
        finally:
            self._settle_shortages(loaded)
            keep_popularity(self._path, self.model, self._config, self.popularity)

    @property
    def tokenizer(self) -> ChatTokenizer:
        """The model's tokenizer, opened when it is first asked for; errors as in `PromptReader.tokenizer`."""
        return self._prompts.tokenizer

    def count_tokens(self, number: int, messages: Sequence[ChatMessage], texts: Sequence[str]) -> TokensCounted:
        """Count the tokens of a conversation, and of texts, without computing anything; as in `CountTokens`."""
        return self._prompts.count(number, messages, texts, self._loaded.decoder.cache.capacity)

    # ---- planning and measuring ---------------------------------------------------------------------------------

    def _plan_without_kernels(self, costs: CostModel) -> PlacementPlan:
        """The placement where the GPU turns out not to run our kernels, so that dense weights are floats.

        Raises:
            DoesNotFitError: They are too large.
        """
        self._premises.gpu_kernels = False
        plan = self._premises.plan(self._config, costs)
        check_fits(plan)
        return plan

    def _plan_around(self, held: tuple[tuple[int, ...], ...]) -> PlacementPlan:
        """A plan that moves as few residents as it can; a prompt under way keeps the workspace that it is using."""
        premises, costs = self._premises, self._loaded.record.costs
        if self._loaded.pass_tokens > 1:
            same_chunk = dataclasses.replace(self._config, prefill_chunk_tokens=self._loaded.chunk_tokens)
            plan = premises.plan(same_chunk, costs, held)
            if plan.fits:
                return plan
        return premises.plan(self._config, costs, held)

    def _settle(self, plan: PlacementPlan, because: str = "") -> None:
        """Make `ready` tell what is in force now: the plan, less what the device had no memory for."""
        loaded, device = self._loaded, self._loaded.device
        self._planned, self._settled_shortages = plan, loaded.memory_shortages
        planning = self._premises.inputs(loaded.record.costs)
        plan = in_force(
            plan, planning, self._config, loaded.lending.residents(), device.allocated if device.has_gpu else {},
            loaded.decoder.cache.capacity, loaded.decoder.cache.precision,
        )  # fmt: skip
        effective = dataclasses.replace(
            self._config,
            device=plan.device,
            vram_budget_bytes=plan.vram_budget_bytes if device.has_gpu else None,
            context_tokens=plan.context_tokens,
            kv_precision=plan.kv_precision,
            prefill_chunk_tokens=plan.prefill_chunk_tokens,
            cpu_threads=self._loaded.threads,
        )
        self.ready = Ready(planning.model, device.name, device.simulated, plan, effective, planning, because)

    def _settle_shortages(self, loaded: LoadedModel) -> None:
        """Make `ready` tell what memory ran out for, if it did since it was made."""
        still_loaded = self.__dict__.get("_loaded") is loaded  # a reply may outlive its engine, unread
        if still_loaded and loaded.memory_shortages != self._settled_shortages:
            self._settle(self._planned)
            short = self.plan.reasons[len(self._planned.reasons) :]
            self.ready = dataclasses.replace(self.ready, because=short[0] if short else "")

    def _measure(self, on_event: OnEvent, cancelled: Cancelled) -> None:
        """Measure the cost model and keep it."""
        on_event(Loading("measuring", 0, 0))
        loaded, model = self._loaded, self._premises.model
        check = LoadProgress(0, on_event, cancelled).check
        decoder, dtype = loaded.decoder, TORCH_DTYPES[self.model.dtype]
        free = range(len(decoder.cache.tokens), decoder.cache.capacity)
        costs = loaded.with_room(
            lambda: calibrate(model, loaded.device, loaded.residency, loaded.cpu, dtype, decoder, free, check)
        )
        if not loaded.device.simulated:  # whose clock is not the one that a reply is timed with
            costs = learn_from_reply(costs, model, trial_passes(loaded, cancelled))
            check()
        loaded.record.costs = costs
        # What a GPU without our kernels takes says nothing about the start that has them.
        if loaded.device.has_gpu == (costs.gpu_expert is not None) and not loaded.device.limitation:
            keep_costs(model, self._premises.hardware, self._config, costs)

    def _hardware_without_us(self) -> HardwareProfile:
        """The machine now, as if this engine held nothing: its own bytes are free for a new plan."""
        hardware = self._premises.hardware_now(self._config, self.plan.host_bytes["total"])
        others_bytes = self.other_programs() if self.other_programs else None
        return with_others(hardware, self._loaded.device, self.vram.used if others_bytes is None else others_bytes)

    # ---- giving back --------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Give memory back; idempotent. The engine cannot be used afterwards."""
        loaded = self.__dict__.pop("_loaded", None)
        if loaded is not None:
            loaded.close()

    def __enter__(self) -> Self:
        """Nothing more to open."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()
