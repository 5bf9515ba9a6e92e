"""Each example runs; interrupted and resumed, it ends with the bits of an uninterrupted run."""

import importlib
import math
import sys

import pytest
import torch
from trainings import same, states

import control
import denoising
import portfolio
import qplayer_gpu as qp
import safety
from harness import Training
from ported import barriernet, linear_quadratic, predictive_control
from ported import sudoku as qplayer_sudoku

EXAMPLES = {
    "sudoku": ["--epochs", "3", "--train", "40", "--test", "10", "--batch", "20"],
    "denoising": ["--epochs", "3", "--train", "40", "--test", "10", "--batch", "20", "--length", "12"],
    "digits": ["--epochs", "3", "--runs", "2", "--batch", "600"],
    "control": ["--epochs", "3", "--drives", "4", "--batch", "24"],
    "safety": ["--epochs", "3", "--agents", "20", "--steps", "30"],
    "portfolio": ["--epochs", "3", "--runs", "2", "--train", "20", "--test", "10", "--batch", "10"],
}
SLOW = ["control", "safety"]  # some seconds each


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


@pytest.mark.parametrize("name", [pytest.param(k, marks=[pytest.mark.slow] * (k in SLOW)) for k in EXAMPLES])
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


def test_the_denoiser_solves_total_variation():
    """As the QP in x and t >= |D x| that is its definition. v is good to 1e-6, and D'v adds two of them, times 15."""
    noisy, _ = denoising.make_signals(5, 12, seed=0)
    D = 15 * denoising.difference(12)
    one, zero = torch.eye(11, dtype=D.dtype), torch.zeros(11, dtype=D.dtype)
    H = torch.block_diag(torch.eye(12, dtype=D.dtype), 0 * one)
    C = torch.cat([torch.cat([D, -one], 1), torch.cat([-D, -one], 1)])
    g = torch.cat([-noisy, torch.ones(5, 11, dtype=D.dtype)], 1)
    primal = qp.solve_qp(H, g, C=C, l=torch.full((22,), -math.inf).to(D), u=torch.cat([zero, zero])).check()
    torch.testing.assert_close(denoising.Denoiser(D, None, "auto")(noisy), primal.x[:, :12], rtol=0, atol=3e-5)


def test_no_portfolio_is_worth_more_than_that_of_who_knows():
    """Others are those of wrong predictions, little and much; the QPs are good to 1e-6."""
    periods = portfolio.make_periods(20, seed=0)
    chooser = portfolio.Chooser("auto")
    best = chooser(periods.expected, periods.covariance)
    assert ((chooser.C @ best.mT - 0.275).abs() <= 0.125 + 1e-5).all()
    worth = portfolio.utility(best, periods.expected, periods.covariance)
    for size in (0.01, 0.1, 1.0):
        other = chooser(periods.expected + size * torch.randn_like(best), periods.covariance)
        assert (portfolio.utility(other, periods.expected, periods.covariance) <= worth + 1e-5).all()


def test_the_linear_model_of_the_cart_pole_is_the_derivative_of_the_simulator():
    """To the error of one Runge-Kutta step next to the exact flow of the linear system."""
    upright = torch.zeros(4, dtype=torch.double), torch.zeros((), dtype=torch.double)
    dstate, dforce = torch.autograd.functional.jacobian(control.cart_pole, upright)
    M, N = control.linear_model(*torch.tensor(control.BODY, dtype=torch.double))
    torch.testing.assert_close(dstate, M, rtol=0, atol=1e-4)
    torch.testing.assert_close(dforce, N, rtol=0, atol=1e-4)


def test_the_safety_filter_is_that_of_proxqp():
    """On agents that come near the pillars; which asks for residuals of 1e-6."""
    agents = safety.Agents(50, 0)
    agents.position *= 0.7
    C, l, _ = agents.barriers(0.0)
    problem = agents.wanted(0), C, l
    layer = safety.Layer("auto")
    layer.settings = qp.Settings()
    taken = layer(*problem)
    assert (layer.solution.z != 0).any()
    assert (layer.solution.status == qp.Status.SOLVED).all()
    torch.testing.assert_close(taken, safety.proxqp(*problem), rtol=0, atol=1e-5)


PORTED = {  # of a script of another library, tiny: module, sizes, and which of the last answers is spoiled
    "barriernet": (barriernet, {"steps": 2, "batch": 8}, 0),
    "sudoku": (qplayer_sudoku, {"feasible": True, "steps": 1, "batch": 2}, 3),
    "sudoku-learn": (qplayer_sudoku, {"feasible": False, "steps": 1, "batch": 2}, 3),
    "lq": (linear_quadratic, {"limited": False, "steps": 2, "batch": 2}, 5),
    "lq-limited": (linear_quadratic, {"limited": True, "steps": 2, "batch": 2}, 5),
}


@pytest.mark.parametrize("script", PORTED)
def test_ported_scripts_are_right_by_their_own_checks(script):
    """The QPs are good to 1e-9 each; slopes of costs and shifts of LPs are larger by the size of their matrices."""
    module, sizes, at = PORTED[script]
    losses, last = module.train(**sizes)
    assert all(math.isfinite(loss) for loss in losses)
    assert module.error(*last) <= 1e-6
    spoiled = [t + 1e-2 if i == at else t for i, t in enumerate(last)]
    assert module.error(*spoiled) >= 1e-3


def test_the_ported_controller_is_that_of_cvxpy():
    _, (problem, parameters, variables, found) = predictive_control.train(steps=3)
    assert predictive_control.error(problem, parameters, variables, found) <= 1e-6
    (values, control), *_ = found
    assert predictive_control.error(problem, parameters, variables, [(values, control + 1e-2)]) >= 1e-3
