"""The model page: what is on this computer, what is recommended, and what the Hugging Face hub has.

Announces what the user wants and changes nothing itself, but for deleting a model after asking.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QSize, Qt, Signal
from PySide6.QtWidgets import QDialog, QTabWidget, QVBoxLayout, QWidget

from app.language import tr
from app.theme import SPACE_L, SPACE_M
from app.widgets.models.found_page import FoundPage
from app.widgets.open_size import open_size
from app.widgets.panel_parts import DimLabel

if TYPE_CHECKING:
    from collections.abc import Callable

    from PySide6.QtGui import QDragEnterEvent, QDropEvent, QShowEvent

    from app.conversions import Conversions
    from app.downloads import Downloads
    from app.hub_token import HubToken
    from app.library import Library
    from app.model_scan import FoundModel
    from app.widgets.models.conversion_list import ConversionList
    from app.widgets.models.download_list import DownloadList
    from app.widgets.models.hub_page import HubPage
    from app.widgets.models.recommended_page import RecommendedPage
    from engine.convert.recipe import ConversionFormat

WANTED_SIZE = QSize(1080, 720)
ON_THIS_COMPUTER, RECOMMENDED, HUB = range(3)


class ModelsDialog(QDialog):
    """All about models. What talks to the hub is made when one of its pages is opened first.

    Args:
        library: The models on this computer.
        downloads: Makes what downloads, or hands it out.
        token: Where an access token is kept.
        conversions: Makes what converts, or hands it out.
        loaded: The path of the model that is loaded, "" for none.
        parent: The window.

    Signals:
        load_requested(str, bool): Load the model with this path; True to keep its experts on disk.
        folder_added(str): Look for models in this folder from now on.
    """

    load_requested = Signal(str, bool)
    folder_added = Signal(str)

    def __init__(
        self,
        library: Library,
        downloads: Callable[[], Downloads],
        token: HubToken,
        conversions: Callable[[], Conversions],
        loaded: str = "",
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._library, self._get_downloads, self._token = library, downloads, token
        self._get_conversions = conversions
        self.recommended: RecommendedPage | None = None
        self.hub: HubPage | None = None
        self.download_list: DownloadList | None = None
        self.conversion_list: ConversionList | None = None
        self.setWindowTitle(tr("Models"))
        self.setAccessibleName(tr("Models"))
        self.setAcceptDrops(True)
        self.tabs = QTabWidget()
        self.tabs.setDocumentMode(True)
        self.tabs.tabBar().setAccessibleName(tr("Pages"))
        self.found = FoundPage(library, loaded)
        self.tabs.addTab(self.found, tr("On this &computer"))
        self._empty_pages: dict[int, QVBoxLayout] = {}
        for title in (tr("&Recommended"), tr("Search &Hugging Face")):
            page = QWidget()
            room = QVBoxLayout(page)
            room.setContentsMargins(0, 0, 0, 0)
            self._empty_pages[self.tabs.addTab(page, title)] = room
        self._drop_hint = DimLabel(tr("A folder or a .gguf file can also be dropped here, or on the window."))
        self._rows = QVBoxLayout(self)
        self._rows.setContentsMargins(SPACE_L, SPACE_L, SPACE_L, SPACE_M)
        self._rows.setSpacing(SPACE_M)
        self._rows.addWidget(self.tabs, 1)
        self._rows.addWidget(self._drop_hint)
        self.found.load_requested.connect(self._load)
        self.found.folder_chosen.connect(self.folder_added)
        self.found.recommended_requested.connect(lambda: self.tabs.setCurrentIndex(RECOMMENDED))
        self.found.smaller_requested.connect(self.ask_for_smaller)
        self.tabs.currentChanged.connect(self._open_page)
        library.found.connect(self._offer_smaller)

    def show_downloads(self) -> DownloadList:
        """Show what is being downloaded, and what an earlier session has left unfinished."""
        if self.download_list is None:
            from app.widgets.models.download_list import DownloadList

            self.download_list = DownloadList(self._get_downloads(), self._token)
            self.download_list.load_requested.connect(self._load)
            self.download_list.smaller_requested.connect(self.ask_for_smaller)
            self._rows.insertWidget(1, self.download_list)
            for model in self._library.models():
                self._offer_smaller(model)
        return self.download_list

    def show_conversions(self) -> ConversionList:
        """Show what is being made smaller, and what an earlier session has left unfinished."""
        if self.conversion_list is None:
            from app.widgets.models.conversion_list import ConversionList

            self.conversion_list = ConversionList(self._get_conversions())
            self.conversion_list.load_requested.connect(self._load)
            self._rows.insertWidget(1, self.conversion_list)
        return self.conversion_list

    def ask_for_smaller(self, path: str) -> None:
        """Ask how small a model is to become, then make it so."""
        model = next((model for model in self._library.models() if model.path == path), None)
        if model is None:
            return
        from app.widgets.models.smaller_dialog import SmallerDialog

        question = SmallerDialog(model, self._get_conversions(), self)
        question.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        question.chosen.connect(self._make_smaller)
        question.open()

    def _make_smaller(self, path: str, conversion: ConversionFormat) -> None:
        self.show_conversions()
        self._get_conversions().start(Path(path), conversion)

    def _offer_smaller(self, model: FoundModel) -> None:
        """A download that is complete can be made smaller once the library knows what it is."""
        if self.download_list is not None and model.can_be_smaller:
            self.download_list.offer_smaller(model.path)

    def _open_page(self, number: int) -> None:
        """Fill a page that asks the hub when it is opened first."""
        self._drop_hint.setVisible(number == ON_THIS_COMPUTER)
        if number == ON_THIS_COMPUTER:
            return
        self.show_downloads()
        if number == RECOMMENDED and self.recommended is None:
            from app.widgets.models.recommended_page import RecommendedPage

            self.recommended = RecommendedPage(self._get_downloads(), self._library)
            self._fill(number, self.recommended)
        elif number == HUB and self.hub is None:
            from app.widgets.models.hub_page import HubPage

            self.hub = HubPage(self._get_downloads(), self._library, self._token)
            self._fill(number, self.hub)
            self.hub.field.setFocus()

    def _fill(self, number: int, page: QWidget) -> None:
        self._empty_pages[number].addWidget(page)

    def showEvent(self, event: QShowEvent) -> None:
        """Open in a comfortable size, or as the screen allows."""
        super().showEvent(event)
        if event.spontaneous():
            return
        self.resize(open_size(self, WANTED_SIZE))
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

    def _load(self, path: str, on_disk: bool = False) -> None:
        self.load_requested.emit(path, on_disk)
        self.accept()


def _dropped(event: QDropEvent) -> list[str]:
    """The folders that local things lie in, or are."""
    paths = [Path(url.toLocalFile()) for url in event.mimeData().urls() if url.isLocalFile()]
    sound = [path for path in paths if path.is_dir() or path.suffix.lower() in (".gguf", ".safetensors")]
    return [str(path if path.is_dir() else path.parent) for path in sound] if len(sound) == len(paths) else []
