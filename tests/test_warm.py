"""The cache of answers by sample."""

import copy

import families as f
import numpy as np
import pytest
import torch
from torch.utils import _pytree as pytree

import qplayer_gpu as qp

FAMILIES = {
    "feasible": f.feasible(12, 6, two_sided=True, bounds=True),
    "infeasible": f.positive_equalities(12, 6, 4, H=True),
}
ORDER = torch.tensor([7, 2, 9, 0, 5])


def part(args, index):
    return {k: v if v is None else v[index] for k, v in args.items()}


@pytest.mark.parametrize("family", FAMILIES)
def test_each_sample_starts_from_its_own_answer(family):
    args = FAMILIES[family]
    cache = qp.WarmStart(12)
    assert cache[ORDER] is None
    cold = qp.solve_qp(**part(args, ORDER))
    cache[ORDER] = cold
    shuffled = ORDER[torch.tensor([3, 1, 4, 0, 2])]
    warm = qp.solve_qp(**part(args, shuffled), warm_start=cache[shuffled]).check()
    torch.testing.assert_close(warm.x, qp.solve_qp(**part(args, shuffled)).x, rtol=0, atol=1e-8)
    assert warm.info.iterations.sum() < 0.6 * cold.info.iterations.sum()


def test_a_sample_without_an_answer_starts_cold():
    args = FAMILIES["feasible"]
    cache = qp.WarmStart(12)
    cache[ORDER] = qp.solve_qp(**part(args, ORDER))
    rest = torch.tensor([1, 3, 4])
    warm, cold = qp.solve_qp(**part(args, rest), warm_start=cache[rest]), qp.solve_qp(**part(args, rest))
    pytree.tree_map(lambda a, b: torch.testing.assert_close(a, b, rtol=0, atol=0), warm, cold)


def test_failures_are_not_kept():
    args = FAMILIES["feasible"]
    cache = qp.WarmStart(12)
    g = args["g"].clone()
    g[3] = torch.nan
    everyone = torch.arange(12)
    cache[everyone] = qp.solve_qp(**{**args, "g": g})
    kept = cache[everyone]
    assert (kept.x[3] == 0).all()
    assert (kept.x[2] != 0).any()
    assert qp.solve_qp(**args, warm_start=kept).check().x.isfinite().all()


def test_answers_are_kept_without_gradients_and_can_be_copied():
    args = FAMILIES["feasible"]
    cache = qp.WarmStart(12)
    cache[ORDER] = qp.solve_qp(**{k: v.clone().requires_grad_() for k, v in part(args, ORDER).items()})
    assert not cache[ORDER].x.requires_grad
    other = copy.deepcopy(cache)
    other[ORDER] = cache[ORDER].map(lambda t: t + 1)
    assert not torch.equal(other[ORDER].x, cache[ORDER].x)


def test_float32():
    args = {k: v.float() for k, v in FAMILIES["feasible"].items()}
    cache, everyone = qp.WarmStart(12), torch.arange(12)
    cold = qp.solve_qp(**args)
    cache[everyone] = cold
    warm = qp.solve_qp(**args, warm_start=cache[everyone]).check()
    assert cache[everyone].x.dtype == torch.float32
    assert warm.info.iterations.sum() < cold.info.iterations.sum()


ONE, THREE = torch.tensor([1]), torch.arange(3)
ANSWERS = qp.solve_qp(None, torch.ones(3, 2).double(), lb=0.0)
WRONG = {
    "a size that is a float": (lambda cache: qp.WarmStart(2.5), "size must be an integer, not float"),
    "a negative size": (lambda cache: qp.WarmStart(-1), "size must be >= 0, not -1"),
    "an index in a list": (lambda cache: cache[[0, 1]], "index must be a tensor of int64 or of bool, not list"),
    "an index of floats": (lambda cache: cache[torch.ones(2)], "index must be .* not torch.float32"),
    "an index in an array": (lambda cache: cache.__setitem__(np.arange(3), ANSWERS), "index must be .* not ndarray"),
    "no answers": (lambda cache: cache.__setitem__(THREE, None), "must be a Solution of tensors, not NoneType"),
    "arrays": (
        lambda cache: cache.__setitem__(THREE, qp.solve_qp(None, np.ones((3, 2)), lb=0.0)),
        "must be a Solution of tensors, not Solution of ndarray",
    ),
    "more answers": (lambda cache: cache.__setitem__(ONE, ANSWERS), "not one answer for each of 1 samples"),
    "an unbatched answer": (lambda cache: cache.__setitem__(ONE, ANSWERS[0]), r"x of shape \(2,\) is not one answer"),
    "other problems": (
        lambda cache: cache.__setitem__(THREE, qp.solve_qp(None, torch.ones(3, 4).double(), lb=0.0)),
        "answers with x of 4 .* before, of 2",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_calls_say_what_is_wanted_and_leave_the_cache_as_it_was(case):
    call, message = WRONG[case]
    cache = qp.WarmStart(5)
    cache[THREE] = ANSWERS
    with pytest.raises(qp.ProblemError, match=message):
        call(cache)
    assert torch.equal(cache[THREE].x, ANSWERS.x)
