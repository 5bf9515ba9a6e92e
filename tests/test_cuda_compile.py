"""The offline gate: NVRTC compiles each variant without a GPU, to what the committed table says."""

import subprocess
import sys
from pathlib import Path

import pytest

cuda = pytest.importorskip("bench.chip.cuda")

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_the_table_is_of_this_source_and_little_spills():
    table = cuda.parsed(cuda.FILE, cuda.Resources)
    assert list(dict.fromkeys(r.variant for r in table)) == list(cuda.variants())
    assert {r.source for r in table} == {cuda.digest()}, "run python -m bench.chip.cuda"
    assert cuda.faults(table) == []


@pytest.mark.parametrize("scalar", ["double", "float"])
def test_the_source_compiles(scalar):
    cuda.compiled(cuda.Variant("forward", 32, scalar, 80), "compute")


@pytest.mark.slow
@pytest.mark.parametrize("threads", cuda.THREADS)
def test_each_variant_is_as_in_the_table(threads):
    command = [sys.executable, "-m", "bench.chip.cuda", "--check", "--threads", str(threads)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_library_does_not_import_cupy():
    code = "import sys, qplayer_gpu; sys.exit('cupy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
