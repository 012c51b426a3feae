"""Every text of the window has its translation, and each one keeps its placeholders."""

from __future__ import annotations

import string
from functools import cache
from pathlib import Path

import pytest

from app.language import LANGUAGE_NAMES, TRANSLATIONS
from resources.translations.update import (
    PLURAL_FORMS,
    SourceText,
    collect_texts,
    read_translations,
    release,
    texts_for,
    write_translations,
)

LANGUAGES = pytest.mark.parametrize("language", sorted(PLURAL_FORMS))
ADVICE = "run `make translations`, then translate what is unfinished in resources/translations"


@cache
def all_texts() -> list[SourceText]:
    """What the source says; read once, as it is much."""
    return collect_texts()


def placeholders(text: str) -> set[str | None]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


@LANGUAGES
def test_nothing_waits_for_its_translation(language: str) -> None:
    known = read_translations(TRANSLATIONS / f"rooftop_{language}.ts")
    wanted = {text.text for text in texts_for(language, all_texts())}
    assert wanted == set(known), ADVICE
    assert [text for text, forms in known.items() if not all(forms)] == [], ADVICE


@LANGUAGES
def test_translations_keep_placeholders_mnemonics_and_dots(language: str) -> None:
    plurals = {text.text for text in all_texts() if text.plural}
    for source, forms in read_translations(TRANSLATIONS / f"rooftop_{language}.ts").items():
        assert len(forms) == (PLURAL_FORMS[language] if source in plurals else 1), source
        for form in forms:
            assert placeholders(form) == placeholders(source), source
            assert ("&" in form) == ("&" in source), source
            assert form.endswith("…") == source.endswith("…"), source
            assert form.endswith(".") == source.endswith("."), source
            assert "%n" not in form or "%n" in source, source
        if "%n" in source:
            assert "%n" in forms[-1], source


@LANGUAGES
def test_what_is_loaded_is_what_is_written(language: str, tmp_path: Path) -> None:
    written = TRANSLATIONS / f"rooftop_{language}.ts"
    copy = tmp_path / written.name
    copy.write_bytes(written.read_bytes())
    release(copy)
    assert copy.with_suffix(".qm").read_bytes() == written.with_suffix(".qm").read_bytes(), "run `make translations`"


def test_every_language_that_is_offered_has_its_file() -> None:
    assert set(PLURAL_FORMS) == set(LANGUAGE_NAMES)


def test_texts_are_found(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text('tr("One " "text")\ntr("%n chats", 3)\nother("no")\nself.tr("neither")\n')
    (tmp_path / "b.py").write_text('tr("One text")\n')
    assert collect_texts([tmp_path]) == [
        SourceText("One text", plural=False, file="a.py"),
        SourceText("%n chats", plural=True, file="a.py"),
    ]


def test_sentences_of_the_engine_are_found(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(
        'say("Free: {size}.", size=size)\nsay("{number} {unit}", number=1, unit="s")\n'
        'say_count("1 of {size}", "%n of {size}", 3, size=size)\n'
    )
    assert collect_texts([tmp_path]) == [
        SourceText("Free: {size}.", plural=False, file="a.py"),
        SourceText("%n of {size}", plural=True, file="a.py", one="1 of {size}"),
    ], "a number with its unit needs no translation"


@pytest.mark.parametrize(
    "line", ['say("{a}")', 'say("{a} is", b=1)', 'say("It is", a=1)', "say(text)", 'say_count("1", n, 2)']
)
def test_a_sentence_must_name_its_values(line: str, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(line)
    with pytest.raises(ValueError, match=r"a\.py:1: "):
        collect_texts([tmp_path])


def test_an_english_singular_comes_from_the_source(tmp_path: Path) -> None:
    path = tmp_path / "rooftop_en.ts"
    assert write_translations(path, "en", [SourceText("%n of", plural=True, file="a.py", one="1 of")]) == 0
    assert read_translations(path) == {"%n of": ("1 of", "%n of")}


@pytest.mark.parametrize("line", ["tr(name)", 'tr(f"{name}")', "tr()", 'tr("a")\ntr("a", 1)'])
def test_what_cannot_be_translated_is_refused(line: str, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(line)
    with pytest.raises(ValueError, match=r"a\.py:"):
        collect_texts([tmp_path])


def test_an_update_keeps_what_is_translated_and_drops_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "rooftop_de.ts"
    chats, bye = (
        SourceText("%n chats", plural=True, file="a.py"),
        SourceText("Bye & <so long>", plural=False, file="a.py"),
    )
    assert write_translations(path, "de", [chats, bye]) == 2
    text = path.read_text(encoding="utf-8").replace(
        '<translation type="unfinished" />', "<translation>Tschüss</translation>"
    )
    path.write_text(text, encoding="utf-8")
    assert write_translations(path, "de", [bye, SourceText("New", plural=False, file="b.py")]) == 1
    assert read_translations(path) == {"Bye & <so long>": ("Tschüss",), "New": ("",)}
