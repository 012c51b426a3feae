import pytest

from app.math_svg import MAX_CHARS, MAX_WORK, draw, is_drawable, work_of


@pytest.mark.parametrize(
    "latex",
    [
        r"e^{i\pi}+1=0",
        r"\frac{-b\pm\sqrt{b^2-4ac}}{2a}",
        r"\begin{pmatrix}a&b\\c&d\end{pmatrix}",
        r"\operatorname{softmax}\left(\frac{QK^\top}{\sqrt{d_k}}\right)V",
        r"\begin{cases}1&x>0\\0&\text{otherwise}\end{cases}",
        r"\nabla\times\mathbf{E}=-\partial_t\mathbf{B}",
    ],
)
def test_common_formulas_are_drawn(latex: str) -> None:
    drawing = draw(latex, display=True)
    assert drawing is not None
    assert drawing.svg.startswith("<svg")
    assert drawing.width > 0
    assert drawing.ascent > 0
    assert "<symbol" not in drawing.svg, "QtSvg draws no symbols with a view box"


def test_the_baseline_is_known() -> None:
    high, low = draw("x", display=False), draw("p", display=False)
    assert high is not None
    assert low is not None
    assert high.descent < 0.06 < 0.2 < low.descent
    assert abs(high.ascent - low.ascent) < 0.05


@pytest.mark.parametrize("latex", ["", "  ", r"\frac{1", "{{{", "^", "&", "a_b_c", r"\text{<&}", r"\\"])
def test_what_cannot_be_read_stays_source(latex: str) -> None:
    assert draw(latex, display=False) is None


@pytest.mark.parametrize(
    "latex",
    [
        r"\frac{1}{" * 12 + "x" + "}" * 12,
        "{" * 300,
        r"\left(" * 20 + "x" + r"\right)" * 20,
        "x+" * 500,
        "x" * (MAX_CHARS + 1),
        r"\begin{pmatrix}" + r"\\".join(["&".join(["1"] * 20)] * 20) + r"\end{pmatrix}",
        r"\def\a{\a\a}\a",
        r"\newcommand{\a}{\a\a}\a",
        r"\includegraphics{/etc/passwd}",
        r"\href{file:///etc/passwd}{x}",
    ],
)
def test_too_much_work_is_not_begun(latex: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import ziamath

    monkeypatch.setattr(ziamath, "Latex", lambda *_, **__: pytest.fail("begun"))
    assert not is_drawable(latex)
    assert draw(latex, display=False) is None


def test_work_doubles_with_every_level() -> None:
    assert work_of("{x}") < work_of("{{x}}") < work_of("{{{x}}}")
    assert work_of(r"\frac{1}{" * 6 + "x" + "}" * 6) < MAX_WORK < work_of(r"\frac{1}{" * 9 + "x" + "}" * 9)


def test_huge_spaces_and_rules_stay_in_bounds() -> None:
    for latex in (r"\hspace{999999em}x", r"\rule{99999em}{99999em}x"):
        drawing = draw(latex, display=False)
        assert drawing is None or drawing.width < 400
