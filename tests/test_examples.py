"""Each example runs; interrupted and resumed, it ends with the bits of an uninterrupted run."""

import importlib
import sys

import pytest
import torch
from torch.utils import _pytree as pytree

from harness import Training

EXAMPLES = {
    "sudoku": ["--epochs", "3", "--train", "40", "--test", "10", "--batch", "20"],
}


@pytest.fixture
def run(tmp_path, monkeypatch):
    def run(name, folder, *more):
        monkeypatch.setattr(sys, "argv", [name, *EXAMPLES[name], "--out", str(tmp_path / folder), *more])
        importlib.import_module(name).main()
        return tmp_path / folder

    return run


def interrupt(epoch, monkeypatch):
    """Ends the training in the midst of an epoch."""
    step = Training.step

    def stop(self, measures):
        if self.epoch == epoch:
            raise KeyboardInterrupt
        step(self, measures)

    monkeypatch.setattr(Training, "step", stop)


def states(folder):
    """All that each checkpoint in a folder holds, but for the seconds."""
    found = {path.relative_to(folder): torch.load(path) for path in sorted(folder.rglob("checkpoint.pt"))}
    for state in found.values():
        for row in state["training"]["log"]:
            del row["seconds"]
    assert found
    return found


def same(a, b):
    (leaves, spec), (others, other_spec) = pytree.tree_flatten(a), pytree.tree_flatten(b)
    pairs = zip(leaves, others, strict=True)
    return spec == other_spec and all(torch.equal(s, t) if isinstance(s, torch.Tensor) else s == t for s, t in pairs)


@pytest.mark.parametrize("name", EXAMPLES)
def test_resumed_to_the_same_bits(name, run, monkeypatch):
    whole = run(name, "whole")
    with monkeypatch.context() as patched:
        interrupt(3, patched)
        with pytest.raises(KeyboardInterrupt):
            run(name, "resumed")
    resumed = run(name, "resumed", "--resume")
    assert same(states(resumed), states(whole))
    assert {path.name for path in whole.rglob("*.*")} >= {"metrics.csv", "checkpoint.pt"}
    assert list(whole.glob("*.png"))


def test_a_checkpoint_of_other_options_is_refused(run):
    run("sudoku", "out")
    with pytest.raises(SystemExit, match="other options"):
        run("sudoku", "out", "--resume", "--seed", "1")
