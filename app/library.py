"""The models on this computer: found in the background, each with a verdict before anything is loaded. No widgets.

    refresh() --thread--> found(FoundModel) ... scanned() ... judged(path) ... found(FoundModel) whose headers differ

Headers that were read before come from a cache, so that a second look costs a listing of folders; of a model in Hugging
Face form that is new, its config.json is believed until all are listed and judged, then its headers are read, too. The
window never
waits for a disk: only `verdict` of a model that has not been judged yet computes on the caller's thread (milliseconds).
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Signal

from app.library_files import HeaderCache, UsedModels
from app.model_scan import Candidate, FoundModel, bundled_guide, candidate_at, candidates, glance, inspect
from app.verdict import Verdict, judge, machine_without
from engine.checkpoint.catalog import GUIDE
from engine.errors import RooftopError
from engine.hardware import HardwareProfile, probe_hardware
from engine.planning import planned_speed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from app.model_places import Place
    from engine.config import EngineConfig, ModelConfig
    from engine.messages import Ready

log = logging.getLogger(__name__)

CLOSE_TIMEOUT_S = 5.0


class Library(QObject):
    """Finds models and judges them.

    Args:
        places: The folders to look in, asked at every refresh.
        config: How a model would be run, asked at every judgement.
        cache: File for headers that were read before; None keeps none.
        used: File for models that were loaded; None keeps none.
        parent: The owner.

    Signals:
        found(FoundModel): A model, new or changed since the scan before.
        lost(str): The model with this path is not there any more.
        scanned(): All folders have been looked through.
        judged(str): The verdict on the model with this path is known.
    """

    found = Signal(object)
    lost = Signal(str)
    scanned = Signal()
    judged = Signal(str)
    _seen = Signal(int, object)
    _ended = Signal(int, object)
    _verdict = Signal(int, str, object)

    def __init__(
        self,
        places: Callable[[], tuple[Place, ...]],
        config: Callable[[], EngineConfig],
        cache: Path | None = None,
        used: Path | None = None,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._places, self._config = places, config
        self._headers, self._used = HeaderCache(cache), UsedModels(used)
        self._models: dict[str, FoundModel] = {}
        self._verdicts: dict[str, Verdict] = {}
        self._unread: dict[str, tuple[Candidate, FoundModel]] = {}  # listed by a glance; of the thread that works
        self._ready: Ready | None = None
        self._lock = threading.Lock()  # of what is kept in files, between a scan that ends and the next
        self._loaded_files = False
        self._round = 0
        self._thread: threading.Thread | None = None
        self._scanning = self._closed = False
        self._seen.connect(self._take)
        self._ended.connect(self._end)
        self._verdict.connect(self._take_verdict)

    # ---- for the window ----

    @property
    def scanning(self) -> bool:
        """Whether folders are being looked through."""
        return self._scanning

    @property
    def reading(self) -> bool:
        """Whether headers are still to be read of models that are listed."""
        return bool(self._unread)

    def models(self) -> tuple[FoundModel, ...]:
        """All that is known now, the bundled guide first."""
        return tuple(sorted(self._models.values(), key=lambda model: (model.path != GUIDE, model.name.casefold())))

    def refresh(self, *, again: bool = False) -> None:
        """Look through all folders in the background; a scan that is running gives way.

        Args:
            again: Read models anew that could not be run.
        """
        self._start(scan=True, again=again)

    def judge_again(self) -> None:
        """Settings or memory have changed: judge all models anew."""
        if not self._scanning:
            self._start(scan=False, again=False)

    def verdict(self, model: FoundModel) -> Verdict:
        """Whether a model would run, and how fast; computed now if it is not known yet."""
        known = self._verdicts.get(model.path)
        if known is None:
            config = self._config()
            known = self._verdicts[model.path] = _judged(model, config, self._machine(config))
        return known

    def foresee(
        self, name: str, size_bytes: int, shape: ModelConfig, machine: HardwareProfile | None = None
    ) -> Verdict:
        """Whether a model that is not here yet would run, and how fast.

        Args:
            name: Where it would lie, by which nothing of it is kept.
            size_bytes: Of its files.
            shape: As its headers tell it.
            machine: From `machine`; None looks anew.
        """
        config = self._config()
        return _judged(FoundModel(name, name, "rooftop", size_bytes, shape), config, machine or self._machine(config))

    def known_verdict(self, path: str) -> Verdict | None:
        """The verdict on a model if it is known already."""
        return self._verdicts.get(path)

    def machine(self) -> HardwareProfile:
        """This computer as it would be without the model that is loaded."""
        return self._machine(self._config())

    def model_loaded(self, ready: Ready | None, path: str = "") -> None:
        """What is loaded makes room for the next model, and is remembered as used.

        Args:
            ready: None where nothing is loaded.
            path: The model's folder or file.
        """
        self._ready = ready
        if ready is not None:
            self._measure_machine(ready.planning.hardware)
        if ready is not None and path and path != GUIDE:
            model = self._models.get(path) or FoundModel(path, ready.model.name, "folder", 0, ready.model)
            self._on_files(lambda: self._used.add(model))
        if self._models:
            self.judge_again()

    def forget(self, path: str) -> None:
        """A model was deleted."""
        self._on_files(lambda: self._used.forget(path))
        self._models.pop(path, None)
        self._verdicts.pop(path, None)
        self.lost.emit(path)

    def close(self) -> None:
        """End the scan; nothing is announced any more, and nothing starts again."""
        self._closed = True
        self._round += 1
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join(CLOSE_TIMEOUT_S)

    # ---- the thread ----

    def _start(self, *, scan: bool, again: bool) -> None:
        if self._closed:
            return
        self._round += 1
        self._scanning = self._scanning or scan
        models = {} if scan else dict(self._models)
        before, work = self._thread, (self._round, self._places(), self._config())
        self._thread = threading.Thread(
            target=self._work, args=(before, *work, models, again), name="library", daemon=True
        )
        self._thread.start()

    def _work(
        self,
        before: threading.Thread | None,
        number: int,
        places: tuple[Place, ...],
        config: EngineConfig,
        models: dict[str, FoundModel],
        again: bool,
    ) -> None:
        """One round: scan unless models are given, then judge."""
        if before is not None:
            before.join()
        hardware = self._machine(config)
        waiting = list(models.values())
        if not models:
            found: set[str] = set()
            with self._lock:
                self._load_files(again=again)
                for model, is_new in self._scan(number, places):
                    found.add(model.path)
                    self._seen.emit(number, model)
                    if is_new:  # reading it took longer than judging will
                        self._verdict.emit(number, model.path, _judged(model, config, hardware))
                    else:
                        waiting.append(model)
            if number != self._round:
                return
            self._ended.emit(number, frozenset(found))
        for model in waiting:
            if number != self._round:
                return
            self._verdict.emit(number, model.path, _judged(model, config, hardware))
        if self._unread:
            with self._lock:
                self._read_rest(number, config, hardware)

    def _read_rest(self, number: int, config: EngineConfig, hardware: HardwareProfile) -> None:
        """Read the headers of what was only glanced at; a round that gives way leaves the rest to the next one."""
        for key, (candidate, glanced) in list(self._unread.items()):
            if number != self._round:
                break
            model = self._inspect(candidate)
            del self._unread[key]
            if model != glanced:
                self._seen.emit(number, model)
                self._verdict.emit(number, model.path, _judged(model, config, hardware))
        self._headers.save()

    def _load_files(self, *, again: bool) -> None:
        if not self._loaded_files:
            self._headers.load()
            self._used.load()
            self._loaded_files = True
        if again:
            self._headers.forget_refused()

    def _scan(self, number: int, places: tuple[Place, ...]) -> Iterator[tuple[FoundModel, bool]]:
        """All models, each once however many links lead to it, and whether it was read just now.

        Models whose drive is away come last.
        """
        seen: set[str] = set()
        files: set[tuple[int, int]] = set()

        def stopped() -> bool:
            return number != self._round

        self._unread.clear()
        yield bundled_guide(), True
        for place in places:
            for candidate in candidates(place, stopped):
                if str(candidate.path) not in seen and not (candidate.identity and candidate.identity <= files):
                    seen.add(str(candidate.path))
                    files |= candidate.identity
                    yield self._read(candidate)
                if stopped():
                    return
        for path in self._used.paths():
            if path not in seen:
                yield from self._elsewhere(path, seen, files)
        self._headers.drop_all_but(seen)
        self._headers.save()

    def _elsewhere(self, path: str, seen: set[str], files: set[tuple[int, int]]) -> Iterator[tuple[FoundModel, bool]]:
        """A model that was used and lies in no folder that is looked through, or on a drive that is away."""
        candidate = candidate_at(Path(path), "folder")
        if candidate is not None and not candidate.identity <= files:
            seen.add(path)
            yield self._read(candidate)
        elif candidate is None and (offline := self._used.offline(path)) is not None:
            yield offline, False

    def _read(self, candidate: Candidate) -> tuple[FoundModel, bool]:
        """A model, and whether its headers had to be read for it."""
        key = str(candidate.path)
        kept = self._headers.find(key, candidate.stamp)
        if kept is not None:
            return dataclasses.replace(kept, source=candidate.source), False
        glanced = glance(candidate)
        if glanced is None:
            return self._inspect(candidate), True
        self._unread[key] = candidate, glanced
        return glanced, False

    def _inspect(self, candidate: Candidate) -> FoundModel:
        """Read a model's headers, and keep what they say."""
        model = inspect(candidate)
        self._headers.put(str(candidate.path), model)
        return model

    def _on_files(self, change: Callable[[], None]) -> None:
        """Change what is kept in files, on a thread of its own: a scan may hold them for long."""

        def work() -> None:
            with self._lock:
                self._load_files(again=False)
                change()

        threading.Thread(target=work, name="library-files", daemon=True).start()

    # ---- back on the window's thread ----

    def _take(self, number: int, model: FoundModel) -> None:
        if number == self._round and self._models.get(model.path) != model:
            self._models[model.path] = model
            self._verdicts.pop(model.path, None)
            self.found.emit(model)

    def _end(self, number: int, paths: frozenset[str]) -> None:
        if number != self._round:
            return
        for path in [path for path in self._models if path not in paths]:
            del self._models[path]
            self._verdicts.pop(path, None)
            self.lost.emit(path)
        self._scanning = False
        self.scanned.emit()

    def _take_verdict(self, number: int, path: str, verdict: Verdict) -> None:
        if number == self._round and path in self._models:
            self._verdicts[path] = verdict
            self.judged.emit(path)

    def _measure_machine(self, hardware: HardwareProfile) -> None:
        """Have the machine's speed known before the page opens: now that a model is loaded, nothing computes."""
        config = self._config()

        def work() -> None:
            with contextlib.suppress(RooftopError):  # impossible settings, which every verdict tells of
                planned_speed(config, hardware)

        threading.Thread(target=work, name="machine-speed", daemon=True).start()

    def _machine(self, config: EngineConfig) -> HardwareProfile:
        return machine_without(probe_hardware(config.gpu_index), self._ready)


def _judged(model: FoundModel, config: EngineConfig, hardware: HardwareProfile) -> Verdict:
    """A verdict, also where the settings themselves are impossible."""
    try:
        return judge(model, config, hardware)
    except RooftopError as error:
        return Verdict("cannot_run", problem=error.message, remedy=error.remedy)
