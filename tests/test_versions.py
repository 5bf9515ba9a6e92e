"""The library with the oldest and with the newest versions of what setup.py says that it needs."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TESTS = ("api", "gradients", "torch_compile", "torch_derivatives", "torch_modules", "warm", "weights")


def required():
    """The requirements of an installation, as setup.py has them."""
    (found,) = re.findall(r"install_requires=\[(.*?)\]", (ROOT / "setup.py").read_text())
    return re.findall(r'"(.*?)"', found)


def oldest(requirement):
    """Its first series only: "torch>=2.9,<3" -> "torch==2.9.*"."""
    return requirement.partition(",")[0].replace(">=", "==") + ".*"


def test_the_oldest_versions_are_those_that_are_promised():
    assert oldest("torch>=2.9,<3") == "torch==2.9.*"
    assert {"torch", "numpy", "filelock"} <= {name.partition("==")[0] for name in map(oldest, required())}


@pytest.mark.slow
@pytest.mark.parametrize("versions", [oldest, str], ids=["oldest", "newest"])
def test_the_interface_works_with(versions, tmp_path):
    """In an environment of its own; from PyPI, PyTorch brings CUDA along, 3 to 6 GB.

    PyTorch 2.8 is not promised: its Dynamo traces neither a ``next`` with a default nor ``_asdict`` of a named tuple.
    """
    known = {k: v for k, v in os.environ.items() if k != "PIP_CONSTRAINT"} | {"PYTHONPATH": str(ROOT)}
    python = tmp_path / "bin" / "python"
    needed = [*map(versions, required()), "pytest", "hypothesis", "setuptools"]
    files = [f"tests/test_{name}.py" for name in TESTS]
    for command in (
        [sys.executable, "-m", "venv", tmp_path],
        [python, "-m", "pip", "install", "--quiet", *needed],
        [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not gpu and not gpus and not slow", *files],
    ):
        done = subprocess.run(command, cwd=ROOT, env=known, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
