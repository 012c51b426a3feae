from hypothesis import given
from hypothesis import strategies as st

from engine.hub import blocks as module
from engine.hub.blocks import MAX_CONNECTIONS, Block, Blocks, Run, block_bytes_for


def test_what_is_in_flight_is_a_hundredth_at_most() -> None:
    for total in (20 << 20, 1 << 30, 26 << 30, 90 << 30):
        assert MAX_CONNECTIONS * block_bytes_for(total) <= total / 100


@given(st.lists(st.integers(0, 100), min_size=1, max_size=4), st.integers(1, 30), st.integers(1, 200))
def test_every_byte_is_handed_out_once(sizes: list[int], block_bytes: int, run_bytes: int) -> None:
    blocks = Blocks(sizes, block_bytes)
    seen: list[tuple[int, int]] = []
    before, module.RUN_BYTES = module.RUN_BYTES, run_bytes
    try:
        while blocks.missing_bytes():
            run = blocks.take()
            assert run is not None
            seen += [(run.file, byte) for byte in range(run.start_byte, run.stop_byte)]
            for block in range(run.first, run.stop):
                blocks.set(run.file, block, Block.STORED)
    finally:
        module.RUN_BYTES = before
    assert sorted(seen) == [(file, byte) for file, size in enumerate(sizes) for byte in range(size)]


def taken(blocks: Blocks) -> Run:
    run = blocks.take()
    assert run is not None
    return run


def test_what_is_given_back_is_handed_out_again() -> None:
    blocks = Blocks([100], 10)
    run = taken(blocks)
    blocks.set(0, 0, Block.STORED)
    blocks.give_back(run)
    assert taken(blocks).start_byte == 10
    assert blocks.missing_bytes() == 90


def test_a_run_goes_around_what_is_kept() -> None:
    blocks = Blocks([100], 10)
    blocks.set(0, 3, Block.KEPT)
    assert (taken(blocks).stop_byte, taken(blocks).start_byte) == (30, 40)


def test_a_file_that_is_begun_anew_voids_the_runs_before() -> None:
    blocks = Blocks([100], 10)
    old = taken(blocks)
    blocks.set(0, 0, Block.STORED)
    assert blocks.forget(0) == 10
    assert not blocks.is_valid(old)
    new = taken(blocks)
    blocks.give_back(old)
    assert blocks.state(0, 5) is Block.CLAIMED, "the new run's claim stands"
    assert new.start_byte == 0


def test_without_ranges_one_worker_takes_the_whole_file() -> None:
    blocks = Blocks([100, 10], 10)
    first = taken(blocks)
    blocks.set(0, 0, Block.STORED)
    blocks.forget_ranges(0)
    assert taken(blocks).file == 1, "the first file has its worker still"
    blocks.give_back(first)
    run = taken(blocks)
    assert (run.whole, run.start_byte, run.stop_byte) == (True, 0, 100)
    assert blocks.state(0, 0) is Block.STORED, "what is there stays"
    blocks.close()
    assert blocks.take() is None


def test_runs_grow_shorter_towards_the_end() -> None:
    blocks = Blocks([1 << 31, 1 << 30], 1 << 20)
    sizes: list[int] = []
    while sum(sizes) < 3 << 30:
        run = taken(blocks)
        sizes.append(run.stop_byte - run.start_byte)
    assert sizes[0] == module.RUN_BYTES
    assert sum(sizes) == 3 << 30
    assert max(sizes[-4:]) <= module.LAST_RUN_BYTES
