import pytest
from hypothesis import given
from hypothesis import strategies as st

from app import long_fences as module
from app import markdown
from app.long_fences import MIN_CODE_CHARS, long_fences
from app.markdown import _parse_blocks, merge_prose, split_blocks
from tests.examples import examples

CODE = "x = 1\n" * MIN_CODE_CHARS
LINES = [
    "```", "````", "```python", "~~~", "~~~~ c", "``` a`b", "  ```", "    ```", "- a", "- ```", "1. b", "   ```", "> q",
    "> ```", "$$", "x = 1", "", "text", "\\[", "\\]", "# head", "| a |", "|---|", "\t```", "> - ```", "***", "<div>",
    "`a`",
]  # fmt: skip


def test_a_long_fence_is_cut_out_and_is_what_the_parser_makes_of_it() -> None:
    source = f"Before.\n\n```python linenos\n{CODE}```\n\nAfter.\n\n~~~~\n```\n{CODE}"
    assert [source[fence.start :][:4] for fence in long_fences(source)] == ["```p", "~~~~"]
    assert split_blocks(source) == _parse_blocks(source)


@pytest.mark.parametrize(
    "source",
    [
        f"```\n{CODE[: MIN_CODE_CHARS - 6]}```\n",
        f"- item\n\n  ```\n  a\n  ```\n\n```\n{CODE}```\n",
        f"$$\n```\n{CODE}```\n$$\n",
        f"See [it][1].\n\n```\n{CODE}```\n\n[1]: https://example.com\n",
    ],
)
def test_what_may_be_part_of_something_else_is_left_whole(source: str) -> None:
    assert list(long_fences(source)) == []
    assert split_blocks(source) == _parse_blocks(source)


@examples(400)
@given(st.lists(st.sampled_from(LINES), max_size=14).map("\n".join))
def test_cutting_changes_nothing(source: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MIN_CODE_CHARS", 1)
        assert merge_prose(split_blocks(source)) == merge_prose(_parse_blocks(source))


def test_the_parser_does_not_read_code_that_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []

    def counted(source: str) -> list[markdown.Block]:
        read.append(len(source))
        return _parse_blocks(source)

    monkeypatch.setattr(markdown, "_parse_blocks", counted)
    for lines in range(0, 5000, 100):
        split_blocks("```python\n" + "x = 1\n" * lines)
    assert sum(read) < 10 * MIN_CODE_CHARS
