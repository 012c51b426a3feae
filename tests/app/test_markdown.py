import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.markdown import is_safe_link, merge_prose, split_blocks
from app.math_markdown import FORMULA


def html(source: str) -> str:
    return "".join(block.html for block in split_blocks(source))


def test_blocks_have_their_place_in_the_source() -> None:
    source = "# One\n\ntext\n\n```python\nx = 1\n```\n\n- a\n- b\n"
    blocks = split_blocks(source)
    assert [block.kind for block in blocks] == ["prose", "prose", "code", "prose"]
    assert [source[block.start :][:4] for block in blocks] == ["# On", "text", "```p", "- a\n"]
    assert (blocks[2].text, blocks[2].language) == ("x = 1", "python")


def test_an_open_fence_is_code_already() -> None:
    assert split_blocks("```c\nint x;")[0].text == "int x;"


def test_templates_are_shown_literally() -> None:
    assert html("a vector<int> here") == "<p>a vector&lt;int&gt; here</p>"


@pytest.mark.parametrize(
    "source",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        '<a href="http://evil.example">x</a>',
        "<b>bold</b>",
        "<!-- comment -->",
        "<svg/onload=alert(1)>",
        "<style>*{display:none}</style>",
    ],
)
def test_raw_html_is_text(source: str) -> None:
    assert html(source).replace("<p>", "").replace("</p>", "").count("<") == 0


@pytest.mark.parametrize(
    "source",
    [
        "![alt](http://example.com/x.png)",
        "![alt](https://example.com/x.png 'title')",
        "![alt][r]\n\n[r]: http://example.com/x.png",
        "![alt](file:///etc/passwd)",
        "![alt](\\\\server\\share\\x.png)",
        "![alt](data:image/png;base64,AAAA)",
    ],
)
def test_images_become_words(source: str) -> None:
    assert "<img" not in html(source)
    assert "alt" in html(source)


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)", "JaVaScRiPt:alert(1)", "data:text/html,x", "file:///etc/passwd", "vbscript:x",
        "//evil.example", "\\\\server\\share", "ftp://example.com", "http://", "http:///x", "https://a\nb", "x" * 3000,
        "mailto:a@example.com",
    ],
)  # fmt: skip
def test_only_web_links_are_links(url: str) -> None:
    assert not is_safe_link(url)
    assert "<a" not in html(f"[x]({url}) <{url}>")


def test_a_malformed_address_is_no_link() -> None:
    assert not is_safe_link("http://[")
    assert 'href="http://%5B"' in html("[x](http://[)"), "the parser escapes it first"


def test_web_links_keep_only_their_address() -> None:
    assert html('[x](https://example.com/?a=1&b=2 "t")') == ('<p><a href="https://example.com/?a=1&amp;b=2">x</a></p>')


def test_tables_and_nested_code() -> None:
    assert '<table border="1"' in html("| a | b |\n|--:|---|\n| 1 | 2 |")
    nested = html("- item\n\n  ```python\n  x = '<b>'\n  ```\n")
    assert '<pre lang="python">' in nested
    assert "<pre>" in html("- item\n\n  ```\n  x\n  ```\n")
    assert "&lt;b&gt;" in nested
    assert 'class="last"' in nested


def test_joining_leaves_code_and_tables_alone() -> None:
    blocks = merge_prose(split_blocks("a\n\nb\n\n```\nc\n```\n\nd\n\n| t |\n|---|\n\ne\n"))
    assert [(block.kind, block.html.count("<p>")) for block in blocks] == [
        ("prose", 2),
        ("code", 0),
        ("prose", 1),
        ("prose", 0),
        ("prose", 1),
    ]


@pytest.mark.parametrize(
    "source", ["[" * 5000, "> " * 3000, "*a " * 3000, "`" * 3000, "- " * 2000, "|" * 3000 + "\n" + "|-" * 1500]
)
def test_hostile_nesting_ends_soon(source: str) -> None:
    split_blocks(source)


@given(st.text(alphabet="ab `*_#>-|[]()!<&:/\n\t1.\\\"'", max_size=200))
@example("\\[1\\]")
def test_any_text_gives_blocks_in_order_and_no_foreign_tags(source: str) -> None:
    blocks = split_blocks(source)
    starts = [block.start for block in blocks]
    assert starts == sorted(set(starts))
    for block in blocks:
        assert "<img" not in FORMULA.sub("", block.html)
        assert "<script" not in block.html
