// The multipliers of the rows W that an infeasible problem shifts, and the dual that makes them unique: see
// kernels/reference/multipliers.py.
#pragma once

#include "least_squares.h"
#include "newton.h"
#include "outer.h"

namespace qplayer {

// The dual as a problem without H, started at beta; r takes the place of beta, -r in unit weights that of g.
template <class F>
__device__ State begin_dual(Problem<F>& p) {
    QP_PARTS(p);
    copy(block, work.x, work.beta, mat.np);
    set(block, work.z, mat.mp, 0);
    set(block, work.s, mat.mp, 0);
    QP_EACH(i, mat.mp) store(work.t_m + i, pick(load(work.in_W + i) != 0, load(work.q + i), all(0)));
    block.sync();
    columns(block, p.matrices, work.t_m, work.beta);
    QP_EACH(j, mat.np) store(work.g + j, -p.row_unit * load(work.beta + j));
    block.sync();
    State st = begin(p);
    st.mu_eq = st.mu_in = 1;
    QP_EACH(j, mat.np) {
        Pack D = load(work.D + j);
        store(work.metric_x + j, 1 / (D * D));
    }
    QP_EACH(i, mat.mp) {
        Mask in = load(work.in_W + i) != 0, equality = load(work.lo + i) == load(work.hi + i);
        Pack s = load(work.s_W + i);
        store(work.low + i, pick(in & (equality | (s < 0)), all(0), all(-INFINITY)));
        store(work.high + i, pick(in & (equality | (s > 0)), all(0), all(INFINITY)));
        store(work.metric_rows + i, p.row_unit * load(work.w + i));
    }
    block.sync();
    mark_firm_rows(p);
    set_omega(p, st);
    return st;
}

// From beta, and the shifts in s_W: the multipliers w d in q, on W; whether they were found. Takes the place of
// the state.
template <class F>
__device__ bool solve_dual(Problem<F>& p) {
    QP_PARTS(p);
    Problem<F> dual = p;
    dual.matrices.H = nullptr;
    copy(block, work.u_x, work.g, mat.np);
    State st = begin_dual(dual);
    bool found = false;
    for (int step = 0; step < DUAL_STEPS && !found; step++) {
        newton_step(dual, st);
        copy(block, work.x_k, work.x, mat.np);
        columns(block, p.matrices, work.z, work.Gz);
        Most rest;
        QP_EACH(j, mat.np) rest.add(load(work.Gz + j) / p.row_unit - load(work.beta + j));
        double size = largest(block, mat.mp, [&](int i) { return load(work.z + i); }) / p.row_unit;
        found = rest.value(block) <= DUAL_ACCURACY * p.options.eps_abs + DUAL_ROUNDING * size;
    }
    QP_EACH(i, mat.mp)
    store(work.q + i, pick(load(work.in_W + i) != 0, load(work.z + i) / p.row_unit, load(work.q + i)));
    copy(block, work.g, work.u_x, mat.np);
    return found;
}

// From the answer x, z, s in the state: writes z with the multipliers of W made unique, where these leave the residuals
// within the tolerances. Elsewhere they stay as the solve found them; their signs may be those of equalities.
template <class F>
QP_PART void settle_multipliers(const Problem<F>& posed, Measure& answered) {
    Problem<F> p = posed;  // whose weights are not those of the next problem
    QP_PARTS(p);
    copy(block, work.grad_x, work.x, mat.np);  // the answer, while the dual takes the state
    copy(block, work.grad_z, work.z, mat.mp);
    copy(block, work.grad_s, work.s, mat.mp);
    shifted_rows(p, work.grad_x, work.grad_s);
    if (!factor_shifted(p, work.in_W)) return;
    QP_EACH(i, mat.mp) store(work.target + i, load(work.z + i) / load(work.w + i));
    block.sync();
    fit(p, work.in_W, work.target, work.beta, work.v);
    Any wrong;
    QP_EACH(i, mat.mp) {
        Mask in = load(work.in_W + i) != 0, equality = load(work.lo + i) == load(work.hi + i);
        Pack z = pick(in, load(work.w + i) * load(work.v + i), load(work.z + i));
        store(work.q + i, z);
        wrong.add(in & no(equality) & (z * load(work.s_W + i) < 0));
    }
    block.sync();
    bool found = !wrong.value(block) || solve_dual(p);
    copy(block, work.x, work.grad_x, mat.np);
    copy(block, work.s, work.grad_s, mat.mp);
    copy(block, work.z, work.grad_z, mat.mp);
    if (!found) return;
    copy(block, work.z, work.q, mat.mp);
    State st = begin(p);  // products at x
    st.phase = SHIFTED;
    copy(block, work.z, work.q, mat.mp);
    copy(block, work.s, work.grad_s, mat.mp);
    shift_sides(p, work.s);
    Measure at;
    measure(p, st, at);
    if (at.hold()) {
        answered.dual = at.dual, answered.gap = at.gap;
    } else {
        copy(block, work.z, work.grad_z, mat.mp);
    }
}

}  // namespace qplayer
