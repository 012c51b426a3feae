"""`python -m engine plan | generate | logits | bench | compare | download | convert | verify`.

The engine without a window.

Exit codes: 0 done, 2 bad usage or input, 1 failed. An error is one line on stderr. With `--json` stdout holds one JSON
object and nothing else. `plan` needs neither weights nor torch.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Never, TextIO, get_args

import platformdirs

from engine.bench.gpu.command import add_suite_options, run_suite
from engine.config import EngineConfig, IsaName, KvPrecision
from engine.convert.command import add_convert_options, add_verify_options, run_convert, run_verify
from engine.errors import ConfigurationError, EngineFailure, InputError, RooftopError
from engine.gpu_packages import import_torch, refuse, usable_packages
from engine.hub.command import add_download_options, run_download
from engine.messages import ChatMessage, Event, Finished, Loading, PromptProgress, Token
from engine.plan_text import plan_as_json, plan_as_lines
from engine.sampling_options import add_sampling_options, sampling_of
from engine.sentences import join, say
from engine.sizes import parse_bytes

if TYPE_CHECKING:
    from engine.engine import Engine

DONE, FAILED, BAD_INPUT = 0, 1, 2

_APP = "rooftop"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: Those of the command line without the program's name; None takes the process's.

    Returns:
        The exit code.
    """
    try:
        options = _parser().parse_args(arguments)
        command: Callable[[argparse.Namespace, TextIO], int] = options.run
        if command not in (_plan, _download):
            _take_gpu_packages()
        out = sys.stdout
        with contextlib.redirect_stdout(sys.stderr) if options.json else contextlib.nullcontext():
            code = command(options, out)
        out.flush()
    except RooftopError as error:
        _tell(str(error))
        return BAD_INPUT if isinstance(error, InputError) else FAILED
    except KeyboardInterrupt:
        return FAILED
    except BrokenPipeError:
        # Whoever read stdout has left; its last flush, at exit, must not fail too.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    return code


def _take_gpu_packages() -> None:
    """Compute with the GPU component where one is installed.

    Raises:
        EngineFailure: It cannot be imported, and will not be tried again.
    """
    packages = usable_packages() if "torch" not in sys.modules else None
    if packages is None:
        return
    _, reason = import_torch(packages)
    if reason:
        refuse(packages, reason)
        raise EngineFailure(
            join([say("GPU support could not be used."), reason]),
            say("Start this again: the CPU computes alone until you have repaired GPU support in the settings."),
        )


# ---- the commands ---------------------------------------------------------------------------------------------------


def _plan(options: argparse.Namespace, out: TextIO) -> int:
    from engine.planning import plan_model

    inputs, plan = plan_model(options.model, _config(options))
    if options.json:
        _print_json(out, plan_as_json(inputs, plan))
    else:
        print("\n".join(plan_as_lines(inputs, plan)))
    if plan.fits:
        return DONE
    _tell(f"{' '.join(plan.reasons)} {plan.remedy}")
    return BAD_INPUT


def _generate(options: argparse.Namespace, out: TextIO) -> int:
    sampling = sampling_of(options)
    prompt = options.prompt if options.raw else [ChatMessage("user", options.prompt)]
    with _load(options) as engine:
        tokens: list[Token] = []
        for event in engine.generate(prompt, sampling):
            _show_progress(event)
            if isinstance(event, Token):
                tokens.append(event)
                if not options.json:
                    out.write(event.text)
                    out.flush()
        assert isinstance(event, Finished)
        name, device = engine.ready.model.name, engine.ready.device_name
    if options.json:
        text = "".join(token.text for token in tokens)
        ids = [token.id for token in tokens]
        _print_json(out, {"model": name, "device": device, "text": text, "tokens": ids, **asdict(event)})
    else:
        out.write("\n")
        _note(
            f"{event.usage.completion_tokens} tokens, {event.timings.decode_tokens_per_s:.1f} tokens/s, "
            f"first after {event.timings.ttft_s:.2f} s ({event.reason}) on {device}"
        )
    return DONE


def _logits(options: argparse.Namespace, out: TextIO) -> int:
    import numpy as np

    tokens, path = _token_ids(options.tokens), Path(options.out)
    if not path.parent.is_dir():
        raise ConfigurationError(f"There is no folder {path.parent}.", "Choose another --out.")
    with _load(options) as engine:
        logits = engine.logits(tokens)
    try:
        with path.open("wb") as file:
            np.save(file, logits, allow_pickle=False)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written ({error.strerror}).", "Choose another --out.") from error
    if options.json:
        _print_json(out, {"out": str(path), "shape": list(logits.shape), "dtype": str(logits.dtype)})
    else:
        print(f"{path}: {logits.dtype} {list(logits.shape)}")
    return DONE


