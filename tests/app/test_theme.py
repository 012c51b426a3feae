import dataclasses
import re

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QAccessibilityHints, QFont
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from app.highlight import CODE_COLOURS
from app.stylesheet import build_stylesheet, document_css, mix
from app.theme import (
    DARK,
    LIGHT,
    MAX_ZOOM,
    MIN_ZOOM,
    Theme,
    ThemeManager,
    current_theme,
    high_contrast,
    mono_font,
    sans_font,
)

CONTRASTY = [high_contrast(LIGHT), high_contrast(DARK)]
THEMES = pytest.mark.parametrize(
    "theme", [LIGHT, DARK, *CONTRASTY], ids=["light", "dark", "light high contrast", "dark high contrast"]
)
RULE = re.compile(r"([^{}]+)\{([^}]*)\}")


def contrast(first: str, second: str) -> float:
    """WCAG 2 contrast ratio."""
    lights = sorted((_luminance(first), _luminance(second)))
    return (lights[1] + 0.05) / (lights[0] + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@THEMES
def test_text_is_readable_everywhere(theme: Theme) -> None:
    for ground in (theme.window, theme.surface, theme.surface_alt):
        assert contrast(theme.text, ground) > 7
        assert contrast(theme.text_dim, ground) > 4.5
        assert contrast(theme.accent, ground) > 4.5
        assert contrast(theme.error, ground) > 4.5
        assert contrast(theme.warning, ground) > 4.5
    assert contrast(theme.accent_text, theme.accent) > 4.5


def declarations(body: str) -> dict[str, str]:
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in body.split(";"))}


@THEMES
def test_every_rule_that_colours_text_keeps_it_readable(theme: Theme) -> None:
    """WCAG AA for text; where a rule sets no background, on each that may be below."""
    checked = 0
    for selector, body in RULE.findall(build_stylesheet(theme)):
        said = declarations(body)
        colour, ground = said.get("color", ""), said.get("background", "transparent")
        if not colour.startswith("#") and not ground.startswith("#"):
            continue
        grounds = [ground] if ground.startswith("#") else [theme.window, theme.surface, theme.surface_alt]
        if "::" in selector and not colour:
            continue  # parts without text: handles, chunks, separators
        for below in grounds:
            text = colour or theme.text
            assert contrast(text, below) >= 4.5, f"{selector.strip()}: {text} on {below}"
            checked += 1
    assert checked > 20


@THEMES
def test_selected_text_is_readable(theme: Theme) -> None:
    for selector, body in RULE.findall(build_stylesheet(theme)):
        said = declarations(body)
        if "selection-color" in said:
            assert contrast(said["selection-color"], said["selection-background-color"]) >= 4.5, selector


@THEMES
def test_the_focus_is_to_be_seen(theme: Theme) -> None:
    """WCAG 1.4.11: 3:1 against what is beside it, on every kind of control that takes the focus."""
    rings = {}
    for selector, body in RULE.findall(build_stylesheet(theme)):
        for part in selector.split(","):
            if part.strip().endswith(":focus"):
                rings[part.strip().removesuffix(":focus")] = declarations(body)["border"].split()[-1]
    controls = (
        "QPushButton QToolButton QLineEdit QSpinBox QDoubleSpinBox QComboBox QCheckBox QRadioButton QListWidget QSlider"
    )
    assert set(controls.split()) <= set(rings)
    for colour in rings.values():
        for ground in (theme.window, theme.surface, theme.surface_alt):
            assert contrast(colour, ground) >= 3
    assert contrast(rings["QPushButton#send"], theme.accent) >= 2, "the ring around the filled button"


@THEMES
def test_more_contrast_is_more(theme: Theme) -> None:
    more = high_contrast(theme)
    assert contrast(more.text, more.window) == pytest.approx(21)
    assert contrast(more.border, more.window) >= 4.5


def test_the_systems_wish_for_contrast_is_followed(
    themes: ThemeManager, qapp: QApplication, monkeypatch: pytest.MonkeyPatch
) -> None:
    hints = qapp.styleHints()
    accessibility = hints.accessibility()
    with monkeypatch.context() as system:
        system.setattr(QAccessibilityHints, "contrastPreference", lambda _: Qt.ContrastPreference.HighContrast)
        accessibility.contrastPreferenceChanged.emit(Qt.ContrastPreference.HighContrast)
        assert themes.theme == high_contrast(LIGHT)
    accessibility.contrastPreferenceChanged.emit(Qt.ContrastPreference.NoPreference)
    assert themes.theme is LIGHT


@THEMES
def test_code_is_readable(theme: Theme) -> None:
    for colour in CODE_COLOURS[theme.name].values():
        assert contrast(colour, theme.surface_alt) > 4.5


@THEMES
def test_places_stand_out(theme: Theme) -> None:
    for colour in (theme.gpu, theme.stream, theme.cpu):
        assert contrast(colour, theme.window) > 2.4


@THEMES
def test_style_sheets_are_complete(theme: Theme) -> None:
    sheet = build_stylesheet(theme)
    assert "$" not in sheet
    assert sheet.count("{") == sheet.count("}")
    assert document_css(theme).count("{") == document_css(theme).count("}")


def test_mixing() -> None:
    assert mix("#000000", "#ffffff", 0.5) == "#808080"
    assert mix("#102030", "#ffffff", 0.0) == "#102030"


def test_every_colour_is_hex() -> None:
    for theme in (LIGHT, DARK):
        for value in list(dataclasses.asdict(theme).values())[1:]:
            assert len(value) == 7
            int(value[1:], 16)


def test_modes_change_live(themes: ThemeManager, qtbot: QtBot, qapp: QApplication) -> None:
    assert current_theme() is LIGHT
    with qtbot.waitSignal(themes.changed) as blocker:
        themes.set_mode("dark")
    assert blocker.args == [DARK]
    assert current_theme() is DARK
    assert qapp.styleHints().colorScheme() != Qt.ColorScheme.Light  # offscreen has none
    assert DARK.surface in qapp.styleSheet()


def test_system_mode_follows_the_system(themes: ThemeManager, qapp: QApplication) -> None:
    themes.set_mode("system")
    dark = qapp.styleHints().colorScheme() == Qt.ColorScheme.Dark
    assert themes.theme is (DARK if dark else LIGHT)


def test_zoom_has_limits(themes: ThemeManager) -> None:
    themes.set_zoom(99.0)
    assert themes.zoom == MAX_ZOOM
    assert mono_font().pointSizeF() > mono_font(zoom=1.0).pointSizeF()
    themes.set_zoom(0.0)
    assert themes.zoom == MIN_ZOOM


def test_without_a_manager_the_light_theme_is_in_force(qapp: QApplication) -> None:
    assert current_theme() is LIGHT


def test_menus_and_lists_have_the_windows_font_though_the_system_gives_them_another(
    qapp: QApplication, themes: ThemeManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    def as_on_windows(sheet: str) -> None:
        QApplication.setStyleSheet(qapp, sheet)
        QApplication.setFont(QFont("Serif"), "QMenuBar")  # type: ignore[arg-type]  # the stub wants bytes, PySide6 text

    monkeypatch.setattr(qapp, "setStyleSheet", as_on_windows)
    themes.set_zoom(1.1)
    menus = QApplication.font("QMenuBar")  # type: ignore[call-overload]
    assert menus.family() == sans_font().family()
