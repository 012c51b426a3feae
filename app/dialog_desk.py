"""The dialogs about the whole application and about one chat: what each is shown, and where its answers go."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Signal

from app.engine_words import facts

if TYPE_CHECKING:
    from PySide6.QtWidgets import QWidget

    from app.application import Application
    from app.widgets.chat_desk import ChatDesk
    from app.widgets.settings.dialog import PageName, SettingsDialog


class DialogDesk(QObject):
    """Opens the settings, a chat's options, and About; none of their code is loaded before.

    Args:
        rooftop: The application, all parts of which are there.
        chat_desk: Asks before all chats are deleted.

    Signals:
        settings_opened(SettingsDialog): The dialog is there.
    """

    settings_opened = Signal(object)

    def __init__(self, rooftop: Application, chat_desk: ChatDesk) -> None:
        super().__init__(rooftop)
        self._rooftop, self._chat_desk = rooftop, chat_desk
        window = rooftop.window
        window.settings_requested.connect(self.open_settings)
        window.chat_options_requested.connect(self.open_chat_options)
        window.about_requested.connect(self._open_about)

    def open_settings(self, page: PageName = "general") -> None:
        """Open the settings dialog on a page."""
        from app.widgets.settings.dialog import SettingsDialog

        rooftop = self._rooftop
        dialog = rooftop.window.show_dialog(self._make_settings_dialog)
        assert isinstance(dialog, SettingsDialog)
        dialog.show_page(page)
        dialog.applied.connect(rooftop.apply_settings)
        dialog.presets_applied.connect(rooftop.presets.keep)
        rooftop.settings_refused.connect(dialog.show_refused)
        dialog.measure_requested.connect(rooftop.client.recalibrate)
        dialog.privacy.delete_chats_requested.connect(lambda: self._chat_desk.ask_delete_all(dialog))
        rooftop.client.ready.connect(dialog.show_ready)
        self.settings_opened.emit(dialog)

    def open_chat_options(self) -> None:
        """Open the options of the chat that is shown; they hold from its next reply on."""
        from app.presets import ChatOptions
        from app.widgets.chat_options_dialog import ChatOptionsDialog

        rooftop = self._rooftop
        chat, model = rooftop.session.conversation, rooftop.settings.model
        options = ChatOptions.from_json(chat.options)

        def make(parent: QWidget) -> ChatOptionsDialog:
            return ChatOptionsDialog(options, rooftop.presets.book, model, rooftop.model_name, parent)

        dialog = rooftop.window.show_dialog(make)
        assert isinstance(dialog, ChatOptionsDialog)
        dialog.presets_changed.connect(rooftop.presets.keep)

        def keep(chosen: ChatOptions) -> None:
            chat.options = chosen.to_json()
            rooftop.chats.save(chat, [])

        dialog.options_chosen.connect(keep)

    def _open_about(self) -> None:
        from app.widgets.about_dialog import AboutDialog

        known = facts(self._rooftop.loaded)[0] if self._rooftop.loaded is not None else ""
        self._rooftop.window.show_dialog(lambda parent: AboutDialog(known, parent))

    def _make_settings_dialog(self, parent: QWidget) -> SettingsDialog:
        from app.widgets.settings.dialog import SettingsDialog
        from app.widgets.shortcuts_dialog import shortcuts_of

        rooftop = self._rooftop
        rooftop.keep_window_state()
        shortcuts = shortcuts_of(rooftop.window, rooftop.settings.send_key)
        return SettingsDialog(rooftop.settings, rooftop.loaded, rooftop.presets.book, shortcuts, parent)
