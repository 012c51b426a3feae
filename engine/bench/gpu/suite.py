"""The order of everything, what of it is done, and where it is written.

    machine -> checks -> for each model: its file, its cells, the rivals -> report

A step that is done is in the journal and is skipped; the report is written anew each time from what there is.
"""

from __future__ import annotations

import contextlib
import re
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from engine.bench.comparison import make_room
from engine.bench.duel import no_note
from engine.bench.gpu import machine
from engine.bench.gpu.bounds import Speeds
from engine.bench.gpu.cells import BUDGETS_BYTES, SCENARIOS, Cell, Model, Scenario, budget_for, cells
from engine.bench.gpu.checks import Bed, Check, checks
from engine.bench.gpu.journal import Journal, Result
from engine.bench.gpu.measure import Bench, Course
from engine.bench.gpu.overhead import gpu_overheads
from engine.bench.gpu.pcs import PCS, Pc, simulated, virtual_time
from engine.bench.gpu.report import write_report
from engine.bench.gpu.rivals import Match, accelerate, llama_cpp
from engine.bench.models import SIZES, model_bytes, model_file, model_path
from engine.config import EngineConfig
from engine.devices import device_faults
from engine.engine import Engine
from engine.errors import ConfigurationError, RooftopError
from engine.experts.footprint import PlannedDevice
from engine.experts.memory import LEAST_CHUNK_TOKENS
from engine.hardware import probe_gpu, probe_hardware
from engine.planning import planned_kernels

SizeName = Literal["small", "full"]

MIX = "Q4_K_M"
CELL_LIMIT_S = 20.0
PROFILE_TOKENS = 1024
RIVAL_REPEAT = 2  # each setting of a rival is loaded anew, and all of them are one step

_BUDGET_SLACK = 1.05  # a card of 8 GiB has a little less


@dataclass(frozen=True, slots=True)
class Options:
    """What to run.

    Attributes:
        out: Folder of the journal and the report.
        models: Folder of the model files.
        size: The real models, or small ones of their kind.
        pc: A PC to simulate; None for this machine's GPU.
        minutes: Begin no step that would end later, by the one before; None for no limit.
        threads: CPU threads; None for the physical cores.
        repeat: Most counted replies per cell.
        scenarios: The conversations; None for those of the size.
        on_note: Hears what is being done.
    """

    out: Path
    models: Path
    size: SizeName = "full"
    pc: Pc | None = None
    minutes: float | None = None
    threads: int | None = None
    repeat: int = 3
    scenarios: tuple[Scenario, ...] | None = None
    on_note: Callable[[str], None] = no_note


def run(options: Options) -> dict[str, Any]:
    """Run what is not done yet, and write the report.

    Args:
        options: What to run.

    Returns:
        The report, as in the JSON file.

    Raises:
        ConfigurationError: There is no GPU and none is simulated, or a file cannot be written.
        GpuLostError: A step broke the GPU; the others are for another process.
    """
    if options.pc is None and not torch.cuda.is_available():
        raise ConfigurationError(
            "The GPU suite found no NVIDIA GPU.", f"Simulate a PC: --device simulated --pc {next(iter(PCS))}."
        )
    path = journal_path(options)
    try:
        journal = Journal(path)
        with contextlib.closing(_Suite(options, journal)) as suite:
            complete = suite.run()
        return write_report(path.with_suffix(""), journal, complete=complete, size=options.size)
    except OSError as error:
        raise ConfigurationError(
            f"{error.filename or options.out} cannot be written ({error.strerror}).",
            "Choose another --out or --models.",
        ) from error


def journal_path(options: Options) -> Path:
    """The journal, one for each GPU and size; the report is called the same but for its endings.

    Args:
        options: As for `run`.
    """
    gpu = probe_gpu()
    name = f"simulated-{options.pc.name}" if options.pc else gpu.name if gpu else "gpu"
    stem = re.sub(r"[^a-z0-9]+", "-", f"{name}-{options.size}".lower()).strip("-")
    return options.out / f"{stem}.jsonl"


