"""A script that uses the library is typed strictly: mypy, in CI and here, and what it says holds when it runs."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import qplayer_gpu as qp

ROOT = Path(__file__).parents[1]
SCRIPT = Path(__file__).with_name("typed.py")


def test_the_script_runs():
    names = {}
    with pytest.raises(qp.ProblemError, match=r"g must be a torch\.Tensor, not str"):
        exec(SCRIPT.read_text(), names)
    assert names["lost"] == pytest.approx(1.0, abs=1e-6)  # a corner, by a layer asked for 1e-7
    assert names["names"] == ["SOLVED"]
    np.testing.assert_allclose(names["inside"], 0.5, rtol=0, atol=1e-8)


@pytest.mark.slow  # all of torch is read anew
def test_the_script_is_strictly_typed(tmp_path):
    options = ["--strict", "--follow-imports", "silent", "--config-file", "/dev/null", "--cache-dir", tmp_path]
    command = [sys.executable, "-m", "mypy", *options, SCRIPT]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
