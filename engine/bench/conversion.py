"""What converting costs and loses: `python -m engine.bench.conversion`.

Prints what the encoder loses on random matrices beside plain rounding; its speed alone, on one thread and on all; a
conversion of a random Mixtral, in a process of its own, beside copying that model's file on the same drive, both in
turns, medians; and the perplexity of the guide in each format. "of the limit" is the conversion's speed, checksums
included, as a share of the slower of copying and of encoding alone. Encoding to bf16 is what its checks cost in memory:
a CRC-32 and whether weights are finite.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.bench.perplexity import WINDOW_TOKENS, WINDOWS, as_table, held_out_windows, measure
from engine.checkpoint.catalog import GUIDE, guide_path
from engine.checkpoint.model_config import read_model_config
from engine.checkpoint.model_folder import CONFIG, SINGLE
from engine.checkpoint.tensor_names import expected_tensors
from engine.config import EngineConfig
from engine.convert.conversion import convert
from engine.convert.description import describe
from engine.convert.recipe import CONVERSION_FORMATS
from engine.errors import InputError, RooftopError
from engine.kernels.encoder import as_bfloat16, encode_weights, is_finite
from engine.quant.encoding import ENCODERS

ROWS, COLUMNS = 1024, 4096
SPEED_S = 1.0
SHAPE = {
    "model_type": "mixtral", "hidden_size": 2048, "intermediate_size": 7168, "num_attention_heads": 32,
    "num_key_value_heads": 8, "num_local_experts": 8, "num_experts_per_tok": 2, "vocab_size": 32000,
    "max_position_embeddings": 4096,
}  # fmt: skip
LAYER_GB = 0.73
_POOL_WEIGHTS = 4_194_301  # a prime: experts differ from each other

Bytes = NDArray[np.uint8]
MB, GB = 1e6, 1e9


@dataclass(frozen=True, slots=True)
class Timing:
    """Some conversions beside as many copies, in turns.

    Attributes:
        name: The format.
        source_bytes: What was read.
        convert_s: Seconds of each, from the start of the process to its end.
        copy_s: What copying the same file took before each.
        floors: Bytes per second that the encoder alone did before each; processors are not as fast at all times.
        peak_rss_bytes: Of the largest process.
    """

    name: str
    source_bytes: int
    convert_s: tuple[float, ...]
    copy_s: tuple[float, ...]
    floors: tuple[float, ...]
    peak_rss_bytes: int


def error_lines() -> Iterator[str]:
    """What each format loses on random matrices."""
    draw = np.random.default_rng(0)
    kinds = {
        "normal": draw.standard_normal((ROWS, COLUMNS)),
        "heavy-tailed": draw.standard_t(5, (ROWS, COLUMNS)),
        "shifted": draw.standard_normal((ROWS, COLUMNS)) + 1,
    }
    yield f"{'relative RMSE':16}{'weights':16}{'searched':>10}{'rounded':>10}{'less':>8}"
    for name in ENCODERS:
        for kind, weights in kinds.items():
            raw = _as_stored(weights)
            ours, plain = (encode_weights(name, "BF16", raw, COLUMNS, search=search) for search in (True, False))
            errors = [(found.squared_error / found.squared_weights) ** 0.5 for found in (ours, plain)]
            yield f"{name:16}{kind:16}{errors[0]:10.4%}{errors[1]:10.4%}{1 - errors[0] / errors[1]:8.1%}"


def encoder_speed(name: str, threads: int) -> float:
    """Bytes of bfloat16 per second that some threads encode from memory."""
    raw = _as_stored(np.random.default_rng(0).standard_normal((ROWS, COLUMNS)))
    return _speed(lambda: encode_weights(name, "BF16", raw, COLUMNS), raw.size, threads)


def check_speed(threads: int) -> float:
    """Bytes per second that some threads check as a conversion does that keeps bfloat16, from memory."""
    raw = _as_stored(np.random.default_rng(0).standard_normal((ROWS, COLUMNS)))

    def check() -> None:
        is_finite("BF16", raw)
        zlib.crc32(raw.data)

    return _speed(check, raw.size, threads)


def _speed(step: Callable[[], object], step_bytes: int, threads: int) -> float:
    """Bytes per second of some threads that all do the same."""
    end = time.monotonic() + SPEED_S

    def work(_thread: int) -> int:
        rounds = 0
        while not rounds or time.monotonic() < end:
            step()
            rounds += 1
        return rounds

    started = time.monotonic()
    with ThreadPoolExecutor(threads) as pool:
        rounds = sum(pool.map(work, range(threads)))
    return rounds * step_bytes / (time.monotonic() - started)


def write_random(folder: Path, layers: int) -> Path:
    """A random Mixtral in bfloat16 as one safetensors file; returns its folder. What is there already is kept."""
    path = folder / SINGLE
    if path.exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).write_text(json.dumps({**SHAPE, "num_hidden_layers": layers}), encoding="utf-8")
    header, end = {}, 0
    for name, shape in expected_tensors(read_model_config(folder)):
        size = 2 * prod(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    pool = _as_stored(0.02 * np.random.default_rng(0).standard_normal(_POOL_WEIGHTS))
    with path.with_suffix(".part").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for start in range(0, end, pool.size):
            file.write(pool[: end - start].data)
    path.with_suffix(".part").rename(path)
    return folder


def time_conversions(model: Path, name: str, folder: Path, repeat: int) -> Timing:
    """Encode from memory, copy a model's file and convert it, in turns, on the same drive; the copies are deleted."""
    threads, encoder = os.cpu_count() or 1, {"q4": "Q4_K", "q8": "Q8_0"}.get(name)
    floors, copies, conversions, peaks = [], [], [], []
    for _ in range(repeat):
        floors.append(check_speed(threads) if encoder is None else encoder_speed(encoder, threads))
        copies.append(_time_copy(model / SINGLE, folder / "copy"))
        took, peak = _time_conversion(model, name, folder / f"converted-{name}")
        conversions.append(took)
        peaks.append(peak)
    return Timing(name, (model / SINGLE).stat().st_size, tuple(conversions), tuple(copies), tuple(floors), max(peaks))


