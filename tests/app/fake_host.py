"""An engine host that plays a script: no process, no model, every answer at the next poll."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass, field, replace

from engine.messages import (
    Cancel,
    ErrorReport,
    Event,
    Failed,
    Finished,
    FinishReason,
    Generate,
    Load,
    Loading,
    Passes,
    PromptProgress,
    Ready,
    Recalibrate,
    Reconfigure,
    Request,
    Timings,
    Token,
    Usage,
)
from tests.app.snapshots import Shape, Step, make_passes, make_ready, make_snapshot

GIB = 1 << 30
STOPPED = Failed(ErrorReport("engine-stopped", "The engine stopped.", "Restart it to go on."))
CANCELLED = Failed(ErrorReport("cancelled", "Loading was cancelled.", "Load it again."))


@dataclass
class FakeHost:
    """Answers requests as an engine would.

    Attributes:
        reply: What every reply says.
        tokens_per_poll: How much of it one poll brings.
        hold_load: Stay in the load until `release`.
        hold_reply: Send the first tokens of a reply, then nothing until `release` or Cancel.
        deaf: Do not answer Cancel.
        load_error: Fail a load with this.
        settings_error: Refuse new settings with this.
        shape: The model that `Ready` describes.
        simulated: Whether its GPU is.
        kernels: What computes on its CPU.
    """

    reply: str = "Hello **world**."
    tokens_per_poll: int = 8
    hold_load: bool = False
    hold_reply: bool = False
    deaf: bool = False
    load_error: ErrorReport | None = None
    settings_error: ErrorReport | None = None
    shape: Shape = "guide"
    simulated: bool = True
    kernels: str = "avx2"
    requests: list[Request] = field(default_factory=list)
    stopped: int = 0
    pid: int | None = None
    _events: deque[Event] = field(default_factory=deque)
    _tokens: deque[str] = field(default_factory=deque)
    _generating: bool = False
    _loading: bool = False
    _dead: bool = False
    _written: int = 0

    @property
    def ready(self) -> Ready:
        """What a load answers."""
        load = next((request for request in reversed(self.requests) if isinstance(request, Load)), None)
        on_disk = load is not None and load.config.experts_on_disk
        return make_ready(self.shape, "simulated" if self.simulated else "cuda", kernels=self.kernels, on_disk=on_disk)

    def send(self, request: Request) -> None:
        """Take a request and queue its answer."""
        self.requests.append(request)
        if self._dead:
            if not isinstance(request, Cancel):
                self._events.append(STOPPED)
            return
        match request:
            case Load():
                self._loading = True
                self._events.extend(
                    [Loading("checking", 0, 0), Loading("dense", GIB, 3 * GIB), Loading("experts", 2 * GIB, 3 * GIB)]
                )
                if not self.hold_load:
                    self._finish_load()
            case Generate():
                self._generating, self._written = True, 0
                self._events.extend([PromptProgress(16, 64), PromptProgress(64, 64)])
                self._tokens = deque(re.findall(r"\s*\S+\s?", self.reply))
            case Reconfigure() if self.settings_error is not None:
                self._events.append(Failed(self.settings_error))
            case Reconfigure() | Recalibrate():
                self._events.append(self.ready)
            case Cancel():
                self._cancel()
            case _:
                pass

    def poll(self) -> list[Event]:
        """What has happened since the last call."""
        events = list(self._events)
        self._events.clear()
        if self._generating and not events:
            before = self._written
            for _ in range(self.tokens_per_poll):
                if self._tokens and not (self.hold_reply and self._written >= self.tokens_per_poll):
                    events.append(Token(self._written, self._tokens.popleft()))
                    self._written += 1
            if self._written > before:
                events.append(Passes(make_passes(self.ready, self._written)[before:]))
            events.append(make_snapshot(self.ready, Step(self._written)))
            if not self._tokens:
                events.append(self._finish_reply("stop"))
        return events

    def release(self) -> None:
        """End a held load or reply."""
        if self._loading:
            self._finish_load()
        self.hold_load = self.hold_reply = False

    def tell(self, because: str) -> None:
        """Say that something changed of itself."""
        self._events.append(replace(self.ready, because=because))

    def die(self) -> None:
        """The process ends unasked."""
        self._dead, self._generating, self._loading = True, False, False
        self._events.append(STOPPED)

    def stop(self, timeout_s: float = 3.0) -> None:
        """Count how often this was asked."""
        assert timeout_s > 0
        self.stopped += 1

    def _finish_load(self) -> None:
        self._loading = False
        if self.load_error is not None:
            self._events.append(Failed(self.load_error))
        else:
            self._events.extend([self.ready, make_snapshot(self.ready)])

    def _finish_reply(self, reason: FinishReason) -> Finished:
        self._generating = False
        return Finished(reason, Usage(64, 32, max(1, self._written)), Timings(0.32, 410.0, 42.5))

    def _cancel(self) -> None:
        if self.deaf:
            return
        if self._loading:
            self._loading = False
            self._events.append(CANCELLED)
        elif self._generating:
            # Tokens that were under way when the Cancel came.
            self._events.extend([Token(0, "late "), self._finish_reply("cancelled")])
