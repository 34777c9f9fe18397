#!/bin/bash
# Everything that needs a GPU, in less than ten minutes: tests, parity, bench. What fails does not
# keep the rest from running. Results go to bench/results, or to the folder that is given.
#
#     bash bench/gpu_all.sh [FOLDER]
cd "$(dirname "$0")/.." || exit 2
out=${1:-bench/results}
mkdir -p "$out"
python=${PYTHON:-python}
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
failed=0

"$python" -m xpnn devices | tee "$out/gpu_devices.txt"

echo "== tests"
timeout 200 "$python" -m pytest -q -p no:cacheprovider -m gpu tests > "$out/gpu_tests.txt" 2>&1 || failed=1
tail -n 15 "$out/gpu_tests.txt"

echo "== parity"
timeout 90 "$python" bench/gpu_parity.py --json "$out/gpu_parity.json" || failed=1

echo "== bench"
timeout 290 "$python" bench/gpu.py --minutes 4 --out "$out" || failed=1
exit $failed
