"""Every number of the method, once: its meaning, the scale that it is compared in, and where it is from.

The implementations in torch and in Triton import it; C++ gets it as the lines of :func:`cpp`, put before its source
when that is compiled. "Scaled" numbers are compared in the equilibrated problem (Ruiz), "of eps_abs" in the units of
the data. Where no source is named, a number was found by experiment on the families of ``tests/families.py`` and
``tests/hard.py``: ``tests/test_numbers.py`` changes each in turn and asks what notices.
"""

from __future__ import annotations

from enum import IntEnum


class Status(IntEnum):
    """How the solve of one problem ended."""

    SOLVED = 0
    """The problem is feasible and solved to the tolerances."""
    SOLVED_CLOSEST_FEASIBLE = 1
    """The problem is infeasible, and the one with the least shift is solved to the tolerances."""
    MAX_ITERATIONS = 2
    """The problem was not solved in as many Newton steps as it may take."""
    INFEASIBLE = 3
    """The problem is infeasible, and no closest feasible problem was asked for, or there is none."""
    UNBOUNDED = 4
    """The objective decreases without bound."""
    NONFINITE_INPUT = 5
    """The data have a NaN, an infinity where none may be, or a weight that is not positive."""
    NUMERICAL_ERROR = 6
    """H is not positive semidefinite, or no factorization succeeded."""


class Phase(IntEnum):
    """What the inner loop minimises, of one problem."""

    AS_POSED = 0
    SHIFT = 1  # the violation alone, to find the shift
    SHIFTED = 2
    DUAL = 3  # the dual of the multipliers of shifted rows, where that is a phase of its own


RUNNING = -1  # the status of a problem that goes on

ROUNDING = 1e-15  # of the terms of a sum: no residual need be smaller

# ---- the data
ABSENT_SIDE = 1e20  # a side so far out is none, as in OSQP, HiGHS and ProxQP

# ---- equilibration (Ruiz 2001)
ZERO_ROW = 1e-11  # of the largest row or any bound, columns scaled: a smaller row counts as zero, and is not scaled
RUIZ_PASSES = 3  # ten save no more Newton steps
UNIT_POWER = 60  # of two: the unit of x goes no farther, either way

# ---- the inner loop: semi-smooth Newton with an exact line search (ProxQP: Bambade et al., RSS 2022)
LINE_SEARCH_TRIALS = 40
LINE_SEARCH_ACCURACY = 1e-10  # of alpha
ACTIVE_ROUNDING = 1e-14  # of the largest terms of Gx: by so much an inactive row may pass its side in a full step
INNER_FLOOR = 0.1  # of eps_abs: the inner loop need not go below

# ---- multipliers and penalties: the bound-constrained Lagrangian rule of ProxQP, scaled
MU_SHRINK = 0.1  # both penalties, where the multipliers are refused
MU_FLOOR = 1e-8  # below it the step solves with a matrix too ill-conditioned for float64
MU_STALL = 0.5  # of the last primal residual: with more, accepted at the floor, this gives way
MU_LEAST = 1e-14  # the least floor
MU_FLOOR_MIXED = 1e-5  # the same with a factor in float32
ETA_ACCEPT_POWER = 0.9  # the target of the primal residual takes mu_in to this power at each acceptance
ETA_REFUSE_POWER = 0.1  # and restarts from mu_in to this one at a refusal
ETA_MU = 0.5  # the largest mu_in that these powers are taken of: both targets tighten whatever mu_in is
FIRST_ETA_OUT = 1.0  # the first target of the primal residual, and the factor of those after refusals
FIRST_ETA_IN = 1.0  # the first residual that ends the inner loop

# ---- warm starts
START_RESIDUAL = 1.0  # of the inner loop, scaled: about that of zero, so that a start with more is dropped

# ---- trials: the active rows of an inner loop are taken for those of the solution
KNOWN_MU = 1e-6  # both penalties in a trial, and that of equalities in phase SHIFTED
TRIAL_WRONG = 4  # rows that are wrong after the first step of a trial end it

# ---- the proximal term
RHO_SHRINK = 0.1  # where the term is most of the dual residual, and after each inner loop of phase SHIFT
RHO_FLOOR = 1e-10
RHO_STICKY = 0.5  # of the dual residual: a larger proximal term holds x back
RHO_GROWTH = 10.0  # where a factorization fails
RHO_CEILING = 1.0  # beyond it the problem ends as NUMERICAL_ERROR
INDEFINITE = (
    1e-8  # of rho times the smaller mu: above it rows are light, and where the factorization fails H is at fault
)

# ---- suspicion of infeasibility: the increment v of the multipliers has G'v = 0 (Chiche, Gilbert 2016)
SUSPICION = 1e-4  # of the size of v, scaled, on G'v
STAGNANT_SUSPICION = 0.1  # the same where the primal residual stagnates
SUSPECT_VIOLATION = 1e-3  # of what the primal residual may be, where the gap stagnates instead
CALM = 0.3  # what the thresholds are times after each false alarm
STAGNATION = 0.8  # of the primal residual at the last centre

# ---- unboundedness: the last step d of the centre is a ray of descent
RECESSION = 1e-8  # of the size of d, scaled: how far d may approach any side
FLAT = 1e-13  # of the largest entry of H and the square of the size of d, scaled, on d'Hd
RAY_LENGTH = 0.1  # of x, scaled: a shorter d is not yet known from rounding errors
RAY = 0.5  # of the descent that the proximal term predicts along a ray, on g'd

