// The backward solve: the adjoint of the optimality conditions, in the least-squares sense where they lose rank. Its
// formulas are in kernels/reference/adjoint.py.
#pragma once

#include "least_squares.h"

namespace qplayer {

// The weights of the rows in t_m, and the factor of H + P + G' diag(weights) G, with a larger P where it would be less
// than a rounding error of the heaviest rows.
template <class F>
__device__ void factor_saddle_point(Problem<F>& p) {
    QP_PARTS(p);
    QP_EACH(i, p.matrices.mp) {
        Pack E = load(work.E + i), shifted = p.row_unit * load(work.w + i);
        Pack weight = pick(load(work.in_W + i) != 0, shifted, load(work.in_K + i) * E * E);
        store(work.t_m + i, weight / (p.c * ADJOINT_MU));
    }
    double rho = ADJOINT_RHO;
    for (int tried = 0; tried < ADJOINT_FACTORS; tried++, rho *= ADJOINT_RHO_GROWTH) {
        QP_EACH(j, p.matrices.np) {
            Pack D = load(work.D + j);
            store(work.diagonal + j, rho / (p.c * D * D));
        }
        block.sync();
        if (factor_rows(p, p.matrices.H, work.t_m)) break;
    }
}

// Solves H b + G_S'q = r, G_S b = target on S = W + K: r in push, b in x, q in q.
//
// A proximal method of multipliers with one factor. Started at q = 0, it keeps q_W in the range of w W, provided that
// these rows weigh as their shifts do. Where the system is singular, each pass adds the same step along the null space;
// taking these steps back leaves the least-squares solution.
template <class F>
__device__ void saddle_point(Problem<F>& p) {
    QP_PARTS(p);
    factor_saddle_point(p);
    set(block, work.x, mat.np, 0);
    set(block, work.q, mat.mp, 0);
    set(block, work.Hx, mat.np, 0);
    QP_EACH(i, mat.mp) store(work.v + i, -load(work.target + i));
    block.sync();
    double passes = 0;
    for (bool moving = true; moving && passes < ADJOINT_PASSES;) {
        passes++;
        QP_EACH(i, mat.mp) store(work.u_m + i, load(work.q + i) + load(work.t_m + i) * load(work.v + i));
        block.sync();
        columns(block, p.matrices, work.u_m, work.Gz);
        QP_EACH(j, mat.np) store(work.dx + j, load(work.push + j) - load(work.Hx + j) - load(work.Gz + j));
        block.sync();
        solve(p, work.dx);
        Most size_x, size_q, moved_x, moved_q;
        QP_EACH(j, mat.np) {
            Pack step = load(work.dx + j), x = load(work.x + j) + step, D = load(work.D + j);
            store(work.x + j, x);
            size_x.add(x / D), moved_x.add(step / D);
        }
        block.sync();
        hessian(block, p.matrices, work.x, work.Hx);
        rows(block, p.matrices, work.dx, work.Gdx);
        QP_EACH(i, mat.mp) {
            Mask in = (load(work.in_W + i) != 0) | (load(work.in_K + i) != 0);
            Pack v = load(work.v + i) + pick(in, load(work.Gdx + i), all(0)), E = load(work.E + i);
            Pack step = load(work.t_m + i) * v, q = load(work.q + i) + step;
            store(work.v + i, v), store(work.q + i, q), store(work.u_m + i, step);
            size_q.add(p.c * q / E), moved_q.add(p.c * step / E);
        }
        block.sync();
        double size = size_x.value(block) + size_q.value(block), moved = moved_x.value(block) + moved_q.value(block);
        moving = !(moved <= ADJOINT_ACCURACY * size);
    }
    QP_EACH(j, mat.np) store(work.x + j, load(work.x + j) - passes * load(work.dx + j));
    QP_EACH(i, mat.mp) store(work.q + i, load(work.q + i) - passes * load(work.u_m + i));
    block.sync();
}

// W, P (which pushes, in z_k) and K, the right-hand side grad_x in push, the target on K, z / w in v; whether the problem
// is infeasible.
template <class F>
__device__ bool prepare_adjoint(Problem<F>& p) {
    QP_PARTS(p);
    const bool infeasible = shifted_rows(p, work.x, work.s);
    const double most = largest(block, mat.mp, [&](int i) { return load(work.z + i) / load(work.E + i); });
    const double widest = largest(block, mat.np, [&](int j) { return 1 / load(work.D + j); });
    const double least = ROUNDING * most + p.options.eps_abs / widest;  // a multiplier that counts, scaled
    QP_EACH(i, mat.mp) {
        Mask in_W = load(work.in_W + i) != 0, equality = load(work.lo + i) == load(work.hi + i);
        Pack z = load(work.z + i), grad_z = load(work.grad_z + i);
        Mask active = equality | (magnitude(z / load(work.E + i)) > least);
        Pack in_K = pick(no(in_W) & active, all(1), all(0));
        store(work.in_K + i, in_K);
        store(work.z_k + i, pick(equality | (z != 0), load(work.in_W + i), all(0)));
        store(work.target + i, in_K * grad_z);
        store(work.v + i, z / load(work.w + i));
    }
    block.sync();
    set(block, work.beta, mat.np, 0);
    set(block, work.b_s, mat.np, 0);
    copy(block, work.push, work.grad_x, mat.np);
    return infeasible;
}

// From x, z, s and the cotangents in the workspace; writes b_x to x, p to z_trial, z to z, w s to s, b_s to b_s, q_z to z_k,
// b_z to beta.
template <class F>
__device__ void adjoint(Problem<F>& posed, bool same_matrices) {
    measure_scaling(posed, same_matrices);
    Problem<F> p = posed;  // whose weights are not those of the next problem
    QP_PARTS(p);
    const bool infeasible = prepare_adjoint(p);
    if (infeasible) {
        factor_shifted(p, work.z_k);
        fit(p, work.z_k, work.v, work.beta, work.Gx);
        fit(p, work.z_k, work.grad_z, work.b_s, work.Gdx);
        QP_EACH(i, mat.mp) {
            Mask in_W = load(work.in_W + i) != 0;
            Pack z = load(work.z_k + i) * load(work.w + i) * load(work.Gx + i);
            store(work.z + i, pick(in_W, z, load(work.z + i)));
            store(work.target + i, pick(in_W, load(work.Gdx + i), load(work.target + i)));
        }
        block.sync();
    }
    set(block, work.z_trial, mat.mp, 0);
    saddle_point(p);
    if (infeasible) {
        factor_shifted(p, work.in_W);
        QP_EACH(i, mat.mp) {
            store(work.v + i, load(work.q + i) / load(work.w + i));
            store(work.s + i, load(work.grad_s + i) / load(work.w + i));
        }
        block.sync();
        fit(p, work.in_W, work.v, work.gradient, work.Gx);
        fit(p, work.in_W, work.s, work.b_s, work.z_trial);
        QP_EACH(j, mat.np) store(work.b_s + j, load(work.b_s + j) + load(work.gradient + j));
    }
    QP_EACH(i, mat.mp) {
        Pack in_W = load(work.in_W + i);
        store(work.s + i, load(work.w + i) * load(work.s_W + i));
        Pack followed = load(work.w + i) * load(work.z_trial + i);
        store(work.z_trial + i, load(work.q + i) + in_W * (followed - load(work.grad_s + i)));
        store(work.z_k + i, load(work.z_k + i) * load(work.w + i) * (load(work.grad_z + i) - load(work.target + i)));
    }
    block.sync();
}

}  // namespace qplayer
