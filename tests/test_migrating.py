"""The page for those who come from another library: its code runs, and its tables are those of the files."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import nnls

from bench import models, ported
from bench.table import read

PAGE = Path(__file__).parents[1] / "docs" / "migrating.md"
SECTIONS = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.DOTALL | re.MULTILINE))


def first_example(library):
    """The names that the first block of a section leaves behind."""
    names: dict = {}
    exec(re.search(r"```python\n(.*?)```", SECTIONS[library], re.DOTALL)[1], names)
    return names


def test_every_block_is_one_of_these():
    assert PAGE.read_text().count("```python") == 5


def test_qpth():
    losses = first_example("qpth")["losses"]
    assert losses[-1] < losses[0]


def test_qplayer():
    found = first_example("QPLayer")
    assert found["answers"].shape == (10, 4, 4, 4)
    assert found["s_e"].norm() > 0.01  # the program is infeasible
    assert found["model"].A.grad.norm() > 0


def test_cvxpylayers():
    found = first_example("cvxpylayers")
    x, A, b = (found[name].detach() for name in ("solution", "A_tch", "b_tch"))
    found["A"].value, found["b"].value = A.numpy(), b.numpy()
    found["problem"].solve()
    assert abs((A @ x - b).abs().sum() / 2 - found["problem"].value) <= 1e-5  # the parameters are float32
    assert torch.isfinite(found["A_tch"].grad).all()


def test_matrices():
    block = re.findall(r"```python\n(.*?)```", SECTIONS["cvxpylayers"], re.DOTALL)[1]
    names: dict = {}
    exec(block, names)
    expected = [nnls(F, h)[0] for F, h in zip(names["F"].numpy(), names["h"].numpy(), strict=True)]
    np.testing.assert_allclose(names["sol"].x, expected, atol=1e-7)


def test_qpax():
    found = first_example("qpax")
    expected = [nnls(F, g)[0] for F, g in zip(found["Fs"][:20], found["gs"][:20], strict=True)]
    np.testing.assert_allclose(found["xs"][:20], expected, atol=1e-7)


@pytest.mark.parametrize("bench", [ported, models], ids=["ported", "models"])
def test_the_tables_are_those_of_the_files(bench):
    assert bench.table(read(bench.FILE)) in PAGE.read_text()
