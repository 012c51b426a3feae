import pytest

from app.long_tables import PIECE_ROWS, long_tables
from app.markdown import merge_prose, plain_blocks, split_blocks

HEAD = "| a | b |\n|---|---:|\n"


def rows(count: int) -> str:
    return "".join(f"| {n} | **{n}** `x` |\n" for n in range(count))


def test_a_long_table_comes_in_pieces_of_which_only_the_last_changes() -> None:
    short = next(long_tables(HEAD + rows(PIECE_ROWS + 5)))
    longer = next(long_tables(HEAD + rows(2 * PIECE_ROWS + 1)))
    assert short.pieces[0] == longer.pieces[0]
    assert "".join(longer.pieces) == rows(2 * PIECE_ROWS + 1)
    assert (longer.start, longer.head) == (0, HEAD)


@pytest.mark.parametrize(
    "source",
    [
        HEAD + rows(PIECE_ROWS),
        "```\n\n" + HEAD + rows(100) + "\n```\n",
        HEAD + rows(100) + "a row without pipes\n",
        "- item\n" + HEAD + rows(100),
        HEAD + rows(100) + "\n[1]: https://example.com\n",
        HEAD.replace("|---|---:|", "|---|") + rows(100),
        HEAD + "| $x$ | 1 |\n" + rows(100),
    ],
)
def test_what_cannot_be_cut_is_left_whole(source: str) -> None:
    assert all(block.kind != "table" for block in split_blocks(source))


def test_a_long_table_has_the_rows_of_the_whole() -> None:
    source = "Before.\n\n" + HEAD + rows(100) + "\nAfter.\n\n" + HEAD + rows(50)
    blocks = merge_prose(split_blocks(source))
    assert [block.kind for block in blocks] == ["prose", "table", "prose", "table"]
    assert [source[block.start] for block in blocks] == ["B", "|", "A", "|"]
    table = blocks[1]
    whole = split_blocks(HEAD + rows(20))[0].html + split_blocks(HEAD + rows(100))[0].html
    assert len(table.rows) == 101
    assert all(row in whole for row in table.rows[:21])
    words = plain_blocks(source)[1].split()
    assert words == ["a", "b", *(word for n in range(100) for word in (str(n), str(n), "x"))]
