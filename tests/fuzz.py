"""Calls the library with whatever may be given to it, and reports what it should not have done.

python tests/fuzz.py            # for ten minutes
python tests/fuzz.py --seconds 60 --seed 7

A call, of solve_qp or another part of the API, ends with an answer or with an error of the library. An answer has a
status for each problem. What is solved is finite and, where the data are of ordinary size, keeps its conditions; the
others of a batch do not alter it; gradients are finite where the data are.
"""

from __future__ import annotations

import argparse
import math
import random
import re
import time
import traceback
from collections import Counter

import numpy as np
import torch

import qplayer_gpu as qp
from qplayer_gpu import compat

MATRICES = "HAC"
ODD = (math.inf, -math.inf, math.nan, 1e300, -1e300, 1e20, -1e20, 5e-324, 1e-160, 0.0, -0.0, 1e12)
LAYOUTS = ("plain", "plain", "transposed", "spread", "expanded", "negative")


class Draw:
    """The random choices of one call."""

    def __init__(self, seed: int):
        self.random = random.Random(seed)
        self.generator = torch.Generator().manual_seed(seed)

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    def array(self, shape: tuple[int, ...], scale: float, odd: float) -> torch.Tensor:
        t = scale * torch.randn(shape, generator=self.generator, dtype=torch.float64)
        if self.chance(0.3):
            t = (2 * t / scale).round() * scale  # degenerate
        if t.numel() and self.chance(odd):
            t.view(-1)[self.random.randrange(t.numel())] = self.random.choice(ODD)
        return t

    def layout(self, t: torch.Tensor) -> torch.Tensor:
        how = self.random.choice(LAYOUTS)
        if how == "transposed" and t.dim() > 1:
            return t.mT.contiguous().mT
        if how == "spread":
            return torch.stack([t, t], -1)[..., 0]
        if how == "expanded" and t.dim() and t.shape[0]:
            return t[:1].expand(t.shape)
        return torch._neg_view(-t) if how == "negative" else t


def problem(draw: Draw) -> tuple[dict[str, object], bool]:
    """The arguments of a call, and whether their numbers are of ordinary size."""
    r = draw.random
    B, n = r.choice((None, 1, 2, 3, 5, 0)), r.choice((1, 2, 3, 4, 5, 8, 9))
    n_eq, n_in = r.choice((0, 0, 1, 2, 3)), r.choice((0, 1, 2, 5, 9))
    odd = r.choice((0.0, 0.0, 0.3))
    scale = 10.0 ** r.choice((0, 0, 0, -3, 3, -6, 6))
    shapes = {"H": (n, n), "g": (n,), "A": (n_eq, n), "b": (n_eq,), "C": (n_in, n), "l": (n_in,), "u": (n_in,)}
    shapes |= {"lb": (n,), "ub": (n,), "w_eq": (n_eq,), "w_in": (n_in,), "w_box": (n,)}
    absent = {name for name in shapes if name != "g" and draw.chance(0.35)}
    absent |= {"A", "b"} if {"A", "b"} & absent else set()
    absent |= {"w_eq"} if "A" in absent else set()
    absent |= {"w_box"} if {"lb", "ub"} <= absent else set()
    absent |= {"C", "l", "u", "w_in"} if "C" in absent or {"l", "u"} <= absent else set()
    args: dict[str, object] = {"H": None}
    for name, shape in shapes.items():
        if name in absent:
            continue
        batched = B is not None and draw.chance(0.7)
        t = draw.array((B, *shape) if batched else shape, scale if name in "gblulbub" else 1.0, odd)
        if name == "H":
            t = t @ t.mT if draw.chance(0.9) else t
        if name.startswith("w_"):
            t = t.abs() + 0.1
            if draw.chance(0.3):
                t = t.masked_fill(torch.rand(t.shape, generator=draw.generator) < 0.3, math.inf)
        args[name] = draw.layout(t)
        if name not in ("g", *MATRICES) and draw.chance(0.2):
            args[name] = r.choice((1.0, 0.5, 2, 1e3, math.inf) if name.startswith("w_") else (0.0, -1, 1.5, *ODD))
    values = [v for v in args.values() if isinstance(v, (float, int, torch.Tensor))]
    ordinary = (
        not odd and scale == 1.0 and all(not isinstance(v, float) or abs(v) in (0, 0.5, 1, 1.5, 1e3) for v in values)
    )
    return args, ordinary