def _bench(options: argparse.Namespace, out: TextIO) -> int:
    if options.suite:
        return _bench_suite(options, out)
    if options.model is None:
        raise ConfigurationError("bench needs --model, or --suite.", "See `python -m engine bench --help`.")
    from engine.bench.scenarios import prediction_lines, run

    counts = {"prompt_tokens": options.prompt_tokens, "new_tokens": options.new_tokens, "repeat": options.repeat}
    figures = run(options.model, _config(options), **counts, remeasure=options.remeasure)
    if options.json:
        _print_json(out, figures)
    else:
        for name, value in figures.items():
            if not isinstance(value, (list, dict)):
                print(f"{name:36} {value:.4g}" if isinstance(value, float) else f"{name:36} {value}")
        print("", *prediction_lines(figures), sep="\n")
    return DONE


def _bench_suite(options: argparse.Namespace, out: TextIO) -> int:
    report = run_suite(options, _note)
    if options.json:
        _print_json(out, report)
    else:
        print(f"{'Done' if report['complete'] else 'Not complete, run it again'}: {report['markdown']}")
    return FAILED if report["checks_failed"] else DONE


def _compare(options: argparse.Namespace, out: TextIO) -> int:
    from engine.bench.comparison import run
    from engine.bench.table import as_table

    report = run(
        options.shapes,
        options.formats,
        threads=options.threads,
        repeat=options.repeat,
        models=Path(options.models),
        out=Path(options.out),
        on_note=_note,
    )
    if options.json:
        _print_json(out, report.as_json())
    else:
        print(as_table(report))
    return DONE


def _download(options: argparse.Namespace, out: TextIO) -> int:
    result = run_download(options, _note)
    if options.json:
        _print_json(out, result)
    else:
        print(result["path"])
    return DONE


def _convert(options: argparse.Namespace, out: TextIO) -> int:
    conversion = run_convert(options)
    if options.json:
        _print_json(out, conversion.as_json())
    else:
        print("\n".join(conversion.as_lines()))
    return DONE


def _verify(options: argparse.Namespace, out: TextIO) -> int:
    verified = run_verify(options)
    if options.json:
        _print_json(out, {**asdict(verified), "path": str(verified.path)})
    else:
        print(f"{verified.path}: all {verified.pieces} pieces are as they were written.")
    return DONE


def _load(options: argparse.Namespace) -> Engine:
    from engine.engine import Engine

    return Engine.load(options.model, _config(options), _show_progress)


# ---- arguments ------------------------------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    """Bad usage is one line, as every other error is."""

    def error(self, message: str) -> Never:
        """Raise what `main` reports."""
        raise ConfigurationError(f"{message[:1].upper()}{message[1:]}.", f"See `{self.prog} --help`.")


def _parser() -> _Parser:
    parser = _Parser(prog="python -m engine", description="Run Mixture-of-Experts models larger than VRAM.")
    names = "plan | generate | logits | bench | compare | download | convert | verify"
    commands = parser.add_subparsers(title="commands", required=True, metavar=names)
    shared = _shared_options()

    plan = commands.add_parser("plan", parents=[shared], help="what goes where, without loading weights")
    plan.set_defaults(run=_plan)

    generate = commands.add_parser("generate", parents=[shared], help="answer a prompt")
    generate.add_argument("--prompt", required=True, help="the user's message")
    generate.add_argument("--raw", action="store_true", help="continue the prompt as it is, without a chat template")
    add_sampling_options(generate)
    generate.set_defaults(run=_generate)

    logits = commands.add_parser("logits", parents=[shared], help="write the logits of some tokens to a .npy file")
    logits.add_argument("--tokens", required=True, metavar="1,2,3")
    logits.add_argument("--out", required=True, metavar="FILE")
    logits.set_defaults(run=_logits)

    bench = commands.add_parser(
        "bench", parents=[_shared_options(needs_model=False)], help="measure prefill and decode"
    )
    for name, default in (("prompt-tokens", 128), ("new-tokens", 32), ("repeat", 3)):
        bench.add_argument(f"--{name}", type=_at_least_one, default=default, metavar="N")
    bench.add_argument("--remeasure", action="store_true", help="measure the machine anew before each repeat")
    add_suite_options(bench)
    bench.set_defaults(run=_bench)

    compare = commands.add_parser("compare", parents=[_compare_options()], help="measure beside llama.cpp")
    compare.set_defaults(run=_compare)

    download = commands.add_parser("download", help="fetch a model from the hub, or go on fetching it")
    add_download_options(download)
    download.set_defaults(run=_download)

    convert = commands.add_parser("convert", help="make a smaller model, in a new folder")
    add_convert_options(convert)
    convert.set_defaults(run=_convert)

    verify = commands.add_parser("verify", help="hold a converted model against its checksums")
    add_verify_options(verify)
    verify.set_defaults(run=_verify)
    return parser


