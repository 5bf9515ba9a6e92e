"""The layer as a module, the answer as a pytree, autocast and determinism."""

import copy
import io
import pickle
import re

import pytest
import torch
from helpers import CASES, parts_of
from torch.utils import _pytree as pytree

import qplayer_gpu as qp

ARGS = CASES["feasible"][0]
SINGLE = {k: v.float() for k, v in ARGS.items()}


def same(a, b):
    pytree.tree_map(lambda s, t: torch.testing.assert_close(s, t, rtol=0, atol=0), a, b)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["copy", "pickle"])
def test_a_module_with_a_layer_can_be_copied(duplicate):
    model = torch.nn.Sequential(qp.QPLayer(qp.Settings(max_iter=77)), torch.nn.Linear(2, 2))
    again = duplicate(model)
    assert again[0].settings == model[0].settings
    same(again[0](**ARGS), model[0](**ARGS))
    assert list(model.state_dict()) == ["1.weight", "1.bias"]
    again.load_state_dict(model.state_dict(), strict=True)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["copy", "pickle"])
def test_an_answer_can_be_copied(duplicate):
    solution = qp.solve_qp(**ARGS)
    same(duplicate(solution), solution)


def loaded(thing):
    file = io.BytesIO()
    torch.save(thing, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def test_a_checkpoint_may_hold_all_that_users_keep():
    solution, cache = qp.solve_qp(**ARGS), qp.WarmStart(5)
    everyone = torch.arange(len(solution.x))
    cache[everyone] = solution
    settings = qp.Settings(max_iter=77, precision="mixed")
    kept = loaded({"answer": solution, "info": solution.info, "settings": settings, "cache": cache})
    assert kept["settings"] == settings
    assert kept["cache"].size == 5
    same([kept["answer"], kept["info"], kept["cache"][everyone]], [solution, solution.info, solution])


def test_an_answer_is_a_pytree():
    solution = qp.solve_qp(**ARGS)
    leaves, spec = pytree.tree_flatten(solution)
    assert len(leaves) == 12
    assert all(isinstance(t, torch.Tensor) for t in leaves)
    same(pytree.tree_unflatten(leaves, spec), solution)
    assert pytree.treespec_loads(pytree.treespec_dumps(spec)) == spec
    paths = [re.findall(r"\w+", pytree.keystr(path)) for path, _ in pytree.tree_leaves_with_path(solution)]
    assert paths[0] == ["x"]  # ".x", in older versions of PyTorch "['x']"
    assert paths[-1] == ["info", "gap"]


def test_an_answer_moves_and_is_detached():
    solution = qp.solve_qp(**{k: v.clone().requires_grad_() for k, v in ARGS.items()})
    moved = solution.to(torch.float32)
    assert moved.x.dtype == moved.info.gap.dtype == torch.float32
    assert moved.status.dtype == moved.info.iterations.dtype == torch.int64
    assert moved.x.requires_grad
    assert not solution.detach().x.requires_grad
    on_meta = solution.to("meta")
    assert {t.device.type for t in pytree.tree_leaves(on_meta)} == {"meta"}
    assert on_meta.x.dtype == torch.float64


@pytest.mark.parametrize("index", [1, slice(1, 3), torch.tensor([2, 0]), torch.tensor([True, False, True])], ids=str)
def test_an_answer_is_indexed_by_problem(index):
    solution = qp.solve_qp(**ARGS)
    part = solution[index]
    same(part, qp.Solution(*(t[index] for t in list(parts_of(solution).values())[:-1]), solution.info[index]))
    again = qp.solve_qp(**{k: v[index] for k, v in ARGS.items()}, warm_start=part)
    assert (again.info.iterations <= part.info.iterations).all()


def test_an_unbatched_answer_has_no_index():
    with pytest.raises(IndexError):
        qp.solve_qp(**{k: v[0] for k, v in ARGS.items()})[0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_autocast_takes_low_precision_as_float32(dtype):
    low = {k: v.to(dtype).requires_grad_() for k, v in ARGS.items()}
    single = {k: v.detach().float().requires_grad_() for k, v in low.items()}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        solution = qp.solve_qp(**low)
    assert solution.x.dtype == torch.float32
    same(solution, qp.solve_qp(**single))
    solution.x.sum().backward()
    qp.solve_qp(**single).x.sum().backward()
    for k in low:
        torch.testing.assert_close(low[k].grad, single[k].grad.to(dtype), rtol=0, atol=0)


def test_autocast_does_not_reach_into_the_solve():
    """The same bits as without: the float32 factors of mixed precision are not made in bfloat16."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        same(qp.solve_qp(**SINGLE), qp.solve_qp(**SINGLE))
        inside = qp.solve_qp(**{k: v.clone().requires_grad_() for k, v in SINGLE.items()})
    same(inside.detach(), qp.solve_qp(**SINGLE))


def test_a_model_under_autocast_trains():
    network = torch.nn.Linear(4, 6)
    features, bound = torch.randn(5, 4), torch.ones(6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        g = network(features)
        assert g.dtype == torch.bfloat16
        solution = qp.solve_qp(torch.eye(6), g, lb=-bound, ub=bound).check()
        loss = solution.x.square().mean()
    loss.backward()
    assert network.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_low_precision_outside_autocast_is_refused(dtype):
    with pytest.raises(TypeError, match=r"g must be torch.float64 or torch.float32, not .*torch.autocast"):
        qp.solve_qp(None, torch.zeros(2, dtype=dtype), lb=torch.zeros(2, dtype=dtype))


@pytest.fixture
def deterministic():
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("case", ["feasible", "lp", "positive-qp"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_the_same_inputs_give_the_same_bits(case, dtype, deterministic):
    args, _, outputs = CASES[case]
    runs = []
    for _ in range(2):
        leaves = {k: v.detach().to(dtype, copy=True).requires_grad_() for k, v in args.items() if v is not None}
        solution = qp.solve_qp(**{"H": None, **leaves})
        sum(getattr(solution, k).square().sum() for k in outputs).backward()
        runs.append([solution.detach(), {k: v.grad for k, v in leaves.items()}])
    same(*runs)
