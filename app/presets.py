"""Presets: a system prompt and sampling parameters under a name; and what one chat changes of them.

Four come with the program and cannot be changed; the user's own are kept by `app.preset_files`. What a reply is
written with is resolved in this order: what the chat changes, the chat's preset, the model's, the default one. A
preset that has been deleted is passed over. Knows no Qt.
"""

from __future__ import annotations

import dataclasses
import json
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from app.language import tr
from engine.config import SamplingParams
from engine.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_OPTIONS_CHARS = 1 << 20
MAX_PRESETS = 200
MAX_NAME_CHARS = 60
MAX_PROMPT_CHARS = 1 << 16
MAX_MODELS = 1000
MAX_KEY_CHARS = 4096
DEFAULT_KEY = "balanced"
SAMPLED = tuple(item.name for item in dataclasses.fields(SamplingParams) if item.name != "ignore_eos")
_CODE_PROMPT = (
    "You are a careful programmer. Answer with complete, working code and a short explanation. "
    "Say so where you are not sure."
)


@dataclass(frozen=True, slots=True)
class Preset:
    """A way to answer.

    Attributes:
        key: What chats and models refer to it by; it outlives a change of name.
        name: For the screen.
        system_prompt: Told to the model before the conversation; "" for nothing.
        sampling: How tokens are drawn.

    Raises:
        ConfigurationError: A text is empty, too long or no text.
    """

    key: str
    name: str
    system_prompt: str = ""
    sampling: SamplingParams = field(default_factory=SamplingParams)

    def __post_init__(self) -> None:
        """Refuse what cannot be kept."""
        _require_text(tr("The preset's key"), self.key, MAX_KEY_CHARS, empty=False)
        _require_text(tr("The preset's name"), self.name, MAX_NAME_CHARS, empty=False)
        _require_text(tr("The system prompt"), self.system_prompt, MAX_PROMPT_CHARS)
        if not isinstance(self.sampling, SamplingParams):
            raise ConfigurationError(tr("The preset has no sampling parameters."), tr("Choose another preset."))

    @property
    def built_in(self) -> bool:
        """Whether it came with the program."""
        return self.key in BUILT_IN_KEYS


BUILT_IN_KEYS = ("balanced", "precise", "creative", "code")


def built_in_presets() -> tuple[Preset, ...]:
    """Those that come with the program, in the language in force."""
    return (
        Preset("balanced", tr("Balanced")),
        Preset("precise", tr("Precise"), sampling=SamplingParams(temperature=0.2, top_p=0.9)),
        Preset("creative", tr("Creative"), sampling=SamplingParams(temperature=1.1, top_p=1.0, min_p=0.05)),
        Preset("code", tr("Code"), _CODE_PROMPT, SamplingParams(max_tokens=4096, temperature=0.1, top_p=0.9)),
    )


@dataclass(frozen=True, slots=True)
class ChatOptions:
    """What one chat is answered with, as far as it differs from the model's preset.

    Attributes:
        preset: Key of the chat's preset; "" for the model's.
        system_prompt: In place of the preset's; None for the preset's.
        sampling: Parameter -> value, in place of the preset's.
    """

    preset: str = ""
    system_prompt: str | None = None
    sampling: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, text: str) -> ChatOptions:
        """Read what `to_json` wrote; what is unusable is left out, because a chat must open in any case."""
        try:
            values = json.loads(text) if text and len(text) <= MAX_OPTIONS_CHARS else {}
        except (ValueError, RecursionError):
            return cls()
        if not isinstance(values, dict):
            return cls()
        preset, prompt, changed = values.get("preset"), values.get("system_prompt"), values.get("sampling")
        usable = isinstance(prompt, str) and len(prompt) <= MAX_PROMPT_CHARS
        return cls(
            preset if isinstance(preset, str) and len(preset) <= MAX_KEY_CHARS else "",
            prompt if usable else None,
            _sound_changes(changed) if isinstance(changed, dict) else {},
        )

    def to_json(self) -> str:
        """As text for `Conversation.options`; "" where nothing differs."""
        values: dict[str, object] = {"preset": self.preset} if self.preset else {}
        if self.system_prompt is not None:
            values["system_prompt"] = self.system_prompt
        if self.sampling:
            values["sampling"] = dict(self.sampling)
        return json.dumps(values) if values else ""

    def apply(self, preset: Preset) -> tuple[str, SamplingParams]:
        """System prompt and sampling of a reply."""
        prompt = preset.system_prompt if self.system_prompt is None else self.system_prompt
        return prompt, changed_sampling(preset.sampling, self.sampling)

    @classmethod
    def between(cls, preset: Preset, prompt: str, sampling: SamplingParams) -> ChatOptions:
        """What turns a preset into this prompt and these parameters."""
        changed = {
            name: getattr(sampling, name)
            for name in SAMPLED
            if getattr(sampling, name) != getattr(preset.sampling, name)
        }
        return cls(preset.key, None if prompt == preset.system_prompt else prompt, changed)


