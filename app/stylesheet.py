"""The style sheets of the window and of rendered Markdown, from a theme."""

from __future__ import annotations

from string import Template
from typing import TYPE_CHECKING

from app.highlight import CODE_COLOURS
from app.icons import ICON_FOLDER
from app.theme import BLOCK_GAP_PX, FONT_BASE_PT, FONT_LARGE, FONT_SMALL, FONT_TITLE, LINE_HEIGHT_PERCENT, MONO_FAMILIES

if TYPE_CHECKING:
    from app.theme import Theme

_TEMPLATE = Template("""
QMainWindow, QDialog, QMessageBox { background: $window; }
QScrollArea#transcript, QWidget#transcriptContent { background: $window; }
QToolTip { background: $surface; color: $text; border: 1px solid $border; padding: 5px 7px; }

QMenuBar { background: $window; border: none; padding: 2px 8px; }
QMenuBar::item { padding: 4px 9px; border-radius: 5px; background: transparent; }
QMenuBar::item:selected { background: $surface_alt; }
QMenu { background: $surface; border: 1px solid $border; padding: 5px; }
QMenu::item { padding: 6px 28px 6px 26px; border-radius: 5px; }
QMenu::item:selected { background: $surface_alt; color: $text; }
QMenu::item:disabled { color: $text_dim; }
QMenu::separator { height: 1px; background: $border; margin: 5px 8px; }

QLabel#dim, QLabel#codeLanguage, QLabel#thoughtsPreview { color: $text_dim; font-size: ${small}pt; }
QLabel#dim[tone="error"] { color: $error; }
QLabel#title { font-size: ${title}pt; font-weight: 600; }
QLabel#modelName { font-size: ${large}pt; font-weight: 600; }
QLabel#badge { background: $surface_alt; color: $text; border-radius: 9px; padding: 2px 9px; font-size: ${small}pt; }
QLabel#badge[tone="simulated"] { background: $warning; color: $window; }
QLabel#figure { font-weight: 600; }

QDialogButtonBox { dialogbuttonbox-buttons-have-icons: 0; }
QPushButton { background: $surface; border: 1px solid $border; border-radius: 7px; padding: 6px 14px; }
QPushButton:hover { background: $surface_alt; }
QPushButton:pressed { background: $pressed; }
QPushButton:focus, QToolButton:focus { border: 1px solid $accent; }
QPushButton:disabled { color: $text_dim; border: 1px $disabled_line $border; }
QPushButton:default, QPushButton#primary { background: $accent; border: 1px solid $accent; color: $accent_text; }
QPushButton#primary:hover, QPushButton:default:hover { background: $accent_hover; border-color: $accent_hover;
    color: $accent_text; }
QPushButton#primary:pressed, QPushButton:default:pressed, QPushButton#send:pressed { background: $accent_pressed;
    color: $accent_text; }
QPushButton#primary:disabled, QPushButton:default:disabled { background: $surface_alt;
    border: 1px $disabled_line $border; color: $text_dim; }
QPushButton#quiet { background: transparent; border: 1px solid transparent; color: $text_dim; padding: 3px 8px;
    font-size: ${small}pt; border-radius: 6px; }
QPushButton#quiet:hover { background: $surface_alt; color: $text; }
QPushButton#quiet:pressed, QToolButton:pressed { background: $pressed; }
QPushButton#quiet:focus { border: 1px solid $accent; }
QPushButton#question { background: $surface; border: 1px solid $border; border-radius: 10px; padding: 10px 16px;
    text-align: left; }
QPushButton#question:hover { border: 1px solid $accent; background: $surface; }
QPushButton#question:focus { border: 1px solid $accent; }
QPushButton#jump { background: $surface; border: 1px solid $border; border-radius: 15px; padding: 6px 14px;
    font-size: ${small}pt; }
QPushButton#jump:hover { background: $surface_alt; }
QPushButton#send { background: $accent; border: 1px solid $accent; color: $accent_text; border-radius: 18px;
    padding: 0; }
QPushButton#send:hover { background: $accent_hover; border-color: $accent_hover; color: $accent_text; }
QPushButton:default:focus, QPushButton#primary:focus { border: 2px solid $text; padding: 5px 13px; }
QPushButton#send:focus { border: 2px solid $text; }
QPushButton#send:disabled { background: $surface_alt; border-color: $surface_alt; }
QToolButton { background: transparent; border: 1px solid transparent; border-radius: 7px; padding: 5px; }
QToolButton:hover { background: $surface_alt; }
QToolButton:checked { background: $surface_alt; }
QToolButton#fold { padding: 1px; border-radius: 5px; }
QToolButton#fold:checked { background: transparent; }
QToolButton#fold:hover { background: $surface_alt; }
QToolButton#panelMenu::menu-indicator { image: none; width: 0; }
QSlider#scrubber::groove:horizontal { height: 4px; background: $free; border-radius: 2px; }
QSlider#scrubber::sub-page:horizontal { background: $accent; border-radius: 2px; }
QSlider#scrubber::sub-page:horizontal:disabled { background: $free; }
QSlider#scrubber::handle:horizontal { width: 14px; height: 14px; margin: -6px 0; border-radius: 7px;
    background: $surface; border: 1px solid $text_dim; }
QSlider#scrubber::handle:horizontal:hover, QSlider#scrubber::handle:horizontal:focus { border: 2px solid $accent; }
QSlider#scrubber::handle:horizontal:disabled { background: $surface_alt; border: 1px solid $border; }
QPushButton#quiet:disabled { color: $text_dim; border-color: transparent; }

QToolButton#action { border-radius: 6px; padding: 4px; color: $text_dim; font-size: ${small}pt; }
QToolButton#action:focus { border: 1px solid $accent; }
QFrame#sidebar { background: $window; border: none; }
QFrame#sidebar[overlaid="true"] { border-right: 1px solid $border; }
QListView#chats { background: transparent; border: none; outline: none; }
QLineEdit#rename { border: 1px solid $accent; padding: 2px 6px; }
QFrame#toast { background: $surface; border: 1px solid $border; border-radius: 9px; }
QFrame#toast QPushButton#quiet { color: $accent; font-weight: 600; }

QToolButton#thoughts { color: $text_dim; padding: 2px 6px 2px 2px; font-size: ${small}pt; }
QFrame#thoughtsText { border: none; border-left: 2px solid $border; }
QFrame#chip { background: $surface; border: 1px solid $border; border-radius: 8px; }
QPushButton#chipName { background: transparent; border: 1px solid transparent; border-radius: 7px; padding: 3px 6px;
    font-size: ${small}pt; text-align: left; }
QPushButton#chipName:hover, QToolButton#chipRemove:hover { background: $surface_alt; }
QPushButton#chipName:focus, QToolButton#chipRemove:focus { border: 1px solid $accent; }
QToolButton#chipRemove { padding: 3px; border-radius: 6px; }
QPushButton#quiet[tone="warning"] { color: $warning; }
QFrame#popup { background: $surface; border: 1px solid $border; }
QFrame#findBar { background: $surface; border: 1px solid $border; border-radius: 9px; }
QFrame#findBar QLineEdit { border: none; background: transparent; }

QFrame#topBar { background: $window; border: none; border-bottom: 1px solid $border; }
QFrame#bubble { background: $surface_alt; border-radius: 14px; }
QFrame#bubble QTextEdit { background: transparent; }
QTextBrowser { background: transparent; border: none; selection-background-color: $accent;
    selection-color: $accent_text; }
QFrame#codeBlock { background: $surface_alt; border: 1px solid $border; border-radius: 9px; }
QFrame#codeBlock QPlainTextEdit { background: transparent; border: none; padding: 0;
    selection-background-color: $accent; selection-color: $accent_text; }
QFrame#composer { background: $surface; border: 1px solid $border; border-radius: 23px; }
QFrame#composer[focused="true"] { border: 1px solid $accent; }
QPlainTextEdit#draft { background: transparent; border: none; selection-background-color: $accent;
    selection-color: $accent_text; }
QFrame#banner { background: $surface; border: 1px solid $warning; border-radius: 9px; }
QFrame#banner[tone="error"] { border: 1px solid $error; }
QFrame#loading { background: $surface; border: 1px solid $border; border-radius: 9px; }

QProgressBar { background: $surface_alt; border: none; border-radius: 3px; max-height: 6px; min-height: 6px; }
QProgressBar::chunk { background: $accent; border-radius: 3px; }
QSplitter::handle { background: $border; }
QSplitter::handle:hover { background: $accent; }
QAbstractScrollArea::corner { background: transparent; border: none; }
QScrollBar:vertical { background: transparent; width: 12px; margin: 0; }
QScrollBar:horizontal { background: transparent; height: 12px; margin: 0; }
QScrollBar::handle { background: $scroll; border-radius: 4px; margin: 2px; }
QScrollBar::handle:vertical { min-height: 32px; }
QScrollBar::handle:horizontal { min-width: 32px; }
QScrollBar::handle:hover { background: $text_dim; }
QScrollBar::add-line, QScrollBar::sub-line { width: 0; height: 0; }
QScrollBar::add-page, QScrollBar::sub-page { background: transparent; }
QLineEdit, QSpinBox, QDoubleSpinBox { background: $surface; border: 1px solid $border; border-radius: 7px;
    padding: 5px 8px; selection-background-color: $accent; selection-color: $accent_text; }
QComboBox { background: $surface; border: 1px solid $border; border-radius: 7px; padding: 5px 8px; }
QComboBox:focus { border: 1px solid $accent; }
QComboBox::drop-down { border: none; width: 26px; }
QComboBox::down-arrow { image: url("$icon_folder/combo-arrow.svg"); width: 12px; height: 12px; }
QListWidget, QTreeWidget, QTableWidget, QDialog QPlainTextEdit { background: $surface; border: 1px solid $border;
    border-radius: 7px; padding: 3px; }
QListWidget:focus, QTreeWidget:focus, QTableWidget:focus, QDialog QPlainTextEdit:focus { border: 1px solid $accent; }
QListWidget { outline: none; }
QListWidget::item { border-radius: 5px; }
QListWidget::item:hover { background: $surface_alt; }
QListWidget::item:selected { background: $accent; color: $accent_text; }
QCheckBox:focus, QRadioButton:focus, QSlider:focus { border: 1px solid $accent; border-radius: 5px; }
QLineEdit:disabled, QSpinBox:disabled, QDoubleSpinBox:disabled, QComboBox:disabled { color: $text_dim;
    border: 1px $disabled_line $border; }
QListView#models { background: $surface; border: 1px solid $border; border-radius: 9px; padding: 4px; outline: none; }
QListView#models:focus { border: 1px solid $accent; }
QTreeWidget#hub { outline: none; }
QTreeWidget#hub::item { padding: 5px 6px; border: none; }
QTreeWidget#hub::item:hover { background: $surface_alt; }
QTreeWidget#hub::item:selected { background: $surface_alt; color: $text; }
QTreeWidget#hub QHeaderView::section { background: $surface; color: $text_dim; border: none;
    border-bottom: 1px solid $border; padding: 5px 6px; font-size: ${small}pt; }
QTabWidget::pane { border: none; border-top: 1px solid $border; }
QTabWidget::tab-bar { left: 0; }
QTabBar { qproperty-drawBase: 0; background: transparent; }
QTabBar::tab { background: transparent; color: $text_dim; border: 1px solid transparent;
    border-bottom: 2px solid transparent; padding: 5px 4px 6px 4px; margin-right: 20px; }
QTabBar::tab:hover { color: $text; }
QTabBar::tab:selected { color: $text; border-bottom: 2px solid $accent; font-weight: 600; }
QTabBar::tab:focus { border: 1px solid $accent; border-bottom: 2px solid $accent; }
QPushButton#modelName { background: transparent; border: 1px solid transparent; border-radius: 7px; padding: 3px 8px;
    font-size: ${large}pt; font-weight: 600; text-align: left; }
QPushButton#modelName:hover { background: $surface_alt; }
QPushButton#modelName:focus { border: 1px solid $accent; }
QListWidget#pages { background: transparent; border: 1px solid transparent; padding: 0; }
QListWidget#pages:focus { border: 1px solid $accent; }
QListWidget#pages::item { padding: 0 10px; border: 1px solid transparent; border-radius: 7px; color: $text; }
QListWidget#pages::item:hover { background: $surface_alt; }
QListWidget#pages::item:selected { background: $surface_alt; color: $text; font-weight: 600; }
QLineEdit:focus, QSpinBox:focus, QDoubleSpinBox:focus { border: 1px solid $accent; }
""")


