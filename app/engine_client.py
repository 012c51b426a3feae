"""The window's side of the engine: requests out, events in, as Qt signals. The only file that starts the engine.

One request is under way at a time; the others wait here. A request is answered by `Ready`, `Finished` or `Failed`; a
`Ready` that says what it is `because` of answers none. `CountTokens` goes past all others, and so does its answer.

    STOPPED --load--> STARTING --first event--> LOADING --Ready--> READY <--Finished-- GENERATING
                                                                     '---generate------^
    cancel: LOADING or GENERATING -> STOPPING until the engine's answer, then FAILED (load) or READY (reply)
    any state -> FAILED when a load fails or the engine dies; restart() or load() leave it; shutdown() -> STOPPED

A GPU that was lost spoils its process: the client starts another one by itself and loads the model again, as `Recovery`
says, on the CPU in the end. The reply so far stands.

Cancelling a reply counts as done at once: its late tokens are dropped, and a new request waits for its `Finished`.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from enum import Enum
from typing import TYPE_CHECKING, Protocol

from PySide6.QtCore import QObject, QTimer, Signal

from app.event_feed import Gathered, PollTimer, gather
from app.language import tr, translated
from app.recovery import Recovery
from engine.errors import RooftopError
from engine.messages import (
    Cancel,
    CountTokens,
    ErrorReport,
    Event,
    Failed,
    Finished,
    Generate,
    LeftOut,
    Load,
    Loading,
    PromptProgress,
    Ready,
    Recalibrate,
    Reconfigure,
    Request,
    Shutdown,
    TokensCounted,
    TorchBuild,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.config import EngineConfig, SamplingParams
    from engine.messages import ChatMessage, Overflow

log = logging.getLogger(__name__)

STOP_TIMEOUT_S = 3.0
KILL_TIMEOUT_S = 0.2
STUCK_AFTER_MS = 15_000
ENGINE_STOPPED = "engine-stopped"
GPU_LOST = "gpu-lost"


class EngineState(Enum):
    """See the module's diagram."""

    STOPPED = "stopped"
    STARTING = "starting"
    LOADING = "loading"
    READY = "ready"
    GENERATING = "generating"
    STOPPING = "stopping"
    FAILED = "failed"


class Host(Protocol):
    """What the client needs of `engine.host.EngineHost`."""

    @property
    def pid(self) -> int | None:
        """The engine's process."""

    def send(self, request: Request) -> None:
        """Hand a request to the engine."""

    def poll(self) -> list[Event]:
        """The events since the last call."""

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> object:
        """End the engine, by force after the timeout."""


