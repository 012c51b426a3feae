from app.highlight import CODE_COLOURS, MAX_HIGHLIGHTED_CHARS, Span, highlight_lines


def test_spans_of_python() -> None:
    lines = highlight_lines('def f():\n    return "x"  # note', "python")
    assert Span(0, 3, "keyword") in lines[0]
    assert Span(4, 1, "name") in lines[0]
    assert Span(4, 6, "keyword") in lines[1]
    assert any(span.kind == "string" for span in lines[1])
    assert lines[1][-1].kind == "comment"


def test_a_string_over_several_lines() -> None:
    lines = highlight_lines('"""a\nb\n"""', "python")
    assert [[span.kind for span in line] for line in lines] == [["string"], ["string"], ["string"]]


def test_leading_blank_lines_keep_their_place() -> None:
    assert highlight_lines("\n\ndef f(): pass", "python")[2][0] == Span(0, 3, "keyword")


def test_unknown_language_and_long_code_stay_plain() -> None:
    assert highlight_lines("a\nb", "klingon") == [[], []]
    assert highlight_lines("a\nb", "") == [[], []]
    assert highlight_lines("x" * (MAX_HIGHLIGHTED_CHARS + 1), "python") == [[]]


def test_both_themes_colour_the_same_kinds() -> None:
    assert set(CODE_COLOURS["light"]) == set(CODE_COLOURS["dark"])
