"""What breaks the GPU while it is tried is not tried again; what ends for another reason is."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from engine.devices.trial import on_trial, trial_mark
from engine.errors import GpuLostError
from engine.kernels.cuda_driver import CudaDriverError
from engine.kernels.gpu_kernels import GpuKernelsUnavailableError

BROKEN = torch.AcceleratorError("CUDA error: an illegal memory access was encountered")


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    return trial_mark(tmp_path / "kernels", {"a.cu": "text"}, "A GPU, torch 2")


def whole() -> None:
    """A GPU that answers."""


def broken() -> None:
    """A GPU that does not."""
    raise BROKEN


def never() -> None:
    """A GPU that nobody may wait for."""
    raise AssertionError("waited for a stream that stands still")


def try_it(mark: Path, settle: Callable[[], None], error: BaseException | None) -> None:
    """Something that ends with an error, or well."""
    with on_trial(mark, settle):
        assert mark.exists()
        if error is not None:
            raise error


@pytest.mark.parametrize(
    "error",
    [
        None,
        GpuKernelsUnavailableError("It computes something else."),
        CudaDriverError("CUDA_ERROR_INVALID_IMAGE", "cuModuleLoadDataEx: no."),
        torch.OutOfMemoryError("CUDA out of memory."),
        KeyboardInterrupt(),
    ],
)
def test_what_leaves_the_gpu_whole_leaves_no_mark(mark: Path, error: BaseException | None) -> None:
    for _ in range(3):
        with suppress(BaseException):
            try_it(mark, whole, error)
        assert not mark.exists()


@pytest.mark.parametrize("error", [None, BROKEN, CudaDriverError("CUDA_ERROR_ILLEGAL_ADDRESS", "cuLaunchKernel: no.")])
def test_what_breaks_the_gpu_is_not_tried_again(mark: Path, error: Exception | None) -> None:
    with pytest.raises(torch.AcceleratorError):
        try_it(mark, broken, error)
    with pytest.raises(GpuKernelsUnavailableError, match="at an earlier start"), on_trial(mark, whole):
        raise AssertionError("tried again")


def test_a_stream_that_stands_still_is_not_waited_for(mark: Path) -> None:
    with pytest.raises(GpuLostError), on_trial(mark, never):
        raise GpuLostError("The GPU did not go on.", "Start again.")
    with pytest.raises(GpuKernelsUnavailableError), on_trial(mark, whole):
        raise AssertionError("tried again")


def test_a_process_that_ends_meanwhile_has_a_second_try(mark: Path) -> None:
    never_left = []

    def killed() -> None:
        """As far as the mark can tell."""
        never_left.append(on_trial(mark, whole))
        never_left[-1].__enter__()

    killed()
    with on_trial(mark, whole):
        pass
    killed()
    killed()
    with pytest.raises(GpuKernelsUnavailableError), on_trial(mark, whole):
        raise AssertionError("tried a third time")


def test_a_mark_that_cannot_be_read_counts_once_and_a_folder_without_marks_never(mark: Path, tmp_path: Path) -> None:
    mark.parent.mkdir()
    mark.write_bytes(b"\xff not a number")
    with on_trial(mark, whole):
        assert mark.read_text() == "2"
    (tmp_path / "file").touch()
    with on_trial(tmp_path / "file" / "mark", whole):
        pass


def test_other_kernels_and_other_machines_have_other_marks(mark: Path) -> None:
    folder = mark.parent
    assert trial_mark(folder, {"a.cu": "text"}, "A GPU, torch 2") == mark
    assert trial_mark(folder, {"a.cu": "text"}, "A GPU, torch 3") != mark
    assert trial_mark(folder, {"a.cu": "other"}, "A GPU, torch 2") != mark
