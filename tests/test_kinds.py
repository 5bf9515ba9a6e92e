"""The table of kinds of problems in docs/evidence.md, and the judge that it is made by."""

from pathlib import Path

import pytest
import soak
import torch

import qplayer_gpu as qp
from bench import kinds, single

PAGE = Path(__file__).parents[1] / "docs" / "evidence.md"
STATUSES = [qp.Status.SOLVED, qp.Status.SOLVED_CLOSEST_FEASIBLE]


def answered(kind):
    arguments = soak.FAMILIES[kind][0](5, 8, 1)
    batch = single.problems(arguments, 5)
    return batch, [x for x, _ in single.ours(batch, arguments)]


def test_the_page_has_the_figures_of_the_file():
    assert kinds.table(kinds.read()) in PAGE.read_text()


@pytest.mark.parametrize("kind", ["quantile", "simplex", "missed-halves", "weighted", "half-rank", "large-data", "svm"])
def test_the_judge_knows_a_right_answer_from_a_near_one(kind):
    shifts = kind in ("weighted", "half-rank")
    for p, x in zip(*answered(kind), strict=True):
        assert kinds.optimal(p, x, may_shift=shifts)
        assert not kinds.optimal(p, x * (1 + 1e-2) + 1e-2, may_shift=shifts)
        assert not (shifts and kinds.optimal(p, x, may_shift=False))


def test_the_judge_wants_the_sign_of_the_multipliers():
    one = torch.ones(1, 1).double()
    (p,) = single.problems({"H": one, "g": -one, "lb": -one, "ub": 3 * one}, 1)
    assert kinds.optimal(p, p["g"] * -1, may_shift=False)
    assert not kinds.optimal(p, p["ub"], may_shift=False)
    assert not kinds.optimal(p, p["lb"], may_shift=False)


@pytest.mark.parametrize(
    ("said", "expected", "good"),
    [
        (single.INFEASIBLE, STATUSES[:1], False),
        (single.INFEASIBLE, STATUSES, True),
        (single.UNBOUNDED, STATUSES, False),
        (single.FAILED, [qp.Status.UNBOUNDED], True),
        (single.SOLVED, [qp.Status.UNBOUNDED], False),
    ],
)
def test_what_may_be_said(said, expected, good):
    (p, *_), (x, *_) = answered("simplex")
    assert kinds.right(p, (x, said), expected) == good
