"""The map's pixels and geometry, from six layers of eight experts to sixty-one of five hundred and twelve."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from app.theme import DARK, LIGHT, Theme
from app.widgets.map_image import (
    CPU,
    GPU,
    LEVELS,
    STREAM,
    MapPainter,
    find_places,
    find_use,
    fit_geometry,
    place_ramp,
    ramp_color,
)
from tests.app.snapshots import Step, make_ready, make_snapshot

SHAPES = [(1, 1), (6, 8), (32, 8), (48, 128), (61, 512)]


@pytest.mark.parametrize(("layers", "experts"), SHAPES)
@pytest.mark.parametrize("scale", [1.0, 1.25, 1.5, 2.0])
@pytest.mark.parametrize("width", [40, 320, 900])
def test_every_cell_has_its_own_place_inside_the_width(layers: int, experts: int, scale: float, width: int) -> None:
    geometry = fit_geometry(layers, experts, (width, 20), 26, scale)
    assert geometry.left + geometry.width <= max(width * scale, geometry.left + 2 * scale)
    for layer in {0, layers // 2, layers - 1}:
        for expert in {0, experts // 2, experts - 1}:
            middle = geometry.cell_rect(layer, expert).center()
            assert geometry.cell_at(middle.x(), middle.y()) == (layer, expert)


def test_nothing_is_found_beside_the_map() -> None:
    geometry = fit_geometry(6, 8, (320, 20), 26, 1.0)
    assert geometry.cell_at(5, 30) is None
    assert geometry.cell_at(100, 5) is None
    assert geometry.cell_at(319.9, 30) is None
    assert geometry.cell_at(100, 5000) is None


def test_many_experts_take_several_lines_per_layer() -> None:
    assert fit_geometry(48, 128, (320, 20), 26, 1.0).lines == 1
    wrapped = fit_geometry(61, 512, (320, 20), 26, 1.0)
    assert wrapped.lines == 4
    assert wrapped.per_line * wrapped.lines >= 512


def test_the_end_of_a_wrapped_layer_is_empty() -> None:
    geometry = fit_geometry(2, 101, (120, 0), 0, 1.0)
    assert geometry.lines == 2
    below_last = geometry.cell_rect(0, 100).center()
    assert geometry.cell_at(below_last.x(), below_last.y()) == (0, 100)
    assert geometry.cell_at(geometry.width - 1, below_last.y()) is None


def test_places_follow_residents_and_streams() -> None:
    ready = make_ready("mixtral", "cuda")
    snapshot = make_snapshot(ready, Step(0, 512))
    places = find_places(snapshot, 32, 8)
    assert places.shape == (32, 8)
    for layer, residents in enumerate(snapshot.resident_by_layer):
        assert (places[layer, list(residents)] == GPU).all()
    streamed = {(t.layer, run.expert) for t in snapshot.layers for run in t.runs if run.place == "stream"}
    assert streamed
    assert {(int(layer), int(expert)) for layer, expert in np.argwhere(places == STREAM)} == streamed


def test_use_of_another_shape_or_with_nan_is_harmless() -> None:
    snapshot = make_snapshot(make_ready("guide", "simulated"), Step(2))
    assert not find_use(replace(snapshot, recent_use=()), 6, 8).any()
    assert not find_use(replace(snapshot, recent_use=((1.0,) * 3,) * 6), 6, 8).any()
    odd = find_use(replace(snapshot, recent_use=((float("nan"), 7.0, -1.0, 0.5, 0, 0, 0, 0),) * 6), 6, 8)
    assert odd[0, :4].tolist() == [0.0, 1.0, 0.0, 0.5]


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=lambda theme: theme.name)
@pytest.mark.parametrize(("layers", "experts"), SHAPES)
def test_the_image_has_the_geometry_in_device_pixels(theme: Theme, layers: int, experts: int) -> None:
    geometry = fit_geometry(layers, experts, (320, 20), 26, 1.5)
    places = np.random.default_rng(1).integers(0, 3, (layers, experts)).astype(np.uint8)
    image = MapPainter().draw(places, np.ones((layers, experts), np.float32), geometry, theme)
    assert (image.width(), image.height()) == (geometry.width, geometry.height)
    assert image.devicePixelRatio() == 1.5


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=lambda theme: theme.name)
def test_a_cell_shows_its_place_and_use(theme: Theme) -> None:
    geometry = fit_geometry(1, 3, (320, 0), 0, 1.0)
    image = MapPainter().draw(np.array([[GPU, STREAM, CPU]], np.uint8), np.ones((1, 3), np.float32), geometry, theme)
    for expert, place in enumerate((GPU, STREAM, CPU)):
        corner = geometry.cell_rect(0, expert).topLeft().toPoint()
        assert image.pixelColor(corner) == ramp_color(theme, place, 1.0)


def test_large_cells_tell_places_apart_without_colour() -> None:
    geometry = fit_geometry(1, 3, (320, 0), 0, 1.0)
    image = MapPainter().draw(np.array([[GPU, STREAM, CPU]], np.uint8), np.ones((1, 3), np.float32), geometry, DARK)
    colours = []
    for expert in range(3):
        cell = geometry.cell_rect(0, expert).toRect().adjusted(0, 0, -1, -1)
        inside = [image.pixel(x, y) for x in range(cell.left(), cell.right()) for y in range(cell.top(), cell.bottom())]
        colours.append([pixel == inside[0] for pixel in inside])
    assert all(colours[0]), "solid"
    assert 0.3 < np.mean(colours[1]) < 0.7, "hatched"
    assert np.mean(colours[2]) < 0.5, "hollow"


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=lambda theme: theme.name)
def test_brightness_is_legible_and_places_differ(theme: Theme) -> None:
    background = np.array([int(theme.window[i : i + 2], 16) for i in (1, 3, 5)])
    for place in (GPU, STREAM, CPU):
        ramp = place_ramp(theme, place)
        distance = np.abs(ramp - background).sum(axis=1)
        assert ramp.shape == (LEVELS, 3)
        assert (np.diff(distance) > 0).all(), "more use always stands out more"
        assert distance[0] > 30, "idle is not invisible"
        assert distance[-1] > 2 * distance[0]
    for level in (0, LEVELS - 1):
        for one, other in ((GPU, CPU), (STREAM, CPU), (GPU, STREAM)):
            gap = np.abs(place_ramp(theme, one)[level] - place_ramp(theme, other)[level]).sum()
            assert gap > 60
