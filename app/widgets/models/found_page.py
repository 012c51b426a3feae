"""On this computer: the models that were found, with search, order, details, and what can be done with each."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QModelIndex, Qt, QUrl, Signal
from PySide6.QtGui import QDesktopServices
from PySide6.QtWidgets import (
    QAbstractItemView,
    QComboBox,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QListView,
    QMessageBox,
    QPushButton,
    QSplitter,
    QVBoxLayout,
    QWidget,
)

from app.language import tr
from app.model_removal import RemovalError, for_good, own_paths, to_trash
from app.theme import SPACE_L, SPACE_M, SPACE_S
from app.units import bytes_text
from app.widgets.models.details import ModelDetails
from app.widgets.models.found_list import MODEL_ROLE, FoundListModel, SortedModels
from app.widgets.models.found_row import FoundRowDelegate
from app.widgets.panel_parts import DimLabel
from engine.checkpoint.catalog import GUIDE, guide_path

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.library import Library
    from app.model_scan import FoundModel

LIST_WIDTH, DETAILS_WIDTH = 560, 400


class FoundPage(QWidget):
    """The first page.

    Args:
        library: What knows the models.
        loaded: The path of the model that is loaded, "" for none.
        parent: The dialog.

    Signals:
        load_requested(str, bool): Load the model with this path; True to keep its experts on disk.
        folder_chosen(str): Look for models in this folder too.
        smaller_requested(str): Make a smaller model of the one with this path.
        recommended_requested(): Show what could be downloaded.
    """

    load_requested = Signal(str, bool)
    folder_chosen = Signal(str)
    smaller_requested = Signal(str)
    recommended_requested = Signal()

    def __init__(self, library: Library, loaded: str = "", parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._library, self._loaded = library, loaded
        self.rows = FoundListModel(library, self)
        self.shown = SortedModels(self.rows, self)
        self._build()
        self._connect()
        self.set_loaded(loaded)
        self._count()
        self.select(loaded or GUIDE)

    # ---- building ----

    def _build(self) -> None:
        self.search = QLineEdit()
        self.search.setPlaceholderText(tr("Search"))
        self.search.setAccessibleName(tr("Search the models"))
        self.search.setClearButtonEnabled(True)
        self.order = QComboBox()
        self.order.setAccessibleName(tr("Order of the models"))
        choices = (
            (tr("By name"), "name"),
            (tr("By size"), "size"),
            (tr("By speed"), "speed"),
            (tr("By family"), "family"),
        )
        for text, value in choices:
            self.order.addItem(text, value)
        self.again = _button(tr("Look &again"))
        self.add_folder = _button(tr("Add &folder…"))
        self.list = QListView()
        self.list.setObjectName("models")
        self.list.setAccessibleName(tr("Models on this computer"))
        self.list.setModel(self.shown)
        self.list.setItemDelegate(FoundRowDelegate(self.list))
        self.list.setUniformItemSizes(True)
        self.list.setMouseTracking(True)
        self.list.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.list.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.list.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.count = DimLabel()
        self.count.setAccessibleName(tr("How many models there are"))
        self.hint = QLabel()
        self.hint.setWordWrap(True)
        self.hint.setAlignment(Qt.AlignmentFlag.AlignHCenter)
        self.hint_button = QPushButton(tr("See recommended models"))
        self.hint_button.setAutoDefault(False)
        self.details = ModelDetails()
        self._arrange()

    def _arrange(self) -> None:
        bar = QHBoxLayout()
        bar.setSpacing(SPACE_S)
        bar.addWidget(self.search, 1)
        for widget in (self.order, self.again, self.add_folder):
            bar.addWidget(widget)
        left = QWidget()
        column = QVBoxLayout(left)
        column.setContentsMargins(0, 0, SPACE_L, 0)
        column.setSpacing(SPACE_S)
        column.addWidget(self.list, 1)
        column.addWidget(self.hint)
        column.addWidget(self.hint_button, 0, Qt.AlignmentFlag.AlignHCenter)
        column.addWidget(self.count)
        parts = QSplitter(Qt.Orientation.Horizontal)
        parts.setChildrenCollapsible(False)
        parts.setHandleWidth(1)
        parts.addWidget(left)
        parts.addWidget(self.details)
        parts.setStretchFactor(0, 3)
        parts.setStretchFactor(1, 2)
        parts.setSizes([LIST_WIDTH, max(DETAILS_WIDTH, self.details.comfortable_width)])
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, SPACE_M, 0, 0)
        layout.setSpacing(SPACE_M)
        layout.addLayout(bar)
        layout.addWidget(parts, 1)

    def _connect(self) -> None:
        library = self._library
        library.found.connect(self._count)
        library.lost.connect(self._count)
        library.scanned.connect(self._count)
        library.judged.connect(self._judged)
        self.search.textChanged.connect(self._search)
        self.order.currentIndexChanged.connect(lambda _index: self.shown.sort_by(self.order.currentData()))
        self.again.clicked.connect(self.look_again)
        self.add_folder.clicked.connect(self._choose_folder)
        self.hint_button.clicked.connect(self.recommended_requested)
        self.list.selectionModel().currentChanged.connect(self._show_current)
        self.list.activated.connect(lambda _index: self._load())
        self.details.load_requested.connect(self._load)
        self.details.reveal_requested.connect(self._reveal)
        self.details.smaller_requested.connect(self._ask_for_smaller)
        self.details.delete_requested.connect(self._ask_to_delete)

    # ---- what is shown ----

    @property
    def current(self) -> FoundModel | None:
        """The model that is chosen."""
        index = self.list.currentIndex()
        model: FoundModel | None = index.data(MODEL_ROLE) if index.isValid() else None
        return model

    def select(self, path: str) -> None:
        """Choose a model; does nothing where it is not listed."""
        row = self.rows.row_of(path)
        if row >= 0:
            self.list.setCurrentIndex(self.shown.mapFromSource(self.rows.index(row)))

    def set_loaded(self, path: str) -> None:
        """Another model is loaded, "" for none."""
        self._loaded = path
        self.rows.set_loaded(path)
        self._show_current()

    def look_again(self) -> None:
        """Look through all folders anew."""
        self._library.refresh(again=True)
        self._count()

    def _show_current(self, *_: QModelIndex) -> None:
        model = self.current
        verdict = self._library.known_verdict(model.path) if model is not None else None
        self.details.show_model(model, verdict, loaded=model is not None and model.path == self._loaded)

    def _judged(self, path: str) -> None:
        model = self.current
        if model is not None and model.path == path:
            self._show_current()

    def _search(self, words: str) -> None:
        self.shown.search(words)
        self._count()

    def _count(self, *_: object) -> None:
        """Tell how many models there are, and what to do where there are none."""
        models = self._library.models()
        total = sum(model.size_bytes for model in models)
        words = tr("%n models, {size}", len(models)).format(size=bytes_text(total))
        self.count.setText(f"{words} \N{MIDDLE DOT} {tr('looking…')}" if self._library.scanning else words)
        self.again.setEnabled(not self._library.scanning)
        alone = len(models) <= 1 and not self._library.scanning
        nothing = self.shown.rowCount() == 0 and bool(self.search.text())
        self.hint.setText(tr("No model is called that.") if nothing else tr("No other model was found here."))
        self.hint.setVisible(nothing or alone)
        self.hint_button.setVisible(alone and not nothing)
        if self.current is None:
            self.select(self._loaded or GUIDE)
            self._show_current()

    # ---- what can be done ----

    def _choose_folder(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, tr("Look for models in"))
        if folder:
            self.folder_chosen.emit(folder)

    def _load(self) -> None:
        model = self.current
        if model is None or not self.details.load.isEnabled():
            return
        verdict = self._library.verdict(model)
        if verdict.plan is not None:
            self.load_requested.emit(model.path, verdict.short is not None)

    def _reveal(self) -> None:
        model = self.current
        if model is not None:
            path = guide_path() if model.path == GUIDE else Path(model.path)
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(path if path.is_dir() else path.parent)))

    def _ask_for_smaller(self) -> None:
        if self.current is not None:
            self.smaller_requested.emit(self.current.path)

    def _ask_to_delete(self) -> None:
        model = self.current
        if model is None:
            return
        paths = own_paths(Path(model.path))
        size = bytes_text(model.size_bytes)
        words = tr("Move {name} to the trash? {size} come free when the trash is emptied.")
        names = "\n".join(str(path) for path in paths)
        self._ask(words.format(name=model.name, size=size), names, tr("Move to trash"), lambda: self._delete(model))

    def _delete(self, model: FoundModel) -> None:
        try:
            to_trash(Path(model.path))
        except RemovalError as error:
            words = tr("{problem} Delete {name} for good? This cannot be undone.")
            question = words.format(problem=error.message, name=model.name)
            self._ask(question, "", tr("Delete for good"), lambda: self._delete_for_good(model))
        else:
            self._library.forget(model.path)

    def _delete_for_good(self, model: FoundModel) -> None:
        try:
            for_good(Path(model.path))
        except RemovalError as error:
            self._ask(str(error), "", "", None)
        else:
            self._library.forget(model.path)

    def _ask(self, question: str, names: str, agree: str, then: Callable[[], None] | None) -> None:
        """Ask before files go; without anything to do it only tells."""
        box = QMessageBox(self)
        box.setWindowTitle(tr("Models"))
        box.setTextFormat(Qt.TextFormat.PlainText)
        box.setText(question)
        box.setInformativeText(names)
        box.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        if then is not None:
            yes = box.addButton(agree, QMessageBox.ButtonRole.DestructiveRole)
            yes.clicked.connect(then)
        box.setDefaultButton(box.addButton(tr("Keep"), QMessageBox.ButtonRole.RejectRole))
        box.open()


def _button(text: str) -> QPushButton:
    button = QPushButton(text)
    button.setAutoDefault(False)
    return button
