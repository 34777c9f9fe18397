#!/bin/bash
# Everything that needs a GPU, in less than ten minutes: whether it works at all, tests, parity,
# bench. What fails or hangs does not keep the rest from running, as each part has its own time; the
# tests are given SIGINT when theirs is up, on which pytest still says what failed. Results go to
# bench/results, or to the folder that is given.
#
#     bash bench/gpu_all.sh [FOLDER]
cd "$(dirname "$0")/.." || exit 2
out=${1:-bench/results}
mkdir -p "$out" || exit 2
python=${PYTHON:-$(command -v python || command -v python3)}
export PYTHONPATH="$PWD:$PWD/bench${PYTHONPATH:+:$PYTHONPATH}"
export PYTHONUNBUFFERED=1 PYTHONFAULTHANDLER=1
export XLA_PYTHON_CLIENT_PREALLOCATE=false                  # others need the card's memory too
export USER=${USER:-bench}                                  # which torch.compile asks for
[ -w "${HOME:-/}" ] || export CUPY_CACHE_DIR=$(mktemp -d)   # compiled kernels are kept in $HOME
export XPNN_FAST=0                                          # Numba compiles for the CPU alone
failed=0

part() {  # NAME SECONDS SIGNAL COMMAND...: run a command for so long at most; note its failure
    local name=$1 seconds=$2 signal=$3 begun=$SECONDS status
    shift 3
    echo "== $name"
    timeout --signal="$signal" --kill-after=10 "$seconds" "$@"
    status=$?
    [ $status = 0 ] || failed=1
    echo "== $name: exit status $status after $((SECONDS - begun)) s"
    return $status
}

part smoke 80 TERM "$python" bench/gpu_smoke.py > "$out/gpu_smoke.txt" 2>&1
cat "$out/gpu_smoke.txt"
grep -q '^no GPU: ' "$out/gpu_smoke.txt" && exit 1

# Plugins that happen to be installed may warn, which is an error here: only these two are loaded.
export PYTEST_DISABLE_PLUGIN_AUTOLOAD=1
plugins=()
if "$python" -c 'import xdist' 2> /dev/null; then
    plugins=(-p xdist -n "$(($(nproc) < 8 ? $(nproc) : 8))")
    # a test that hangs ends its process, in whose place another goes on
    "$python" -c 'import pytest_timeout' 2> /dev/null &&
        plugins+=(-p timeout --timeout=60 --timeout-method=thread)
fi
part tests 150 INT env JAX_PLATFORMS=cpu OPENBLAS_NUM_THREADS=2 "$python" -m pytest -q \
    -p no:cacheprovider -m gpu -o faulthandler_timeout=30 --durations=10 "${plugins[@]}" tests \
    > "$out/gpu_tests.txt" 2>&1
tail -n 40 "$out/gpu_tests.txt"

part parity 45 TERM "$python" bench/gpu_parity.py --json "$out/gpu_parity.json"

left=$((575 - SECONDS))  # what the others have not used is the bench's
minutes=$(awk "BEGIN { print ($left - 15) / 60 }")
part bench "$left" TERM "$python" bench/gpu.py --check --minutes "$minutes" --out "$out"
exit $failed
