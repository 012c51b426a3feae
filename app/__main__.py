"""The `rooftop` command: arguments, logging and the exit code.

Exit codes: 0 done, 2 bad usage or no display, 1 failed. Qt is imported only when a window can be opened.
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import sys
import threading
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import InputError, RooftopError

if TYPE_CHECKING:
    from types import TracebackType

    from PySide6.QtWidgets import QApplication

    from app.application import Application
    from app.crash_records import CrashRecords
    from app.settings import Settings

log = logging.getLogger("app")

DONE, FAILED, BAD_USAGE = 0, 1, 2
EPILOG = """\
examples:
  rooftop                          open the window with the model used last
  rooftop --model mixtral.gguf     open the window with this model; a window that is open already takes it
  rooftop chat --model guide       chat with the bundled model in this terminal

Settings: {config}
Log:      {log}
Started a second time, Rooftop brings its open window to the front. Exit codes: 0 done, 1 failed, 2 bad usage."""
MIRROR_VARIABLE = "ROOFTOP_GPU_MIRROR"
CHAT_HINT = "`{program} chat` starts the same engine in a terminal"


def main(argv: list[str] | None = None) -> int:
    """Run the window, or the terminal chat.

    Args:
        argv: Arguments without the program's name; None takes the process's.

    Returns:
        The exit code.
    """
    _open_missing_streams()
    options = _parse(sys.argv[1:] if argv is None else argv)
    log_path = _start_logging()
    try:
        gpu_bytes = _simulated_bytes(options.simulate_gpu)
        if options.command == "chat":
            return _run_terminal(options, gpu_bytes)
        return _run_window(options, gpu_bytes, log_path)
    except InputError as error:
        return _say(str(error), BAD_USAGE)
    except RooftopError as error:
        return _say(str(error), FAILED)


def _open_missing_streams() -> None:
    """A program without a console (`pythonw`, or `2>&-`) has None there; nor may a file of ours become number 2."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115 - as long as we run