def build_stylesheet(theme: Theme, zoom: float = 1.0) -> str:
    """The style sheet of the whole application."""
    return _TEMPLATE.substitute(
        {name: getattr(theme, name) for name in theme.__slots__},
        icon_folder=ICON_FOLDER.as_posix(),
        accent_hover=mix(theme.accent, theme.text, 0.12),
        accent_pressed=mix(theme.accent, theme.text, 0.2),
        disabled_line="dashed" if theme.text == theme.text_dim else "solid",  # without grey, the line has to tell
        pressed=mix(theme.surface_alt, theme.text, 0.1),
        scroll=mix(theme.border, theme.text_dim, 0.35),
        small=round(FONT_BASE_PT * FONT_SMALL * zoom, 2),
        large=round(FONT_BASE_PT * FONT_LARGE * zoom, 2),
        title=round(FONT_BASE_PT * FONT_TITLE * zoom, 2),
    )


def document_css(theme: Theme) -> str:
    """The style sheet of one block of Markdown."""
    mono = ", ".join(f"'{family}'" for family in MONO_FAMILIES)
    spans = " ".join(f".{kind} {{ color: {colour}; }}" for kind, colour in CODE_COLOURS[theme.name].items())
    return (
        f"p, ul, ol, pre, blockquote, table {{ margin-top: 0; margin-bottom: {BLOCK_GAP_PX}px; }} "
        f"p, li, td {{ line-height: {LINE_HEIGHT_PERCENT}%; }} strong {{ font-weight: 600; }} "
        f"li {{ margin-bottom: 3px; }} li p {{ margin-bottom: 3px; }} .last {{ margin-bottom: {BLOCK_GAP_PX}px; }} "
        f".formula, pre {{ line-height: 100%; }} "  # else a list's own stripes its code
        f"h1, h2, h3, h4, h5, h6 {{ margin-top: 4px; margin-bottom: 8px; font-weight: 600; }} "
        f"h1 {{ font-size: large; }} h2 {{ font-size: large; }} h3, h4, h5, h6 {{ font-size: medium; }} "
        f"a {{ color: {theme.accent}; text-decoration: underline; }} "
        f"code, pre {{ font-family: {mono}; background-color: {theme.surface_alt}; }} "
        f"blockquote {{ color: {theme.text_dim}; margin-left: 12px; }} "
        f"table {{ border-collapse: collapse; border-style: solid; border-color: {theme.border}; }} "
        f"th {{ font-weight: 600; background-color: {theme.surface_alt}; }} hr {{ color: {theme.border}; }} "
        f"{spans}"
    )


def mix(first: str, second: str, share: float) -> str:
    """A colour between two "#rrggbb" ones; share 0 is the first."""
    pairs = ((int(first[i : i + 2], 16), int(second[i : i + 2], 16)) for i in (1, 3, 5))
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in pairs)