def mistaken(draw: Draw, args: dict[str, object]) -> dict[str, object]:
    """The same with one thing wrong, or odd."""
    name = draw.random.choice([k for k, v in args.items() if isinstance(v, torch.Tensor)])
    t = args[name]
    assert isinstance(t, torch.Tensor)
    wrong = (
        lambda: t.float(), lambda: t.long(), lambda: t.cfloat(), lambda: t.half(), lambda: t.unsqueeze(0),
        lambda: t.unsqueeze(-1), lambda: t[..., :-1], lambda: t.tolist(), lambda: t.resolve_neg().numpy(), lambda: None,
        lambda: t.to("meta"), lambda: t.to_sparse(), lambda: "text", lambda: t.sum(), lambda: t.new_empty(0),
        lambda: torch.cat([t, t]), lambda: object(),
    )  # fmt: skip
    return {**args, name: draw.random.choice(wrong)()}


def settings(draw: Draw) -> qp.Settings:
    r = draw.random
    return qp.Settings(
        eps_abs=r.choice((1e-9, 1e-9, 1e-6, 1e-3, 1e-14, 1e3)),
        eps_rel=r.choice((0.0, 0.0, 1e-9, 1e-3)),
        max_iter=r.choice((1000, 1000, 300, 0, 1, 7)),
        mu_eq=r.choice((1e-3, 1e-3, 1e-8, 1e3)),
        mu_in=r.choice((1e-1, 1e-1, 1e-8, 1e3)),
        rho=r.choice((1e-6, 1e-6, 1e-12, 1.0)),
        equilibrate=draw.chance(0.8),
        closest_feasible=draw.chance(0.8),
        precision=r.choice((None, None, "float64", "mixed")),
        gradient_on_failure=draw.chance(0.1),
    )


ANYTHING = (
    None, True, 0, -1, 3, 2**63, 10**400, 1.5, -0.0, math.nan, math.inf, 1j, "text", b"1", [], [1.0], {}, object(), int,
    np.float32(0.1), np.int64(3), np.float64(-1), np.bool_(True), np.ones(2), np.ma.masked_array([1.0], [1]),
    np.array("a"), torch.tensor(2), torch.tensor(0.5), torch.ones(2), torch.empty(0), torch.ones(2, 2).to_sparse(),
    torch.ones(1, device="meta"),
)  # fmt: skip


def as_settings(draw: Draw, args: dict[str, object]) -> None:
    fields = list(vars(qp.Settings()))
    qp.Settings(**{draw.random.choice(fields): draw.random.choice(ANYTHING) for _ in range(2)})


def as_options(draw: Draw, args: dict[str, object]) -> None:
    given = {draw.random.choice(("warm_start", "settings", "backend")): draw.random.choice(ANYTHING)}
    qp.QPLayer(**{k: v for k, v in given.items() if k != "warm_start"})
    qp.solve_qp(**args, **given)


def as_certificate(draw: Draw, args: dict[str, object]) -> None:
    sol = draw.random.choice((qp.solve_qp(**args), *ANYTHING))
    qp.certificate(sol, **mistaken(draw, args))


def as_arrays(draw: Draw, args: dict[str, object]) -> None:
    args = {k: v.resolve_neg().numpy() if isinstance(v, torch.Tensor) else v for k, v in args.items()}
    name = draw.random.choice(list(args))
    qp.solve_qp(**args if draw.chance(0.5) else args | {name: draw.random.choice(ANYTHING)})


def as_compat(draw: Draw, args: dict[str, object]) -> None:
    empty = torch.Tensor()
    theirs = [empty if args.get(k) is None else args[k] for k in ("H", "g", "A", "b", "C", "l", "u")]
    if draw.chance(0.7):
        theirs[draw.random.randrange(7)] = draw.random.choice(ANYTHING)
    eps = draw.random.choice((1e-6, 1e-9, *ANYTHING))
    Q, p, A, b, G, l, u = theirs
    if draw.chance(0.5):
        compat.QpthQPFunction(eps=eps, check_Q_spd=False)(Q, p, G, u, A, b)
    else:
        compat.ProxsuiteQPFunction(eps=eps)(Q, p, A, b, G, l, u)


def as_warm_start(draw: Draw, args: dict[str, object]) -> None:
    cache = qp.WarmStart(draw.random.choice((4, 9, *ANYTHING)) if draw.chance(0.3) else 9)
    for _ in range(3):
        count = draw.random.choice((0, 1, 2, 3, 5))
        index = torch.randperm(9, generator=draw.generator)[:count]
        if draw.chance(0.2):
            index = draw.random.choice(ANYTHING)
        cache[index] = draw.random.choice((qp.solve_qp(**args), *ANYTHING)) if draw.chance(0.2) else qp.solve_qp(**args)
        cache[index]


OTHERS = (as_settings, as_options, as_certificate, as_arrays, as_compat, as_warm_start)


