"""A system prompt and sampling parameters as fields, for presets and for one chat.

With a baseline each field that differs from it has a button that takes it back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QSize, Qt, Signal
from PySide6.QtGui import QFont, QResizeEvent
from PySide6.QtWidgets import (
    QDoubleSpinBox,
    QGridLayout,
    QLabel,
    QPlainTextEdit,
    QSizePolicy,
    QSpinBox,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from app.icons import icon
from app.language import error_text, tr
from app.presets import MAX_PROMPT_CHARS
from app.theme import MONO_FAMILIES, SPACE_M, SPACE_S, SPACE_XS, current_theme
from app.units import number_text
from app.widgets.form_parts import plain_spin
from app.widgets.panel_parts import DimLabel
from engine.config import MAX_CONTEXT_TOKENS, SamplingParams
from engine.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

_RESET_PX = 16
_LARGEST_SEED = (1 << 31) - 1  # what a spin box takes
_NOTE_CHARS, _NUMBER_CHARS = 28, 10
_PROMPT_LINES, _STOP_LINES, _SCHEMA_LINES = 4, 2, 4


@dataclass(frozen=True, slots=True)
class _Field:
    """One parameter on the screen.

    Attributes:
        read: Its value as edited.
        show: Shows a value.
        reset: Takes the baseline's value back; None without a baseline.
    """

    read: Callable[[], Any]
    show: Callable[[Any], None]
    reset: QToolButton


class SamplingEditor(QWidget):
    """Fields for everything that shapes a reply.

    Signals:
        edited(): The user changed something.
    """

    edited = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._fields: dict[str, _Field] = {}
        self._baseline: dict[str, Any] | None = None
        self._shown: dict[str, tuple[float, Any]] = {}
        self._grammar: str | None = None
        self._showing = False
        self._build_fields()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(SPACE_M)
        self._add_text(layout, "system_prompt", tr("&System prompt"), self.prompt)
        self._notes: list[DimLabel] = []
        self._grid = QGridLayout()
        self._fill_grid(self._grid)
        layout.addLayout(self._grid)
        self._add_text(layout, "stop", tr("Sto&p texts"), self.stop, tr("One per line; \\n stands for a line break."))
        words = tr("The reply is JSON that this schema allows, and nothing else. Empty for any text.")
        self._add_text(layout, "json_schema", tr("&JSON schema"), self.schema, words)

    # ---- building ----

    def _build_fields(self) -> None:
        self.prompt = _text_edit(tr("System prompt"), _PROMPT_LINES)
        self.prompt.setPlaceholderText(tr("What the model is told before the conversation"))
        self.temperature = _decimal(0.0, 10.0, 0.1)
        self.top_p = _decimal(0.01, 1.0, 0.05)
        self.min_p = _decimal(0.0, 1.0, 0.01)
        self.penalty = _decimal(0.1, 10.0, 0.05)
        self.top_k = _whole(0, 1 << 20)
        self.top_k.setSpecialValueText(tr("all"))
        self.max_tokens = _whole(1, MAX_CONTEXT_TOKENS)
        self.max_tokens.setSingleStep(256)
        self.seed = _whole(-1, _LARGEST_SEED)
        self.seed.setSpecialValueText(tr("random"))
        self.stop = _text_edit(tr("Stop texts"), _STOP_LINES)
        self.schema = _text_edit(tr("JSON schema"), _SCHEMA_LINES)
        mono = QFont(self.font())
        mono.setFamilies(MONO_FAMILIES)
        self.schema.setFont(mono)

    def _fill_grid(self, grid: QGridLayout) -> None:
        grid.setHorizontalSpacing(SPACE_M)
        grid.setVerticalSpacing(SPACE_S)
        grid.setColumnStretch(3, 1)
        rows: tuple[tuple[str, str, QSpinBox | QDoubleSpinBox, str], ...] = (
            ("temperature", tr("&Temperature"), self.temperature, tr("0 always takes the likeliest; higher varies")),
            ("top_p", tr("T&op-p"), self.top_p, tr("Draw from the likeliest that hold this share together")),
            ("top_k", tr("Top-&k"), self.top_k, tr("Draw from so many of the likeliest")),
            ("min_p", tr("&Min-p"), self.min_p, tr("Draw from those at least this likely beside the best")),
            ("repetition_penalty", tr("&Repetition penalty"), self.penalty, tr("1 for none; higher repeats less")),
            ("max_tokens", tr("Most to&kens"), self.max_tokens, tr("A longer reply ends there")),
            ("seed", tr("See&d"), self.seed, tr("The same seed draws the same reply again")),
        )  # fmt: skip
        for row, (name, words, spin, note) in enumerate(rows):
            label = QLabel(words)
            label.setBuddy(spin)
            spin.setAccessibleName(words.replace("&", ""))
            spin.setMinimumWidth(_NUMBER_CHARS * self.fontMetrics().averageCharWidth())
            spin.valueChanged.connect(self._edited)
            grid.addWidget(label, 2 * row, 0)
            grid.addWidget(spin, 2 * row, 1)
            reset = self._add_field(name, words, *self._access(name, spin))
            grid.addWidget(reset, 2 * row, 2)
            self._notes.append(DimLabel(note))
        self._place_notes(beside=True)

    def _place_notes(self, *, beside: bool) -> None:
        """Put what explains a number beside it, or below."""
        self._notes_beside = beside
        for row, note in enumerate(self._notes):
            if beside:
                self._grid.addWidget(note, 2 * row, 3, Qt.AlignmentFlag.AlignVCenter)
            else:
                self._grid.addWidget(note, 2 * row + 1, 0, 1, 4)

    def minimumSizeHint(self) -> QSize:
        """Names and numbers: notes can stand below."""
        return QSize(self._width_of_numbers(), super().minimumSizeHint().height())

    def _width_of_numbers(self) -> int:
        columns = [
            [self._grid.itemAtPosition(2 * row, column) for row in range(len(self._notes))] for column in range(3)
        ]
        widths = [max(item.minimumSize().width() for item in column if item is not None) for column in columns]
        return sum(widths) + 2 * self._grid.horizontalSpacing()

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Notes go below where they would be narrow columns."""
        super().resizeEvent(event)
        room = self.width() - self._width_of_numbers()
        beside = room >= _NOTE_CHARS * self.fontMetrics().averageCharWidth()
        if beside != self._notes_beside:
            self._place_notes(beside=beside)

    def _access(self, name: str, spin: QSpinBox | QDoubleSpinBox) -> tuple[Callable[[], Any], Callable[[Any], None]]:
        """How a number is read and shown; what the field cannot show in full stays exact until it is edited."""

        def show(value: Any) -> None:  # noqa: ANN401 - int, float or None, as the parameter has it
            clipped: Any = min(-1 if value is None else value, spin.maximum())
            spin.setValue(clipped)
            self._shown[name] = (spin.value(), value)

        def read() -> Any:  # noqa: ANN401
            shown, exact = self._shown.get(name, (None, None))
            if spin.value() == shown:
                return exact
            return None if name == "seed" and spin.value() < 0 else round(spin.value(), 4)

        return read, show

    def _add_text(self, layout: QVBoxLayout, name: str, words: str, edit: QPlainTextEdit, note: str = "") -> None:
        read, show = {
            "system_prompt": (edit.toPlainText, edit.setPlainText),
            "stop": (lambda: _stop_texts(edit.toPlainText()), lambda value: edit.setPlainText(_stop_lines(value))),
            "json_schema": (
                lambda: edit.toPlainText().strip() or None,
                lambda value: edit.setPlainText(value or ""),
            ),
        }[name]
        label = QLabel(words)
        label.setBuddy(edit)
        head = QGridLayout()
        head.setColumnStretch(2, 1)
        head.addWidget(label, 0, 0)
        head.addWidget(self._add_field(name, words, read, show), 0, 1)
        column = QVBoxLayout()
        column.setSpacing(SPACE_XS)
        column.addLayout(head)
        column.addWidget(edit)
        if note:
            column.addWidget(DimLabel(note))
        layout.addLayout(column)
        edit.textChanged.connect(self._edited)

    def _add_field(self, name: str, words: str, read: Callable[[], Any], show: Callable[[Any], None]) -> QToolButton:
        reset = QToolButton()
        reset.setIcon(icon("retry", current_theme().text))
        reset.setIconSize(QSize(_RESET_PX, _RESET_PX))
        reset.setToolTip(tr("As the preset"))
        reset.setAccessibleName(tr("{name} as the preset").format(name=words.replace("&", "")))
        policy = reset.sizePolicy()
        policy.setRetainSizeWhenHidden(True)
        reset.setSizePolicy(policy)
        reset.hide()
        reset.clicked.connect(lambda: self._take_back(name))
        self._fields[name] = _Field(read, show, reset)
        return reset

    # ---- values ----

    @property
    def system_prompt(self) -> str:
        """The system prompt as edited."""
        return self.prompt.toPlainText()

    @property
    def sampling(self) -> SamplingParams:
        """The parameters as edited.

        Raises:
            ConfigurationError: One is outside its limits, or the schema is none.
        """
        values = {name: field.read() for name, field in self._fields.items() if name != "system_prompt"}
        return SamplingParams(**values, grammar=None if values["json_schema"] else self._grammar)

    @property
    def problem(self) -> str:
        """Why the fields cannot be used, "" where they can."""
        if len(self.system_prompt) > MAX_PROMPT_CHARS:
            return tr("The system prompt is longer than {most} characters.").format(most=number_text(MAX_PROMPT_CHARS))
        try:
            self.sampling  # noqa: B018 - reading it checks it
        except ConfigurationError as error:
            return error_text(error)
        return ""

    def show_values(self, system_prompt: str, sampling: SamplingParams) -> None:
        """Fill the fields; not announced as an edit."""
        self._showing, self._grammar = True, sampling.grammar
        for name, value in _values(system_prompt, sampling).items():
            self._fields[name].show(value)
        self._showing = False
        self._mark_changes()

    def set_baseline(self, system_prompt: str, sampling: SamplingParams) -> None:
        """What the buttons take a field back to."""
        self._baseline = _values(system_prompt, sampling)
        self._mark_changes()

    def reset_button(self, name: str) -> QToolButton:
        """What takes one field back."""
        return self._fields[name].reset

    def set_read_only(self, *, read_only: bool) -> None:
        """Whether the fields can only be looked at."""
        for edit in (self.prompt, self.stop, self.schema):
            edit.setReadOnly(read_only)
        for spin in (self.temperature, self.top_p, self.top_k, self.min_p, self.penalty, self.max_tokens, self.seed):
            spin.setEnabled(not read_only)

    def _take_back(self, name: str) -> None:
        assert self._baseline is not None, "the button is hidden without a baseline"
        self._fields[name].show(self._baseline[name])

    def _edited(self) -> None:
        if not self._showing:
            self._mark_changes()
            self.edited.emit()

    def _mark_changes(self) -> None:
        for name, field in self._fields.items():
            field.reset.setVisible(self._baseline is not None and field.read() != self._baseline[name])


