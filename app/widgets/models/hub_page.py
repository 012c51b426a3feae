"""Search Hugging Face: repositories that fit some words, and what each of them offers.

Nothing is asked before the user has pressed Search.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import Qt
from PySide6.QtWidgets import (
    QAbstractItemView,
    QFrame,
    QHBoxLayout,
    QHeaderView,
    QLineEdit,
    QPushButton,
    QSplitter,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)

from app.language import error_text, tr
from app.rough_fit import fit_words, rough_fit
from app.theme import SPACE_L, SPACE_M, SPACE_S
from app.units import bytes_text, number_text
from app.verdict import sentence
from app.widgets.models.found_list import DOT
from app.widgets.models.token_dialog import TokenDialog
from app.widgets.panel_parts import DimLabel
from engine.hub.places import key_of

if TYPE_CHECKING:
    from app.downloads import Downloads
    from app.hub_token import HubToken
    from app.library import Library
    from engine.config import ModelConfig
    from engine.hub.repository import Choice, Repository
    from engine.messages import ErrorReport

VALUE_ROLE = int(Qt.ItemDataRole.UserRole)
_RIGHT = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
_GATED = "gated"
_CANNOT_RUN = ("checkpoint", "unsupported-model")


class HubPage(QWidget):
    """The third page.

    Args:
        downloads: What asks the hub.
        library: Knows the machine.
        token: Where an access token is kept.
        parent: The dialog.
    """

    def __init__(self, downloads: Downloads, library: Library, token: HubToken, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._downloads, self._library, self._token = downloads, library, token
        self._words = self._repository = self._started = ""
        self._previewed = self._facts = self._by_size = ""
        self._build()
        self.search.clicked.connect(self._search)
        self.field.returnPressed.connect(self._search)
        self.repositories.currentItemChanged.connect(self._look_up)
        self.choices.currentItemChanged.connect(self._show_choice)
        self.choices.itemActivated.connect(lambda _item, _column: self._download())
        self.download.clicked.connect(self._download)
        self.enter_token.clicked.connect(self._ask_for_token)
        downloads.searched.connect(self._show_found)
        downloads.looked_up.connect(self._show_choices)
        downloads.previewed.connect(self._show_preview)
        downloads.finished.connect(self._show_finished)

    def _build(self) -> None:
        self.field = QLineEdit()
        self.field.setPlaceholderText(tr("Name of a model, e.g. Mixtral GGUF"))
        self.field.setAccessibleName(tr("Search Hugging Face"))
        self.field.setClearButtonEnabled(True)
        self.search = _button(tr("&Search"))
        self.search.setObjectName("primary")
        self.repositories = _table((tr("Repository"), tr("Downloads in a month")), tr("Repositories"))
        self.choices = _table((tr("Files"), tr("Size")), tr("What the repository offers"))
        self.status = DimLabel(tr("What you search for is sent to huggingface.co, and nothing else."))
        self.status.setAccessibleName(tr("Status"))
        self.fit = DimLabel(lines=2)
        self.fit.setAccessibleName(tr("Whether it runs here"))
        self.fit.hide()
        self.download = _button(tr("&Download"))
        self.download.setObjectName("primary")
        self.download.setEnabled(False)
        self.enter_token = _button(tr("Enter access &token…"))
        self.enter_token.hide()
        self._arrange()

    def _arrange(self) -> None:
        bar = QHBoxLayout()
        bar.setSpacing(SPACE_S)
        bar.addWidget(self.field, 1)
        bar.addWidget(self.search)
        buttons = QHBoxLayout()
        buttons.setSpacing(SPACE_S)
        buttons.addWidget(self.download)
        buttons.addWidget(self.enter_token)
        buttons.addStretch(1)
        right = QWidget()
        column = QVBoxLayout(right)
        column.setContentsMargins(SPACE_L, 0, 0, 0)
        column.setSpacing(SPACE_S)
        column.addWidget(self.choices, 1)
        column.addWidget(self.fit)
        column.addLayout(buttons)
        left = QWidget()
        around = QVBoxLayout(left)
        around.setContentsMargins(0, 0, SPACE_L, 0)
        around.addWidget(self.repositories)
        parts = QSplitter(Qt.Orientation.Horizontal)
        parts.setChildrenCollapsible(False)
        parts.setHandleWidth(1)
        parts.addWidget(left)
        parts.addWidget(right)
        parts.setSizes([560, 440])
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, SPACE_M, 0, 0)
        layout.setSpacing(SPACE_M)
        layout.addLayout(bar)
        layout.addWidget(self.status)
        layout.addWidget(parts, 1)

    # ---- asking ----

    def _search(self) -> None:
        words = self.field.text().strip()
        if words:
            self._words, self._repository = words, ""
            self.repositories.clear()
            self._clear_choices()
            self.status.setText(tr("Asking the hub…"))
            self._downloads.search(words)

    def _look_up(self, item: QTreeWidgetItem | None) -> None:
        self._clear_choices()
        if item is not None:
            self._repository = item.data(0, VALUE_ROLE).repo_id
            self._tell(tr("Asking the hub…"))
            self._downloads.look_up(self._repository)

    def _clear_choices(self) -> None:
        self.choices.clear()
        self.download.setEnabled(False)
        self.enter_token.hide()
        self._tell("")

    def _download(self) -> None:
        item = self.choices.currentItem()
        if item is not None and self.download.isEnabled():
            self._started = self._downloads.start(item.data(0, VALUE_ROLE))
            self._tell(tr("Downloading; see below."))
            self.download.setEnabled(False)

    def _tell(self, words: str) -> None:
        """Say what is known of the choice; without words the list has the room."""
        self.fit.setText(words)
        self.fit.setVisible(bool(words))

    def _ask_for_token(self) -> None:
        dialog = TokenDialog(self._token, self)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.accepted.connect(lambda: self._look_up(self.repositories.currentItem()))
        dialog.open()

    # ---- answers ----

    def _show_found(self, words: str, found: tuple[Repository, ...], error: ErrorReport | None) -> None:
        if words != self._words:
            return
        if error is not None:
            self.status.setText(error_text(error))
            return
        for repository in found:
            count = number_text(repository.downloads) if repository.downloads is not None else ""
            item = QTreeWidgetItem([repository.repo_id, count])
            item.setData(0, VALUE_ROLE, repository)
            item.setTextAlignment(1, _RIGHT)
            self.repositories.addTopLevelItem(item)
        nothing = tr("Nothing is called that. Try fewer words, or add GGUF.")
        self.status.setText(tr("%n repositories", len(found)) if found else nothing)

    def _show_choices(self, repo_id: str, found: tuple[Choice, ...], error: ErrorReport | None) -> None:
        if repo_id != self._repository:
            return
        self._clear_choices()
        if error is not None:
            self._tell(error_text(error))
            self.enter_token.setVisible(error.code == _GATED)
            return
        for choice in found:
            item = QTreeWidgetItem([choice.title, bytes_text(choice.total_bytes)])
            item.setData(0, VALUE_ROLE, choice)
            item.setTextAlignment(1, _RIGHT)
            self.choices.addTopLevelItem(item)
        first = self.choices.topLevelItem(0)
        if first is not None:
            self.choices.setCurrentItem(first)

    def _show_choice(self, item: QTreeWidgetItem | None) -> None:
        self.download.setEnabled(False)
        if item is None:
            self._tell("")
            return
        choice: Choice = item.data(0, VALUE_ROLE)
        fit = rough_fit(choice.total_bytes, self._library.machine(), self._downloads.models_folder)
        licence = tr("licence {name}").format(name=choice.licence or tr("not stated"))
        gated = tr("needs an access token") if choice.gated else ""
        free = tr("{size} free on the drive").format(size=bytes_text(fit.free_bytes, "down")) if fit.on_drive else ""
        facts = DOT.join(filter(None, (licence, gated, free)))
        self._facts, self._by_size, self._previewed = facts, fit_words(fit), key_of(choice)
        self.download.setEnabled(fit.on_drive)
        self._tell(f"{self._by_size}\n{facts}")
        if fit.on_drive:
            self._tell(f"{self._by_size} {tr('Asking how fast it would run…')}\n{facts}")
            self._downloads.preview(choice)

    def _show_preview(self, key: str, shape: ModelConfig | None, error: ErrorReport | None) -> None:
        """What the engine's planner says of the choice that is shown; where the hub does not tell, its size must do."""
        item = self.choices.currentItem()
        if item is None or key != self._previewed or not self.download.isEnabled():
            return
        if shape is not None:
            words = sentence(self._library.foresee(key, item.data(0, VALUE_ROLE).total_bytes, shape))
        else:
            words = error_text(error) if error is not None and error.code in _CANNOT_RUN else self._by_size
        self._tell(f"{words}\n{self._facts}")

    def _show_finished(self, key: str, _path: object) -> None:
        """What was started here last has come."""
        item = self.choices.currentItem()
        if key == self._started and item is not None and key_of(item.data(0, VALUE_ROLE)) == key:
            self._tell(tr("It is on this computer now; see below."))


def _table(columns: tuple[str, str], name: str) -> QTreeWidget:
    """A list of two columns, the first as wide as there is room."""
    table = QTreeWidget()
    table.setObjectName("hub")
    table.setAccessibleName(name)
    table.setFrameShape(QFrame.Shape.NoFrame)
    table.setHeaderLabels(list(columns))
    table.headerItem().setTextAlignment(1, _RIGHT)
    table.setRootIsDecorated(False)
    table.setUniformRowHeights(True)
    table.setAllColumnsShowFocus(True)
    table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
    header = table.header()
    header.setDefaultAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
    header.setSectionsClickable(False)
    header.setStretchLastSection(False)
    header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
    header.setSectionResizeMode(1, QHeaderView.ResizeMode.ResizeToContents)
    return table


def _button(text: str) -> QPushButton:
    button = QPushButton(text)
    button.setAutoDefault(False)
    return button