def one(seed: int) -> str:
    """Makes a call, and says how it ended.

    Raises:
        AssertionError: it should not have.
    """
    draw = Draw(seed)
    args, ordinary = problem(draw)
    if draw.chance(0.3):
        try:
            draw.random.choice(OTHERS)(draw, args)
        except (qp.QPError, IndexError) as error:  # IndexError: of a sample that a WarmStart has not
            return type(error).__name__
        return "answer"
    given = {"settings": settings(draw), "backend": draw.random.choice(("auto", "cpu", "torch"))}
    if draw.chance(0.25):
        try:
            sol = qp.solve_qp(**mistaken(draw, args), **given)
        except qp.QPError as error:
            return type(error).__name__
        ordinary = False
    else:
        sol = qp.solve_qp(**args, **given)
        judge(draw, args, given, sol, ordinary)
    assert all(0 <= code < len(qp.Status) for code in torch.as_tensor(sol.status).reshape(-1).tolist())
    return "answer"


def judge(draw: Draw, args: dict[str, object], given: dict[str, object], sol: qp.Solution, ordinary: bool) -> None:
    """Whether an answer is one."""
    solved = sol.status <= qp.Status.SOLVED_CLOSEST_FEASIBLE
    assert sol.x[solved].isfinite().all(), "a solved problem is not finite"
    options = given["settings"]
    default = options == qp.Settings(precision=options.precision, gradient_on_failure=options.gradient_on_failure)
    if ordinary and solved.any():
        c = qp.certificate(sol, **args)
        bound = 1e-7 if default else 1e-2
        if options.eps_abs <= 1e-6 and options.eps_rel <= 1e-9:
            worst = max(t[solved].max().item() for t in (c.primal_residual, c.dual_residual))
            assert worst <= bound, f"a solved problem misses its conditions by {worst:.1e}"
    batch = sol.x.shape[0] if sol.x.dim() == 2 else 0
    if batch > 1 and given["backend"] != "torch":
        k = draw.random.randrange(batch)
        base = {name: 1 + (name in MATRICES) for name in args}
        copies = {
            name: v[k : k + 1].repeat(batch, *[1] * base[name])
            if isinstance(v, torch.Tensor) and v.dim() > base[name] and v.shape[0] > 1
            else v
            for name, v in args.items()
        }
        again = qp.solve_qp(**copies, **given).x[k].nan_to_num(7.0)
        assert torch.equal(again, sol.x[k].nan_to_num(7.0)), "the other problems of a batch alter an answer"
    if draw.chance(0.5):
        warm = qp.solve_qp(**args, **given, warm_start=sol)
        assert warm.x[warm.status <= 1].isfinite().all(), "a solved problem is not finite, started warm"
    if draw.chance(0.5) and not options.gradient_on_failure:
        differentiate(args, given)


def differentiate(args: dict[str, object], given: dict[str, object]) -> None:
    leaves = {k: v.clone().requires_grad_() if isinstance(v, torch.Tensor) else v for k, v in args.items()}
    sol = qp.solve_qp(**leaves, **given)
    total = sol.x.nan_to_num(0.0).sum() + sol.s_in.nan_to_num(0.0).sum()
    total.backward()
    numbers = [v for v in args.values() if isinstance(v, torch.Tensor)]
    if not is_convex(args["H"]):  # with a large tolerance it may be called solved, and has no derivatives
        return
    if all(t.isfinite().all() and t.abs().max() < 1e10 for t in numbers if t.numel()):
        for name, leaf in leaves.items():
            if isinstance(leaf, torch.Tensor):
                assert leaf.grad.isfinite().all(), f"the gradient of {name} is not finite"


def is_convex(H: object) -> bool:
    if not isinstance(H, torch.Tensor) or not H.numel() or not H.isfinite().all():
        return True
    return torch.linalg.eigvalsh(0.5 * (H + H.mT)).min().item() >= -1e-9 * H.abs().max().item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=0, help="of the first call; the next ones count on")
    options = parser.parse_args()
    torch.set_num_threads(1)
    ends: Counter[str] = Counter()
    first: dict[str, int] = {}
    began, seed = time.monotonic(), options.seed
    while time.monotonic() - began < options.seconds:
        try:
            ends[one(seed)] += 1
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            kind = re.sub(r"[\d.]+(e[-+]\d+)?", "#", f"{type(error).__name__} in {place.name}: {str(error)[:90]}")
            ends[kind] += 1
            if kind not in first:
                first[kind] = seed
                print(f"seed {seed}: {kind}", flush=True)
        seed += 1
    print(f"{seed - options.seed} calls")
    for kind, count in ends.most_common():
        print(f"{count:8} {kind}" + (f" (seed {first[kind]})" if kind in first else ""))


if __name__ == "__main__":
    main()
