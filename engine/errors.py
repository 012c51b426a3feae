"""Every error that the engine raises on purpose.

    RooftopError                   one sentence, one remedy, a stable code
    +-- InputError                 the user's input cannot be used (exit code 2)
    |   +-- CheckpointError        a model folder or file is damaged or unsafe, or a part of it is missing
    |   |   +-- ModelMissingError  the whole of it is not there; perhaps its drive is away
    |   +-- UnsupportedModelError  a sound model that this engine does not run
    |   +-- ConfigurationError     a setting or argument outside its limits
    |   +-- DoesNotFitError        refused by arithmetic: needs X bytes, Y available
    |   +-- PromptTooLongError     more prompt tokens than the context holds
    |   +-- UnsafeRepositoryError  a repository on the hub whose files cannot be taken as they are named
    +-- OperationCancelledError    the user stopped a load or a measurement (exit code 1)
    +-- EngineFailure              something broke while running (exit code 1)
        +-- DeviceOutOfMemoryError an allocation passed the device's budget
        +-- GpuLostError           the GPU broke off its work, and this process cannot use it any more
        +-- EngineStoppedError     the engine process ended without being asked to
    +-- HubError                   the hub did not give what was asked, or it could not be kept (exit code 1)
        +-- HubUnreachableError    no answer, or none that helps, after several tries
        +-- NotOnHubError          no such repository or file, or not any more
        +-- GatedModelError        only for accounts that the publisher has let in
        +-- DamagedDownloadError   what arrives is not what the hub promises
        +-- DiskFullError          no room for it on the drive

A message names the offending value and its limit; a remedy is one sentence in the imperative.
"""

from __future__ import annotations


class RooftopError(Exception):
    """Base of the tree.

    Args:
        message: One sentence that says what is wrong, naming the file or value.
        remedy: One sentence that says what to do about it.
    """

    code = "error"

    def __init__(self, message: str, remedy: str) -> None:
        """See the class."""
        super().__init__(message, remedy)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        """The message and the remedy on one line."""
        return f"{self.message} {self.remedy}".replace("\n", " ").strip()


class InputError(RooftopError):
    """The user's input cannot be used."""

    code = "input"


class CheckpointError(InputError):
    """A model folder or file is damaged or unsafe, or a part of it is missing."""

    code = "checkpoint"


class ModelMissingError(CheckpointError):
    """There is no such folder or file; perhaps its drive is away."""

    code = "model-missing"


class UnsupportedModelError(InputError):
    """A sound model that this engine does not run."""

    code = "unsupported-model"


class ConfigurationError(InputError):
    """A setting or argument outside its limits."""

    code = "configuration"


class DoesNotFitError(InputError):
    """Refused by arithmetic before anything is loaded.

    Args:
        message: What does not fit, with both byte counts in words.
        remedy: What to change.
        needed_bytes: What the request takes.
        available_bytes: What there is.
    """

    code = "does-not-fit"

    def __init__(self, message: str, remedy: str, needed_bytes: int = 0, available_bytes: int = 0) -> None:
        """See the class."""
        super().__init__(message, remedy)
        self.needed_bytes = needed_bytes
        self.available_bytes = available_bytes


class PromptTooLongError(InputError):
    """More prompt tokens than the context holds."""

    code = "prompt-too-long"


class UnsafeRepositoryError(InputError):
    """A repository on the hub whose files cannot be taken as they are named."""

    code = "unsafe-repository"


class EngineFailure(RooftopError):  # noqa: N818 - the kind of failure, as InputError is the kind of input
    """Something broke while running."""

    code = "engine"


class DeviceOutOfMemoryError(EngineFailure):
    """An allocation passed the device's budget."""

    code = "out-of-memory"


class GpuLostError(EngineFailure):
    """The GPU broke off its work, and this process cannot use it any more."""

    code = "gpu-lost"


class EngineStoppedError(EngineFailure):
    """The engine process ended without being asked to."""

    code = "engine-stopped"


class OperationCancelledError(RooftopError):
    """A load or measurement that the user stopped."""

    code = "cancelled"


class HubError(RooftopError):
    """The hub did not give what was asked, or it could not be kept."""

    code = "hub"


class HubUnreachableError(HubError):
    """No answer, or none that helps, after several tries."""

    code = "hub-unreachable"


class NotOnHubError(HubError):
    """No such repository or file, or not any more."""

    code = "not-on-hub"


class GatedModelError(HubError):
    """Only for accounts that the publisher has let in."""

    code = "gated"


class DamagedDownloadError(HubError):
    """What arrives is not what the hub promises."""

    code = "damaged-download"


class DiskFullError(HubError):
    """No room for it on the drive."""

    code = "disk-full"
