"""The signatures of other libraries, against proxsuite itself and against the closed form."""

import families as f
import pytest
import torch
from proxsuite.torch.qplayer import QPFunction

from qplayer_gpu import ProblemError, SettingsError
from qplayer_gpu.compat import ProxsuiteQPFunction, QpthQPFunction

EMPTY = torch.Tensor()
B, N = 4, 6
TOLERANCE = 1e-6  # proxsuite is asked for 1e-9 forward, and its multipliers are less accurate than its x
GRADIENT_TOLERANCE = 1e-3  # its backward is asked for 1e-8


def problem(shared=False):
    args = f.feasible(B, N, two_sided=True)
    order = [args[k] for k in ("H", "g", "A", "b", "C", "l", "u")]
    return [t if i == 1 or not shared else t[0] for i, t in enumerate(order)]


def leaves(tensors):
    return [t.clone().requires_grad_() for t in tensors]


def test_proxsuite_feasible_values_and_gradients():
    ours, theirs = leaves(problem()), leaves(problem())
    mine = ProxsuiteQPFunction()(*ours)
    other = QPFunction(eps_backward=1e-8)(*theirs)
    assert len(mine) == len(other) == 3
    weights = [torch.randn_like(t) for t in mine[:1]]
    for a, b in zip(mine, other, strict=True):
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        torch.testing.assert_close(a, b, rtol=TOLERANCE, atol=TOLERANCE)
    for answer in (mine, other):
        (weights[0] * answer[0]).sum().backward()
    for a, b in zip(ours, theirs, strict=True):
        assert (a.grad - b.grad).norm() <= GRADIENT_TOLERANCE * b.grad.norm().clamp(min=1e-3)


def infeasible():
    """Shared inequalities in one and the same order as proxsuite demands: 2-D G, 1-D l and u; equalities without x."""
    args = f.overdetermined(B, N)
    G = torch.cat([torch.eye(N), -torch.eye(N)[:2]]).double()
    u = torch.cat([torch.ones(N), 2 * torch.ones(2)]).double()
    return [args["H"], args["g"], args["A"][0], args["b"][0], G, torch.full_like(u, -1e20), u]


@pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")  # raised inside proxsuite
def test_proxsuite_infeasible_values_and_signs():
    arguments = infeasible()
    mine = ProxsuiteQPFunction(structural_feasibility=False)(*arguments)
    other = QPFunction(structural_feasibility=False)(*arguments)
    assert [t.shape for t in mine] == [t.shape for t in other]
    for i in (0, 3, 4):  # the multipliers of an infeasible problem are not unique
        torch.testing.assert_close(mine[i], other[i], rtol=1e-5, atol=1e-5)
    assert mine[3].abs().max() > 0.1


def excluding():
    """Two rows of G that exclude each other, among others; proxsuite needs an equality."""
    torch.manual_seed(1)
    G = torch.randn(5, N).double()
    G = torch.cat([G, G[:1]])
    u = torch.tensor([-1.0, 5, 5, 5, 5, 1e20]).double()
    l = torch.tensor([-1e20, -5, -5, -5, -1e20, 1.0]).double()
    args = f.feasible(B, N)
    return [args["H"] + torch.eye(N), args["g"], args["A"][0], args["b"][0], G, l, u]


@pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")
def test_proxsuite_infeasible_inequalities():
    arguments = excluding()
    z, _, _, s_e, s_i = ProxsuiteQPFunction(structural_feasibility=False)(*arguments)
    other = QPFunction(structural_feasibility=False)(*arguments)
    torch.testing.assert_close(z, other[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(s_i, other[4], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(s_i[:, 0], torch.ones(B).double(), rtol=0, atol=1e-7)
    assert s_e.abs().max() <= 1e-7


def test_proxsuite_shared_gradients_are_sums():
    arguments = leaves(problem()[:2] + [t[0] for t in problem()[2:4]] + infeasible()[4:])
    expanded = leaves(
        [arguments[i] if i < 2 else arguments[i].detach().expand(B, *arguments[i].shape) for i in range(7)]
    )
    for call in (arguments, expanded):
        ProxsuiteQPFunction(structural_feasibility=False)(*call)[0].square().sum().backward()
    for one, many in zip(arguments[2:], expanded[2:], strict=True):
        torch.testing.assert_close(one.grad, many.grad.sum(0), rtol=1e-8, atol=1e-9)


def test_proxsuite_without_equalities_and_mixed_dtypes():
    Q, p, _, _, G, l, u = problem()
    z, lams, nus = ProxsuiteQPFunction()(Q, p.float(), EMPTY, EMPTY, G, l, u)
    assert z.dtype == torch.float64
    assert lams.shape == (B, 0)
    other = QPFunction()(Q, p.float().double(), EMPTY, EMPTY, G, l, u)
    torch.testing.assert_close(z, other[0], rtol=TOLERANCE, atol=TOLERANCE)
    torch.testing.assert_close(nus, other[2], rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize("batched", [True, False], ids=["batched", "unbatched"])
def test_qpth(batched):
    """The same problem through both signatures; nothing batched gives a batch of one."""
    Q, p, A, b, G, _, u = [t if batched else t[0] for t in problem()]
    ours, theirs = leaves([Q, p, G, u, A, b]), leaves([Q, p, A, b, G, u])
    z = QpthQPFunction(verbose=-1)(*ours)
    assert z.shape == (B if batched else 1, N)
    other = QPFunction(eps_backward=1e-8)(
        *[t if batched else t.unsqueeze(0) for t in theirs[:5]], *both(theirs[5], batched)
    )
    torch.testing.assert_close(z, other[0], rtol=TOLERANCE, atol=TOLERANCE)
    z.sum().backward()
    other[0].sum().backward()
    for i, j in enumerate((0, 1, 4, 5, 2, 3)):
        assert (ours[i].grad - theirs[j].grad).norm() <= GRADIENT_TOLERANCE * theirs[j].grad.norm().clamp(min=1e-3)


def both(u, batched):
    u = u if batched else u.unsqueeze(0)
    return torch.full_like(u, -1e20), u


def test_qpth_takes_empty_tensors_and_float32():
    p = torch.tensor([[3.0, -4.0]])
    z = QpthQPFunction()(torch.eye(2), p, EMPTY, EMPTY, torch.ones(1, 2), torch.zeros(1))
    torch.testing.assert_close(z, torch.tensor([[-3.5, 3.5]]))
    z = QpthQPFunction()(torch.eye(2), p, torch.eye(2), torch.ones(2), EMPTY, EMPTY)
    torch.testing.assert_close(z, torch.tensor([[-3.0, 1.0]]))


def test_qpth_refuses_a_semidefinite_q():
    zero = torch.zeros(2, 2)
    call = (zero, torch.ones(2), -torch.eye(2), torch.zeros(2), EMPTY, EMPTY)
    with pytest.raises(RuntimeError, match="Q is not SPD"):
        QpthQPFunction()(*call)
    assert QpthQPFunction(check_Q_spd=False)(*call).abs().max() <= 1e-7


class Sudoku(torch.nn.Module):
    """An LP layer that learns its equalities, called as the Sudoku models of OptNet and of QPLayer call theirs."""

    def __init__(self, call, n=16, n_eq=8):
        super().__init__()
        self.call = call
        self.Q, self.G = (1e-1 if call is of_optnet else 0.0) * torch.eye(n).double(), -torch.eye(n).double()
        self.h, self.l = torch.zeros(n).double(), -1.0e20 * torch.ones(n).double()
        self.A = torch.nn.Parameter(torch.rand(n_eq, n).double())
        self.log_z0 = torch.nn.Parameter(torch.zeros(n).double())

    def forward(self, puzzles):
        p = -puzzles.view(puzzles.size(0), -1)
        return self.call(self, p.double()).float().view_as(puzzles)


def of_optnet(m, p):
    return QpthQPFunction(verbose=-1)(m.Q, p, m.G, m.h, m.A, m.A.mv(m.log_z0.exp()))


def of_qplayer(m, p):
    x, _, _ = ProxsuiteQPFunction(maxIter=1000, omp_parallel=False)(m.Q, p, m.A, m.A.mv(m.log_z0.exp()), m.G, m.l, m.h)
    return x


def of_qplayer_learning_feasibility(m, p):
    b = torch.ones(len(m.A)).double()
    call = ProxsuiteQPFunction(structural_feasibility=False, omp_parallel=False)
    x, _, _, s_e, s_i = call(m.Q, p, m.A, b, m.G, m.l, m.h)
    m.penalty = 1e-3 * (s_e.norm(2) + s_i.norm(2))
    return x


@pytest.mark.parametrize("call", [of_optnet, of_qplayer, of_qplayer_learning_feasibility])
def test_sudoku_models_train(call):
    model = Sudoku(call)
    puzzles, target = torch.rand(8, 2, 2, 4).round(), torch.rand(8, 2, 2, 4).round()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-2)
    losses = []
    for _ in range(12):
        optimizer.zero_grad()
        loss = torch.nn.MSELoss()(model(puzzles), target) + getattr(model, "penalty", 0.0)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.95 * losses[0]


Q, P, MATRIX, SIDE = (
    torch.eye(2).double(),
    torch.ones(3, 2).double(),
    torch.ones(4, 2).double(),
    torch.ones(4).double(),
)
QPTH = {"Q": Q, "p": P, "G": MATRIX, "h": SIDE, "A": EMPTY, "b": EMPTY}
PROXSUITE = {"Q": Q, "p": P, "A": EMPTY, "b": EMPTY, "G": MATRIX, "l": -SIDE, "u": SIDE}
WRONG = {
    "Q is no tensor": ({"Q": [[1.0]]}, "Q must be a torch.Tensor, not list"),
    "p is absent": ({"p": None}, "p must be a torch.Tensor, not NoneType"),
    "Q not square": ({"Q": MATRIX}, r"Q must have shape \(2, 2\) .* n = 2 is p's"),
    "G of another width": ({"G": torch.ones(4, 3).double()}, r"G must have shape \(4, 2\)"),
    "b of another length": ({"A": MATRIX, "b": torch.ones(2).double()}, r"b must have shape \(4,\)"),
    "p is a column": ({"p": torch.ones(2, 1).double()}, r"p must have shape \(2,\) or .*p\.squeeze"),
}
SIDES = {
    QpthQPFunction: {"h is short": ({"h": SIDE[:3]}, r"h must have shape \(4,\)")},
    ProxsuiteQPFunction: {"l is absent": ({"l": None}, "l must be a torch.Tensor, not NoneType")},
}


@pytest.mark.parametrize(
    ("function", "case"), [(function, case) for function in SIDES for case in (*WRONG, *SIDES[function])]
)
def test_wrong_calls_speak_of_the_arguments_of_that_library(function, case):
    change, message = {**WRONG, **SIDES[function]}[case]
    given = (QPTH if function is QpthQPFunction else PROXSUITE) | change
    with pytest.raises(ProblemError, match=message):
        function()(*given.values())


@pytest.mark.parametrize("function", SIDES)
@pytest.mark.parametrize("eps", ["small", None, 10**400, float("nan")], ids=["text", "none", "huge", "nan"])
def test_eps_is_a_number(function, eps):
    with pytest.raises(SettingsError, match="eps must be a finite number, not"):
        function(eps=eps)
