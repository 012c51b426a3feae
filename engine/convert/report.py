"""What a conversion made, as data and in words."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from engine.convert.journal import PieceRecord
from engine.convert.source import Source
from engine.experts.explain import human_bytes

_KINDS = (
    ("token_embd", "embedding"), ("_exps", "experts"), ("_shexp", "shared expert"), (".ffn_gate.", "experts"),
    ("attn_", "attention"), ("output.weight", "head"),
)  # fmt: skip
_OTHERS = "norms, routers"


@dataclass(frozen=True, slots=True)
class Loss:
    """What some weights lost.

    Attributes:
        name: Of the tensor, or of a kind of tensors.
        format: How they are stored.
        weights: How many.
        relative_rmse: Root mean square error, as a share of the weights' own root mean square.
        rounded_relative_rmse: What rounding plainly to the same format would have lost, estimated from an eighth of it.
    """

    name: str
    format: str
    weights: int
    relative_rmse: float
    rounded_relative_rmse: float


@dataclass(frozen=True, slots=True)
class Conversion:
    """A finished conversion.

    Attributes:
        path: The new folder.
        format: What was asked for.
        source_bytes: Of the weights that were read.
        target_bytes: Of the file that was written.
        seconds: What this run took; 0 where all was there already.
        tensors: What each tensor lost.
        kinds: The same by kind.
        notes: Sentences about who can load the new file.
    """

    path: Path
    format: str
    source_bytes: int
    target_bytes: int
    seconds: float
    tensors: tuple[Loss, ...]
    kinds: tuple[Loss, ...]
    notes: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """For the command line."""
        return {**asdict(self), "path": str(self.path)}

    def as_lines(self) -> list[str]:
        """For a terminal."""
        rows = [f"{'':16}{'format':8}{'weights':>16}{'error':>10}{'rounded':>10}"]
        rows += [
            f"{kind.name:16}{kind.format:8}{kind.weights:16,}{kind.relative_rmse:10.4%}{kind.rounded_relative_rmse:10.4%}"
            for kind in self.kinds
        ]
        share = self.target_bytes / self.source_bytes
        return [
            *rows,
            "",
            *self.notes,
            f"{human_bytes(self.source_bytes)} became {human_bytes(self.target_bytes)} ({share:.0%}) in "
            f"{self.seconds:.0f} s",
            str(self.path),
        ]


def losses(source: Source, records: Mapping[int, PieceRecord]) -> tuple[tuple[Loss, ...], tuple[Loss, ...]]:
    """What each tensor, and each kind of them, lost."""
    by_tensor: dict[tuple[str, str], list[PieceRecord]] = {}
    by_kind: dict[tuple[str, str], list[PieceRecord]] = {}
    weights: dict[tuple[str, str], int] = {}
    for piece in source.pieces():
        record, stored = records[piece.number], piece.target.format
        for groups, name in ((by_tensor, piece.target.name), (by_kind, _kind(piece.target.name))):
            groups.setdefault((name, stored), []).append(record)
            weights[name, stored] = weights.get((name, stored), 0) + math.prod(piece.source.shape)
    return tuple(
        tuple(_loss(*key, weights[key], group) for key, group in groups.items()) for groups in (by_tensor, by_kind)
    )  # type: ignore[return-value]


def _kind(name: str) -> str:
    return next((kind for part, kind in _KINDS if part in name and "norm" not in name), _OTHERS)


def _loss(name: str, stored: str, weights: int, records: Iterable[PieceRecord]) -> Loss:
    group = list(records)
    squares = sum(record.squares for record in group)
    error = math.sqrt(sum(record.lost for record in group) / squares) if squares else 0.0
    sample, rounded = (sum(getattr(record, part) for record in group) for part in ("sample_lost", "sample_rounded"))
    return Loss(name, stored, weights, error, error * math.sqrt(rounded / sample) if sample else error)