def _time_copy(file: Path, copy: Path) -> float:
    started = time.monotonic()
    shutil.copyfile(file, copy)
    with copy.open("rb+") as written:
        os.fsync(written.fileno())
    took = time.monotonic() - started
    copy.unlink()
    return took


def _time_conversion(model: Path, name: str, target: Path) -> tuple[float, int]:
    """Seconds of the process, and the memory that it took at most."""
    command = [sys.executable, "-m", "engine", "convert", "--model", str(model), "--to", str(target), "--format", name]
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    took = time.monotonic() - started
    shutil.rmtree(target, ignore_errors=True)
    if process.returncode:
        raise SystemExit(process.returncode)
    return took, usage.ru_maxrss * 1024


def speed_line(timing: Timing) -> str:
    """Conversions as a line of the table; "of the limit" is the median of the pairs, lowest and highest behind it."""
    speeds, copies = ([timing.source_bytes / s for s in seconds] for seconds in (timing.convert_s, timing.copy_s))
    rounds = zip(speeds, copies, timing.floors, strict=True)
    shares = sorted(speed / min(copy, floor) for speed, copy, floor in rounds)
    speed, copy, floor, share = (statistics.median(values) for values in (speeds, copies, timing.floors, shares))
    return (
        f"{timing.name:8}{timing.source_bytes / GB:7.2f} GB{speed / MB:7.0f} MB/s{copy / MB:7.0f} MB/s"
        f"{floor / MB:7.0f} MB/s{share:14.0%} ({shares[0]:.0%} to {shares[-1]:.0%}){timing.peak_rss_bytes / MB:8.0f} MB"
    )


def perplexity_lines(folder: Path, windows: int) -> Iterator[str]:
    """What the guide loses in each format."""
    config = EngineConfig(device="cpu", context_tokens=WINDOW_TOKENS)
    text = list(islice(held_out_windows(), windows))
    rows = []
    for name in CONVERSION_FORMATS:
        path = convert(guide_path(), folder / f"guide-{name}", name, describe=describe).path
        rows.append(measure(str(path), name, text, config))
    yield as_table(measure(GUIDE, "bundled", text, config), rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure everything; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        for line in _lines(options):
            print(line, flush=True)
    except RooftopError as error:
        print(error, file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1
    return 0


def _lines(options: argparse.Namespace) -> Iterator[str]:
    options.folder.mkdir(parents=True, exist_ok=True)
    yield from error_lines()
    yield ""
    threads = os.cpu_count() or 1
    alone = {name: encoder_speed(name, 1) for name in ENCODERS}
    together = {name: encoder_speed(name, threads) for name in ENCODERS}
    for name in ENCODERS:
        yield f"{name:6} encoded: {alone[name] / MB:.0f} MB/s on one thread, {together[name] / MB:.0f} on {threads}"
    yield ""
    if options.gb:
        model = write_random(options.folder / f"random-{options.gb:g}gb", max(1, round(options.gb / LAYER_GB)))
        titles = f"{'format':8}{'read':>10}{'convert':>12}{'copy':>12}{'encoder':>12}"
        yield f"{titles}{'of the limit':>26}{'peak memory':>14}"
        for name in CONVERSION_FORMATS:
            yield speed_line(time_conversions(model, name, options.folder, options.repeat))
        yield ""
    with tempfile.TemporaryDirectory(dir=options.folder) as place:
        yield from perplexity_lines(Path(place), options.windows)


def _as_stored(weights: NDArray[np.float64]) -> Bytes:
    """As bfloat16."""
    return as_bfloat16("F32", weights.astype(np.float32).reshape(-1).view(np.uint8))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m engine.bench.conversion", description="Speed and loss.")
    add = parser.add_argument
    add("--gb", type=float, default=6.0, help="size of the random model, about; 0 for none")
    add("--repeat", type=int, default=3, metavar="N", help="copies and conversions to each format")
    add("--windows", type=int, default=WINDOWS, metavar="N", help="of the guide's text")
    add("--folder", type=Path, default=Path("build/bench"), metavar="DIR", help="on the drive that is measured")
    return parser


if __name__ == "__main__":
    sys.exit(main())
