"""`rooftop chat`: the same engine, behind the same messages, in a terminal.

Answers go to stdout, everything else to stderr, so that a pipe carries the conversation alone. Ctrl+C stops a reply;
at the prompt it quits. What the model writes loses its control characters: a terminal obeys them.
"""

from __future__ import annotations

import importlib
import io
import os
import signal
import sys
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager, suppress
from types import FrameType

import platformdirs

from app.engine_words import phase_text
from app.language import tr
from app.presets import DEFAULT_KEY, Preset
from engine.config import EngineConfig
from engine.experts.explain import explain_layer
from engine.host import EngineHost, start_host
from engine.messages import (
    Cancel,
    ChatMessage,
    ErrorReport,
    Event,
    ExpertRun,
    Failed,
    Finished,
    Generate,
    LayerTrace,
    Load,
    Loading,
    PromptProgress,
    Ready,
    Snapshot,
    Token,
    TorchBuild,
)

DONE, FAILED, BAD_INPUT = 0, 1, 2

HELP = """\
/help     this list
/new      forget the conversation
/map      which experts are in VRAM, layer by layer
/why      what ran where in the latest pass; /why 3 explains layer 3
/quit     leave (also Ctrl+D; Ctrl+C stops a reply)"""

_INPUT_ERRORS = (
    "input",
    "checkpoint",
    "model-missing",
    "unsupported-model",
    "configuration",
    "does-not-fit",
    "prompt-too-long",
)
_LETTERS = {"gpu": "G", "stream": "S", "cpu": "C"}
_POLL_S = 0.1
_CONTROLS = {code: None for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"}


def main(model: str, in_process: bool, config: EngineConfig, preset: Preset) -> int:
    """Chat until the input ends.

    Args:
        model: What to load.
        in_process: Run the engine inside this process.
        config: How to run it.
        preset: What every reply is written with.

    Returns:
        The exit code: 0 done, 2 the model or the settings cannot be used, 1 the engine failed.
    """
    _prepare_streams()
    log = platformdirs.user_log_path("rooftop", appauthor=False) / "engine.log"
    host = start_host(in_process=in_process, log_path=log)
    try:
        return TerminalChat(host, preset).run(model, config)
    except KeyboardInterrupt:
        _note("")
        return FAILED
    except BrokenPipeError:
        # Whoever read stdout has left; its last flush, at exit, must not fail too.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    finally:
        with _counted_interrupts():  # an impatient Ctrl+C must not leave the engine behind
            host.stop()


def _prepare_streams() -> None:
    """No character that a console lacks or a pipe garbles ends the chat; lines can be edited where they are typed."""
    for stream in (sys.stdin, sys.stdout):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    if sys.stdin.isatty():
        with suppress(ImportError):
            importlib.import_module("readline")


class TerminalChat:
    """One conversation with one engine.

    Args:
        host: The started engine.
        preset: What every reply is written with.
    """

    def __init__(self, host: EngineHost, preset: Preset) -> None:
        """See the class."""
        self._host = host
        self._preset = preset
        self._messages: list[ChatMessage] = []
        self._ready: Ready | None = None
        self._snapshot: Snapshot | None = None
        self._code = DONE
        self._asks = sys.stdin.isatty()
        self._watched = sys.stderr.isatty()

    def run(self, model: str, config: EngineConfig) -> int:
        """Load a model and answer every line; returns the exit code."""
        if not self._load(model, config):
            return self._code
        for line in self._lines():
            if line.startswith("/"):
                if not self._obey(line):
                    break
            elif line and not self._reply(line):
                break
        return self._code

    def _lines(self) -> Iterator[str]:
        """What the user types, or a pipe brings, line by line."""
        while True:
            try:
                yield input("> " if self._asks else "").strip()
            except (EOFError, KeyboardInterrupt):
                if self._asks:
                    print()
                return

    # ---- the engine ----

    def _load(self, model: str, config: EngineConfig) -> bool:
        self._host.send(Load(model, config))
        with closing(self._events()) as events:
            for event in events:
                if isinstance(event, Loading):
                    share = f" {event.done_bytes / event.total_bytes:.0%}" if event.total_bytes else ""
                    self._progress(f"{phase_text(event.phase)}{share}")
                elif isinstance(event, Ready):
                    self._ready = event
                elif isinstance(event, Failed):
                    self._complain(event.error)
                    return False
                if self._ready and self._snapshot:
                    break
        assert self._ready is not None
        self._progress("")
        _note(
            f"{self._ready.model.name} on {self._ready.device_name}: {self._ready.plan.resident_experts} of "
            f"{self._ready.model.total_experts} experts in VRAM. /help lists the commands."
        )
        if self._preset.key != DEFAULT_KEY:
            _note(tr("Replies follow the preset {name}.").format(name=self._preset.name))
        return True

    def _reply(self, text: str) -> bool:
        """Answer one message; False when the engine is gone."""
        asked = [*self._messages, ChatMessage("user", text)]
        prompt = self._preset.system_prompt.strip()
        system = [ChatMessage("system", prompt)] if prompt else []
        self._host.send(Generate((*system, *asked), self._preset.sampling))
        answer = ""
        with closing(self._events()) as events:
            for event in events:
                if isinstance(event, PromptProgress) and event.done_tokens < event.total_tokens:
                    self._progress(f"Reading {event.done_tokens} of {event.total_tokens} tokens")
                elif isinstance(event, Token):
                    self._progress("" if not answer else None)
                    sys.stdout.write(event.text.translate(_CONTROLS))
                    sys.stdout.flush()
                    answer += event.text
                elif isinstance(event, Ready):
                    self._ready = event
                elif isinstance(event, Failed):
                    sys.stdout.write("\n" if answer else "")
                    self._complain(event.error)
                    return event.error.code != "engine-stopped"
                elif isinstance(event, Finished):
                    self._close_line(event)
                    break
        if answer:
            self._messages = [*asked, ChatMessage("assistant", answer)]
        return True

    def _close_line(self, event: Finished) -> None:
        sys.stdout.write("\n")
        sys.stdout.flush()
        stopped = {"cancelled": ", stopped", "length": ", length limit", "context": ", context full"}
        _note(
            f"[{event.usage.completion_tokens} tokens, {event.timings.decode_tokens_per_s:.1f} tokens/s"
            f"{stopped.get(event.reason, '')}]"
        )

    def _events(self) -> Generator[Event]:
        """Events as they come; Ctrl+C asks the engine to stop, a second one gives up waiting."""
        with _counted_interrupts() as interrupts:
            heard = 0
            while True:
                self._host.wait(_POLL_S)
                if len(interrupts) > heard:
                    if heard:
                        raise KeyboardInterrupt
                    heard = len(interrupts)
                    self._host.send(Cancel())
                    if self._watched:
                        _note("\nStopping. Ctrl+C again leaves.")
                for event in self._host.poll():
                    if isinstance(event, Snapshot):
                        self._snapshot = event
                    elif isinstance(event, TorchBuild) and event.problem:
                        _note(f"rooftop: {event.problem}")
                    yield event

    def _complain(self, error: ErrorReport) -> None:
        self._progress("")
        self._code = BAD_INPUT if error.code in _INPUT_ERRORS else FAILED
        _note(f"rooftop: {error.message} {error.remedy}")

    def _progress(self, text: str | None) -> None:
        """A line that rewrites itself, where somebody watches; None leaves it."""
        if self._watched and text is not None:
            sys.stderr.write(f"\r\x1b[K{text}")
            sys.stderr.flush()

    # ---- commands ----

    def _obey(self, line: str) -> bool:
        """Carry out a command; False to leave."""
        name, _, argument = line.partition(" ")
        if name == "/quit":
            return False
        if name == "/new":
            self._messages = []
            _note("The conversation starts anew.")
        elif name == "/map":
            _note("\n".join(self._map_lines()))
        elif name == "/why":
            _note("\n".join(self._why_lines(argument.strip())))
        else:
            _note(HELP if name == "/help" else f"There is no {name}. /help lists the commands.")
        return True

    def _map_lines(self) -> list[str]:
        """Layers x experts: G lives in VRAM, S was streamed there in the latest pass, . is in RAM."""
        assert self._ready is not None
        assert self._snapshot is not None
        streamed = {
            trace.layer: {run.expert for run in trace.runs if run.place == "stream"} for trace in self._snapshot.layers
        }
        lines = ["G in VRAM, S streamed in the latest pass, . in RAM"]
        for layer, resident in enumerate(self._snapshot.resident_by_layer):
            letters = (
                "G" if expert in resident else "S" if expert in streamed.get(layer, ()) else "."
                for expert in range(self._ready.model.experts)
            )
            lines.append(f"{layer:3} {''.join(letters)}")
        return lines

    def _why_lines(self, argument: str) -> list[str]:
        """Each layer's latest pass as a strip of letters, or one layer's in sentences."""
        assert self._ready is not None
        assert self._snapshot is not None
        has_gpu = self._ready.plan.device != "cpu"
        traces = {str(trace.layer): trace for trace in self._snapshot.layers}
        if not traces:
            return ["Nothing has run yet. Ask something first."]
        if argument:
            trace = traces.get(argument)
            return [explain_layer(trace, has_gpu=has_gpu)] if trace else [f"There is no layer {argument} to explain."]
        slowest = max(traces.values(), key=lambda trace: max(trace.measured_cpu_s, trace.measured_gpu_s))
        return [
            "Expert by expert: G on the GPU, S streamed to it, C on the CPU",
            *map(_strip, traces.values()),
            "The slowest:",
            explain_layer(slowest, has_gpu=has_gpu),
        ]


def _strip(trace: LayerTrace) -> str:
    """One layer on one line: which experts ran, and where."""

    def word(run: ExpertRun) -> str:
        return f"{run.expert}{_LETTERS[run.place]}"

    return f"{trace.layer:3} {' '.join(map(word, trace.runs))}"


@contextmanager
def _counted_interrupts() -> Iterator[list[int]]:
    """Counts Ctrl+C instead of raising in the middle of something."""
    seen: list[int] = []

    def count(number: int, _frame: FrameType | None) -> None:
        seen.append(number)

    before = signal.signal(signal.SIGINT, count)
    try:
        yield seen
    finally:
        signal.signal(signal.SIGINT, before)


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
