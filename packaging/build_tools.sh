#!/bin/sh
# Makes sure that what `make package` runs is there: as root on a Debian-like system it installs what is missing,
# otherwise it prints the one line to run and fails. `build_tools.sh proof` asks for what `make package-proof` needs too;
# `windows` and `windows-proof` do the same for `make package-windows` and `make package-windows-proof`.
set -eu
packages="binutils dpkg git musl-tools patchelf zstd"
case "${1-}" in windows*) packages="binutils-mingw-w64-x86-64 g++-mingw-w64-x86-64-posix icoutils librsvg2-bin nsis" ;; esac
[ "${1-}" = windows-proof ] && packages="$packages imagemagick openbox wine wine64 xdotool xvfb"
[ "${1-}" = proof ] && packages="$packages appstream debootstrap desktop-file-utils imagemagick lintian openbox procps \
x11-utils xdotool xvfb"

missing=""
for package in $packages; do
    dpkg-query -W -f '${Status}\n' "$package" 2>/dev/null | grep -q "ok installed" || missing="$missing $package"
done
[ -z "$missing" ] && exit 0
if [ "$(id -u)" = 0 ]; then
    echo "packaging: installing the build's tools:$missing" >&2
    export DEBIAN_FRONTEND=noninteractive
    apt-get -qq update && apt-get -qq -y install --no-install-recommends $missing >/dev/null
else
    echo "packaging: the build's tools are missing; run: sudo apt-get install$missing" >&2
    exit 1
fi
