// Solves with K: the factor itself, or conjugate gradients that it preconditions.
#pragma once

#include "problem.h"

namespace qplayer {

// y = (the factor's K)^-1 r; dx may be where the factor has its right-hand side, and is solved with there.
template <class F>
__device__ void apply_factor(Problem<F>& p, const double* r, double* y) {
    Block block = p.block;
    const Factor<F>& f = p.work.factor;
    bool in_place = false;
    if constexpr (!IS_SINGLE<F>) in_place = r == f.r;
    QP_ROLLED for (int j = (in_place ? f.n : 0) + block.rank; j < f.np; j += block.size) {
        double number = j < f.n ? r[j] : 0;
        if constexpr (IS_SINGLE<F>) number *= j < f.n ? f.scale[j] : 0;
        f.r[j] = F(number);
    }
    block.sync();
    substitute(block, f);
    if (in_place) return;
    QP_EACH_NUMBER(j, f.n) {
        y[j] = f.r[j];
        if constexpr (IS_SINGLE<F>) y[j] *= f.scale[j];
    }
    block.sync();
}

// y = K x, in double precision.
template <class F>
__device__ void multiply_K(Problem<F>& p, const double* x, double* y) {
    QP_PARTS(p);
    Matrices in_K = mat;
    in_K.H = p.H_in_K;
    rows(block, p.matrices, x, work.cg_rows);
    QP_EACH(i, mat.mp)
    store(work.cg_rows + i, i < mat.sp ? load(work.cg_rows + i) * load(work.factored + i) : all(0));
    block.sync();
    columns(block, p.matrices, work.cg_rows, work.cg_step);
    hessian(block, in_K, x, y);
    QP_EACH(j, mat.np)
    store(y + j, load(y + j) + load(work.cg_step + j) + load(work.diagonal + j) * load(x + j));
    block.sync();
}

QP_FN double dot(Block block, const double* a, const double* b, int count) {
    Sum sum;
    QP_EACH(j, count) sum.add(load(a + j) * load(b + j));
    return sum.value(block);
}

// r <- K^-1 r, where the diagonal of K is `diagonal`, its H is H_in_K and the stored rows weigh `factored` in it.
template <class F>
__device__ void solve(Problem<F>& p, double* r) {
    if constexpr (!IS_SINGLE<F>) {
        apply_factor(p, r, r);
    } else {
        Block block = p.block;
        Workspace<F>& work = p.work;
        const int np = p.matrices.np;
        double before = 0;
        set(block, work.cg_x, np, 0);
        set(block, work.cg_direction, np, 0);
        for (int step = 0; step < MIXED_CG_STEPS; step++) {
            apply_factor(p, r, work.cg_step);
            const double now = dot(block, r, work.cg_step, np), beta = before > 0 ? now / before : 0;
            QP_EACH(j, np)
            store(work.cg_direction + j, load(work.cg_step + j) + beta * load(work.cg_direction + j));
            block.sync();
            multiply_K(p, work.cg_direction, work.cg_image);
            const double curvature = dot(block, work.cg_direction, work.cg_image, np);
            const double alpha = curvature > 0 ? now / curvature : 0;
            QP_EACH(j, np) {
                store(work.cg_x + j, load(work.cg_x + j) + alpha * load(work.cg_direction + j));
                store(r + j, load(r + j) - alpha * load(work.cg_image + j));
            }
            block.sync();
            before = now;
        }
        copy(block, r, work.cg_x, np);
    }
}

}  // namespace qplayer
