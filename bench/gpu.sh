#!/usr/bin/env bash
# All that wants a GPU, in one go and under ten minutes, for a machine that has one, PyTorch 2.11 or newer with its Triton,
# CuPy (without it, its tests fail), pytest, and this checkout; nothing is installed:
#
#     bench/gpu.sh FOLDER
#
# FOLDER/results.tar, written anew after each part, has NAME.txt of each: a part has a limit of its own, after which it is
# interrupted and the next ones go on. summary.txt says how each ended, environment.txt what ran it. The exit code is 1
# where a part failed.
# It has NOT been run on a GPU yet: the kernels were written without one, in Triton's interpreter. Expect to mend it.
set -uo pipefail
results=$(mkdir -p "${1:?which folder shall have the results?}" && cd "$1" && pwd)
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
cd "$(dirname "$0")/.."
. bench/parts.sh
unset TRITON_INTERPRET
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}

part environment 40 python3 -m bench.gpu --environment
[ "$failed" = 0 ] || { echo "no GPU that torch can use"; exit 1; }

# The kernels compile for minutes, on one core each: what tests and what compiles for the benchmark runs side by side.
pytest=(python3 -m pytest -v -p no:cacheprovider)
aside check 230 python3 -m bench.gpu
aside trial 230 python3 -m qplayer_gpu.trial # "auto" takes what was right
aside tests-kernels 230 "${pytest[@]}" -m "gpu or not slow" tests/test_triton.py
aside tests-parts 230 "${pytest[@]}" -m "gpu or not slow" tests/test_linear.py tests/test_triton_parts.py
for marked in "float64" "float32" "not float64 and not float32"; do
    aside "tests-gpu-${marked// /-}" 230 "${pytest[@]}" -m gpu -k "$marked" tests/test_gpu.py
done
aside suite 230 "${pytest[@]}" -m "gpu and not slow" --ignore tests/test_gpu.py
# racecheck looks at shared memory only. The scratch that a program writes and reads back is global memory: what speaks for
# its barriers is that the answers equal the reference's, over and over.
for tool in memcheck racecheck; do
    command -v compute-sanitizer >/dev/null || { say "$tool: skipped, compute-sanitizer is not installed"; continue; }
    aside "$tool" 230 compute-sanitizer --tool "$tool" --error-exitcode 9 python3 -m bench.gpu --small
done
together

# Alone, as they measure time.
part benchmark 130 python3 -m bench.run --device cuda --out "$out/gpu.csv" \
    --cases mixed_n8 mixed_n16 mixed_n32 mixed_n64 batch_4096 float32 half_infeasible \
    --solvers qplayer_gpu_torch qplayer_gpu_triton qplayer_gpu_cuda
part peers 120 python3 -m bench.run --device cuda --quick --out "$out/peers.csv"
exit "$failed"
