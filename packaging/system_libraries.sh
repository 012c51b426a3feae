#!/bin/sh
# Makes sure that Qt's system libraries are there. As root on a Debian-like system it installs what is missing;
# otherwise it prints the one line to run. Never fails the set-up: the terminal chat needs none of them.
# Says so, too, when there is no C++ compiler for the native library: that is never installed unasked.
set -u
packages="libegl1 libgl1 libdbus-1-3 libfontconfig1 libglib2.0-0 libxkbcommon0 libxkbcommon-x11-0 libxcb-cursor0 \
libxcb-icccm4 libxcb-keysyms1 libxcb-image0 libxcb-render-util0 libwayland-cursor0"

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
