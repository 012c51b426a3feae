"""Presets: what holds in a chat, and how the user's own change."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.presets import (
    BUILT_IN_KEYS,
    MAX_PRESETS,
    ChatOptions,
    Preset,
    PresetBook,
    new_key,
)
from engine.config import SamplingParams
from engine.errors import ConfigurationError

POET = Preset("k1", "Poet", "Answer in rhymes.", SamplingParams(temperature=1.4, stop=("END", "\n\n"), seed=3))
CLERK = Preset("k2", "Clerk", sampling=SamplingParams(json_schema='{"type": "object"}', max_tokens=99))
BOOK = PresetBook((POET, CLERK), "k2", {"/models/a": "k1", "/models/b": "precise"})


# ---- what holds ----


def test_the_built_in_ones_can_be_used_and_differ() -> None:
    presets = PresetBook().presets
    assert tuple(preset.key for preset in presets) == BUILT_IN_KEYS
    assert all(preset.built_in for preset in presets)
    assert len({(preset.system_prompt, preset.sampling) for preset in presets}) == len(presets)
    assert PresetBook().resolve(ChatOptions(), "m") == ("", SamplingParams())


def test_the_chat_goes_before_the_model_and_the_model_before_the_default() -> None:
    prompt, sampling = BOOK.resolve(ChatOptions("k1", "Be brief.", {"top_k": 7}), "/models/b")
    assert (prompt, sampling) == ("Be brief.", dataclasses.replace(POET.sampling, top_k=7))
    assert BOOK.resolve(ChatOptions("k1"), "/models/b")[0] == POET.system_prompt
    assert BOOK.preset_for(ChatOptions(), "/models/b").key == "precise"
    assert BOOK.preset_for(ChatOptions(), "other").key == "k2"
    assert BOOK.resolve(ChatOptions(system_prompt=""), "/models/a")[0] == "", "an empty prompt is a choice too"


def test_a_deleted_preset_is_passed_over() -> None:
    book = BOOK.without("k1").without("k2")
    assert book == PresetBook((), "balanced", {"/models/b": "precise"})
    assert book.preset_for(ChatOptions("k1"), "/models/a").key == "balanced"


def test_options_between_a_preset_and_values_lead_back() -> None:
    wanted = dataclasses.replace(POET.sampling, temperature=0.1, stop=())
    options = ChatOptions.between(POET, "Answer.", wanted)
    assert options == ChatOptions("k1", "Answer.", {"temperature": 0.1, "stop": ()})
    assert options.apply(POET) == ("Answer.", wanted)
    assert ChatOptions.between(POET, POET.system_prompt, POET.sampling) == ChatOptions("k1")


@pytest.mark.parametrize(
    "options",
    [ChatOptions(), ChatOptions("k1"), ChatOptions("", "", {}), ChatOptions("x", "y", {"stop": ("a",), "seed": None})],
)
def test_options_survive_as_text(options: ChatOptions) -> None:
    assert ChatOptions.from_json(options.to_json()) == options


def test_nothing_special_is_no_text() -> None:
    assert ChatOptions().to_json() == ""


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "7", "[" * 100_000, '{"preset": 1, "system_prompt": [], "sampling": 3}',
     '{"sampling": {"temperature": "hot", "top_p": NaN, "ignore_eos": true, "odd": 1, "stop": [1]}}'],
)  # fmt: skip
def test_damaged_options_open_as_none(text: str) -> None:
    assert ChatOptions.from_json(text) == ChatOptions()


def test_one_bad_change_costs_only_itself() -> None:
    assert ChatOptions.from_json('{"sampling": {"temperature": 99, "top_k": 5}}').sampling == {"top_k": 5}


@given(st.text(max_size=300))
def test_no_text_breaks_a_chat(text: str) -> None:
    assert isinstance(ChatOptions.from_json(text), ChatOptions)


# ---- changing the book ----


def test_adding_changing_and_naming() -> None:
    book = PresetBook().with_preset(POET).with_preset(dataclasses.replace(POET, name=" Bard "))
    assert [preset.name for preset in book.own] == ["Bard"]
    copy = book.duplicate(book.presets[0])
    assert (copy.name, copy.built_in) == ("Balanced 2", False)
    book = book.with_preset(copy)
    with pytest.raises(ConfigurationError, match="called bard already"):
        book.with_preset(dataclasses.replace(copy, name="bard"))
    with pytest.raises(ConfigurationError, match="comes with Rooftop"):
        book.with_preset(book.presets[0])


def test_there_is_a_limit() -> None:
    full = PresetBook(tuple(Preset(str(number), f"P{number}") for number in range(MAX_PRESETS)))
    with pytest.raises(ConfigurationError, match="the most"):
        full.with_preset(POET)
    assert full.with_preset(Preset("5", "Other")).own[5].name == "Other"


def test_a_models_preset_can_be_taken_back() -> None:
    assert BOOK.with_model("/models/a", "code").preset_for(ChatOptions(), "/models/a").key == "code"
    assert "/models/a" not in BOOK.with_model("/models/a", "").by_model


@pytest.mark.parametrize(
    ("name", "prompt"), [("", ""), ("  ", ""), ("x" * 61, ""), ("a\0b", ""), ("a", "x" * 70_000), ("a", "\0")]
)
def test_texts_outside_their_limits_are_refused(name: str, prompt: str) -> None:
    with pytest.raises(ConfigurationError):
        Preset(new_key(), name, prompt)
