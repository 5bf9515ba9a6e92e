"""The places of a problem's vectors and numbers in its scratch, which the kernels read as ``slots.X``.

A name that the formulas have keeps it: ``X_K`` is x_k, the centre of the proximal term, ``HX`` is H x.
"""

# ---- vectors of columns
X, X_K, HX, HX_K, DX, HDX = range(6)  # DX is a step
COST, COST_POSED = range(6, 8)  # g, in phase DUAL that of the dual
D, METRIC_X = range(8, 10)  # equilibration, 1 / (c D^2)
GZ = 10  # the last G'z, of any z
RIGHT = 11  # a right-hand side
SOLUTION, FACTOR_SCALE = range(12, 14)  # of the factor; SOLUTION has the right-hand side before
BETA = 14  # of a fit
BEST_X = 15  # the best iterate so far, for a problem that stops early, and the answer
COLUMNS = 16

# ---- vectors of rows
Z, Z_K, S, GX, GX_K, GDX = range(6)
LO, HI, LOW, HIGH = range(6, 10)  # the sides as they are posed, and shifted
VIOLATION, OMEGA = range(10, 12)  # of the shifted sides, and its weights
SHIFT_WEIGHT, IS_HARD = range(12, 14)  # w, and 1 where a row is never shifted
E = 14  # equilibration
ROW_WEIGHT, FACTORED_WEIGHT = range(15, 17)  # t, weights of the rows in the system that is solved, and in the factor
V = 17
PULL = 18  # multiplied by G' next
IN_W, S_W = range(19, 21)  # 1 where a row is among those that an infeasible problem shifts, and their shifts
PUSHES = Z_K  # in the adjoint, 1 where a row of IN_W has a multiplier that is not 0
TARGET, FITTED = range(21, 23)  # of a fit
Q = 23  # multipliers that are searched
BEST_Z, BEST_S = range(24, 26)
SEEN = 26  # tells which rows are active: V, but at first in a trial that of the penalties before
ROWS = 27

# ---- numbers
EPS_ABS, EPS_REL, FIRST_MU_EQ, FIRST_MU_IN, FIRST_RHO, CLOSEST_FEASIBLE = range(6)  # the options
C_SCALE = 6  # c, of the cost
SHIFT_UNIT = 7  # the weight in phase SHIFT of a row with w = 1
MU_EQ, MU_IN, ETA_OUT, ETA_IN, PRIMAL_K, ENTERED, EXTRA = range(8, 15)  # as in the reference's State
BEST_PRIMAL, BEST_DUAL, BEST_GAP, BEST_WORST = range(15, 19)  # the last is the worst next to its tolerance
FACTORED_SIGMA, FACTORED_RHO, IS_DEFINITE = range(19, 22)  # of the factor; 1 where there is one
H_SIZE = 22  # the largest entry of c D H D, 0 without H
BEND, IS_SETTLED, MU_FLOOR, RHO_FLOOR, CALM = range(23, 28)  # as in the reference's State
IS_KEPT, MU_EQ_K, MU_IN_K = range(28, 31)  # the same
WRONG = 31  # rows that were wrong after the last step of a trial, -1 before its first, 0 where there is no trial
NUMBERS = 32