# ---- a little negative curvature
BEND = 16.0  # times the negative curvature that was met is added to H
BEND_CEILING = 1e-5  # of the largest entry of H: one that needs more is indefinite

# ---- phase SHIFT
SHIFT_FIRST_RHO = 1.5e-11  # the proximal term, small as there is no cost that x would run away along
SHIFT_FIRST_RHO_HARD = 0.1  # the same beside hard rows, next to which x would run away where the shifts are flat
SHIFT_RHO = 0.1  # its floor, of that of rho elsewhere
SHIFT_INNER = 1e-6  # residual that ends the inner loop, scaled
SHIFT_STEPS = 100  # after which the search is given up, as rounding errors hide that there is no shift
SHIFT_FLOOR = 0.1  # of the primal tolerance: a smaller shift of a row is none
SHIFT_FEASIBLE = 0.5  # of what the primal residual may be: a point with less is feasible
SHIFT_NEAR = 16.0  # the same: where it is less, rounding errors may be so many times the shift
SHIFT_DOUBT = 1e-3  # of the size of w s, scaled, on G'(w s): with more left by rounding, not at the first alarm
SHIFT_NEAR_DOUBT = 0.03  # the same within SHIFT_NEAR
SHIFT_ACCURACY = 0.01  # of eps_abs, on G'(w s)
SHIFT_BALANCE = 1e-7  # of the size of w s, scaled, on the same

# ---- phase SHIFTED
EXTRA_ACCURACY = 0.01  # of what the residuals may be: the gradients of a shifted problem need it
EXTRA_STEPS = 1  # after which a shifted problem that holds ends without, as rounding may forbid it

# ---- multipliers of shifted rows
DUAL_STEPS = 50  # Newton steps
DUAL_ACCURACY = 0.1  # of eps_abs, on W'z_W = r
DUAL_ROUNDING = 1e-14  # of the largest multiplier, on the same

# ---- least squares in the shifted rows W
FIT_DAMPING = 1e-8  # scaled
FIT_PASSES = 10
FIT_ACCURACY = 1e-14  # of W't, for the residual that ends the passes
HARD_WEIGHT = 1e6  # of a hard row, next to the largest weight
HARD_TOUCHING = 10.0  # times eps_abs: within so much of a side a hard row may press on the shift
HARD_PRESSING = 1e-7  # of the largest w s: a hard row with less does not

# ---- the adjoint: a proximal method of multipliers with one factor
ADJOINT_MU = 1e-8  # scaled: the rows weigh 1 / ADJOINT_MU
ADJOINT_RHO = 1e-8  # scaled
ADJOINT_RHO_GROWTH = 100.0  # where the factorization fails: rho was a rounding error of the heaviest rows
ADJOINT_FACTORS = 5  # that are tried
ADJOINT_PASSES = 10
ADJOINT_ACCURACY = 1e-11  # of the solution, for the last step, scaled

# ---- mixed precision
MIXED_JITTER = 3e-7  # added to the unit diagonal before a factorization in float32
MIXED_CG_STEPS = 4  # conjugate gradients of each solve
MIXED_STEPS = 200  # Newton steps after which float64 takes over

# ---- ADMM (OSQP: Stellato et al., Mathematical Programming Computation 2020, which has the three after the first)
ADMM_RHO = 0.6  # the first penalty, scaled
ADMM_SIGMA = 1e-6  # the weight of the proximal term on the way from the measured point, scaled
ADMM_RELAXATION = 1.6
ADMM_EQUALITY = 1e3  # times rho: the penalty of equalities
ADMM_SIGMA_MIXED = 1e-5  # as ADMM_SIGMA, with iterations in float32
ADMM_FREE = 1e-6  # times rho: the penalty of rows without sides
ADMM_CHECK = 20  # iterations from one measurement to the next; rho is looked at after 1, 2, 4, 8 ... of them
ADMM_APPROACH = (20, 40)  # the same, where the augmented Lagrangian begins with what they find
ADMM_RHO_CHANGE = 1.5  # by so much or more rho moves, either way
ADMM_RHO_SHARE = 0.75  # of the problems that share rho would have a smaller one
ADMM_RHO_RANGE = 1e6  # rho is at most this, and at least its inverse
ADMM_RESIDUAL = 1e-10  # next to its terms: the least that rho follows
ADMM_REACH = 2.0  # times x, scaled: what has no feasible point so near is suspected of having none
ADMM_RAY = 1e-3  # of the size of the increment of x, scaled: by so much a ray may curve, not fall, or approach a side

# ---- the batched torch operations
COMPACT_SHARE = 0.1  # of the batch: when so many have ended, copying the others is cheaper than stepping all

# ---- memory of the C++ kernels
HOST_CHUNK = 32  # rows gathered for one pass over a sum of outer products
BLOCK_CHUNK = 16  # the same on a GPU, in shared memory
VECTORS_OF_X = 24  # of a workspace
VECTORS_OF_ROWS = 37


def cpp() -> str:
    """The numbers and codes as C++17, in the namespace ``qplayer``."""
    numbers = {k: v for k, v in globals().items() if k.isupper() and isinstance(v, (int, float))}
    types = {k: "int" if isinstance(v, int) else "double" for k, v in numbers.items()}
    lines = [f"[[maybe_unused]] constexpr {types[k]} {k} = {v!r};" for k, v in numbers.items()]
    codes = (f"enum {e.__name__} : int {{ {', '.join(f'{c.name} = {c.value}' for c in e)} }};" for e in (Status, Phase))
    return "\n".join(["namespace qplayer {", *codes, *lines, "}  // namespace qplayer\n"])