def _values(system_prompt: str, sampling: SamplingParams) -> dict[str, Any]:
    names = (
        "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "max_tokens", "seed", "stop", "json_schema",
    )  # fmt: skip
    return {"system_prompt": system_prompt, **{name: getattr(sampling, name) for name in names}}


def _stop_texts(lines: str) -> tuple[str, ...]:
    r"""One text per line; `\n` and `\\` in it stand for a line break and a backslash."""
    parts = (line.replace("\\\\", "\0").replace("\\n", "\n").replace("\0", "\\") for line in lines.split("\n"))
    return tuple(part for part in parts if part)


def _stop_lines(texts: tuple[str, ...]) -> str:
    return "\n".join(text.replace("\\", "\\\\").replace("\n", "\\n") for text in texts)


def _text_edit(name: str, lines: int) -> QPlainTextEdit:
    edit = QPlainTextEdit()
    edit.setAccessibleName(name)
    edit.setTabChangesFocus(True)
    edit.setFixedHeight(lines * edit.fontMetrics().lineSpacing() + 2 * SPACE_S + 4)
    edit.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    return edit


def _decimal(low: float, high: float, step: float) -> QDoubleSpinBox:
    spin = QDoubleSpinBox()
    spin.setDecimals(2)
    spin.setRange(low, high)
    spin.setSingleStep(step)
    plain_spin(spin)
    return spin


def _whole(low: int, high: int) -> QSpinBox:
    spin = QSpinBox()
    spin.setRange(low, high)
    spin.setGroupSeparatorShown(high > 1 << 10)
    plain_spin(spin)
    return spin
