"""Colours, sizes and fonts of the window, in one place: a light and a dark palette on Qt's Fusion style.

`ThemeManager` follows the system, or what the user chose, and announces every change. Widgets that paint by
themselves read `current_theme()` at paint time and repaint on `ThemeManager.changed` (or on `PaletteChange`).
The colours of places (GPU, STREAM, CPU) are from Okabe and Ito's colour-blind-safe set, tuned for either background.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from PySide6.QtCore import QObject, Qt, Signal
from PySide6.QtGui import QColor, QFont, QFontDatabase, QGuiApplication, QPalette
from PySide6.QtWidgets import QApplication

ThemeMode = Literal["system", "light", "dark"]

# Spacing in device-independent pixels, multiples of 4.
SPACE_XS = 4
SPACE_S = 8
SPACE_M = 12
SPACE_L = 16
SPACE_XL = 24
BLOCK_GAP_PX = 10
LINE_HEIGHT_PERCENT = 125

# Sizes relative to the base font, in points.
FONT_BASE_PT = 10.5
FONT_SMALL = 0.86
FONT_LARGE = 1.2
FONT_TITLE = 1.6
MIN_ZOOM, MAX_ZOOM, ZOOM_STEP = 0.7, 2.0, 0.1

SANS_FAMILIES = [
    "Inter",
    "Segoe UI Variable",
    "Segoe UI",
    "SF Pro Text",
    "Helvetica Neue",
    "Cantarell",
    "Noto Sans",
    "DejaVu Sans",
    "sans-serif",
]
MONO_FAMILIES = [
    "JetBrains Mono",
    "Cascadia Mono",
    "SF Mono",
    "Consolas",
    "Menlo",
    "Noto Sans Mono",
    "DejaVu Sans Mono",
    "monospace",
]

_FONTS = Path(__file__).resolve().parent.parent / "resources" / "fonts"


@dataclass(frozen=True, slots=True)
class Theme:
    """One palette; every colour is "#rrggbb".

    Attributes:
        name: "light" or "dark".
        window: Behind everything.
        surface: Cards, fields and menus.
        surface_alt: Code, user messages, hovered rows.
        border: Hairlines.
        text: Body text.
        text_dim: Secondary text, at least 4.5:1 on `window`.
        accent: The one accent colour.
        accent_text: Text on the accent.
        gpu: Experts resident on the GPU, and work done there.
        stream: Experts being streamed to the GPU.
        cpu: Experts on the CPU, and work done there.
        dense: Dense weights in the memory gauge.
        kv: KV cache in the memory gauge.
        others: Other programs' memory.
        free: Free memory.
        warning: Notices.
        error: Failures.
    """

    name: str
    window: str
    surface: str
    surface_alt: str
    border: str
    text: str
    text_dim: str
    accent: str
    accent_text: str
    gpu: str
    stream: str
    cpu: str
    dense: str
    kv: str
    others: str
    free: str
    warning: str
    error: str


LIGHT = Theme(
    name="light",
    window="#f7f6f3",
    surface="#ffffff",
    surface_alt="#efede8",
    border="#dcd9d2",
    text="#1d1c1a",
    text_dim="#66635b",
    accent="#4a50c8",
    accent_text="#ffffff",
    gpu="#0072b2",
    stream="#e08a00",
    cpu="#8b8f98",
    dense="#b8608f",
    kv="#00936b",
    others="#b5b1a8",
    free="#e8e5de",
    warning="#8a5a00",
    error="#b3261e",
)

DARK = Theme(
    name="dark",
    window="#17181b",
    surface="#1f2125",
    surface_alt="#292c31",
    border="#373a41",
    text="#ececea",
    text_dim="#a3a6ae",
    accent="#8f96fa",
    accent_text="#14151a",
    gpu="#3fa0e0",
    stream="#f2a93b",
    cpu="#7d828d",
    dense="#d68bb3",
    kv="#2fbf93",
    others="#5c6069",
    free="#2b2e34",
    warning="#f0b95a",
    error="#ff8a80",
)

_THEMES = {theme.name: theme for theme in (LIGHT, DARK)}


def high_contrast(theme: Theme) -> Theme:
    """A theme for those who asked their system for more contrast: no grey text, and every edge is to be seen."""
    text = "#000000" if theme.name == "light" else "#ffffff"
    ground = "#ffffff" if theme.name == "light" else "#000000"
    return replace(theme, window=ground, surface=ground, border=theme.text_dim, text=text, text_dim=text)


def current_theme() -> Theme:
    """The theme in force; the light one before a `ThemeManager` exists."""
    manager = theme_manager()
    return manager.theme if manager is not None else LIGHT


def theme_manager() -> ThemeManager | None:
    """The running application's theme manager, if there is one; the latest of several."""
    app = QApplication.instance()
    if app is None:
        return None
    managers = app.findChildren(ThemeManager, options=Qt.FindChildOption.FindDirectChildrenOnly)
    return managers[-1] if managers else None


