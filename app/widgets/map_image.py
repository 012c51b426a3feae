"""The expert map as pixels: places and recent use in, one image and its geometry out. No widgets here.

Rows are layers, columns are experts. Where a layer's experts do not fit beside each other at `MIN_CELL_PX`, a layer
takes several lines. Place is told by colour and, in cells that are big enough, by texture: solid on the GPU, hatched
when streamed, hollow on the CPU. Recent use is told by how far a cell stands out from the background.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PySide6.QtCore import QRectF
from PySide6.QtGui import QColor, QImage

if TYPE_CHECKING:
    from app.theme import Theme
    from engine.messages import Snapshot

GPU, STREAM, CPU = 0, 1, 2
MIN_CELL_PX = 2
GRID_FROM_PX = 6
TEXTURE_FROM_PX = 7
LEVELS = 48
_CALM_HEIGHT_PX = 320
_MAX_CELL_HEIGHT_PX = 26
_CROWDED_LINES = 120
_BLANK = 3
_IDLE_BLEND = {GPU: 0.42, STREAM: 0.42, CPU: 0.24}
_GLOW = {"light": {GPU: 0.12, STREAM: 0.0, CPU: 0.0}, "dark": {GPU: 0.3, STREAM: 0.2, CPU: 0.2}}
_KNEE = 0.6

_Pixels = NDArray[np.uint16]


@dataclass(frozen=True, slots=True)
class MapGeometry:
    """Where the cells are, in whole device pixels so that every cell is equally sharp.

    Attributes:
        left: First cell's x.
        top: First cell's y.
        layers: Rows.
        experts: Cells per row.
        per_line: Experts beside each other; smaller than `experts` when a layer takes several lines.
        cell_width: Of one cell, its grid line included.
        cell_height: Of one cell, its grid line included.
        scale: Device pixels per widget pixel.
    """

    left: int
    top: int
    layers: int
    experts: int
    per_line: int
    cell_width: int
    cell_height: int
    scale: float

    @property
    def lines(self) -> int:
        """Lines that one layer takes."""
        return max(1, math.ceil(self.experts / self.per_line))

    @property
    def layer_height(self) -> int:
        """Device pixels from one layer to the next; lines of one layer stay together."""
        gap = 2 if self.lines > 1 else 0
        return self.lines * self.cell_height + gap

    @property
    def width(self) -> int:
        """Device pixels of one line."""
        return self.per_line * self.cell_width

    @property
    def height(self) -> int:
        """Device pixels of all layers."""
        return self.layers * self.layer_height

    def cell_rect(self, layer: int, expert: int) -> QRectF:
        """One cell in the widget's pixels."""
        line, column = divmod(expert, self.per_line)
        x = self.left + column * self.cell_width
        y = self.top + layer * self.layer_height + line * self.cell_height
        return QRectF(x / self.scale, y / self.scale, self.cell_width / self.scale, self.cell_height / self.scale)

    def cell_at(self, x: float, y: float) -> tuple[int, int] | None:
        """The (layer, expert) under a point of the widget, None beside the map."""
        across, down = int(x * self.scale) - self.left, int(y * self.scale) - self.top
        if not (0 <= across < self.width and 0 <= down < self.height):
            return None
        layer, rest = divmod(down, self.layer_height)
        line = min(rest // self.cell_height, self.lines - 1)
        expert = line * self.per_line + across // self.cell_width
        return (layer, expert) if expert < self.experts else None


def fit_geometry(layers: int, experts: int, size: tuple[float, float], left: float, scale: float) -> MapGeometry:
    """Cells as large as a width and a calm height allow.

    Args:
        layers: Rows.
        experts: Cells per row.
        size: (width to fill, y of the first cell), in widget pixels.
        left: X of the first cell, in widget pixels.
        scale: Device pixels per widget pixel.
    """
    first = round(left * scale)
    available = max(MIN_CELL_PX, int(size[0] * scale) - first)
    narrowest = max(MIN_CELL_PX, int(MIN_CELL_PX * scale))
    lines = math.ceil(experts * narrowest / available)
    per_line = math.ceil(experts / lines)
    lines = math.ceil(experts / per_line)
    width = max(1, available // per_line)
    calm = _CALM_HEIGHT_PX * scale / (layers * lines)
    height = int(min(calm, _MAX_CELL_HEIGHT_PX * scale, max(6.0 * scale, 3.0 * width)))
    lowest = int((MIN_CELL_PX if layers * lines > _CROWDED_LINES else MIN_CELL_PX + 1) * scale)
    return MapGeometry(first, round(size[1] * scale), layers, experts, per_line, width, max(lowest, height), scale)


def find_places(snapshot: Snapshot, layers: int, experts: int) -> NDArray[np.uint8]:
    """Where every expert is: GPU, STREAM (its weights were copied for the latest pass) or CPU; uint8 [L, E]."""
    places = np.full((layers, experts), CPU, np.uint8)
    for layer, residents in zip(range(layers), snapshot.resident_by_layer, strict=False):
        if residents:
            places[layer, list(residents)] = GPU
    for trace in snapshot.layers:
        streamed = [run.expert for run in trace.runs if run.place == "stream"]
        if streamed:
            places[trace.layer, streamed] = STREAM
    return places


def find_use(snapshot: Snapshot, layers: int, experts: int) -> NDArray[np.float32]:
    """Recent use, 0..1; float32 [L, E], zeros where the engine sent none."""
    if len(snapshot.recent_use) != layers or any(len(row) != experts for row in snapshot.recent_use):
        return np.zeros((layers, experts), np.float32)
    use = np.array(snapshot.recent_use, np.float32)
    return np.clip(np.nan_to_num(use), 0.0, 1.0)


def place_ramp(theme: Theme, place: int) -> NDArray[np.float64]:
    """Colours of one place from idle to used just now; float64 [LEVELS, 3] in 0..255."""
    paper, text = _rgb(theme.window), _rgb(theme.text)
    full = _rgb((theme.gpu, theme.stream, theme.cpu)[place])
    idle = paper + (full - paper) * _IDLE_BLEND[place]
    glow = _GLOW[theme.name][place]
    strong = full + (text - full) * glow
    level = np.linspace(0.0, 1.0, LEVELS)
    knee = _KNEE if glow else 1.0
    channels = [np.interp(level, (0.0, knee, 1.0 + (not glow)), ends) for ends in zip(idle, full, strong, strict=True)]
    return np.stack(channels, axis=1)


def _rgb(colour: str) -> NDArray[np.float64]:
    return np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)], np.float64)


