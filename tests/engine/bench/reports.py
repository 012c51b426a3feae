"""A made-up comparison for the tests of what shows one."""

from __future__ import annotations

from engine.bench.results import AVX2_DECODE, FileResult, Pairs, PeerFacts, Report

FILE = FileResult(
    shape="mixtral",
    mix="Q4_0",
    file_bytes=1_000_000_000,
    pairs=(
        Pairs("decode", (90.0, 80.0, 100.0), (60.0, 80.0, 50.0), goal=1.0, limits=(120.0, 100.0, 125.0)),
        Pairs("prefill 512", (300.0, 310.0, 290.0), (150.0, 155.0, 145.0), goal=3.0, limits=(400.0, 400.0, 400.0)),
    ),
    avx2=Pairs(AVX2_DECODE.name, (45.0, 40.0, 50.0), (90.0, 80.0, 100.0), goal=0.8),
    ours=PeerFacts(1_200_000_000, 2.0, "CPU, avx512 kernels", idle_share=0.0),
    theirs=PeerFacts(1_100_000_000, 1.0, "CPU : AVX512 = 1", idle_share=0.01),
    agreement=0.9991,
)
REPORT = Report(
    date="2030-01-02T03:04:05+00:00",
    cpu="A processor",
    threads=2,
    repeat=3,
    versions={"python": "3.11", "llama_cpp_python": "0.3.36"},
    read_bytes_per_s=33e9,
    int8_operations_per_s=680e9,
    files=(FILE,),
)
