"""What the machine and this process are asked."""

from __future__ import annotations

from engine.hardware import own_ram_bytes

SIZE = 64 << 20


def test_own_ram_grows_with_what_this_process_takes() -> None:
    before = own_ram_bytes()
    held = bytearray(b"\1") * SIZE
    assert own_ram_bytes() - before > len(held) // 2