# Windows gives these fonts of its own, beside which ours would look like a mistake.
_CLASSES_WITH_SYSTEM_FONTS = ("QAbstractItemView", "QMenu", "QMenuBar", "QMessageBox", "QStatusBar", "QTipLabel")


class ThemeManager(QObject):
    """Owns the theme in force; a child of the application.

    Signals:
        changed(Theme): After palette, font and style sheet of the application have changed.
    """

    changed = Signal(object)

    def __init__(self, app: QApplication, mode: ThemeMode = "system", zoom: float = 1.0) -> None:
        super().__init__(app)
        self._app = app
        self._mode: ThemeMode = mode
        self._zoom = zoom
        self._theme = LIGHT
        app.setStyle("Fusion")
        _load_fonts()
        app.styleHints().colorSchemeChanged.connect(self._system_changed)
        self._hints = app.styleHints()  # held: PySide invalidates what it hands out with it
        self._accessibility = self._hints.accessibility()
        self._accessibility.contrastPreferenceChanged.connect(self._apply)
        self._apply_mode()

    @property
    def theme(self) -> Theme:
        """The theme in force."""
        return self._theme

    @property
    def mode(self) -> ThemeMode:
        """What the user chose."""
        return self._mode

    @property
    def zoom(self) -> float:
        """Text size relative to the default."""
        return self._zoom

    def set_mode(self, mode: ThemeMode) -> None:
        """Follow the system, or stay light or dark."""
        if mode != self._mode:
            self._mode = mode
            self._apply_mode()

    def set_zoom(self, zoom: float) -> None:
        """Set the text size, within its limits."""
        zoom = round(min(MAX_ZOOM, max(MIN_ZOOM, zoom)), 2)
        if zoom != self._zoom:
            self._zoom = zoom
            self._apply()

    def _apply_mode(self) -> None:
        hints = self._app.styleHints()
        if self._mode == "system":
            hints.unsetColorScheme()
        else:
            hints.setColorScheme(Qt.ColorScheme.Dark if self._mode == "dark" else Qt.ColorScheme.Light)
        self._apply()

    def _system_changed(self) -> None:
        if self._mode == "system":
            self._apply()

    def _apply(self) -> None:
        from app.stylesheet import build_stylesheet

        dark_system = self._app.styleHints().colorScheme() == Qt.ColorScheme.Dark
        name = self._mode if self._mode != "system" else ("dark" if dark_system else "light")
        more = self._accessibility.contrastPreference() == Qt.ContrastPreference.HighContrast
        self._theme = high_contrast(_THEMES[name]) if more else _THEMES[name]
        self._app.setFont(sans_font(self._zoom))
        self._app.setPalette(build_palette(self._theme))
        self._app.setStyleSheet(build_stylesheet(self._theme, self._zoom))
        for widgets in _CLASSES_WITH_SYSTEM_FONTS:  # last: what is above gives them back
            self._app.setFont(sans_font(self._zoom), widgets)  # type: ignore[arg-type]  # the stub wants bytes, PySide6 text
        self.changed.emit(self._theme)


def sans_font(zoom: float = 1.0) -> QFont:
    """The window's text font."""
    font = QFont(SANS_FAMILIES)
    font.setPointSizeF(FONT_BASE_PT * zoom)
    return font


def mono_font(zoom: float | None = None) -> QFont:
    """The font of code, in the zoom in force unless told otherwise."""
    manager = theme_manager()
    font = QFont(MONO_FAMILIES)
    font.setStyleHint(QFont.StyleHint.Monospace)
    font.setPointSizeF(FONT_BASE_PT * 0.94 * (zoom or (manager.zoom if manager else 1.0)))
    return font


def build_palette(theme: Theme) -> QPalette:
    """Qt's palette for what the style sheet does not reach."""
    role = QPalette.ColorRole
    colours = {
        role.Window: theme.window,
        role.WindowText: theme.text,
        role.Base: theme.surface,
        role.AlternateBase: theme.surface_alt,
        role.Text: theme.text,
        role.PlaceholderText: theme.text_dim,
        role.Button: theme.surface,
        role.ButtonText: theme.text,
        role.BrightText: theme.error,
        role.ToolTipBase: theme.surface,
        role.ToolTipText: theme.text,
        role.Highlight: theme.accent,
        role.HighlightedText: theme.accent_text,
        role.Accent: theme.accent,
        role.Link: theme.accent,
        role.LinkVisited: theme.accent,
        role.Light: theme.surface,
        role.Midlight: theme.surface_alt,
        role.Mid: theme.border,
        role.Dark: theme.border,
    }
    palette = QPalette()
    for colour_role, colour in colours.items():
        palette.setColor(colour_role, QColor(colour))
    for colour_role in (role.WindowText, role.Text, role.ButtonText):
        palette.setColor(QPalette.ColorGroup.Disabled, colour_role, QColor(theme.text_dim))
    return palette


def _load_fonts() -> None:
    """Register the bundled fonts; where they are missing the next family of the stack is used."""
    if QGuiApplication.platformName():
        for path in sorted(_FONTS.glob("*.otf")):
            QFontDatabase.addApplicationFont(str(path))
