"""Breaks GGUF files at random for a while and opens them: `python -m tests.fuzz_gguf --minutes 10`.

Each execution has a number of its own, from which its file, or the files of its split model, are made; `--seed N
--executions 1` makes them again. An escape is anything but success or a typed error in one short sentence: another
exception, more than a second, more than 500 MB.
"""

from __future__ import annotations

import argparse
import functools
import random
import sys
import tempfile
import time
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

from engine.checkpoint.checkpoint import open_checkpoint, read_config
from engine.errors import CheckpointError, UnsupportedModelError
from tests.gguf_files import (
    ARRAY,
    BOOL,
    FLOAT32,
    FLOAT64,
    INT32,
    INT64,
    STRING,
    UINT32,
    UINT64,
    Gguf,
    Shape,
    Value,
    gguf_model,
    split,
)

MAX_SECONDS = 1.0
MAX_EXTRA_BYTES = 500_000_000
MAX_MESSAGE_CHARS = 600
EDGES = (0, 1, 2, 3, 4, 7, 8, 31, 32, 255, 256, 1 << 15, 1 << 16, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32,
         (1 << 62), (1 << 63) - 1, 1 << 63, (1 << 64) - 32, (1 << 64) - 1)  # fmt: skip
SMALL = Shape(hidden=64, intermediate=32, layers=2, heads=2, kv_heads=1, head_dim=32, experts=2, experts_per_token=1)
VALUES: tuple[Value, ...] = (
    *((UINT64, edge) for edge in EDGES),
    *((UINT32, edge) for edge in EDGES if edge < 1 << 32),
    *((INT64, -edge) for edge in EDGES if edge <= 1 << 63),
    *((FLOAT32, number) for number in (0.0, 1.0, -1.0, 1e-6, 1e30, float("inf"), float("nan"))),
    (FLOAT64, 1e300),
    (BOOL, True),
    (STRING, ""),
    (STRING, "llama"),
    (STRING, "x" * 10_000),
    (ARRAY, (UINT32, [])),
    (ARRAY, (INT32, [1, 2])),
    (ARRAY, (FLOAT32, [0.5] * 300)),
    (ARRAY, (BOOL, [True, False])),
    (ARRAY, (STRING, ["a", "b"])),
)


@functools.cache
def sources() -> tuple[Gguf, ...]:
    """Sound models; three with a vocabulary, three whose header is mostly structure."""
    blocks: dict[str, Any] = {"formats": [("Q4_0", "Q5_1", "Q8_0"), ("IQ4_NL", "Q4_1", "F16")], "dense_format": "Q8_0"}
    models = (
        gguf_model("llama", SMALL),
        gguf_model("qwen3moe", SMALL, **blocks),
        gguf_model("llama", SMALL, stacked=False, **blocks),
    )
    return (*models, *(replace(model, metadata=_without_vocabulary(model)) for model in models))


def break_parts(model: Gguf, draw: random.Random) -> None:
    """Change one part of a model, the way an editor of GGUF files would."""
    tensor = draw.choice(model.tensors)
    match draw.randrange(9):
        case 0:
            key = draw.choice(model.metadata)[0]
            model.set(key, draw.choice((*VALUES, None)))
        case 1:
            model.metadata.append((draw.choice(model.metadata)[0], draw.choice(VALUES)))
        case 2:
            tensor.shape = tuple(draw.choice((*EDGES, *tensor.shape)) for _ in range(draw.randrange(6)))
        case 3:
            tensor.kind = draw.choice((*range(45), 1 << 31))
        case 4:
            tensor.offset = draw.choice((*EDGES, *range(0, 4096, 32)))
        case 5:
            tensor.name = draw.choice((*(other.name for other in model.tensors), "", "x" * 300, "rope_freqs.weight"))
        case 6:
            model.tensors.remove(tensor)
        case 7:
            key = f"general.alignment{draw.choice(('', '', 'x'))}"
            model.set(key, draw.choice(VALUES))
        case _:
            model.tensors_count = draw.choice((None, *EDGES))
            model.keys_count = draw.choice((None, *EDGES))


def break_bytes(raw: bytearray, header_bytes: int, draw: random.Random) -> None:
    """Change some bytes, most of them in the header."""
    end = max(1, min(len(raw), header_bytes if draw.random() < 0.95 else len(raw)))
    place = draw.randrange(end)
    match draw.randrange(6):
        case 0:
            raw[place] ^= 1 << draw.randrange(8)
        case 1:
            raw[place] = draw.randrange(256)
        case 2:
            width = draw.choice((4, 8))
            edge = draw.choice(EDGES) & ((1 << 8 * width) - 1)
            raw[place : place + width] = edge.to_bytes(width, "little")
        case 3:
            length = draw.randrange(1, 200)
            begin = draw.randrange(end)
            raw[place : place + draw.choice((0, length))] = raw[begin : begin + length]
        case 4:
            del raw[place : place + draw.randrange(1, 64)]
        case _:
            if draw.random() < 0.3:
                del raw[place:]