def _compare_options() -> _Parser:
    options = _Parser(add_help=False)
    add = options.add_argument
    add("--shapes", default="mixtral,qwen3", metavar="A,B")
    add("--formats", default="Q4_0,Q8_0,Q4_K_M,Q6_K", metavar="A,B")
    add("--repeat", type=_at_least_one, default=5, metavar="N", help="counted pairs per metric")
    add("--threads", type=_at_least_one, metavar="N", help="of each engine; else the physical cores")
    add("--models", default="build/bench", metavar="DIR", help="where the model files are kept")
    add("--out", default="build/bench", metavar="DIR", help="where comparison.json and comparison.png go")
    add("--json", action="store_true", help="print one JSON object")
    return options


def _shared_options(*, needs_model: bool = True) -> _Parser:
    shared = _Parser(add_help=False)
    add = shared.add_argument
    add(
        "--model",
        required=needs_model,
        metavar="M",
        help="a folder with safetensors, a .gguf file, owner/name of a download, or `guide` for the bundled model",
    )
    add("--models-dir", metavar="DIR", help="the folder of all downloaded models; else Rooftop's own")
    add("--device", choices=["auto", "cuda", "cpu", "simulated"], default="auto")
    add("--policy", choices=["fiddler", "gpu_stream", "cpu_only"], default="fiddler")
    add("--no-adaptive", action="store_true", help="residents stay as they were placed; they do not follow the reply")
    add("--gpu", type=int, metavar="N", help="which of several GPUs, as nvidia-smi counts; else the one with most VRAM")
    add("--vram-budget", type=_size, metavar="SIZE", help="VRAM that may be used, e.g. 8GiB")
    add("--simulated-vram", type=_size, default=EngineConfig().simulated_vram_bytes, metavar="SIZE")
    add("--context-tokens", type=int, default=EngineConfig().context_tokens, metavar="N")
    add("--kv-precision", choices=get_args(KvPrecision), default="auto", help="of the KV cache; q8 halves it")
    add("--cpu-threads", type=int, metavar="N")
    add("--isa", choices=get_args(IsaName), default="auto", help="instructions of the CPU kernels; torch for none")
    add("--experts-on-disk", action="store_true", help="for a model larger than RAM: slow, read as it is used")
    add("--json", action="store_true", help="print one JSON object")
    return shared


def _config(options: argparse.Namespace) -> EngineConfig:
    """The engine's settings; measured costs and popularity are those that the window keeps."""
    return EngineConfig(
        device=options.device,
        vram_budget_bytes=options.vram_budget,
        context_tokens=options.context_tokens,
        kv_precision=options.kv_precision,
        cpu_threads=options.cpu_threads,
        policy=options.policy,
        adaptive=not options.no_adaptive,
        gpu_index=options.gpu,
        isa=options.isa,
        experts_on_disk=options.experts_on_disk,
        simulated_vram_bytes=options.simulated_vram,
        cost_cache_dir=platformdirs.user_cache_dir(_APP, appauthor=False),
        popularity_dir=platformdirs.user_data_dir(_APP, appauthor=False),
        models_dir=options.models_dir,
    )


def _size(text: str) -> int:
    try:
        return parse_bytes(text)
    except ConfigurationError as error:
        raise argparse.ArgumentTypeError(str(error).rstrip(".")) from error


def _at_least_one(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 1 << 20:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a whole number from 1 to {1 << 20}")
    return int(text)


def _token_ids(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and len(part) < 10 for part in parts):
        raise ConfigurationError(f"{text[:40]!r} is not a list of token ids.", "Write them as 1,2,3.")
    return [int(part) for part in parts]


# ---- output ---------------------------------------------------------------------------------------------------------


def _print_json(out: TextIO, value: dict[str, Any]) -> None:
    """The one object, on the real stdout."""
    out.write(json.dumps(value) + "\n")
    out.flush()


def _note(text: str) -> None:
    print(text, file=sys.stderr)


def _tell(sentence: str) -> None:
    _note(f"engine: {' '.join(sentence.split())}")


def _show_progress(event: Event) -> None:
    """A line that rewrites itself, where somebody watches; the first token wipes it."""
    if not sys.stderr.isatty():
        return
    if isinstance(event, Loading):
        share = f" {event.done_bytes / event.total_bytes:.0%}" if event.total_bytes else ""
        sys.stderr.write(f"\r\x1b[KLoading: {event.phase}{share}")
    elif isinstance(event, PromptProgress):
        waiting = event.done_tokens < event.total_tokens
        sys.stderr.write(f"\r\x1b[KReading the prompt: {event.done_tokens} tokens" if waiting else "\r\x1b[K")
    sys.stderr.flush()


def _tell_unexpected(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """The interpreter's last word on a bug: one line too, with the traceback where it is asked for."""
    _tell(f"Something unexpected went wrong ({kind.__name__}: {error}). Set ROOFTOP_TRACEBACK=1 to see where.")
    if os.environ.get("ROOFTOP_TRACEBACK"):
        sys.__excepthook__(kind, error, trace)


if __name__ == "__main__":
    sys.excepthook = _tell_unexpected
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a reply may hold what the console cannot show
    sys.exit(main())
