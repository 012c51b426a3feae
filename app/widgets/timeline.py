"""Timelines of the last minutes: speed, hit rate and memory, one above the other on the same axis.

At most `MOST_POINTS` per track are kept, however long the window is open. Nothing is drawn while hidden, and a repaint
is a few hundred line segments without antialiasing at whole pixels.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from PySide6.QtCore import QEvent, QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QFont, QFontMetricsF, QKeyEvent, QMouseEvent, QPainter, QPaintEvent, QPen, QPolygonF
from PySide6.QtWidgets import QSizePolicy, QWidget

from app.language import tr
from app.theme import FONT_SMALL, current_theme
from app.units import bytes_text, rate_text, share_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from PySide6.QtGui import QFocusEvent

    from app.theme import Theme

SPANS_S = (60.0, 120.0, 300.0)
LEAST_STEP_S = 0.5
MOST_POINTS = int(SPANS_S[-1] / LEAST_STEP_S) + 1
GAP_S = 3.0  # a longer silence interrupts the line
_TRACK_HEIGHT = 34
_STEPS = 60  # of the cursor across the width
_FINE = 1.02


@dataclass
class Track:
    """One quantity over time.

    Attributes:
        key: "speed", "hits" or "memory".
        colour: Its colour in the theme.
        words: A value in words.
        top: Value at the upper edge; None takes the largest in sight.
        points: (seconds, value), oldest first.
    """

    key: str
    colour: str
    words: Callable[[float], str]
    top: float | None = None
    points: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=MOST_POINTS))

    def add(self, now_s: float, value: float) -> bool:
        """Take a value, at most every `LEAST_STEP_S`; returns whether it was taken."""
        if not math.isfinite(value) or (self.points and now_s - self.points[-1][0] < LEAST_STEP_S):
            return False
        self.points.append((now_s, value))
        return True

    def near(self, when_s: float) -> float | None:
        """The value at some time; None where the line is interrupted."""
        nearest = min(self.points, key=lambda point: abs(point[0] - when_s), default=None)
        return nearest[1] if nearest is not None and abs(nearest[0] - when_s) <= GAP_S else None


class Timeline(QWidget):
    """The tracks. Arrow keys or the mouse move a cursor that tells the values of its time."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.speed = Track("speed", "accent", rate_text)
        self.hits = Track("hits", "kv", share_text, top=1.0)
        self.memory = Track("memory", "gpu", lambda size: bytes_text(round(size)))
        self.memory_name = "VRAM"
        self._now_s = 0.0
        self._has_gpu = False
        self._cursor: float | None = None  # 0 is now, 1 the oldest
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.setMouseTracking(True)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setAccessibleName(tr("Timelines"))
        self._tell()

    # ---- data ----

    @property
    def tracks(self) -> tuple[Track, ...]:
        """Those that are shown; without a GPU nothing is hit."""
        return (self.speed, self.hits, self.memory) if self._has_gpu else (self.speed, self.memory)

    @property
    def span_s(self) -> float:
        """Seconds from the left edge to the right one."""
        oldest = min((track.points[0][0] for track in self.tracks if track.points), default=self._now_s)
        return next((span for span in SPANS_S if self._now_s - oldest <= span * _FINE), SPANS_S[-1])

    def start(self, *, has_gpu: bool) -> None:
        """A model was loaded: begin anew."""
        self._has_gpu, self._now_s = has_gpu, 0.0
        self.memory_name = "VRAM" if has_gpu else "RAM"
        for track in (self.speed, self.hits, self.memory):
            track.points.clear()
        self.updateGeometry()
        self._tell()
        self.update()

    def add_reply(self, now_s: float, tokens_per_s: float, hit_rate: float | None) -> None:
        """Take what a snapshot says: speed where there is one, and the hit rate."""
        taken = tokens_per_s > 0 and self.speed.add(now_s, tokens_per_s)
        if hit_rate is not None:
            taken = self.hits.add(now_s, hit_rate) or taken
        if taken:
            self._moved_on(now_s)

    def add_memory(self, now_s: float, used_bytes: int, total_bytes: int) -> None:
        """Take how much memory is in use."""
        self.memory.top = total_bytes or None
        if self.memory.add(now_s, used_bytes):
            self._moved_on(now_s)

    def values(self) -> dict[str, list[tuple[float, float]]]:
        """Track -> (seconds before now, value), for a file."""
        return {
            self.memory_name.lower() if track is self.memory else track.key: [
                (self._now_s - when_s, value) for when_s, value in track.points
            ]
            for track in self.tracks
        }

    def _moved_on(self, now_s: float) -> None:
        self._now_s = max(self._now_s, now_s)
        if self.isVisible():
            self._tell()
            self.update()

    def words(self) -> str:
        """The values under the cursor, else the latest ones."""
        when_s = self._now_s - (self._cursor or 0.0) * self.span_s
        ago = tr("now") if self._now_s - when_s < 1 else tr("{seconds} s ago").format(
            seconds=round(self._now_s - when_s)
        )  # fmt: skip
        values = [(self._name(track), track.near(when_s), track) for track in self.tracks]
        known = [f"{name} {track.words(value)}" for name, value, track in values if value is not None]
        return f"{ago}: {', '.join(known)}" if known else tr("{ago}: nothing was measured").format(ago=ago)

    def _name(self, track: Track) -> str:
        return {"speed": tr("speed"), "hits": tr("hit rate"), "memory": self.memory_name}[track.key]

    def _tell(self) -> None:
        self.setAccessibleDescription(self.words())

    # ---- geometry, mouse and keyboard ----

    def _small_font(self) -> QFont:
        font = QFont(self.font())
        font.setPointSizeF(font.pointSizeF() * FONT_SMALL)
        return font

    def _line(self) -> float:
        return QFontMetricsF(self._small_font()).height() + 2

    def sizeHint(self) -> QSize:
        """A line of words and a line of curve for each track, and the axis."""
        return QSize(280, round(len(self.tracks) * (self._line() + _TRACK_HEIGHT + 6) + 2 * self._line()))

    def minimumSizeHint(self) -> QSize:
        """The same height in any width."""
        return QSize(160, self.sizeHint().height())

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        """The cursor follows the mouse."""
        self._point(1.0 - event.position().x() / max(1, self.width()))

    def leaveEvent(self, event: QEvent) -> None:
        """No cursor without the mouse."""
        super().leaveEvent(event)
        self._point(None)

    def focusOutEvent(self, event: QFocusEvent) -> None:
        """Nor without the keyboard."""
        super().focusOutEvent(event)
        self._point(None)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Left and right move the cursor, End goes to now."""
        here = self._cursor or 0.0
        targets = {
            Qt.Key.Key_Left: here + 1 / _STEPS, Qt.Key.Key_Right: here - 1 / _STEPS,
            Qt.Key.Key_Home: 1.0, Qt.Key.Key_End: 0.0,
        }  # fmt: skip
        target = targets.get(Qt.Key(event.key()))
        if target is None:
            super().keyPressEvent(event)
        else:
            self._point(target)

    def _point(self, where: float | None) -> None:
        self._cursor = None if where is None else min(1.0, max(0.0, where))
        self._tell()
        self.update()

    # ---- painting ----

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: ARG002 - Qt's signature
        """Draw every track, the cursor and the axis."""
        theme, painter, line = current_theme(), QPainter(self), self._line()
        painter.setFont(self._small_font())
        top = 0.0
        for track in self.tracks:
            self._paint_track(painter, track, top, theme)
            top += line + _TRACK_HEIGHT + 6
        if self._cursor is not None:
            x = round((1.0 - self._cursor) * (self.width() - 1))
            painter.fillRect(QRectF(x, line, 1, top - line - 6), QColor(theme.text))
        painter.setPen(QColor(theme.text_dim))
        axis = QRectF(0, top - 4, self.width(), line)
        span = self.span_s
        ago = tr("{minutes} min ago").format(minutes=round(span / 60))
        painter.drawText(axis, Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter, ago)
        painter.drawText(axis, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter, tr("now"))
        painter.setPen(QColor(theme.text))
        if self._cursor is not None or self.hasFocus():
            box = axis.translated(0, line)
            painter.drawText(box, Qt.AlignmentFlag.AlignHCenter | Qt.AlignmentFlag.AlignVCenter, self.words())
        painter.end()

    def _paint_track(self, painter: QPainter, track: Track, top: float, theme: Theme) -> None:
        head = QRectF(0, top, self.width(), self._line())
        shown = [point for point in track.points if self._now_s - point[0] <= self.span_s * _FINE]
        peak = max((value for _, value in shown), default=0.0)
        upper = track.top or peak * 1.1 or 1.0
        painter.setPen(QColor(theme.text_dim))
        painter.drawText(head, Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter, self._name(track))
        latest = track.words(shown[-1][1]) if shown else "\N{EN DASH}"
        of = f" / {track.words(track.top)}" if shown and track.key == "memory" and track.top else ""
        painter.setPen(QColor(theme.text))
        painter.drawText(head, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter, latest + of)
        box = QRectF(0, head.bottom(), self.width(), _TRACK_HEIGHT)
        painter.fillRect(box, QColor(theme.surface_alt))
        colour = QColor(getattr(theme, track.colour))
        for piece in _pieces(shown):
            _paint_piece(painter, [self._spot(box, point, upper) for point in piece], box, colour)

    def _spot(self, box: QRectF, point: tuple[float, float], upper: float) -> QPointF:
        x = box.right() - (self._now_s - point[0]) / self.span_s * box.width()
        return QPointF(round(x), round(box.bottom() - 1 - min(1.0, max(0.0, point[1] / upper)) * (box.height() - 3)))


def _pieces(points: list[tuple[float, float]]) -> list[list[tuple[float, float]]]:
    """The points without the silences between them."""
    pieces: list[list[tuple[float, float]]] = []
    for point in points:
        if not pieces or point[0] - pieces[-1][-1][0] > GAP_S:
            pieces.append([])
        pieces[-1].append(point)
    return pieces


def _paint_piece(painter: QPainter, spots: list[QPointF], box: QRectF, colour: QColor) -> None:
    """A line above a pale area."""
    pale = QColor(colour)
    pale.setAlpha(60)
    spots = spots if len(spots) > 1 else [spots[0], spots[0] + QPointF(1, 0)]
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(pale)
    floor = box.bottom()
    painter.drawPolygon(QPolygonF([QPointF(spots[0].x(), floor), *spots, QPointF(spots[-1].x(), floor)]))
    painter.setPen(QPen(colour, 1))
    painter.setBrush(Qt.BrushStyle.NoBrush)
    painter.drawPolyline(QPolygonF(spots))
