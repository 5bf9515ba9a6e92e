"""The offline gate: NVRTC compiles each variant without a GPU, to what the committed table says."""

import subprocess
import sys
from pathlib import Path

import pytest

resources = pytest.importorskip("qplayer_gpu.kernels.cuda.resources")

ROOT = Path(__file__).parents[1]


def test_the_table_is_of_this_source_and_little_spills():
    assert resources.complaints(resources.read()) == []


@pytest.mark.parametrize("scalar", ["double", "float"])
def test_the_source_compiles(scalar):
    resources.compiled(resources.Variant(32, scalar, 80), "compute")


@pytest.mark.slow
@pytest.mark.parametrize("threads", resources.THREADS)
def test_each_variant_is_as_in_the_table(threads):
    command = [sys.executable, "-m", "qplayer_gpu.kernels.cuda.resources", "--check", "--threads", str(threads)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_library_does_not_import_cupy():
    code = "import sys, qplayer_gpu; sys.exit('cupy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
