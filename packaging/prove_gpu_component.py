"""Installs the real GPU component and lets the guide answer with it: `python packaging/prove_gpu_component.py`.

Fetches some gigabytes from where the list says, through the app's own code, unpacks them, starts the engine through
the app's own host, and removes everything again. No GPU is needed: without one the guide answers on the CPU, with the
CUDA build of torch. Prints one JSON object; the exit code is 1 where anything is not as it should be.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from app.gpu_component import wheel_address
from app.gpu_install import Installation
from app.gpu_pins import read_pins
from app.gpu_state import Progress
from engine import EngineConfig, SamplingParams
from engine.errors import RooftopError
from engine.gpu_packages import Build, find_component
from engine.host import ProcessHost
from engine.messages import ChatMessage, Failed, Finished, Generate, Load, Ready, Token, TorchBuild

QUESTION = "what is an expert?"
ANSWER_TIMEOUT_S = 120.0


class Watch:
    """Tells how far it is, and keeps how long each step took."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._step, self._began_s, self._told_s = "", time.monotonic(), 0.0

    def tell(self, progress: Progress) -> None:
        """A step goes on, or another one begins."""
        now = time.monotonic()
        if self._step:
            self.seconds[self._step] = self.seconds.get(self._step, 0.0) + (now - self._began_s)
        self._began_s = now
        if progress.step != self._step or now - self._told_s > 5:
            self._step, self._told_s = progress.step, now
            sys.stderr.write(
                f"{progress.step}: {progress.done_bytes / 1e6:.0f} of {progress.total_bytes / 1e6:.0f} MB\n"
            )


def ask(folder: Path) -> dict[str, object]:
    """Start an engine with the component, load the guide and ask it something."""
    host = ProcessHost(packages=lambda: folder)
    began_s = time.monotonic()
    told: dict[str, object] = {"reply": ""}
    host.start()
    host.send(Load("guide", EngineConfig()))
    try:
        while time.monotonic() - began_s < ANSWER_TIMEOUT_S:
            host.wait(1.0)
            for event in host.poll():
                match event:
                    case TorchBuild():
                        told |= {"torch": event.version, "cuda": event.cuda, "problem": str(event.problem)}
                        told["torch_after_s"] = round(time.monotonic() - began_s, 2)
                    case Ready() if not event.because:
                        told |= {"device": event.device_name, "ready_after_s": round(time.monotonic() - began_s, 2)}
                        host.send(Generate((ChatMessage("user", QUESTION),), SamplingParams(max_tokens=48)))
                    case Token():
                        told["reply"] = f"{told['reply']}{event.text}"
                    case Failed():
                        return {**told, "error": f"{event.error.message} {event.error.remedy}"}
                    case Finished():
                        return {**told, "decode_tokens_per_s": round(event.timings.decode_tokens_per_s)}
        return {**told, "error": "no answer"}
    finally:
        host.stop()


def main() -> int:
    """Prove it; returns the exit code."""
    parser = argparse.ArgumentParser(description="Install the real GPU component and let the guide answer with it.")
    parser.add_argument("--root", type=Path, help="where to install; else a temporary folder")
    parser.add_argument("--mirror", default="", help="a package index to fetch from")
    parser.add_argument("--folder", type=Path, help="a folder that has the wheels, instead of fetching them")
    parser.add_argument("--keep", action="store_true", help="leave everything there")
    options = parser.parse_args()
    pins = read_pins()
    if pins is None:
        sys.stderr.write("There is no list of wheels for this platform.\n")
        return 1
    root = options.root or Path(tempfile.mkdtemp(prefix="rooftop-gpu-"))
    watch = Watch()
    installation = Installation(
        pins,
        root,
        address=lambda wheel: wheel_address(options.mirror, wheel),
        told=watch.tell,
        stopping=threading.Event(),
    )
    try:
        installation.run(options.folder)
        watch.tell(Progress("trying"))
        began_s = time.monotonic()
        own = Build(pins.build.version, "", pins.build.python)
        found = find_component(root, own)
        looked_s = time.monotonic() - began_s
        told = ask(installation.target)
    except RooftopError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    finally:
        used = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
        if not options.keep:
            shutil.rmtree(root, ignore_errors=True)
    figures = {
        "wheels": len(pins.wheels),
        "download_bytes": pins.download_bytes,
        "unpacked_bytes": pins.unpacked_bytes,
        "used_bytes": used,
        "seconds": {step: round(seconds, 1) for step, seconds in watch.seconds.items()},
        "state": found.state,
        "look_s": round(looked_s, 3),
        **told,
    }
    sys.stdout.write(json.dumps(figures, indent=1) + "\n")
    right = found.state == "ready" and told.get("cuda") == pins.build.cuda and told["reply"] and "error" not in told
    return 0 if right else 1


if __name__ == "__main__":
    raise SystemExit(main())
