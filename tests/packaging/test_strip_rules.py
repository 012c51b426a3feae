from pathlib import PurePosixPath

import pytest
from strip_rules import is_dropped

DROPPED = [
    "bin/torchrun",
    "setuptools/__init__.py",
    "setuptools-84.2.1.dist-info/METADATA",
    "numpy/_core/tests/test_umath.py",
    "numpy/_core/_umath_tests.cpython-311-x86_64-linux-gnu.so",
    "numpy/__init__.pyi",
    "sympy/core/tests/__init__.py",
    "torch/include/ATen/ATen.h",
    "torch/test/c10_small_vector_test",
    "torch/bin/protoc",
    "torch/lib/libtorchbind_test.so",
    "rooftop-0.1.0.dist-info/direct_url.json",
    "resources/guide_training/train.py",
    "resources/translations/rooftop_de.ts",
    "PySide6/QtQuick.abi3.so",
    "PySide6/QtWidgets.pyi",
    "PySide6/Qt6Charts.dll",
    "PySide6/Qt/lib/libQt6Quick.so.6",
    "PySide6/Qt/plugins/platforminputcontexts/libqtvirtualkeyboardplugin.so",
    "PySide6/Qt/plugins/imageformats/libqpdf.so",
    "PySide6/plugins/tls/qopensslbackend.dll",
    "PySide6/Qt/translations/designer_de.qm",
    "PySide6/Qt/qml/QtQuick/qmldir",
    "PySide6/lupdate",
]
KEPT = [
    "app/__main__.py",
    "engine/kernels/cuda/kernels.cu",
    "engine/kernels/cuda/device.cuh",
    "resources/guide/model-00001-of-00002.safetensors",
    "resources/translations/rooftop_de.qm",
    "numpy/testing/__init__.py",
    "sympy/testing/__init__.py",
    "torch/testing/_comparison.py",
    "torch/lib/libtorch_cpu.so",
    "torch/bin/torch_shm_manager",
    "torchgen/__init__.py",
    "torch-2.13.0.dist-info/METADATA",
    "torch-2.13.0.dist-info/licenses/LICENSE",
    "PySide6/__init__.py",
    "PySide6/QtWidgets.abi3.so",
    "PySide6/QtWidgets.pyd",
    "PySide6/Qt6Widgets.dll",
    "PySide6/Qt/lib/libQt6Widgets.so.6",
    "PySide6/Qt/lib/libicudata.so.73",
    "PySide6/Qt/plugins/platforms/libqxcb.so",
    "PySide6/Qt/plugins/platforms/libqwayland.so",
    "PySide6/plugins/platforms/qwindows.dll",
    "PySide6/Qt/translations/qtbase_de.qm",
    "PySide6/translations/qtbase_de.qm",
]


@pytest.mark.parametrize("path", DROPPED)
def test_what_nobody_needs_goes(path: str) -> None:
    assert is_dropped(PurePosixPath(path))


@pytest.mark.parametrize("path", KEPT)
def test_what_the_app_uses_stays(path: str) -> None:
    assert not is_dropped(PurePosixPath(path))
