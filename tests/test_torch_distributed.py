"""Two processes on the CPU, as torchrun starts them: the Sudoku training, and checkpoints within a model."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest
import torch
from trainings import finish, same, states

import sudoku

pytestmark = pytest.mark.slow  # processes that import torch: ten seconds each on a busy machine


def test_gradients_and_learning_curve_are_those_of_one_process(start, tmp_path, monkeypatch):
    options = ["--epochs", "2", "--train", "40", "--test", "10", "--batch", "20"]
    finish(start(*options, "--out", str(tmp_path / "two")))
    monkeypatch.setattr(sys, "argv", ["sudoku", *options, "--out", str(tmp_path / "one")])
    sudoku.main()
    (one,), (two,) = states(tmp_path / "one").values(), states(tmp_path / "two").values()
    for row, other in zip(one["training"]["log"], two["training"]["log"], strict=True):
        assert row.pop("split") == other.pop("split")
        assert row == pytest.approx(other, rel=1e-9)  # of a problem the same bits; sums over the batch are rounded
    moments = [state["optimizer"]["state"][0]["exp_avg"] for state in (one, two)]  # the mean of the clipped gradients
    torch.testing.assert_close(*moments, rtol=0, atol=1e-12 * moments[0].abs().max().item())


CHECKPOINTED = """
import sys
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

import qplayer_gpu as qp


class Model(torch.nn.Module):
    def __init__(self, reentrant):
        super().__init__()
        torch.manual_seed(0)
        self.inner, self.reentrant = torch.nn.Linear(3, 4).double(), reentrant

    def answer(self, g):
        return qp.solve_qp(torch.eye(4).double(), g, lb=0.0).x

    def forward(self, inputs):
        g = self.inner(inputs)
        return self.answer(g) if self.reentrant is None else checkpoint(self.answer, g, use_reentrant=self.reentrant)


dist.init_process_group("gloo")
inputs = torch.randn(6, 3, generator=torch.Generator().manual_seed(1)).double()
whole = Model(None)
whole(inputs).square().mean().backward()
for reentrant in (False, True):
    model = DistributedDataParallel(Model(reentrant))
    model(inputs[dist.get_rank() :: 2]).square().mean().backward()
    torch.testing.assert_close(model.module.inner.weight.grad, whole.inner.weight.grad, rtol=1e-12, atol=1e-12)
dist.destroy_process_group()
print("same")
"""


def test_gradients_through_checkpoints_are_those_of_one_process(start, tmp_path):
    script = tmp_path / "checkpointed.py"
    script.write_text(CHECKPOINTED)
    assert finish(start(script=script)).count("same") == 2


def test_a_killed_process_leaves_the_result_as_it_is(start, tmp_path):
    options = ["--epochs", "8", "--train", "300", "--test", "10", "--batch", "20", "--resume"]
    finish(start(*options, "--out", str(tmp_path / "undisturbed")))
    process = start(*options, "--out", str(tmp_path / "killed"), restarts=1)
    while process.poll() is None and not list(tmp_path.glob("killed/*/checkpoint.pt")):
        time.sleep(0.02)
    workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert len(workers) == 2
    os.kill(int(workers[1]), signal.SIGKILL)
    assert finish(process).count("<?") == 2  # progress bars that begin: there was a restart
    assert same(states(tmp_path / "killed"), states(tmp_path / "undisturbed"))