class _Suite:
    """One run."""

    def __init__(self, options: Options, journal: Journal) -> None:
        """Nothing is open yet."""
        self._options, self._journal = options, journal
        self._session: _Session | None = None
        self._scenarios = options.scenarios or SCENARIOS[options.size]
        pairs = zip(SIZES[options.size], SIZES["full"], strict=True)
        self._models = [Model(shape, MIX, stands_for) for shape, stands_for in pairs]

    def run(self) -> bool:
        """Do what is not done and fits the time; whether nothing is left."""
        started_s, latest_s, complete = time.perf_counter(), 0.0, True
        limit_s = self._options.minutes * 60 if self._options.minutes is not None else float("inf")
        for key, work in self._steps():
            if key in self._journal.results or self._journal.crashed(key):
                continue
            begun_s = time.perf_counter()
            if begun_s - started_s + latest_s > limit_s:
                complete = False
                break
            self._options.on_note(key)
            self._do(key, work)
            latest_s = time.perf_counter() - begun_s
        return complete

    def close(self) -> None:
        """Give the model back, if one is loaded."""
        if self._session:
            self._session.close()
            self._session = None

    def _do(self, key: str, work: Callable[[], Result]) -> None:
        """One step; an error is its result.

        Raises:
            GpuLostError: It broke the GPU, for all that would follow in this process.
        """
        self._journal.start(key)
        try:
            with device_faults():
                result = work()
        except RooftopError as error:
            result = {"refused": str(error)}
        except KeyboardInterrupt:
            self._journal.interrupt(key)
            raise
        except Exception as error:  # noqa: BLE001 - a mistake of ours costs its step alone
            result = {"refused": f"{type(error).__name__}: {error}", "trace": traceback.format_exc()}
        self._journal.finish(key, result)
        if not self._options.pc:
            with device_faults():
                torch.cuda.synchronize()

    def _steps(self) -> Iterator[tuple[str, Callable[[], Result]]]:
        """All steps by their keys; what they need is opened when they are run."""
        options = self._options
        yield "machine", self._machine
        if not options.pc:
            yield "overhead", partial(gpu_overheads, self._state)
        bed = Bed("simulated" if options.pc else "cuda", options.models, self._state)
        for name, check in checks(bed):
            yield f"check {name}", partial(_as_json, check)
        for model in self._models:
            for cell in cells(model.shape.name, self._budgets(), self._scenarios):
                yield cell.key, partial(self._cell, model, cell)
            for vram_bytes in () if options.pc else self._budgets():
                for rival in (llama_cpp, accelerate):
                    key = f"rival {rival.__name__} {model.shape.name} {vram_bytes / (1 << 30):g}GiB"
                    yield key, partial(self._rival, rival, model, vram_bytes)
            self.close()

    # ---- the steps ----------------------------------------------------------------------------------------------

    @property
    def _state(self) -> Path:
        """Folder of measured costs and compiled kernels."""
        return self._options.out / "state"

    def _machine(self) -> Result:
        """Facts and bandwidths."""
        options, found = self._options, machine.facts(self._options.threads)
        if options.pc:
            return found | machine.simulated_facts(options.pc)
        return (
            found
            | {"simulated": False}
            | machine.gpu_facts(self._state)
            | machine.copy_rates(torch.device("cuda", 0), machine.cuda_timer, machine.wall_timer)
            | machine.cpu_rates(found["cpu_threads"])
        )

    def _cell(self, model: Model, cell: Cell) -> Result:
        """One cell; the model is loaded by the first."""
        config, kernels = self._config, planned_kernels(self._config)
        device: PlannedDevice = "simulated" if self._options.pc else "cuda"
        budget = budget_for(model, cell.vram_bytes, config, device, kernels)
        if budget is None:
            raise ConfigurationError("The model does not fit beside even one streamed expert.", "Take more VRAM.")
        if self._session is None or self._session.model is not model:
            self.close()
            self._session = self._open(model)
        return self._session.bench.measure(cell, budget)

    def _rival(self, rival: Callable[[Match], Result], model: Model, vram_bytes: int) -> Result:
        """Another engine on the same file, while ours gives VRAM back."""
        self.close()
        config = self._config
        budget = budget_for(model, vram_bytes, config, "cuda", planned_kernels(config))
        if budget is None:
            return {"absent": "The model does not fit."}
        match = Match(
            model, self._file(model), budget, self._scenarios, self._threads, config.context_tokens,
            min(self._options.repeat, RIVAL_REPEAT), machine.vram_used,
        )  # fmt: skip
        return rival(match)

    # ---- what they need -----------------------------------------------------------------------------------------

    @property
    def _threads(self) -> int:
        return self._options.threads or probe_hardware().physical_cores

    @property
    def _config(self) -> EngineConfig:
        """Settings of all engines of the cells, but for budget and policy."""
        longest = max(scenario.prompt_tokens + scenario.new_tokens for scenario in self._scenarios)
        return EngineConfig(
            device="simulated" if self._options.pc else "cuda",
            context_tokens=max(longest + 1, PROFILE_TOKENS + 1),
            cpu_threads=self._threads,
            cost_cache_dir=str(self._state),
            # A small model's workspace is large beside its experts, which the real one's is not.
            prefill_chunk_tokens=LEAST_CHUNK_TOKENS if self._options.size == "small" else None,
        )

    def _budgets(self) -> tuple[int, ...]:
        """Cards whose VRAM there is, or all where models are small and the real ones' shares are taken."""
        if self._options.pc:
            return (self._options.pc.vram_bytes,)
        gpu = probe_gpu()
        total = gpu.total_bytes if gpu else torch.cuda.get_device_properties(0).total_memory
        small = self._options.size == "small"
        return tuple(size for size in BUDGETS_BYTES if small or size <= total * _BUDGET_SLACK) or (total,)

    def _speeds(self) -> Speeds:
        """As the machine step measured them."""
        found = self._journal.results.get("machine", {})
        if "vram_bytes_per_s" not in found:
            raise ConfigurationError("The machine's bandwidths were not measured.", "Delete the journal to try again.")
        return machine.speeds_of(found)

    def _file(self, model: Model) -> Path:
        """The model's file, written if it is missing."""
        folder = self._options.models
        if not model_path(folder, model.shape, MIX).exists():
            folder.mkdir(parents=True, exist_ok=True)
            self._options.on_note(f"file {model.shape.name}")
            make_room(folder, model_bytes(model.shape, MIX), ())
        return model_file(folder, model.shape, MIX)

    def _open(self, model: Model) -> _Session:
        """Load a model with the most that any cell may use, and count its experts' popularity."""
        path, config, options = str(self._file(model)), self._config, self._options
        costed = model.costed if options.pc else model.config
        # In virtual time no limit by the wall's: policies are compared on the same prompts.
        limit_s = float("inf") if options.pc else CELL_LIMIT_S
        course = Course(options.repeat, limit_s, PROFILE_TOKENS, costed, self._speeds())
        with contextlib.ExitStack() as undo:
            if options.pc:
                config = simulated(options.pc, config, model.config, costed)
                engine = undo.enter_context(Engine.load(path, config))
                course = replace(course, clock=undo.enter_context(virtual_time(engine)))
            else:
                before = machine.vram_used()
                engine = undo.enter_context(Engine.load(path, config))
                course = replace(course, vram_used=partial(_vram_since, before), reserved=_reserved)
            bench = Bench(engine, model, course)
            bench.profile()
            return _Session(model, bench, undo.pop_all())


@dataclass(slots=True)
class _Session:
    """A loaded model."""

    model: Model
    bench: Bench
    _undo: contextlib.ExitStack = field(repr=False)

    def close(self) -> None:
        """Give everything back."""
        self._undo.close()


def _as_json(check: Callable[[], Check]) -> Result:
    """What a check found."""
    return check().as_json()


def _vram_since(before: int | None) -> int | None:
    """VRAM that was taken since."""
    now = machine.vram_used()
    return None if before is None or now is None else now - before


def _reserved() -> int:
    """Most that torch held since this was last asked; what it holds without need goes back."""
    peak = int(torch.cuda.max_memory_reserved())
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    return peak
