"""Small JSON files that are either whole or not there: written beside their place, then moved over it.

Knows nothing of what is inside. For caches and learnt statistics only: losing one costs a measurement, never data of
the user, so a file that cannot be read counts as absent and one that cannot be written is logged and left out.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
from pathlib import Path

_log = logging.getLogger(__name__)


def read_saved(path: Path) -> object | None:
    """The JSON value in a file; None where there is no file or no JSON in it.

    Args:
        path: The file; may be missing, damaged or not UTF-8.
    """
    try:
        value: object = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        _log.info("ignoring %s: %s", path, error)
        return None
    return value


def write_saved(path: Path, value: object) -> None:
    """Put a JSON value in a file at once: a reader sees the old file or the new one, also after a power cut.

    Args:
        path: The file; its folder is created.
        value: What `json.dumps` takes; NaN is not JSON and trips an assertion inside `json`.
    """
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary_name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        _log.warning("cannot write %s: %s", path, error)
        return
    temporary = Path(temporary_name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        _log.warning("cannot write %s: %s", path, error)
        temporary.unlink(missing_ok=True)
