#!/usr/bin/env bash
# All that wants a GPU, in one go, for a machine that is lent for minutes: with PyTorch 2.11 or newer and its Triton, CuPy
# (without it, its parts fail), pytest, pytest-xdist, and this checkout; nothing is installed.
#
#     bench/gpu.sh --carry             on a machine with a network: fills build/gpu, which is to travel with the checkout
#     bench/gpu.sh FOLDER [SECONDS]    there, in so many seconds, 560 if nothing is said
#
# FOLDER/results.tar, written anew after each part, has NAME.txt of each. They come in the order of their worth: the first
# answers and times are there after a minute or two. A part has a limit of its own, after which it is interrupted and the
# next ones go on. summary.txt says how each ended, environment.txt what ran it. The exit code is 1 where a part failed.
# It has NOT been run on a GPU yet, but for one that is emulated (tests/test_gpu_script.py). Expect to mend it.
set -uo pipefail
[ "${1:-}" != --carry ] || exec "$(dirname "$0")/carry.sh" "${@:2}"
results=$(mkdir -p "${1:?which folder shall have the results?}" && cd "$1" && pwd)
budget=${2:-560}
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
cd "$(dirname "$0")/.."
. bench/parts.sh
unset TRITON_INTERPRET
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
carried=$PWD/build/gpu
if [ -d "$carried" ]; then
    # the second folder is where the build system of proxsuite has it
    PYTHONPATH+=$(printf ':%s' "$carried/site" "$carried"/site/cmeel.prefix/lib/python3.*/site-packages)
    export TRITON_CACHE_DIR=$carried/triton BENCH_COMMIT=$(<"$carried/commit")
fi

part environment 120 python3 -m bench.gpu environment # PyTorch's first import may take most of it
[ "$failed" = 0 ] || { echo "no GPU that torch can use"; exit 1; }

# A right answer by each backend at each size. They compile on one core each, for what is timed next.
for backend in triton cuda; do
    for n in 8 16 32 64; do
        aside "answers-$backend-$n" 90 python3 -m bench.gpu answers "$backend" "$n"
    done
done
aside answers-cuda-100 90 python3 -m bench.gpu answers cuda 100
aside answers-torch 90 python3 -m bench.gpu answers torch 8 16 32 64 100
together

for backend in triton cuda torch; do
    part "throughput-$backend" 60 python3 -m bench.gpu throughput "$backend"
done
# What the model of docs/kernels.md assumes, its times beside those that are, and the launch table that follows.
part micro 90 python3 -m bench.chip.micro --out "$out/micro.csv"
part benchmark 120 python3 -m bench.run --device cuda --out "$out/gpu.csv" \
    --cases mixed_n16 mixed_n64 mixed_n8 mixed_n32 batch_4096 float32 half_infeasible \
    --solvers qplayer_gpu_triton qplayer_gpu_cuda qplayer_gpu_torch
part factor 60 python3 -m bench.factor --out "$out/factor.csv"

# The kernels alone. racecheck looks at shared memory only. The scratch that a program writes and reads back is global
# memory: what speaks for its barriers is that the answers equal the reference's, over and over.
for tool in memcheck racecheck synccheck; do
    command -v compute-sanitizer >/dev/null || { say "$tool: skipped, compute-sanitizer is not installed"; continue; }
    for backend in triton cuda; do
        aside "$tool-$backend" 120 compute-sanitizer --tool "$tool" --error-exitcode 9 --report-api-errors no \
            --kernel-name kns=forward_kernel --kernel-name kns=adjoint_kernel --kernel-name kns=qplayer_ \
            python3 -m bench.gpu answers "$backend" 5 20 40
    done
done
pytest=(python3 -m pytest -v -p no:cacheprovider --dist worksteal --continue-on-collection-errors)
aside tests 180 "${pytest[@]}" -n 8 -m "gpu and not slow"
aside tests-triton 180 "${pytest[@]}" -n 3 -m "not gpu and not slow" tests/test_triton.py tests/test_linear.py tests/test_triton_parts.py
aside solves 180 python3 -m bench.gpu solves
aside auto 180 python3 -m bench.gpu answers auto 8 16 32 64 100 # its checks at first use
aside trial 180 python3 -m qplayer_gpu.trial
together

part peers 120 python3 -m bench.run --device cuda --quick --out "$out/peers.csv"
exit "$failed"
