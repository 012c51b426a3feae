"""Qt's modules that are under the GPL alone: none may be in the app, which uses Qt under the LGPL.

The list is Qt's own, https://doc.qt.io/qt-6/licensing.html and the licence section of each module's page.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import PurePath

GPL_MODULES = (
    "Charts",
    "CoAP",
    "Coap",
    "DataVisualization",
    "Graphs",
    "GRPC",
    "Grpc",
    "HttpServer",
    "Insight",
    "InsightTracker",
    "InterfaceFramework",
    "Lottie",
    "Bodymovin",
    "Mqtt",
    "NetworkAuth",
    "OpcUa",
    "Protobuf",
    "Quick3D",
    "QuickTimeline",
    "ShaderTools",
    "StateMachineQml",
    "VirtualKeyboard",
    "WaylandCompositor",
)
_NAMES = "|".join(sorted(GPL_MODULES, key=len, reverse=True))
_LIBRARY = re.compile(rf"^(lib)?Qt6?(Labs)?({_NAMES})[A-Za-z]*\.", re.IGNORECASE)
_PLUGIN = re.compile(rf"(^|lib|q|qt)({_NAMES})(plugin|assets|vectorimage)?\.(so|dll|pyd)", re.IGNORECASE)
_FOLDER = re.compile(rf"^(Qt)?({_NAMES})$", re.IGNORECASE)


def gpl_parts(paths: Iterable[PurePath]) -> list[str]:
    """The files that belong to a module of Qt under the GPL alone.

    Args:
        paths: Files; only those in a folder called PySide6 can be Qt's.
    """
    return sorted(str(path) for path in paths if "PySide6" in path.parts and _is_gpl(path))


def _is_gpl(path: PurePath) -> bool:
    below = path.parts[path.parts.index("PySide6") + 1 : -1]
    return bool(_LIBRARY.match(path.name) or _PLUGIN.search(path.name) or any(map(_FOLDER.match, below)))