def broken_files(seed: int) -> dict[str, bytes]:
    """The files of one execution by name, the one to open first; a third of the models are split."""
    draw = random.Random(seed)
    source = draw.choice(sources())
    model = replace(source, metadata=list(source.metadata), tensors=[replace(tensor) for tensor in source.tensors])
    count = draw.choice((1, 1, 1, 1, 2, 3))
    parts = split(model, count) if count > 1 else [model]
    files = [_broken_file(part, draw) for part in parts]
    names = [f"m-{number:05d}-of-{count:05d}.gguf" if count > 1 else "m.gguf" for number in range(1, count + 1)]
    if count > 1 and draw.random() < 0.2:
        break_set(names, files, draw)
    first = draw.randrange(len(names))
    order = [first, *(index for index in range(len(names)) if index != first)]
    return {names[index]: files[index] for index in order}


def break_set(names: list[str], files: list[bytes], draw: random.Random) -> None:
    """Lose, exchange or repeat a file of a split model."""
    left, right = draw.sample(range(len(names)), 2)
    match draw.randrange(4):
        case 0:
            del names[left], files[left]
        case 1:
            files[left], files[right] = files[right], files[left]
        case 2:
            files[left] = files[right]
        case _:
            names[left] = names[left].replace("-of-0000", f"-of-{draw.choice(('0001', '9999', '0000'))}")


def write_broken(folder: Path, seed: int) -> Path:
    """Write the files of one execution into a folder that is emptied before; the one to open."""
    for old in folder.iterdir():
        old.unlink()
    files = broken_files(seed)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder / next(iter(files))


def _broken_file(model: Gguf, draw: random.Random) -> bytes:
    """One file, broken in its parts and then in its bytes."""
    for _ in range(draw.choice((0, 0, 1, 1, 2, 4))):
        if model.tensors and model.metadata:
            break_parts(model, draw)
    raw = bytearray(model.encode())
    header_bytes = len(model.header())
    for _ in range(draw.choice((0, 1, 1, 2, 4, 16))):
        if raw:
            break_bytes(raw, header_bytes, draw)
    return bytes(raw)


def open_and_read(path: Path) -> str:
    """Open a file and read all of it; what came of that, in a word.

    Raises:
        AssertionError: The error is not one short, printable sentence with a remedy, or it took too long.
    """
    started = time.process_time()
    outcome = "opened"
    try:
        read_config(path)
        with open_checkpoint(path) as checkpoint:
            for name, entry in checkpoint.tensors.items():
                checkpoint.read(name, bytearray(entry.nbytes))
    except (CheckpointError, UnsupportedModelError) as error:
        outcome = type(error).__name__
        _check_sentences(error)
    assert time.process_time() - started < MAX_SECONDS, "too slow"
    return outcome


def _check_sentences(error: CheckpointError | UnsupportedModelError) -> None:
    """Hold that an error is one short sentence and a remedy."""
    assert error.message.endswith("."), error
    assert error.remedy.endswith("."), error
    assert len(str(error)) <= MAX_MESSAGE_CHARS, error
    assert str(error).isprintable(), error


def main() -> int:
    """Run the command; 1 where something escaped."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz_gguf", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0, help="number of the first execution")
    parser.add_argument("--executions", type=int, default=1 << 62, help="most executions")
    arguments = parser.parse_args()
    _limit_memory()
    end, seed, escapes = time.monotonic() + 60 * arguments.minutes, arguments.seed, 0
    outcomes: dict[str, int] = {}
    in_memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=in_memory if in_memory.is_dir() else None) as folder:
        while time.monotonic() < end and seed < arguments.seed + arguments.executions:
            path = write_broken(Path(folder), seed)
            try:
                outcome = open_and_read(path)
            except Exception:  # noqa: BLE001 - whatever escapes is what this command looks for
                outcome = "escape"
                escapes += 1
                sys.stdout.write(f"escape: --seed {seed} --executions 1\n{traceback.format_exc()}\n")
            outcomes[outcome] = outcomes.get(outcome, 0) + 1
            seed += 1
    counts = ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items()))
    sys.stdout.write(f"{seed - arguments.seed} executions, {escapes} escapes ({counts})\n")
    return 1 if escapes else 0


def _without_vocabulary(model: Gguf) -> list[tuple[str, Value]]:
    """The metadata that tells the shape."""
    return [(key, value) for key, value in model.metadata if not key.startswith("tokenizer.")]


def _limit_memory() -> None:
    """Let an execution that takes too much memory fail, where the system can."""
    if sys.platform == "linux":
        import resource

        now = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + MAX_EXTRA_BYTES, resource.RLIM_INFINITY))


if __name__ == "__main__":
    sys.exit(main())
