"""Which files of the wheels the installed app can do without: pure rules on paths below site-packages.

Qt is kept by an allow list, so that nothing comes along unseen with a new version; Python packages are kept whole but
for tests, headers, static libraries and tools. What the rules may take was found by running the app without it.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import PurePosixPath

# Folders of this name, anywhere: nobody imports them.
_FOLDERS = frozenset({"tests", "test", "__pycache__", "include", "_pyinstaller"})
# Whole packages: what they are for is building, and torch merely names them.
_PACKAGES = ("setuptools", "_distutils_hack", "pkg_resources", "bin", "Scripts", "share")
_DIST_INFO = ("direct_url.json", "INSTALLER", "REQUESTED", "uv_cache.json", "uv_build.json")
_PATTERNS = (
    "*.a",
    "*.lib",
    "*.pdb",
    "*.pxd",
    "*.pyx",
    "setuptools-*.dist-info/*",
    "distutils-precedence.pth",
    "numpy/*.pyi",
    "torch/*.pyi",
    "torch/*.h",
    "torch/*.cmake",
    "torch/share/*",
    "torch/lib/*test*",  # only torch's own tests load these three
    "torch/lib/libbackend_with_compiler*",
    "torch/lib/libaoti_custom_ops*",
    "torch/testing/_internal/*.cpp",
    "numpy/_core/*_tests.*",
    "numpy/f2py/*",
    "pyqtgraph/examples/*",
    "resources/guide_training/*",
    "resources/translations/*.ts",
    "resources/translations/update.py",
)
_TORCH_PROGRAMS = "torch_shm_manager*"

QT_MODULES = ("Core", "Gui", "Widgets", "Network", "Svg")
"""Qt's modules that the app imports."""
_QT_LIBRARIES = (*QT_MODULES, "DBus", "XcbQpa", "WaylandClient", "WlShellIntegration", "OpenGL")
_QT_PLUGINS = {
    "iconengines": ("qsvgicon",),
    "imageformats": ("qico", "qjpeg", "qsvg"),
    "platforms": ("qxcb", "qwayland", "qoffscreen", "qminimal", "qwindows"),
    "platforminputcontexts": ("composeplatforminputcontextplugin", "ibusplatforminputcontextplugin"),
    "platformthemes": ("qgtk3", "qxdgdesktopportal"),
    "styles": ("qmodernwindowsstyle",),
    "wayland-decoration-client": ("adwaita", "bradient"),
    "wayland-graphics-integration-client": ("qt-plugin-wayland-egl",),
    "wayland-shell-integration": ("xdg-shell",),
    "xcbglintegrations": ("qxcb-egl-integration", "qxcb-glx-integration"),
}
_PYSIDE_FILES = (
    "__init__.py",
    "_config.py",
    "_git_pyside_version.py",
    "support/*.py",
    "libpyside6.abi3.so*",
    "pyside6.abi3.dll",
    "msvcp140*.dll",
    "vcruntime140*.dll",
    "concrt140*.dll",
    "Qt/qt.conf",
    "qt.conf",
    "*translations/qtbase_*.qm",
    "Qt/lib/libicu*.so.*",
    "Qt/lib/libxcb-*.so.*",  # put there by linux_python
)


def is_dropped(path: PurePosixPath) -> bool:
    """Whether the installed app does without a file.

    Args:
        path: Relative to site-packages.
    """
    parts = path.parts
    if parts[0] in _PACKAGES or not _FOLDERS.isdisjoint(parts[:-1]):
        return True
    if parts[0].endswith(".dist-info") and parts[-1] in _DIST_INFO:
        return True
    if parts[0] == "PySide6":
        return not _is_kept_qt(path.relative_to("PySide6"))
    if parts[:2] == ("torch", "bin"):
        return not fnmatchcase(path.name, _TORCH_PROGRAMS)
    return any(fnmatchcase(str(path), pattern) for pattern in _PATTERNS)


def _is_kept_qt(path: PurePosixPath) -> bool:
    if "plugins" in path.parts:
        stem = path.name.split(".")[0].removeprefix("lib")
        return stem in _QT_PLUGINS.get(path.parent.name, ())
    names = [f"Qt{module}.{suffix}" for module in QT_MODULES for suffix in ("abi3.so", "pyd")]
    names += [name for library in _QT_LIBRARIES for name in (f"Qt/lib/libQt6{library}.so.6", f"Qt6{library}.dll")]
    return str(path) in names or any(fnmatchcase(str(path), pattern) for pattern in _PYSIDE_FILES)