@dataclass(frozen=True, slots=True)
class PresetBook:
    """Every preset, and which of them holds where.

    Attributes:
        own: The user's.
        default: Key of the one that holds where nothing else is said.
        by_model: Model -> key of the preset that its chats begin with.
    """

    own: tuple[Preset, ...] = ()
    default: str = DEFAULT_KEY
    by_model: Mapping[str, str] = field(default_factory=dict)

    @property
    def presets(self) -> tuple[Preset, ...]:
        """All, those of the program first."""
        return (*built_in_presets(), *self.own)

    def find(self, key: str) -> Preset | None:
        """The preset with that key."""
        return next((preset for preset in self.presets if preset.key == key), None)

    def preset_for(self, options: ChatOptions, model: str) -> Preset:
        """The preset that holds in a chat: its own, the model's, or the default one."""
        keys = (options.preset, self.by_model.get(model, ""), self.default, DEFAULT_KEY)
        return next(preset for key in keys if (preset := self.find(key)) is not None)

    def resolve(self, options: ChatOptions, model: str) -> tuple[str, SamplingParams]:
        """System prompt and sampling parameters of the next reply in a chat."""
        return options.apply(self.preset_for(options, model))

    def with_preset(self, preset: Preset) -> PresetBook:
        """With a preset of the user's, new or changed.

        Raises:
            ConfigurationError: It is one of the program's, its name is taken, or there are too many.
        """
        if preset.built_in:
            raise ConfigurationError(
                tr("The preset {name} comes with Rooftop and stays as it is.").format(name=preset.name),
                tr("Duplicate it, and change the copy."),
            )
        others = [other for other in self.presets if other.key != preset.key]
        if any(other.name.casefold() == preset.name.strip().casefold() for other in others):
            raise ConfigurationError(
                tr("There is a preset called {name} already.").format(name=preset.name), tr("Choose another name.")
            )
        known = any(other.key == preset.key for other in self.own)
        if not known and len(self.own) >= MAX_PRESETS:
            raise ConfigurationError(
                tr("There are {count} presets, the most that are kept.").format(count=MAX_PRESETS),
                tr("Delete one that you no longer need."),
            )
        preset = dataclasses.replace(preset, name=preset.name.strip())
        own = [preset if other.key == preset.key else other for other in self.own]
        return dataclasses.replace(self, own=tuple(own if known else [*own, preset]))

    def without(self, key: str) -> PresetBook:
        """Without one of the user's; what referred to it falls back."""
        return dataclasses.replace(
            self,
            own=tuple(preset for preset in self.own if preset.key != key),
            default=DEFAULT_KEY if self.default == key else self.default,
            by_model={model: kept for model, kept in self.by_model.items() if kept != key},
        )

    def with_model(self, model: str, key: str) -> PresetBook:
        """With a model's preset; "" for none of its own."""
        others = {name: kept for name, kept in self.by_model.items() if name != model}
        latest = list(others.items())[-(MAX_MODELS - 1) :]
        return dataclasses.replace(self, by_model=dict([*latest, (model, key)] if key else latest))

    def free_name(self, name: str) -> str:
        """The name, or the name with the first number that is free."""
        taken = {preset.name.casefold() for preset in self.presets}
        name = name.strip()[:MAX_NAME_CHARS]
        candidates = (name, *(f"{name[: MAX_NAME_CHARS - 5]} {number}" for number in range(2, MAX_PRESETS + 10)))
        return next(candidate for candidate in candidates if candidate.casefold() not in taken)

    def duplicate(self, preset: Preset) -> Preset:
        """A copy that the user may change; not yet in the book."""
        return dataclasses.replace(preset, key=new_key(), name=self.free_name(preset.name))


def new_key() -> str:
    """A key that no other preset has."""
    return uuid.uuid4().hex


def changed_sampling(sampling: SamplingParams, changes: Mapping[str, Any]) -> SamplingParams:
    """Sampling parameters with changes; one that cannot be used leaves its parameter as it was."""
    for name, value in changes.items():
        try:
            one: dict[str, Any] = {name: as_kept(name, value)}
            sampling = dataclasses.replace(sampling, **one)
        except (ConfigurationError, TypeError):
            continue
    return sampling


def _sound_changes(changes: dict[str, Any]) -> dict[str, Any]:
    """The changes that `SamplingParams` takes, each by itself."""
    sound: dict[str, Any] = {}
    for name in SAMPLED:
        if name in changes:
            one: dict[str, Any] = {name: as_kept(name, changes[name])}
            try:
                SamplingParams(**one)
            except (ConfigurationError, TypeError):
                continue
            sound |= one
    return sound


def as_kept(name: str, value: object) -> object:
    """JSON has no tuples."""
    return tuple(value) if name == "stop" and isinstance(value, list) else value


def _require_text(what: str, text: object, most: int, *, empty: bool = True) -> None:
    """Refuse what is no text, has no words or too many."""
    if not isinstance(text, str) or "\0" in text or (not empty and not text.strip()):
        raise ConfigurationError(tr("{what} is empty or no text.").format(what=what), tr("Write one."))
    if len(text) > most:
        words = tr("{what} has {count} characters; {most} are the limit.")
        raise ConfigurationError(words.format(what=what, count=len(text), most=most), tr("Shorten it."))
