#!/bin/sh
# Makes sure that Qt's system libraries are there. As root on a Debian-like system it installs what is missing;
# otherwise it prints the one line to run. Never fails the set-up: the terminal chat needs none of them.
# The .deb depends on the same list (packaging/linux_deb.py).
# Says so, too, when there is no C++ compiler for the native library: that is never installed unasked.
set -u
packages="libbrotli1 libdbus-1-3 libegl1 libexpat1 libfontconfig1 libfreetype6 libgcc-s1 libgl1 libglib2.0-0 libgssapi-krb5-2 \
libstdc++6 libwayland-client0 libwayland-cursor0 libwayland-egl1 libx11-6 libx11-xcb1 libxcb-cursor0 libxcb-glx0 libxcb-icccm4 \
libxcb-image0 libxcb-keysyms1 libxcb-randr0 libxcb-render-util0 libxcb-render0 libxcb-shape0 libxcb-shm0 libxcb-sync1 \
libxcb-util1 libxcb-xfixes0 libxcb-xkb1 libxcb1 libxkbcommon-x11-0 libxkbcommon0 libzstd1 zlib1g"

for compiler in "${CXX:-c++}" c++ g++ clang++ ""; do
    command -v "$compiler" >/dev/null 2>&1 && break
done
[ -n "$compiler" ] || echo "Rooftop: no C++ compiler, so models will run slower; get one (Debian, Ubuntu: sudo apt-get install g++), \
then run: make native" >&2

command -v dpkg-query >/dev/null 2>&1 || {
    echo "Rooftop: if the window does not open, install Qt's libraries (EGL, GL, xkbcommon, xcb-cursor) with your package manager." >&2
    exit 0
}
missing=""
for package in $packages; do
    # Newer Debian and Ubuntu name some of them with a t64 suffix.
    dpkg-query -W -f '${Status}\n' "$package" "${package}t64" 2>/dev/null | grep -q "ok installed" || missing="$missing $package"
done
[ -z "$missing" ] && exit 0
if [ "$(id -u)" = 0 ]; then
    echo "Rooftop: installing Qt's system libraries:$missing" >&2
    export DEBIAN_FRONTEND=noninteractive
    { apt-get -qq update && apt-get -qq -y install --no-install-recommends $missing >/dev/null; } ||
        echo "Rooftop: that failed; run: apt-get install$missing" >&2
else
    echo "Rooftop: the window needs libraries that are missing; run: sudo apt-get install$missing" >&2
fi
exit 0