def _parse(arguments: list[str]) -> argparse.Namespace:
    from app.logs import log_path

    parser = argparse.ArgumentParser(
        prog="rooftop",
        description="Chat with Mixture-of-Experts models larger than your graphics card.",
        epilog=EPILOG.format(config=_settings_path(), log=log_path()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"rooftop {metadata.version('rooftop')}")
    parser.add_argument("command", nargs="?", choices=["chat"], help="chat in this terminal instead of a window")
    parser.add_argument(
        "--model", metavar="M", help="a .gguf file, a folder with safetensors, or `guide` for the bundled model"
    )
    parser.add_argument("--in-process", action="store_true", help="run the engine inside this process")
    parser.add_argument("--simulate-gpu", metavar="SIZE", help="simulate a GPU with this much VRAM, e.g. 8GiB")
    parser.add_argument(
        "--experts-on-disk", action="store_true", help="for a model larger than memory: slow, read as it is used"
    )
    return parser.parse_args(arguments)


def _simulated_bytes(text: str | None) -> int | None:
    if text is None:
        return None
    from engine.sizes import parse_bytes

    return parse_bytes(text)


def _run_terminal(options: argparse.Namespace, gpu_bytes: int | None) -> int:
    from dataclasses import replace

    from app.preset_files import default_presets_path, load_presets
    from app.presets import ChatOptions
    from app.settings import GUIDE_MODEL, default_settings_path, load_settings, to_engine_config
    from app.terminal import main as chat

    settings, notice = load_settings(default_settings_path())
    presets, other_notice = load_presets(default_presets_path())
    for sentence in filter(None, (notice, other_notice)):
        _say(sentence, DONE)
    if gpu_bytes is not None:
        settings = replace(settings, simulate_gpu_bytes=gpu_bytes)
    if options.experts_on_disk:
        settings = replace(settings, experts_on_disk=True)
    model = options.model or GUIDE_MODEL
    preset = presets.preset_for(ChatOptions(), _absolute(model))
    return chat(model, options.in_process, to_engine_config(settings), preset)


def _run_window(options: argparse.Namespace, gpu_bytes: int | None, log_path: Path | None) -> int:
    from app.display import display_problem, missing_library
    from app.windows_process import introduce_this_process

    problem = display_problem(os.environ)
    try:
        if not problem:
            from PySide6.QtWidgets import QApplication
    except ImportError as error:
        problem = missing_library(error) if ".so" in str(error) else f"Qt cannot be loaded ({str(error).split(':')[0]})"
    if problem:
        return _offer_terminal(problem, options, gpu_bytes)
    QApplication.setApplicationName("rooftop")
    QApplication.setApplicationDisplayName("Rooftop")
    QApplication.setDesktopFileName("rooftop")
    introduce_this_process()
    return _open_window(QApplication(sys.argv[:1]), options, gpu_bytes, log_path)


def _open_window(app: QApplication, options: argparse.Namespace, gpu_bytes: int | None, log_path: Path | None) -> int:
    from PySide6.QtCore import Qt

    from app.application import Application
    from app.crash_records import CrashRecords
    from app.engine_client import Host
    from app.first_run import FirstRun, is_first_run
    from app.gpu_desk import GpuDesk
    from app.history import default_history_path
    from app.language import error_text, install_language
    from app.logs import ENGINE_LOG
    from app.quit_signals import QuitSignals
    from app.redaction import this_user
    from app.settings import default_settings_path, load_settings
    from app.single_instance import NotAnsweringError, SingleInstance
    from app.support_desk import SupportDesk
    from app.update_desk import UpdateDesk

    def start_host() -> Host:
        from engine.host import start_host

        engine_log = log_path.with_name(ENGINE_LOG) if log_path is not None else None
        return start_host(in_process=options.in_process, log_path=engine_log)

    path = default_settings_path()
    first_run = is_first_run(path)
    settings, _ = load_settings(path)
    install_language(app, settings.language)
    model = None if options.model is None else _absolute(options.model)
    instance = SingleInstance(path.parent, app)
    try:
        if not instance.claim() and instance.hand_over(model):
            return DONE
    except NotAnsweringError as error:
        if not sys.stderr.isatty():
            _show_sentence(app, settings, error_text(error))
        raise
    records = CrashRecords(_state_folder(), log_path, this_user())
    records.begin()
    records.watch()
    _listen_for_the_unexpected(records)
    rooftop = Application(app, start_host, path, model, gpu_bytes, options.experts_on_disk, default_history_path())
    instance.asked.connect(rooftop.asked_again)
    SupportDesk(rooftop, records, log_path)
    GpuDesk(rooftop, mirror=os.environ.get(MIRROR_VARIABLE, ""))
    UpdateDesk(rooftop)
    if first_run and model is None:
        FirstRun(rooftop)
    app.setQuitOnLastWindowClosed(False)  # the window may be in the tray
    rooftop.ended.connect(app.quit, Qt.ConnectionType.QueuedConnection)
    app.commitDataRequest.connect(lambda _manager: rooftop.window.quit(asks=False))  # the desktop's session ends
    QuitSignals(partial(rooftop.window.quit, asks=False), app)
    _show(rooftop, in_process=options.in_process)
    code = app.exec()
    rooftop.shutdown()
    records.end()
    instance.release()
    return code


def _show(rooftop: Application, *, in_process: bool) -> None:
    if not in_process:  # there torch is still to come, and the engine freezes what there is
        rooftop.panel_ready.connect(gc.freeze)  # to search all that stays for garbage would hold the window up
    rooftop.show()


def _show_sentence(app: QApplication, settings: Settings, sentence: str) -> None:
    """For those who started Rooftop from an icon and see no terminal."""
    from PySide6.QtWidgets import QMessageBox

    from app.theme import ThemeManager

    ThemeManager(app, settings.theme, settings.zoom)
    QMessageBox.warning(None, "Rooftop", sentence)


def _absolute(model: str) -> str:
    """A path that means the same at the next start, from another folder; what is no path stays as it is."""
    from app.settings import GUIDE_MODEL

    path = Path(model).expanduser()
    return str(path.absolute()) if model != GUIDE_MODEL and path.exists() else model


def _offer_terminal(problem: str, options: argparse.Namespace, gpu_bytes: int | None) -> int:
    """One sentence; where someone can answer, the terminal chat at once."""
    hint = CHAT_HINT.format(program=sys.argv[0] if Path(sys.argv[0]).name == "rooftop" else "rooftop")
    sentence = f"The window cannot be opened because {problem}; {hint}."
    _say(sentence, BAD_USAGE)
    if not sys.stderr.isatty() and (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        from app.display import tell_without_qt

        tell_without_qt(sentence)  # for those who started Rooftop from an icon
    if sys.stdin.isatty() and sys.stderr.isatty():
        sys.stderr.write("Start the terminal chat now? [Y/n] ")
        sys.stderr.flush()
        answer = sys.stdin.readline()
        if answer and answer.strip().lower() in {"", "y", "yes"}:
            return _run_terminal(options, gpu_bytes)
    return BAD_USAGE


def _say(sentence: str, code: int) -> int:
    sys.stderr.write(f"rooftop: {sentence}\n")
    return code


def _start_logging() -> Path | None:
    """Begin the log; returns where it is, None where there can be none."""
    from app.logs import log_path, start_logging

    problem = start_logging(log_path())
    if problem:
        _say(f"The log cannot be written ({problem}); going on without one.", DONE)
    return None if problem else log_path()


def _settings_path() -> Path:
    import platformdirs

    return platformdirs.user_config_path("rooftop", appauthor=False) / "settings.json"


def _state_folder() -> Path:
    import platformdirs

    return platformdirs.user_state_path("rooftop", appauthor=False)


def _listen_for_the_unexpected(records: CrashRecords) -> None:
    """Exceptions that nobody catches are recorded, on the window's thread told, and elsewhere logged."""

    def in_window(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        records.note(error)
        _tell_unexpected(kind, error, traceback)

    def in_thread(args: threading.ExceptHookArgs) -> None:
        if args.exc_value is not None and not isinstance(args.exc_value, SystemExit):
            records.note(args.exc_value)
            log.critical("An unexpected error in a thread", exc_info=args.exc_value)

    sys.excepthook = in_window
    threading.excepthook = in_thread


def _tell_unexpected(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """The last handler of exceptions in the window: log them, and tell the user once at a time without a traceback."""
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, traceback)
        return
    log.critical("An unexpected error", exc_info=(kind, error, traceback))
    from PySide6.QtWidgets import QApplication, QMessageBox

    from app.language import tr

    app = QApplication.instance()
    if app is None or app.property("rooftop_telling"):
        return
    app.setProperty("rooftop_telling", True)  # noqa: FBT003 - Qt's own signature
    box = QMessageBox(QApplication.activeWindow())
    box.setWindowTitle("Rooftop")
    box.setText(tr("Something went wrong inside Rooftop. Your chat is still here, and the log has the details."))

    def close() -> None:
        """Hold the box until it is closed; without a parent nothing else does."""
        app.setProperty("rooftop_telling", False)  # noqa: FBT003
        box.deleteLater()

    box.finished.connect(close)
    box.open()


if __name__ == "__main__":
    raise SystemExit(main())
