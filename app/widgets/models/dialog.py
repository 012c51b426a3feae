"""The model page: what is on this computer, what is recommended, and what the Hugging Face hub has.

Announces what the user wants and changes nothing itself, but for deleting a model after asking.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QSize, Qt, Signal
from PySide6.QtWidgets import QDialog, QTabWidget, QVBoxLayout, QWidget

from app.language import tr
from app.theme import FONT_BASE_PT, SPACE_L, SPACE_M
from app.widgets.models.found_page import FoundPage
from app.widgets.panel_parts import DimLabel

if TYPE_CHECKING:
    from PySide6.QtGui import QDragEnterEvent, QDropEvent, QShowEvent

    from app.library import Library

WANTED_SIZE = QSize(1080, 720)
_TITLE_BAR_PX = 48


class ModelsDialog(QDialog):
    """All about models.

    Args:
        library: The models on this computer.
        loaded: The path of the model that is loaded, "" for none.
        parent: The window.

    Signals:
        load_requested(str, bool): Load the model with this path; True to keep its experts on disk.
        folder_added(str): Look for models in this folder from now on.
    """

    load_requested = Signal(str, bool)
    folder_added = Signal(str)

    def __init__(self, library: Library, loaded: str = "", parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle(tr("Models"))
        self.setAccessibleName(tr("Models"))
        self.setAcceptDrops(True)
        self.tabs = QTabWidget()
        self.tabs.setDocumentMode(True)
        self.tabs.setAccessibleName(tr("Pages"))
        self.found = FoundPage(library, loaded)
        self.tabs.addTab(self.found, tr("On this &computer"))
        self._drop_hint = DimLabel(tr("A folder or a .gguf file can also be dropped here, or on the window."))
        layout = QVBoxLayout(self)
        layout.setContentsMargins(SPACE_L, SPACE_L, SPACE_L, SPACE_M)
        layout.setSpacing(SPACE_M)
        layout.addWidget(self.tabs, 1)
        layout.addWidget(self._drop_hint)
        self.found.load_requested.connect(self._load)
        self.found.folder_chosen.connect(self.folder_added)

    def showEvent(self, event: QShowEvent) -> None:
        """Open in a comfortable size, or as the screen allows."""
        super().showEvent(event)
        if event.spontaneous():
            return
        screen = self.screen().availableGeometry().size()
        most = QSize(screen.width(), screen.height() - _TITLE_BAR_PX)
        scale = self.font().pointSizeF() / FONT_BASE_PT
        self.resize((WANTED_SIZE * max(1.0, scale)).expandedTo(self.minimumSizeHint()).boundedTo(most))
        self.found.list.setFocus(Qt.FocusReason.OtherFocusReason)

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        """Folders and model files may be dropped."""
        if _dropped(event):
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent) -> None:
        """Look through folders that were dropped from now on; of a file, its folder."""
        folders = _dropped(event)
        if folders:
            event.acceptProposedAction()
            for folder in dict.fromkeys(folders):
                self.folder_added.emit(folder)

    def _load(self, path: str, on_disk: bool) -> None:
        self.load_requested.emit(path, on_disk)
        self.accept()


def _dropped(event: QDropEvent) -> list[str]:
    """The folders that local things lie in, or are."""
    paths = [Path(url.toLocalFile()) for url in event.mimeData().urls() if url.isLocalFile()]
    sound = [path for path in paths if path.is_dir() or path.suffix.lower() in (".gguf", ".safetensors")]
    return [str(path if path.is_dir() else path.parent) for path in sound] if len(sound) == len(paths) else []