class EngineClient(QObject):
    """Talks to one engine at a time.

    Args:
        start_host: Starts an engine; raises a `RooftopError` when it cannot.
        parent: The owner.

    Signals:
        loading(Loading), ready(Ready), prompt_progress(PromptProgress), snapshot(Snapshot): As the engine says.
        left_out(LeftOut): The reply is written without the conversation's older messages.
        counted(TokensCounted): The answer to `count_tokens`.
        text(str): New text of the reply, gathered to 30 Hz.
        passes(tuple[PassRecord, ...]): What the passes behind the latest tokens did, gathered likewise.
        finished(Finished): A reply is complete or was cancelled.
        failed(ErrorReport, str): What failed: "load", "reply", "settings" or "engine" (it is gone).
        state_changed(EngineState): After every change.
        torch_told(TorchBuild): Which torch the engine has, where a GPU component is installed.
        recovered(str): A sentence: the model is loaded again after the GPU was lost, and where it runs.
    """

    loading = Signal(object)
    ready = Signal(object)
    prompt_progress = Signal(object)
    left_out = Signal(object)
    counted = Signal(object)
    text = Signal(str)
    passes = Signal(object)
    snapshot = Signal(object)
    finished = Signal(object)
    failed = Signal(object, str)
    state_changed = Signal(object)
    torch_told = Signal(object)
    recovered = Signal(str)

    def __init__(self, start_host: Callable[[], Host], parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._start_host = start_host
        self._host: Host | None = None
        self._load: Load | None = None
        self._current: Request | None = None
        self._waiting: deque[Request] = deque()
        self._cancelling = False
        self._model_ready = False
        self._recovery = Recovery()
        self._state = EngineState.STOPPED
        self._timer = PollTimer(self)
        self._timer.timeout.connect(self._poll)
        self._stuck_timer = QTimer(self, singleShot=True, interval=STUCK_AFTER_MS)
        self._stuck_timer.timeout.connect(self._stuck)

    @property
    def state(self) -> EngineState:
        """Where the diagram stands."""
        return self._state

    @property
    def model_ready(self) -> bool:
        """Whether a model is loaded, also while it is at work."""
        return self._model_ready

    @property
    def engine_pid(self) -> int | None:
        """The engine's process, None without one."""
        return self._host.pid if self._host is not None else None

    @property
    def poll_interval_ms(self) -> int:
        """How often the engine is asked for events; 0 while there is none."""
        return self._timer.interval() if self._timer.isActive() else 0

    # ---- requests -----------------------------------------------------------------------------------------------

    def load(self, model: str, config: EngineConfig) -> None:
        """Load a model, giving up the one before and any reply in progress."""
        self._recovery.forget_model()
        self._load_with(model, config)

    def _load_with(self, model: str, config: EngineConfig) -> None:
        self._load = Load(model, config)
        self._model_ready = False
        self._waiting.clear()
        self.cancel()
        if self._host is None:
            self._enter(EngineState.STARTING)
        if self._ensure_host():
            self._request(self._load)

    def generate(
        self,
        messages: tuple[ChatMessage, ...],
        sampling: SamplingParams,
        overflow: Overflow = "stop",
        *,
        continue_reply: bool = False,
    ) -> None:
        """Answer a conversation, or let its last reply go on; after a `cancel` as soon as the engine is free."""
        self._request(Generate(messages, sampling, overflow, continue_reply))

    def count_tokens(self, number: int, messages: tuple[ChatMessage, ...], texts: tuple[str, ...]) -> None:
        """Count tokens, as in `CountTokens`, also while a reply is written; without a model nothing happens."""
        if self._host is not None and self._model_ready:
            self._host.send(CountTokens(number, messages, texts))
            self._timer.wake()

    def reconfigure(self, config: EngineConfig) -> None:
        """Take other settings, after the reply in progress."""
        config = self._recovery.in_force(config)
        if self._load is not None:
            self._load = Load(self._load.model, config)
        if self._model_ready:
            self._request(Reconfigure(config))

    def recalibrate(self) -> None:
        """Measure the cost model again."""
        if self._model_ready:
            self._request(Recalibrate())

    def cancel(self) -> None:
        """Stop the load or reply in progress, and forget a reply that still waits."""
        self._waiting = deque(request for request in self._waiting if not isinstance(request, Generate))
        if self._host is None or self._cancelling or not isinstance(self._current, Load | Generate | Recalibrate):
            return
        self._cancelling = True
        self._stuck_timer.start()
        self._host.send(Cancel())
        self._enter(EngineState.STOPPING)

    def restart(self) -> None:
        """Load the same model again, in a new engine if the old one is gone."""
        if self._load is not None:
            self.load(self._load.model, self._load.config)

    def renew(self) -> None:
        """Load the same model again in a new engine; only while no reply is written."""
        self._drop_host(KILL_TIMEOUT_S)
        self.restart()

    def shutdown(self) -> None:
        """End the engine; returns when it is gone."""
        if self._host is not None:
            self._host.send(Shutdown())
        self._drop_host()
        self._enter(EngineState.STOPPED)

    # ---- the one request under way ------------------------------------------------------------------------------

    def _ensure_host(self) -> bool:
        if self._host is None:
            try:
                self._host = self._start_host()
            except RooftopError as error:
                log.error("The engine did not start: %s", error)  # noqa: TRY400 - a sentence, not a crash
                self._fail(_in_words(ErrorReport.of(error)), "engine")
                return False
        return True

    def _request(self, request: Request) -> None:
        self._waiting.append(request)
        self._send_next()

    def _send_next(self) -> None:
        if self._current is not None or self._host is None or not self._waiting:
            return
        self._current = self._waiting.popleft()
        self._cancelling = False
        self._host.send(self._current)
        self._timer.wake()
        if isinstance(self._current, Load):
            self._model_ready = False
            self._enter(EngineState.STARTING)
        elif isinstance(self._current, Recalibrate):
            self._enter(EngineState.LOADING)
        elif isinstance(self._current, Generate):
            self._enter(EngineState.GENERATING)

    def _answered(self, tell: Callable[[], None]) -> None:
        """The request under way is done: say so, then go on with the next, or rest in the state that fits."""
        self._current = None
        self._cancelling = False
        self._stuck_timer.stop()
        tell()  # whoever listens may have sent the next request already
        self._send_next()
        if self._current is None and self._host is not None:
            self._enter(EngineState.READY if self._model_ready else EngineState.FAILED)

    # ---- events -------------------------------------------------------------------------------------------------

    def _poll(self) -> None:
        if self._host is None:
            return
        events = self._host.poll()
        self._timer.pace(quiet=not events and self._current is None)
        for event in gather(events):
            if isinstance(event, Gathered):
                self._emit_gathered(event)
            else:
                self._handle(event)

    def _emit_gathered(self, gathered: Gathered) -> None:
        if gathered.records:
            self.passes.emit(tuple(gathered.records))
        if gathered.text and self._state is EngineState.GENERATING:
            self.text.emit("".join(gathered.text))
        if gathered.snapshot is not None:
            self.snapshot.emit(gathered.snapshot)

    def _handle(self, event: Event) -> None:
        match event:
            case Loading():
                self._on_loading(event)
            case Ready():
                self._on_ready(event)
            case TokensCounted():
                self.counted.emit(event)
            case TorchBuild():
                self.torch_told.emit(event)
            case LeftOut() | PromptProgress():
                self._on_prompt(event)
            case Finished():
                self._answered(lambda: self.finished.emit(event))
            case Failed(error):
                self._failed(error)
            case _:
                log.warning("An event of an unknown kind: %s", type(event).__name__)

    def _on_loading(self, event: Loading) -> None:
        if not self._cancelling:
            if isinstance(self._current, Load):
                self._enter(EngineState.LOADING)
            self.loading.emit(event)

    def _on_prompt(self, event: LeftOut | PromptProgress) -> None:
        if self._state is EngineState.GENERATING:
            (self.left_out if isinstance(event, LeftOut) else self.prompt_progress).emit(event)

    def _on_ready(self, event: Ready) -> None:
        if not event.because:
            self._model_ready = True
            self._answered(lambda: self.ready.emit(event))
            if recovered := self._recovery.words_when_ready(event):
                self.recovered.emit(recovered)
        elif self._model_ready:  # else another model is wanted already
            self.ready.emit(event)

    def _failed(self, error: ErrorReport) -> None:
        log.warning("The engine reports %s: %s %s", error.code, error.message, error.remedy)
        error = _in_words(error)
        if error.code == ENGINE_STOPPED:
            self._fail(error, "engine")
            return
        what = "load" if isinstance(self._current, Load) else "settings"
        what = "reply" if isinstance(self._current, Generate) else what
        if error.code == GPU_LOST and self._load is not None:
            self._recover(error, what, self._load)
            return
        # A load that gave way to another load needs no message.
        superseded = what == "load" and any(isinstance(request, Load) for request in self._waiting)
        self._answered(lambda: None if superseded else self.failed.emit(error, what))

    def _recover(self, error: ErrorReport, what: str, load: Load) -> None:
        """Another engine for the same model: the old one's process cannot use the GPU any more."""
        self._drop_host(KILL_TIMEOUT_S)
        if what == "reply":
            by_itself = tr("The model is being loaded again; the reply so far is kept.")
            self.failed.emit(ErrorReport(error.code, error.message, by_itself), what)
        self._load_with(load.model, self._recovery.settings_after_loss(load.config, time.monotonic()))

    def _stuck(self) -> None:
        """The engine does not answer a Cancel: only its end gives the user a way on."""
        self._fail(
            ErrorReport(ENGINE_STOPPED, tr("The engine did not stop when asked and was ended."), tr("Restart it.")),
            "engine",
        )

    def _fail(self, error: ErrorReport, what: str) -> None:
        self._drop_host(KILL_TIMEOUT_S)
        self.failed.emit(error, what)
        self._enter(EngineState.FAILED)

    def _drop_host(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        host, self._host = self._host, None
        self._timer.stop()
        self._stuck_timer.stop()
        self._waiting.clear()
        self._current = None
        self._cancelling = False
        self._model_ready = False
        if host is not None:
            host.stop(timeout_s)

    def _enter(self, state: EngineState) -> None:
        if state is not self._state:
            log.debug("Engine client: %s -> %s", self._state.name, state.name)
            self._state = state
            self.state_changed.emit(state)


def _in_words(error: ErrorReport) -> ErrorReport:
    """An error in the window's language, in which it is also kept with the reply that it ended."""
    return ErrorReport(error.code, translated(error.message), translated(error.remedy))
