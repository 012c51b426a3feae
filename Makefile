# Every target is complete from a fresh clone: it makes the virtual environment first if it is missing or stale.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
NATIVE := $(VENV)/.native
CMAKE := PATH="$(CURDIR)/$(BIN):$$PATH" cmake
COMPILERS := g++ clang++ x86_64-w64-mingw32-g++-posix

.PHONY: setup run test test-app test-engine explore check format bench bench-gpu bench-window translations guide native \
	native-check native-sanitize clean package package-proof package-windows \
	package-windows-proof package-lock

setup: $(STAMP) $(NATIVE)

$(STAMP): pyproject.toml requirements-torch.txt packaging/system_libraries.sh
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-torch.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -c requirements-torch.txt --config-settings=wheel.cmake=false -e '.[dev]'
	sh packaging/system_libraries.sh
	touch $(STAMP)

# The native library alone, with the CMake and Ninja that are now in the virtual environment: seconds, and only what changed.
$(NATIVE): $(STAMP) CMakeLists.txt $(wildcard engine/kernels/native/*)
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $(NATIVE)

run: setup
	$(BIN)/rooftop

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

# Beside the app's tests run those of benchmarks and installers, so that both halves take as long.
APP_TESTS := tests/app tests/packaging tests/resources tests/engine/bench

# Side by side: each keeps one core busy.
test: setup
	+$(MAKE) --no-print-directory --jobs=2 test-engine check test-app

test-app: setup
	QT_QPA_PLATFORM=offscreen $(BIN)/pytest -q $(APP_TESTS)

test-engine: setup
	QT_QPA_PLATFORM=offscreen $(BIN)/pytest -q $(APP_TESTS:%=--ignore=%)

# The property tests with many examples that nobody chose; `make test` draws the same ones each time.
explore: setup
	QT_QPA_PLATFORM=offscreen $(BIN)/pytest -q -m hypothesis --hypothesis-profile=explore

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: setup
	$(BIN)/python -m engine bench --model guide

bench-gpu: setup
	$(BIN)/python -m engine bench --suite gpu

bench-window: setup
	$(BIN)/python -m app.bench

translations: setup
	$(BIN)/python -m resources.translations.update

guide: setup
	$(BIN)/python -m resources.guide_training.train --out build/guide
	$(BIN)/python -m resources.guide_training.evaluate --model build/guide

# The installers for Linux, in build/packages; packaging/README.md tells what is inside and what they were proven with.
package: setup
	sh packaging/build_tools.sh
	$(BIN)/pip install --quiet --disable-pip-version-check -r packaging/requirements.txt
	$(BIN)/python packaging/linux_package.py

package-proof: package
	sh packaging/build_tools.sh proof
	$(BIN)/python packaging/linux_proof.py

# The installer for Windows, cross-compiled on Linux, and what Wine can prove of it.
package-windows: setup
	sh packaging/build_tools.sh windows
	$(BIN)/pip install --quiet --disable-pip-version-check -r packaging/requirements.txt
	$(BIN)/python packaging/windows_package.py

package-windows-proof: package-windows
	sh packaging/build_tools.sh windows-proof
	$(BIN)/python packaging/windows_proof.py

# Renews the pins of the installed app's packages, packaging/locks.
package-lock: setup
	$(BIN)/pip install --quiet --disable-pip-version-check -r packaging/requirements.txt
	$(BIN)/python packaging/wheels.py lock
	$(BIN)/python packaging/linux_python.py

native: $(STAMP)
	rm -rf $(NATIVE) build/native
	$(MAKE) $(NATIVE)

native-check: $(COMPILERS:%=native-check-%)

native-check-%: setup
	PATH="$(CURDIR)/$(BIN):$$PATH" sh packaging/check_native.sh $*

native-sanitize: native-sanitize-asan native-sanitize-tsan

# One thread for BLAS: its own threads, which no sanitizer sees into, would look like races.
SANITIZERS_asan := address,undefined
SANITIZERS_tsan := thread
native-sanitize-%: setup
	$(CMAKE) -S . -B build/native-$* -G Ninja -DROOFTOP_SANITIZE=$(SANITIZERS_$*) -DCMAKE_CXX_COMPILER=g++
	$(CMAKE) --build build/native-$*
	LD_PRELOAD="$$(g++ -print-file-name=lib$*.so)" ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 \
		OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 $(BIN)/pytest -q -p no:faulthandler --capture=sys \
		--native-library build/native-$*/librooftop_cpu.so tests/engine/kernels

clean:
	rm -rf $(VENV) build engine/kernels/*rooftop_cpu.*
