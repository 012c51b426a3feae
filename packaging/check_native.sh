#!/bin/sh
# Builds the native library with the named C++ compiler into build/native-<compiler>, warnings as errors; called by
# `make native-check`. A compiler that is not installed is passed over.
set -eu
compiler=$1
build=build/native-$compiler
command -v "$compiler" >/dev/null 2>&1 || { echo "native-check: $compiler is not installed: passed over"; exit 0; }

echo "native-check: $compiler"
case $compiler in *mingw*) system="-DCMAKE_SYSTEM_NAME=Windows" ;; *) system="" ;; esac
mkdir -p "$build"
cmake -S . -B "$build" -G Ninja -DCMAKE_CXX_COMPILER="$compiler" -DROOFTOP_WERROR=ON $system >"$build/configure.log" 2>&1 ||
    { cat "$build/configure.log"; exit 1; }
cmake --build "$build"

# An inline function that several units of kernels.cpp export is linked once, with whatever instructions came first.
shared=$(nm -C --defined-only "$build"/CMakeFiles/kernels_*.dir/engine/kernels/native/*.cpp.o* | grep ' [uVW] ' | sort -u) || true
[ -z "$shared" ] || { printf 'native-check: these need internal linkage (static, or an unnamed namespace):\n%s\n' "$shared"; exit 1; }
