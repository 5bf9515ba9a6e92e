#!/usr/bin/env bash
# Fills build/gpu, which git ignores, with what a lent machine with a GPU and no network lacks: solvers to compare with,
# and Triton's cache with the first kernels that gpu.sh asks for, which are found there by the same versions only. The
# environment that compiles them is 5 GB, with PyTorch's CUDA, and is removed in the end.
#
#     bench/gpu.sh --carry [ARCHITECTURE...]    80 and 90 if nothing is said
set -euo pipefail
[ $# -gt 0 ] || set -- 80 90
python=${PYTHON:-python3.12} # as on the lent machine, and so are these:
versions=(torch==2.11.0 triton==3.6.0 numpy==2.5.2)
peers=(proxsuite==0.8.0 cmeel==0.62.0 piqp==0.7.0 qpax==0.1.4 jaxopt==0.8.5)
carried=build/gpu
cd "$(dirname "$0")/.."
venv=$(mktemp -d)
trap 'rm -rf "$venv"' EXIT
rm -rf "$carried"
mkdir -p "$carried"

"$python" -m venv "$venv"
"$venv/bin/pip" install -q "${versions[@]}" tqdm
"$venv/bin/pip" install -q --no-deps --target "$carried/site" "${peers[@]}"
"$venv/bin/python" -c "from bench.rows import environment; print(environment('cpu')['commit'])" >"$carried/commit"
for architecture; do
    TRITON_CACHE_DIR=$PWD/$carried/triton "$venv/bin/python" -m bench.chip.ahead "$architecture" 5 8 16 20 32 40 64
done
# of each kernel the code and what is known of it are enough
find "$carried/triton" -type f ! -name '*.cubin' ! -name '*.json' -delete
du -sh "$carried"/*
