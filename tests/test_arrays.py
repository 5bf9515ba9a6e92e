"""Arrays of other libraries, by DLPack: NumPy's on the CPU, CuPy's where a GPU is."""

import families as f
import numpy as np
import pytest
import torch
from helpers import parts_of

import qplayer_gpu as qp
from qplayer_gpu import arrays

ARGS = f.positive_equalities(3, 5, 3, H=True)
ARRAYS = {k: v.numpy() for k, v in ARGS.items()}


def assert_same(arrays, tensors):
    for a, t in zip(*(parts_of(record).values() for record in (arrays, tensors)), strict=True):
        if isinstance(t, torch.Tensor):
            assert type(a) is np.ndarray
            np.testing.assert_array_equal(a, t.numpy())
        else:
            assert_same(a, t)


@pytest.mark.parametrize("call", [qp.solve_qp, qp.QPLayer()], ids=["function", "layer"])
def test_numpy_arrays_in_numpy_arrays_out(call):
    sol = call(**ARRAYS)
    assert_same(sol.check(), qp.solve_qp(**ARGS))
    assert_same(sol[1:], qp.solve_qp(**ARGS)[1:])


def test_a_certificate_of_arrays_holds_arrays():
    positional = [ARRAYS[name] for name in ("H", "g", "A", "b")]
    named = {name: a for name, a in ARRAYS.items() if name not in ("H", "g", "A", "b")}
    found = qp.certificate(qp.solve_qp(**ARRAYS), *positional, **named)
    assert_same(found, qp.certificate(qp.solve_qp(**ARGS), **ARGS))


def test_unbatched_and_absent_arguments():
    args = {"H": None, "g": ARRAYS["g"][0], "lb": np.zeros(5), "ub": np.ones(5)}
    sol = qp.solve_qp(**args)
    assert sol.status.shape == ()
    assert sol.status == qp.Status.SOLVED
    np.testing.assert_allclose(sol.x, np.where(args["g"] > 0, 0.0, 1.0), rtol=0, atol=1e-8)


def test_dtype_is_kept():
    sol = qp.solve_qp(np.eye(2, dtype=np.float32), np.ones((3, 2), dtype=np.float32))
    assert sol.x.dtype == sol.info.gap.dtype == np.float32


def test_a_warm_start_of_arrays():
    cold = qp.solve_qp(**ARRAYS)
    warm = qp.solve_qp(**ARRAYS, warm_start=cold)
    assert (warm.info.iterations < cold.info.iterations).all()


def test_memory_is_shared_both_ways():
    g = ARRAYS["g"]
    taken = arrays.tensor("g", g)
    assert taken.data_ptr() == g.ctypes.data
    assert np.shares_memory(arrays.namespace({"g": g}).from_dlpack(taken), g)


@pytest.mark.parametrize(
    "form",
    [lambda a: np.flip(np.flip(a).copy()), np.asfortranarray, lambda a: np.broadcast_to(a[0], a.shape)],
    ids=["negative", "fortran", "zero"],
)
def test_any_strides(form):
    g = form(ARRAYS["g"])
    expected = qp.solve_qp(**{**ARGS, "g": torch.tensor(np.ascontiguousarray(g))})
    assert_same(qp.solve_qp(**{**ARRAYS, "g": g}), expected)


def test_arrays_that_may_not_be_written_are_only_read():
    g = ARRAYS["g"].copy()
    g.setflags(write=False)
    assert_same(qp.solve_qp(**{**ARRAYS, "g": g}), qp.solve_qp(**ARGS))


WRONG = {
    "tensors and arrays": ({"A": ARGS["A"]}, "arrays of several libraries, .* of numpy, A of torch: convert"),
    "a warm start of tensors": ({"warm_start": qp.solve_qp(**ARGS)}, ".* of numpy, warm_start of torch: convert"),
    "a mask": ({"lb": np.ma.masked_array(np.zeros(5), [0, 0, 1, 0, 0])}, "lb has a mask, which would be lost"),
    "a list": ({"g": [1.0]}, "g must be a torch.Tensor, not list"),
    "integers": ({k: v.astype(int) for k, v in ARRAYS.items()}, "H must be torch.float64 or torch.float32"),
    "the other byte order": ({"g": ARRAYS["g"].astype(">f8")}, "g, an array of >f8, cannot be taken by DLPack"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_calls_say_what_to_do(case):
    change, message = WRONG[case]
    with pytest.raises(TypeError, match=message):
        qp.solve_qp(**{**ARRAYS, **change})


def test_tensors_do_not_start_from_arrays():
    with pytest.raises(qp.ProblemError, match=r"of torch, warm_start of numpy: convert"):
        qp.solve_qp(**ARGS, warm_start=qp.solve_qp(**ARRAYS))


def test_a_subclass_of_tensors_is_no_other_library():
    class Mine(torch.Tensor):
        pass

    args = {**ARGS, "g": ARGS["g"].as_subclass(Mine), "ub": 5.0}
    assert torch.equal(qp.solve_qp(**args).x, qp.solve_qp(**{**args, "g": ARGS["g"]}).x)


@pytest.mark.gpu
def test_cupy_arrays_in_cupy_arrays_out():
    cupy = pytest.importorskip("cupy")
    sol = qp.solve_qp(**{k: cupy.asarray(v) for k, v in ARRAYS.items()})
    assert isinstance(sol.x, cupy.ndarray)
    np.testing.assert_allclose(cupy.asnumpy(sol.x), qp.solve_qp(**ARRAYS).x, rtol=0, atol=1e-7)
