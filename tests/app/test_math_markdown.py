import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.markdown import split_blocks
from app.math_markdown import FORMULA, formula_of, formula_source
from app.math_svg import MAX_CHARS


def formulas(source: str) -> list[tuple[str, bool]]:
    html = "".join(block.html for block in split_blocks(source))
    return [formula_of(f"rooftop-math:{found[1]}{found[2]}") for found in FORMULA.finditer(html)]


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("Let $x^2$ be", [("x^2", False)]),
        (r"Let \(x^2\) be", [("x^2", False)]),
        ("In text $$x$$ too", [("x", True)]),
        ("$$\nx\n$$", [("x", True)]),
        ("$$\nx\n+ y\n- z\n= 1\n$$", [("x\n+ y\n- z\n= 1", True)]),
        (r"\[ x \]", [("x", True)]),
        ("\\[\nx\n\\]\n", [("x", True)]),
        ("- $a$\n- $$b$$", [("a", False), ("b", True)]),
        ("| $a$ |\n|---|\n| $b$ |", [("a", False), ("b", False)]),
        ("**$x$**", [("x", False)]),
        ("$x_1$ and $x_2$", [("x_1", False), ("x_2", False)]),
        ("Text\n$$\nx\n$$\nmore", [("x", True)]),
        ("> $$\n> x\n> $$", [("x", True)]),
    ],
)
def test_formulas_are_found(source: str, found: list[tuple[str, bool]]) -> None:
    assert formulas(source) == found


@pytest.mark.parametrize(
    "source",
    [
        "It costs $5 and $10.",
        "$5",
        "From $5-$10 to US$20",
        "I have 5$ and you 10$",
        "$20 is more than 10$",
        "`$x$`",
        "```\n$x$\n$$y$$\n```",
        "    $x$ is code",
        r"\$x\$",
        "$ x $",
        "$$",
        "$$$$",
        r"\(\)",
        "$x",
        "a$b$c",
        "$PATH and $HOME/bin",
    ],
)
def test_money_code_and_variables_stay_text(source: str) -> None:
    assert formulas(source) == []


def test_text_around_a_formula_keeps_its_markup() -> None:
    html = split_blocks("*a* $x$ `b`")[0].html
    assert html.startswith("<p><em>a</em> <img")
    assert html.endswith("<code>b</code></p>")


def test_other_addresses_are_none_of_ours() -> None:
    for address in ("http://example.com/x.png", "rooftop-math:", "rooftop-math:zz", "file:///etc/passwd"):
        with pytest.raises(ValueError, match=r".*"):
            formula_of(address)


def test_what_is_copied_is_a_formula_again() -> None:
    for display in (False, True):
        assert formulas(formula_source("x^2", display=display)) == [("x^2", display)]


@pytest.mark.parametrize(
    "source", ["$" * 20_000, "$a" * 20_000, "\\(" * 20_000, "$$a\n" * 5000, "\\[x\n" * 5000, "$ " * 20_000]
)
def test_a_flood_of_delimiters_is_looked_at_once(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from app import math_markdown

    looks: list[int] = []
    plain = math_markdown._is_formula

    def counted(source: str, start: int, first: int, end: int, opening: str) -> bool:
        looks.append(end - start)
        return plain(source, start, first, end, opening)

    monkeypatch.setattr(math_markdown, "_is_formula", counted)
    split_blocks(source)
    assert len(looks) <= len(source)
    assert all(chars <= MAX_CHARS + 2 for chars in looks)


@given(st.text(alphabet="$\\()[]x {}^_\n5`*-|", max_size=120))
def test_any_text_gives_images_of_ours_alone(source: str) -> None:
    html = "".join(block.html for block in split_blocks(source))
    assert len(re.findall("<img", html)) == len(FORMULA.findall(html))
