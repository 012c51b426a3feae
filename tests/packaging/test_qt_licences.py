from pathlib import PurePosixPath

import pytest
from qt_licences import gpl_parts


@pytest.mark.parametrize(
    "path",
    [
        "PySide6/Qt/lib/libQt6VirtualKeyboard.so.6",
        "PySide6/Qt/lib/libQt6Quick3DRuntimeRender.so.6",
        "PySide6/Qt/lib/libQt6QuickTimeline.so.6",
        "PySide6/Qt/plugins/platforminputcontexts/libqtvirtualkeyboardplugin.so",
        "PySide6/plugins/platforminputcontexts/qtvirtualkeyboardplugin.dll",
        "PySide6/Qt/qml/QtQuick/VirtualKeyboard/qmldir",
        "PySide6/QtCharts.abi3.so",
        "PySide6/QtNetworkAuth.pyd",
        "PySide6/Qt6DataVisualization.dll",
    ],
)
def test_a_module_under_the_gpl_alone_is_found(path: str) -> None:
    root = PurePosixPath("python/lib/python3.11/dist-packages")
    assert gpl_parts([root / "PySide6/Qt/lib/libQt6Gui.so.6", root / path]) == [str(root / path)]


def test_what_is_under_the_lgpl_is_not_taken_for_it() -> None:
    names = [
        "QtNetwork.abi3.so",
        "Qt/lib/libQt6Network.so.6",
        "Qt6Svg.dll",
        "Qt/plugins/platforms/libqxcb.so",
        "QtGui.pyd",
    ]
    assert gpl_parts(PurePosixPath("PySide6") / name for name in names) == []


def test_other_packages_may_be_called_as_they_like() -> None:
    assert gpl_parts([PurePosixPath("matplotlib/charts/graphs.so")]) == []
