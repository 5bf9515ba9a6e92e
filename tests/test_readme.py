"""The README's code runs as it stands."""

import re
from pathlib import Path

import torch

import qplayer_gpu as qp

README = Path(__file__).parents[1] / "README.md"


def test_the_code_of_the_readme():
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    names: dict = {}
    exec(code, names)
    assert (names["sol"].status == qp.Status.SOLVED_CLOSEST_FEASIBLE).all()
    assert names["A"].grad.shape == (3, 10)
    assert torch.isfinite(names["A"].grad).all()
    assert names["g"].grad.shape == (1000, 10)
