// Least squares in the rows W that an infeasible problem shifts, of whatever rank they are.
#pragma once

#include "measure.h"

namespace qplayer {

// The factor of H (unless it is null) + diag(diagonal) + G' diag(weight) G, with weights of all rows, many of them 0.
template <class F>
__device__ bool factor_rows(Problem<F>& p, const double* H, const double* weight) {
    QP_PARTS(p);
    p.H_in_K = H;
    if (IS_SINGLE<F>) copy(block, work.factored, weight, mat.mp);
    const int count = list_those(block, mat.stored, work.list, [&](int i) { return weight[i] != 0; });
    clear(block, work.factor, work.S);
    add_rows(block, work.factor, p.matrices, work.S, work.list, count, [&](int i) { return weight[i]; });
    if (mat.mp > mat.sp) QP_EACH_NUMBER(j, mat.n) work.diagonal[j] += weight[mat.sp + j];
    block.sync();
    return factorize(block, work.factor, Terms<F>{H, work.S, 1, work.S, 0, work.diagonal});
}

// The factor for fits to the rows W, 1 where `in_W` has them: W' diag(w) W + damping. The rows weigh as their shifts do:
// any other weights, also those of equilibration, would leave the range of W.
template <class F>
QP_PART bool factor_shifted(Problem<F>& p, const double* in_W) {
    QP_PARTS(p);
    QP_EACH(j, p.matrices.np) {
        Pack D = load(work.D + j);
        store(work.diagonal + j, FIT_DAMPING / (D * D));
    }
    QP_EACH(i, p.matrices.mp) store(work.t_m + i, p.row_unit * load(work.w + i) * load(in_W + i));
    block.sync();
    return factor_rows(p, nullptr, work.t_m);
}

// b = argmin sum_W w_i (W b - t)_i^2 by proximal passes with that factor; fitted gets G b.
template <class F>
QP_PART void fit(Problem<F>& p, const double* in_W, const double* t, double* b, double* fitted) {
    QP_PARTS(p);
    set(block, b, mat.np, 0);
    set(block, fitted, mat.mp, 0);
    double goal = 0;
    for (int pass = 0; pass <= FIT_PASSES; pass++) {
        QP_EACH(i, mat.mp) {
            Pack rest = p.row_unit * load(work.w + i) * (load(t + i) - load(fitted + i));
            store(work.u_m + i, pick(load(in_W + i) != 0, rest, all(0)));
        }
        block.sync();
        columns(block, p.matrices, work.u_m, work.u_x);
        double residual = largest(block, mat.np, [&](int j) { return load(work.u_x + j); });
        if (pass == 0) goal = FIT_ACCURACY * residual;
        if (pass == FIT_PASSES || (pass > 0 && residual <= goal)) break;
        solve(p, work.u_x);
        QP_EACH(j, mat.np) store(b + j, load(b + j) + load(work.u_x + j));
        block.sync();
        rows(block, p.matrices, b, fitted);
    }
}

// Adds to W the hard rows that press on the shift (W'(w s) + T'lambda = 0), with a weight so large that their
// w s = lambda is finite and their shift, in s_W, is next to nothing. Changes w and row_unit; x as the answer has it.
template <class F>
__device__ void add_pressing_rows(Problem<F>& p, const double* x) {
    QP_PARTS(p);
    const double heavy = HARD_WEIGHT * largest(block, mat.mp, [&](int i) { return load(work.w + i); });
    const double size =
        largest(block, mat.mp, [&](int i) { return load(work.w + i) * load(work.s_W + i); });
    rows(block, p.matrices, x, work.Gx);
    double log_growth = 0;
    QP_EACH_NUMBER(i, mat.mp) {
        const double distance = fmin(fabs(work.Gx[i] - work.lo[i]), fabs(work.hi[i] - work.Gx[i]));
        const bool touches = work.hard[i] != 0 && distance <= HARD_TOUCHING * p.options.eps_abs;
        work.target[i] = -work.s_W[i];
        work.in_K[i] = touches;
        if (!touches) continue;
        log_growth += log(heavy / work.w[i]);
        work.w[i] = heavy, work.in_W[i] = 1;
    }
    p.row_unit *= exp(-block.sum(log_growth) / p.sizes.m());
    block.sync();
    factor_shifted(p, work.in_W);
    fit(p, work.in_W, work.target, work.beta, work.v);
    QP_EACH(i, mat.mp) {
        Pack pressed = load(work.v + i);
        Mask touches = load(work.in_K + i) != 0, presses = magnitude(load(work.w + i) * pressed) > HARD_PRESSING * size;
        store(work.s_W + i, pick(touches, pick(presses, pressed, all(0)), load(work.s_W + i)));
        store(work.in_W + i, pick(touches & no(presses), all(0), load(work.in_W + i)));
    }
    block.sync();
}

// in_W gets 1 on W: the rows that are shifted and, where there is one, the equalities, with their shifts in s_W; and
// the hard rows that press on them. Whether there is one. Given the answer's x and s.
template <class F>
QP_PART bool shifted_rows(Problem<F>& p, const double* x, const double* s) {
    QP_PARTS(p);
    if (!any(block, p.matrices.mp, [&](int i) { return load(s + i) != 0; })) {
        set(block, work.in_W, p.matrices.mp, 0);
        set(block, work.s_W, p.matrices.mp, 0);
        return false;
    }
    QP_EACH(i, p.matrices.mp) {
        Mask in = (load(work.lo + i) == load(work.hi + i)) | (load(s + i) != 0);
        store(work.in_W + i, pick(in & (load(work.hard + i) == 0), all(1), all(0)));
        store(work.s_W + i, load(s + i));
    }
    block.sync();
    if (p.has_hard) add_pressing_rows(p, x);
    return true;
}

}  // namespace qplayer
