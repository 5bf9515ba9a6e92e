#!/usr/bin/env bash
# All that wants a GPU, in one go, for a machine that has one, torch 2.11 or newer with its triton, and this checkout:
#
#     bench/gpu.sh FOLDER
#
# It has NOT been run on a GPU yet: the kernels were written without one, in Triton's interpreter. Expect to mend it.
# The exit code is 1 where a part failed; each part writes its own file to FOLDER.
set -uo pipefail
out=$(mkdir -p "${1:?which folder shall have the results?}" && cd "$1" && pwd)
cd "$(dirname "$0")/.."
unset TRITON_INTERPRET
failed=0

part() { # part NAME SECONDS COMMAND...
    local name=$1 limit=$2
    shift 2
    echo "== $name"
    if timeout "$limit" "$@" >"$out/$name.txt" 2>&1; then echo "   passed"; else
        echo "   FAILED ($?), see $out/$name.txt"
        failed=1
    fi
    tail -n 3 "$out/$name.txt" | sed 's/^/   /'
}

part environment 60 python -m bench.gpu --environment
[ "$failed" = 0 ] || { echo "no GPU that torch and triton can use"; exit 1; }
part tests 240 python -m pytest -q -m "not slow" tests/test_triton.py tests/test_triton_parts.py
part suite 900 python -m pytest -q -m "gpu and not slow"
if command -v compute-sanitizer >/dev/null; then
    part memcheck 90 compute-sanitizer --tool memcheck --error-exitcode 9 python -m bench.gpu --small
    # racecheck looks at shared memory only. The scratch that a program writes and reads back is global memory: what
    # speaks for its barriers is that the answers equal the reference's, over and over.
    part racecheck 90 compute-sanitizer --tool racecheck --error-exitcode 9 python -m bench.gpu --small
else
    echo "== no compute-sanitizer here"
fi
part benchmark 200 python -m bench.gpu --out "$out/gpu.csv"
exit "$failed"
