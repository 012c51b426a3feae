"""The settings dialog: pages at the left or above, and what was asked for beside what the engine says is in force.

Hands out a new `Settings` and a new `PresetBook` by signals and changes nothing itself; whoever listens applies them
and answers with `show_ready`, so that every value shown as "in force" has been read back from the engine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from PySide6.QtCore import QEvent, QSize, Qt, Signal
from PySide6.QtGui import QIcon, QResizeEvent, QShowEvent
from PySide6.QtWidgets import (
    QBoxLayout,
    QComboBox,
    QDialog,
    QDialogButtonBox,
    QFrame,
    QLabel,
    QLayout,
    QLineEdit,
    QListWidget,
    QListWidgetItem,
    QPushButton,
    QScrollArea,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)

from app.language import tr, translated
from app.presets import PresetBook
from app.settings import Settings, to_engine_config
from app.theme import SPACE_L, SPACE_S
from app.widgets.open_size import open_size
from app.widgets.panel_parts import DimLabel
from app.widgets.settings.advanced_page import AdvancedPage
from app.widgets.settings.chat_page import ChatPage
from app.widgets.settings.folders_page import FoldersPage
from app.widgets.settings.general_page import GeneralPage
from app.widgets.settings.gpu_page import GpuPage
from app.widgets.settings.model_page import ModelPage
from app.widgets.settings.presets_page import PresetsPage
from app.widgets.settings.privacy_page import PrivacyPage
from app.widgets.settings.shortcuts_page import ShortcutsPage
from engine.config import DEVICE_FIELDS
from engine.hardware import list_gpus

if TYPE_CHECKING:
    from app.widgets.settings.page import SettingsPage
    from app.widgets.shortcuts_dialog import Shortcut
    from engine.messages import ErrorReport, Ready

WANTED_SIZE = QSize(840, 680)
_LIST_WIDTH_CHARS = 20
_PAGE_WIDTH_CHARS = 48
_ANY_WIDTH = (1 << 24) - 1
PageName = Literal["general", "model", "gpu", "folders", "presets", "chat", "privacy", "shortcuts", "advanced"]


class SettingsDialog(QDialog):
    """Edits a copy of the settings and of the presets.

    Signals:
        applied(Settings): The user accepted changes; Apply leaves the dialog open.
        presets_applied(PresetBook): The same for the presets.
        measure_requested(): The user wants this machine's costs measured again.

    Args:
        settings: What is set now.
        ready: What the engine runs with; None while no model is loaded.
        book: The presets that are kept.
        shortcuts: Those of the window.
        parent: The window.
    """

    applied = Signal(object)
    presets_applied = Signal(object)
    measure_requested = Signal()

    def __init__(
        self,
        settings: Settings,
        ready: Ready | None = None,
        book: PresetBook | None = None,
        shortcuts: list[Shortcut] | None = None,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._settings, self._book, self._ready = settings, book or PresetBook(), ready
        self._waiting = False
        self.setWindowTitle(tr("Settings"))
        self.setAccessibleName(tr("Settings"))
        self.general, self.chat, self.privacy = GeneralPage(), ChatPage(), PrivacyPage()
        self.model = ModelPage(list_gpus(), settings.cpu_threads or 1)
        self.gpu = GpuPage()
        self.presets, self.advanced = PresetsPage(self._book), AdvancedPage()
        self.folders, self.shortcuts = FoldersPage(), ShortcutsPage(shortcuts or [])
        self._pages: dict[PageName, SettingsPage] = {
            "general": self.general,
            "model": self.model,
            "gpu": self.gpu,
            "folders": self.folders,
            "presets": self.presets,
            "chat": self.chat,
            "privacy": self.privacy,
            "shortcuts": self.shortcuts,
            "advanced": self.advanced,
        }
        self._build()
        for page in self._pages.values():
            page.show_settings(settings)
            page.edited.connect(self._edited)
        self._edited()

    # ---- building ----

    def _build(self) -> None:
        self.search = QLineEdit()
        self.search.setPlaceholderText(tr("Search"))
        self.search.setAccessibleName(tr("Search the settings"))
        self.search.setClearButtonEnabled(True)
        self.list = QListWidget()
        self.list.setObjectName("pages")
        self.list.setAccessibleName(tr("Pages"))
        self.list.setFrameShape(QFrame.Shape.NoFrame)
        self.list.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self._stack = QStackedWidget()
        self._nothing = DimLabel(tr("No setting is called that."))
        self._nothing.hide()
        for page in self._pages.values():
            item = QListWidgetItem(page.title)
            item.setSizeHint(QSize(0, self.fontMetrics().height() + 2 * SPACE_S))
            self.list.addItem(item)
            self._stack.addWidget(_scrolling(page))
        self.page_box = QComboBox()
        self.page_box.setAccessibleName(tr("Pages"))
        self.page_box.setModel(self.list.model())
        self.list.setCurrentRow(0)
        self.status = DimLabel(lines=2)
        self.status.setAccessibleName(tr("Status"))
        self.status.hide()
        self._make_buttons()
        self._arrange()
        self.search.textChanged.connect(self._search)
        self.list.currentRowChanged.connect(self._stack.setCurrentIndex)
        self.list.currentRowChanged.connect(self.page_box.setCurrentIndex)
        self.page_box.currentIndexChanged.connect(self.list.setCurrentRow)
        self.model.measure_requested.connect(self._measure)

    def _make_buttons(self) -> None:
        kind = QDialogButtonBox.StandardButton
        self._buttons = QDialogButtonBox(kind.Ok | kind.Cancel | kind.Apply)
        self._defaults = QDialogButtonBox(kind.RestoreDefaults)
        for button in (*self._buttons.buttons(), *self._defaults.buttons()):
            button.setIcon(QIcon())
        self._buttons.accepted.connect(self._accept)
        self._buttons.rejected.connect(self.reject)
        self.button("Apply").clicked.connect(self._apply)
        self.button("RestoreDefaults").clicked.connect(self._restore_defaults)

    def _arrange(self) -> None:
        left = QVBoxLayout()
        left.setSpacing(SPACE_S)
        left.addWidget(self.search)
        left.addWidget(self.page_box)
        left.addWidget(self.list, 1)
        left.addWidget(self._nothing)
        self._side = QWidget()
        self._side.setLayout(left)
        left.setContentsMargins(0, 0, 0, 0)
        self._middle = QBoxLayout(QBoxLayout.Direction.LeftToRight)
        self._middle.setSpacing(SPACE_L)
        self._middle.addWidget(self._side)
        self._middle.addWidget(self._stack, 1)
        layout = QVBoxLayout(self)
        layout.setSizeConstraint(QLayout.SizeConstraint.SetNoConstraint)  # it can be narrower than its layout is now
        layout.setContentsMargins(SPACE_L, SPACE_L, SPACE_L, SPACE_L)
        layout.setSpacing(SPACE_L)
        layout.addLayout(self._middle, 1)
        layout.addWidget(self.status)
        self._bottom = QBoxLayout(QBoxLayout.Direction.LeftToRight)
        self._bottom.setSpacing(SPACE_S)
        self._bottom.addWidget(self._defaults)
        self._bottom.addWidget(self._buttons)
        layout.addLayout(self._bottom)
        self._fit()

    def _fit(self) -> None:
        """List the pages at the left where there is room, else in a box above."""
        metrics = self.fontMetrics()
        widest = max(metrics.horizontalAdvance(page.title) for page in self._pages.values())
        side = max(widest + 4 * SPACE_L, _LIST_WIDTH_CHARS * metrics.averageCharWidth())
        page = self._stack.minimumSizeHint().width()
        comfortable = max(page, _PAGE_WIDTH_CHARS * metrics.averageCharWidth())
        room = self.width() - 2 * SPACE_L
        narrow = room < side + SPACE_L + comfortable
        self._middle.setDirection(_direction(beside=not narrow))
        buttons = (self._defaults.minimumSizeHint().width(), self._buttons.minimumSizeHint().width())
        self._bottom.setDirection(_direction(beside=sum(buttons) + SPACE_S <= room))
        self._side.setMaximumWidth(_ANY_WIDTH if narrow else side)
        self._side.setMinimumWidth(0 if narrow else side)
        self.list.setHidden(narrow)
        self.page_box.setHidden(not narrow)
        self.setMinimumWidth(max(page, *buttons) + 2 * SPACE_L)

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Follow the width."""
        super().resizeEvent(event)
        self._fit()

    def changeEvent(self, event: QEvent) -> None:
        """Follow the size of texts."""
        super().changeEvent(event)
        if event.type() is QEvent.Type.FontChange and self.layout() is not None:
            self._fit()

    def showEvent(self, event: QShowEvent) -> None:
        """Open in a comfortable size, or as the screen allows."""
        super().showEvent(event)
        if event.spontaneous():
            return
        self.resize(open_size(self, WANTED_SIZE))

    def button(self, name: Literal["Ok", "Cancel", "Apply", "RestoreDefaults"]) -> QPushButton:
        """One of the dialog's buttons."""
        box = self._defaults if name == "RestoreDefaults" else self._buttons
        return box.button(QDialogButtonBox.StandardButton[name])

    def show_page(self, name: PageName) -> None:
        """Turn to a page."""
        self.search.clear()
        self.list.setCurrentRow(list(self._pages).index(name))

    def _search(self, words: str) -> None:
        """Leave the pages that have all the words."""
        wanted = words.casefold().split()
        found = [all(word in page.search_text for word in wanted) for page in self._pages.values()]
        for row, shown in enumerate(found):
            item, there = self.list.item(row), Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsSelectable
            item.setHidden(not shown)
            item.setFlags(there if shown else Qt.ItemFlag.NoItemFlags)  # grey in the box
        self._nothing.setVisible(not any(found))
        if any(found) and not found[self.list.currentRow()]:
            self.list.setCurrentRow(found.index(True))

    # ---- values ----

    @property
    def pending(self) -> Settings:
        """The settings as edited."""
        settings = self._settings
        for page in self._pages.values():
            settings = page.merge(settings)
        return settings

    @property
    def changed(self) -> bool:
        """Whether anything was edited that has not been applied."""
        return self.pending != self._settings or self.presets.book != self._book

    # ---- what the engine says ----

    def show_ready(self, ready: Ready | None) -> None:
        """Read the values in force back from the engine; None when the model was unloaded."""
        self._ready = ready
        self._refresh()
        if self._waiting and ready is not None and not ready.because:
            self._waiting = False
            self._say(tr("Applied; the values in force are up to date."))

    def show_refused(self, error: ErrorReport, settings: Settings) -> None:
        """The engine kept what it had.

        Args:
            error: Why.
            settings: The settings that stay.
        """
        self._waiting = False
        self._settings = settings
        self._edited()
        self._say(tr("Not applied. {reason}").format(reason=translated(error.message)))

    def _refresh(self) -> None:
        pending = self.pending
        for page in self._pages.values():
            page.refresh(pending, self._ready)

    # ---- editing ----

    def _edited(self) -> None:
        self._refresh()
        problem = next((page.problem for page in self._pages.values() if page.problem), "")
        self.button("Apply").setEnabled(self.changed and not problem)
        self.button("Ok").setEnabled(not problem)
        self._say(problem or self._consequence(self.pending))

    def _say(self, words: str) -> None:
        """Say how things stand; the pages give way to it, and the buttons stay where they are."""
        self.status.setText(words)
        self.status.setVisible(bool(words))

    def _consequence(self, pending: Settings) -> str:
        if self._ready is None:
            return ""
        before, after = to_engine_config(self._settings), to_engine_config(pending)
        if before == after:
            return ""
        if any(getattr(before, name) != getattr(after, name) for name in DEVICE_FIELDS):
            return tr("Applying reloads the model.")
        if (before.context_tokens, before.kv_precision) != (after.context_tokens, after.kv_precision):
            return tr("Applying keeps the model loaded; the next reply reads the whole chat again.")
        return tr("Applying keeps the model loaded.")

    def _restore_defaults(self) -> None:
        """Fill the defaults in; the user's presets are no setting and stay."""
        defaults = Settings()
        for page in self._pages.values():
            page.blockSignals(True)  # noqa: FBT003 - Qt's argument has no name
            page.show_settings(defaults)
            page.blockSignals(False)  # noqa: FBT003
        self._edited()

    def _apply(self) -> None:
        pending, book = self.pending, self.presets.book
        if book != self._book:
            self._book = book
            self.presets_applied.emit(book)
        if pending == self._settings:
            self._edited()
            return
        reaches_engine = to_engine_config(pending) != to_engine_config(self._settings)
        self._settings = pending
        self._waiting = self._ready is not None and reaches_engine
        self._edited()
        self._say(tr("Applied; waiting for the engine.") if self._waiting else tr("Applied."))
        self.applied.emit(pending)

    def _measure(self) -> None:
        """Ask for new measurements; the next `Ready` brings them."""
        self._waiting = True
        self.model.measure.setEnabled(False)
        self._say(tr("Measuring what an expert costs on this machine."))
        self.measure_requested.emit()

    def _accept(self) -> None:
        self._apply()
        self.accept()


def _direction(*, beside: bool) -> QBoxLayout.Direction:
    return QBoxLayout.Direction.LeftToRight if beside else QBoxLayout.Direction.TopToBottom


class _PageScroll(QScrollArea):
    """Shows a page in its whole width."""

    def minimumSizeHint(self) -> QSize:
        """As wide as the page must be."""
        page = self.widget()
        assert page is not None, "it is made with its page"
        width = page.minimumSizeHint().width() + self.verticalScrollBar().sizeHint().width()
        return QSize(width, super().minimumSizeHint().height())


def _scrolling(page: SettingsPage) -> QScrollArea:
    """A page that scrolls where the screen is too low for it."""
    scroll = _PageScroll()
    scroll.setFrameShape(QFrame.Shape.NoFrame)
    scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    scroll.setWidgetResizable(True)
    scroll.setFocusPolicy(Qt.FocusPolicy.NoFocus)
    scroll.setWidget(page)
    title = QLabel(page.title)
    title.setObjectName("modelName")
    layout = page.layout()
    assert isinstance(layout, QVBoxLayout)
    layout.insertWidget(0, title)
    return scroll
