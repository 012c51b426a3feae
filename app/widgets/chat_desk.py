"""Where the chats meet the window: the list on the left, the menus, the notices, and files going out and in."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from PySide6.QtCore import QObject, Qt, QUrl
from PySide6.QtGui import QDesktopServices
from PySide6.QtWidgets import QFileDialog, QMessageBox, QWidget

from app.chat_files import ChatFileError, chats_as_json, chats_as_markdown, chats_from_file, write_file
from app.chat_session import ChatSession
from app.chats import Chats
from app.conversation import Conversation, Draft
from app.error_actions import OFFERS, Offer, action_for
from app.history_search import Found
from app.language import error_text, tr
from app.widgets.main_window import MainWindow
from engine.log_lines import describe

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

NOTICE, LOSS = "history", "loss"
MARKDOWN = ".md"


class ChatDesk(QObject):
    """Wires all chats to the window.

    Args:
        chats: The chats.
        session: The one that is shown.
        window: The window.
    """

    def __init__(self, chats: Chats, session: ChatSession, window: MainWindow) -> None:
        super().__init__(window)
        self._chats, self._session, self._window = chats, session, window
        self._connect_sidebar()
        self._connect_chats()
        self._connect_window()

    def _connect_sidebar(self) -> None:
        chats, sidebar = self._chats, self._window.sidebar
        sidebar.open_requested.connect(self._open)
        sidebar.search_requested.connect(chats.search)
        sidebar.rename_requested.connect(chats.rename)
        sidebar.pin_requested.connect(lambda key, pinned: chats.set_pinned(key, pinned=pinned))
        sidebar.move_requested.connect(chats.move)
        sidebar.delete_requested.connect(chats.delete)
        sidebar.delete_all_requested.connect(lambda: self.ask_delete_all(self._window))
        sidebar.export_requested.connect(self._export_one)

    def _connect_chats(self) -> None:
        chats, sidebar = self._chats, self._window.sidebar
        chats.listed.connect(self._listed)
        chats.found.connect(self._found)
        chats.deleted.connect(self._deleted)
        chats.trouble.connect(self._trouble)
        self._session.chat_shown.connect(lambda chat: sidebar.show_current(chat.key))
        self._session.busy_changed.connect(self._busy_changed)

    def _connect_window(self) -> None:
        window, chats = self._window, self._chats
        window.new_chat_requested.connect(self._new)
        window.step_requested.connect(chats.open_next)
        window.undo_delete_requested.connect(self._undo_delete)
        window.export_requested.connect(self._export)
        window.import_requested.connect(self._ask_import)
        window.activated.connect(chats.refresh)
        window.loses_something = lambda: chats.unsaved > 0
        window.loss_feared.connect(lambda: chats.retry(self._quit_or_ask))
        composer = window.chat.composer
        composer.draft_changed.connect(lambda: chats.keep_draft(Draft(composer.draft, composer.attachments)))

    # ---- the list -----------------------------------------------------------------------------------------------

    def _new(self) -> None:
        self._chats.new()
        self._window.close_overlay()
        self._window.chat.composer.setFocus()

    def _open(self, key: str) -> None:
        if self._chats.open(key):
            self._window.close_overlay()
            self._window.chat.composer.setFocus()

    def _listed(self, _entries: list[object]) -> None:
        sidebar = self._window.sidebar
        sidebar.show_entries(self._chats.entries, self._chats.folders)
        sidebar.show_current(self._session.conversation.key)
        self._window.menus.undo_delete.setEnabled(self._chats.can_undo_delete)

    def _found(self, query: str, found: list[Found]) -> None:
        self._window.sidebar.show_found(query, found)

    def _busy_changed(self, _busy: bool) -> None:
        answering = self._session.answering
        self._window.sidebar.set_busy(answering.key if answering is not None else "")

    def ask_delete_all(self, parent: QWidget) -> None:
        """Delete all chats once the user has agreed.

        Args:
            parent: The window or dialog that the question is asked in.
        """
        count = len(self._chats.entries)
        if not count:
            self._window.chat.toast.show_text(tr("There are no chats to delete."))
            return
        box = QMessageBox(parent)
        box.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        box.setWindowTitle(tr("Delete all chats"))
        box.setText(tr("Delete all %n chats?", count))
        box.setInformativeText(
            tr("You can undo this until Rooftop is closed. Then nothing of them is left in its file of chats.")
        )
        delete = box.addButton(tr("&Delete all"), QMessageBox.ButtonRole.DestructiveRole)
        delete.clicked.connect(self._chats.delete_all)
        box.setDefaultButton(box.addButton(QMessageBox.StandardButton.Cancel))
        box.open()

    def _quit_or_ask(self) -> None:
        """Let the window go: at once if everything is saved by now, else once the user has agreed to lose it."""
        count, window = self._chats.unsaved, self._window
        if not count:
            window.quit(asks=False)
        if not count or window.findChild(QMessageBox, LOSS) is not None:
            return
        window.bring_forward()
        box = QMessageBox(window)
        box.setObjectName(LOSS)
        box.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        box.setIcon(QMessageBox.Icon.Warning)
        box.setWindowTitle(tr("Quit"))
        box.setText(tr("%n chats could not be saved. Quit and lose what is new in them?", count))
        box.setInformativeText(tr("You can still export your chats, or free some space and try again."))
        lose = box.addButton(tr("&Quit without saving"), QMessageBox.ButtonRole.DestructiveRole)
        lose.clicked.connect(lambda: window.quit(asks=False))
        box.setDefaultButton(box.addButton(QMessageBox.StandardButton.Cancel))
        box.open()

    def _deleted(self, count: int) -> None:
        self._window.menus.undo_delete.setEnabled(True)
        text = tr("Chat deleted") if count == 1 else tr("%n chats deleted", count)
        self._window.chat.toast.show_text(text, tr("Undo"), self._undo_delete)

    def _undo_delete(self) -> None:
        self._chats.undo_delete()
        self._window.menus.undo_delete.setEnabled(self._chats.can_undo_delete)

    def _trouble(self, sentence: str, offer: Offer | Literal[""]) -> None:
        banners = self._window.chat.banners
        if not sentence:
            banners.dismiss(NOTICE)
            return
        run: dict[Offer, Callable[[], object]] = {
            "retry": lambda *_: self._chats.retry(),
            "open_folder": self._open_folder,
        }
        banners.show_banner(NOTICE, sentence, "notice", (action_for(offer, run),) if offer else ())

    def _open_folder(self) -> None:
        if self._chats.path is not None:
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(self._chats.path.parent)))

    # ---- files --------------------------------------------------------------------------------------------------

    def export_to(self, path: Path, chats: list[Conversation]) -> None:
        """Write chats to a file: Markdown by its ending, else JSON with all branches."""
        text = chats_as_markdown(chats) if path.suffix.lower() == MARKDOWN else chats_as_json(chats)
        try:
            write_file(path, text)
        except ChatFileError as error:
            log.warning("Chats could not be written to a file: %s", describe(error.__cause__ or error))
            again = action_for("retry", {"retry": lambda: self._ask_export(chats, path.stem)})
            self._window.chat.banners.show_banner("export", error_text(error), "notice", (again,))
        else:
            self._window.chat.toast.show_text(tr("Saved as {name}").format(name=path.name))

    def import_from(self, paths: list[Path]) -> None:
        """Take in the chats of files; one that cannot be read does not keep the others out."""
        found: list[Conversation] = []
        problems: list[str] = []
        for path in paths:
            try:
                found += chats_from_file(path)
            except ChatFileError as error:
                problems.append(error_text(error))
        self._chats.add(found)
        if problems:
            log.warning("Chats of %d files were not taken in", len(problems))
            other = action_for(OFFERS["chat-file"], {"other_file": self._ask_import})
            self._window.chat.banners.show_banner("import", " ".join(problems), "notice", (other,))
        if found:
            self._window.chat.toast.show_text(tr("%n chats imported", len(found)))

    def _export(self, every: bool) -> None:
        if every:
            self._ask_export(self._chats.every_chat(), tr("Rooftop chats"))
        else:
            self._ask_export([self._session.conversation], self._session.conversation.shown_title)

    def _export_one(self, key: str) -> None:
        chats = [chat for chat in self._chats.every_chat() if chat.key == key]
        if chats:
            self._ask_export(chats, chats[0].shown_title)

    def _ask_export(self, chats: list[Conversation], name: str) -> None:
        """Ask for a place; a chat without messages needs none."""
        if not any(chat.messages for chat in chats):
            self._window.chat.toast.show_text(tr("There is nothing to export yet."))
            return
        words = "".join(c if c.isalnum() or c in " -_" else " " for c in name).split()
        safe = " ".join(words)[:60].strip() or tr("Chat")
        filters = ";;".join((tr("All branches, for Rooftop (*.json)"), tr("As it is shown, to read (*.md)")))
        chosen, kind = QFileDialog.getSaveFileName(self._window, tr("Export"), f"{safe}.json", filters)
        if chosen:
            path = Path(chosen)
            self.export_to(_with_ending(path, MARKDOWN if kind.endswith("(*.md)") else ".json"), chats)

    def _ask_import(self) -> None:
        title = tr("Import chats of Rooftop, LM Studio or GPT4All")
        names, _ = QFileDialog.getOpenFileNames(self._window, title, filter=tr("Chats (*.json *.chat)"))
        if names:
            self.import_from([Path(name) for name in names])


def _with_ending(path: Path, ending: str) -> Path:
    """Where an export goes: an ending that was typed decides, else the kind that was chosen in the dialog.

    The dialog asks only about the name that it was given: under another one nothing may be overwritten.
    """
    if path.suffix in {ending, MARKDOWN} or path.suffix not in {"", ".json"}:
        return path
    wanted, number = path.with_suffix(ending), 2
    while wanted.exists():
        wanted = path.with_name(f"{path.stem} ({number}){ending}")
        number += 1
    return wanted
