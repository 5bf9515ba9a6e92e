"""The offline gate: every variant compiles for sm_80 and sm_90 without a GPU, to what the committed table says."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")

SIZES = [8, 16, 32, 64]
ROOT = Path(__file__).parents[1]


def python(*arguments):
    """In a process that does not interpret."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"} | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("n", [pytest.param(n, marks=pytest.mark.slow) for n in SIZES])
def test_each_variant_is_as_in_the_table(n):
    code, text = python("-m", "bench.chip.triton", "--check", "--n", str(n))
    assert code == 0, text


def test_the_largest_variant_is_as_in_the_table():
    """It is the first to spill."""
    largest = ("--kernel", "forward", "--precision", "float64", "--n", "64", "--m", "256", "--architecture", "90")
    code, text = python("-m", "bench.chip.triton", "--check", *largest)
    assert code == 0, text
    assert "1 of the variants" in text


def test_instructions_are_counted_however_the_compiler_unrolls():
    code, text = python("tests/counted.py")
    assert code == 0, text


def test_the_library_does_not_import_triton():
    code, text = python("-c", "import sys, qplayer_gpu; sys.exit('triton' in sys.modules)")
    assert code == 0, text
