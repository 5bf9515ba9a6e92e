// Least squares in the rows W that an infeasible problem shifts, of whatever rank they are.
#pragma once

#include "measure.h"

namespace qplayer {

constexpr double DAMPING = 1e-8;  // scaled
constexpr int FIT_PASSES = 10;
constexpr double FIT_ACCURACY = 1e-14;  // of W't, for the residual that ends the passes

// in_W gets 1 on W: the rows with s != 0 and, where there is one, all equalities; whether there is one.
template <class F>
bool shifted_set(Problem<F>& p, const double* s) {
    Block block = p.block;
    Workspace<F>& work = p.work;
    const bool infeasible = any(block, p.matrices.mp, [&](int i) { return load(s + i) != 0; });
    QP_EACH(i, p.matrices.mp) {
        Mask in = (load(work.lo + i) == load(work.hi + i)) | (load(s + i) != 0);
        store(work.in_W + i, infeasible ? pick(in, all(1), all(0)) : all(0));
    }
    block.sync();
    return infeasible;
}

// The factor of H (unless it is null) + diag(diagonal) + G' diag(weight) G, with weights of all rows, many of them 0.
template <class F>
bool factor_rows(Problem<F>& p, const double* H, const double* weight) {
    Block block = p.block;
    const Matrices& mat = p.matrices;
    Workspace<F>& work = p.work;
    int count = 0;
    for (int i = 0; i < mat.stored; i++) {
        work.list[count] = i, work.weights[count] = weight[i];
        count += weight[i] != 0;
    }
    clear(block, work.S, mat.np * mat.np);
    add_rows(block, work.factor, mat.G, work.S, work.list, work.weights, count);
    if (mat.mp > mat.sp) QP_EACH_NUMBER(j, mat.n) work.diagonal[j] += weight[mat.sp + j];
    block.sync();
    return factorize(block, work.factor, Terms<F>{H, work.S, 1, nullptr, 0, work.diagonal});
}

// The factor for fits: W' diag(w) W + damping. The rows weigh as their shifts do: any other weights, also those of
// equilibration, would leave the range of W.
template <class F>
bool factor_shifted(Problem<F>& p) {
    Block block = p.block;
    Workspace<F>& work = p.work;
    QP_EACH(j, p.matrices.np) {
        Pack D = load(work.D + j);
        store(work.diagonal + j, DAMPING / (D * D));
    }
    QP_EACH(i, p.matrices.mp) store(work.t_m + i, p.row_unit * load(work.w + i) * load(work.in_W + i));
    block.sync();
    return factor_rows(p, nullptr, work.t_m);
}

// b = argmin sum_W w_i (W b - t)_i^2 by proximal passes with that factor; fitted gets G b.
template <class F>
void fit(Problem<F>& p, const double* t, double* b, double* fitted) {
    Block block = p.block;
    const Matrices& mat = p.matrices;
    Workspace<F>& work = p.work;
    set(block, b, mat.np, 0);
    set(block, fitted, mat.mp, 0);
    double goal = 0;
    for (int pass = 0; pass <= FIT_PASSES; pass++) {
        QP_EACH(i, mat.mp) {
            Pack rest = p.row_unit * load(work.w + i) * (load(t + i) - load(fitted + i));
            store(work.u_m + i, pick(load(work.in_W + i) != 0, rest, all(0)));
        }
        block.sync();
        columns(block, mat, work.u_m, work.u_x);
        double residual = largest(block, mat.np, [&](int j) { return load(work.u_x + j); });
        if (pass == 0) goal = FIT_ACCURACY * residual;
        if (pass == FIT_PASSES || (pass > 0 && residual <= goal)) break;
        solve(block, work.factor, work.u_x);
        QP_EACH(j, mat.np) store(b + j, load(b + j) + load(work.u_x + j));
        block.sync();
        rows(block, mat, b, fitted);
    }
}

}  // namespace qplayer