def _lookup(theme: Theme) -> NDArray[np.uint32]:
    """Colour of (place, level, layer of the texture) as 0xffRRGGBB, flat."""
    paper = _rgb(theme.window)
    table = np.empty((3, LEVELS, 3, 3))
    for place in (GPU, STREAM, CPU):
        ramp = place_ramp(theme, place)
        table[place, :, 0] = ramp
        table[place, :, 1] = paper + (ramp - paper) * _texture_blend(place)
        table[place, :, 2] = paper
    red, green, blue = (table[..., channel].round().astype(np.uint32).ravel() for channel in range(3))
    return np.asarray(np.uint32(0xFF000000) | (red << 16) | (green << 8) | blue, np.uint32)


def _texture_blend(place: int) -> NDArray[np.float64]:
    """How strong a cell's texture is against its colour, by level; a hollow cell fills up as it is used."""
    if place == CPU:
        return np.asarray(np.linspace(0.30, 0.78, LEVELS)[:, None], np.float64)
    return np.full((LEVELS, 1), 0.6)


def _textures(width: int, height: int) -> _Pixels:
    """Per place (and for blanks) what every pixel shows: 0 colour, 1 texture, 2 grid; uint16 [4, height, width]."""
    textures = np.zeros((4, height, width), np.uint16)
    rows, columns = np.indices((height, width))
    if min(width, height) >= TEXTURE_FROM_PX:
        ring = max(1, min(width, height) // 7)
        inside = (rows >= ring) & (rows < height - 1 - ring) & (columns >= ring) & (columns < width - 1 - ring)
        textures[CPU][inside] = 1
        period = max(4, min(width, height) // 2)
        textures[STREAM][(rows + columns) % period >= (period + 1) // 2] = 1
    if min(width, height) >= GRID_FROM_PX:
        textures[:, -1, :] = 2
        textures[:, :, -1] = 2
    textures[_BLANK] = 2
    return textures


class MapPainter:
    """Draws maps into images; keeps the lookup tables of a theme and a cell size."""

    def __init__(self) -> None:
        self._key: tuple[Theme, int, int] | None = None
        self._lookup = np.zeros(0, np.uint32)
        self._textures = np.zeros((4, 1, 1), np.uint16)

    def draw(self, places: NDArray[np.uint8], use: NDArray[np.float32], geometry: MapGeometry, theme: Theme) -> QImage:
        """The cells as one image of device pixels.

        Args:
            places: From `find_places`, [L, E].
            use: From `find_use`, [L, E].
            geometry: Where the cells are.
            theme: Colours.
        """
        self._prepare(theme, geometry.cell_width, geometry.cell_height)
        layers, lines, per_line = geometry.layers, geometry.lines, geometry.per_line
        levels = (use * (LEVELS - 1) + 0.5).astype(np.uint16)
        base = _wrap((places.astype(np.uint16) * LEVELS + levels) * 3, geometry, 0)
        kinds = _wrap(places, geometry, _BLANK)
        cells = (base[:, :, None, None] + self._textures[kinds]).swapaxes(1, 2)
        blanks = np.full((layers, geometry.layer_height, geometry.width), 2, np.uint16)
        blanks[:, : lines * geometry.cell_height] = cells.reshape(layers, lines * geometry.cell_height, -1)
        pixels = self._lookup[blanks.reshape(-1, per_line * geometry.cell_width)]
        height, width = pixels.shape
        image = QImage(pixels.tobytes(), width, height, width * 4, QImage.Format.Format_RGB32).copy()
        image.setDevicePixelRatio(geometry.scale)
        return image

    def _prepare(self, theme: Theme, width: int, height: int) -> None:
        if self._key != (theme, width, height):
            self._key = (theme, width, height)
            self._lookup = _lookup(theme)
            self._textures = _textures(width, height)


def _wrap(cells: NDArray[np.uint8] | _Pixels, geometry: MapGeometry, blank: int) -> _Pixels:
    """[L, E] -> [L * lines, per_line], the end of a layer's last line filled with `blank`."""
    room = geometry.lines * geometry.per_line - geometry.experts
    padded = np.pad(cells.astype(np.uint16), ((0, 0), (0, room)), constant_values=blank) if room else cells
    return padded.reshape(geometry.layers * geometry.lines, geometry.per_line).astype(np.uint16)


def ramp_color(theme: Theme, place: int, use: float) -> QColor:
    """The colour of a cell, for legends."""
    red, green, blue = (round(channel) for channel in place_ramp(theme, place)[round(use * (LEVELS - 1))])
    return QColor(red, green, blue)
