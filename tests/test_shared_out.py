"""Work that several processes share: one large batch in parts, and the points of a sweep."""

import csv
import os
import signal
import sys
import time
from pathlib import Path

import pytest
import torch
from trainings import finish

import sharded
import sweep

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def alone(tmp_path, monkeypatch):
    """Runs an example in this process, the only one of its group."""

    def alone(example, *options):
        store = {"MASTER_ADDR": "localhost", "MASTER_PORT": "0", "RANK": "0", "WORLD_SIZE": "1"}
        for name, value in store.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", [example.__name__, *map(str, options)])
        example.main()

    return alone


def test_a_batch_in_two_parts_has_the_answers_and_gradients_of_the_whole(start, alone, tmp_path):
    options = ["--batch", "64", "--steps", "3"]
    process = start(*options, "--out", str(tmp_path / "two"), script=EXAMPLES / "sharded.py")
    alone(sharded, *options, "--out", tmp_path / "one")
    assert "step   3" in finish(process)
    one, two = (torch.load(tmp_path / name / "learned.pt") for name in ("one", "two"))
    assert one["x"].shape == (64, 16)
    assert one["gradient of C"].abs().max() > 1e-3
    for name, t in one.items():  # sums over the batch are rounded in another order, of answers asked for 1e-8
        torch.testing.assert_close(two[name], t, rtol=0, atol=1e-7)


def rows(folder):
    with (folder / "sweep.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_sweep_evaluates_what_is_left(alone, tmp_path, monkeypatch):
    monkeypatch.setattr(sweep, "GRID", {"input cost": [0.1, 1.0], "strongest": [0.5]})
    seen = []
    evaluate = sweep.evaluate
    monkeypatch.setattr(sweep, "evaluate", lambda point, args: seen.append(point) or evaluate(point, args))
    options = ["--chains", "4", "--steps", "3", "--horizon", "4", "--out", tmp_path]
    alone(sweep, *options)
    whole = rows(tmp_path)
    assert [row["input cost"] for row in whole] == ["0.1", "1"]
    (tmp_path / "1-0.5.json").unlink()
    alone(sweep, *options)
    assert [point["input cost"] for point in seen] == [0.1, 1.0, 1.0]
    assert rows(tmp_path) == whole


@pytest.mark.slow  # three starts of two processes
def test_a_killed_process_leaves_no_point_out(start, tmp_path):
    options, script = ["--chains", "16", "--steps", "20"], EXAMPLES / "sweep.py"
    finish(start(*options, "--out", str(tmp_path / "undisturbed"), script=script))
    process = start(*options, "--out", str(tmp_path / "killed"), restarts=1, script=script)
    while process.poll() is None and not list(tmp_path.glob("killed/*.json")):
        time.sleep(0.02)
    workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(workers[1]), signal.SIGKILL)
    finish(process)
    assert rows(tmp_path / "killed") == rows(tmp_path / "undisturbed")
    assert len(rows(tmp_path / "killed")) == 20
