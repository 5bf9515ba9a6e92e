// One problem: its sizes, its options, and the memory that its solve works in.
#pragma once

#include "factor.h"

namespace qplayer {

struct Options {
    double eps_abs, eps_rel, mu_eq, mu_in, rho;
    int64_t max_iter;
    int32_t equilibrate, closest_feasible;
};

struct Sizes {
    int n, n_eq, n_in, bounded;
    QP_FN int np() const { return padded(n); }
    QP_FN int stored() const { return n_eq + n_in; }
    QP_FN int sp() const { return padded(stored()); }
    QP_FN int mp() const { return sp() + (bounded ? np() : 0); }
    QP_FN int m() const { return stored() + (bounded ? n : 0); }
};

// A vector from the memory that is near where that holds it.
QP_CALL double* vector(int length, Arena& arena, Arena& near) {
    return (near.holds<double>(length) ? near : arena).take<double>(length);
}

// Vectors of x are [np], vectors of rows [mp]; see state.h for what they hold.
template <class F>
struct Workspace {
    double *H, *G;                                                         // the matrices, padded
    double *g, *lo, *hi, *w;                                               // as posed
    double *hard;                                                          // 1 where a row is never shifted
    double *D, *E, *D_inverse, *E_inverse;                                 // the scaling
    double *x, *x_k, *dx, *Hx, *Hx_k, *Hdx, *metric_x;                     // state and step
    double *z, *z_k, *s, *Gx, *Gx_k, *Gdx, *low, *high;                    // low and high: lo and hi, shifted
    double *metric_rows, *metric_shift, *omega, *omega_inverse, *is_firm;  // is_firm: 1 where mu_eq weighs the row
    double *best_x, *best_z, *best_s;                                      // the best iterate so far
    double *Gz, *push, *violation;                                         // measures
    double *gradient, *diagonal, *v, *z_trial, *side;                      // of a step; side: see newton.h
    double *t_x, *u_x, *t_m, *u_m;                                         // temporary
    double *q, *target, *grad_x, *grad_z, *grad_s;                         // of the adjoint and of multipliers
    double *in_W, *in_K, *s_W, *beta, *b_s;                                // the same
    double *member;                                                        // 1 where T has the row
    double *factored;                                                      // weights of the stored rows in K
    double *cg_x, *cg_step, *cg_image, *cg_direction, *cg_rows;            // of conjugate gradients
    int* list;
    F *S, *T;
    Factor<F> factor;

    // Takes the arrays from the memory at hand; what the factor is made and used in, and perhaps itself, from `near`, and
    // of the vectors as many as that holds. Those that a step waits for longest come first.
    __device__ void take(const Sizes& sizes, Arena& arena, Arena& near, bool factor_is_near) {
        const int np = sizes.np(), mp = sizes.mp(), sp = sizes.sp();
        if constexpr (LANES > 1) H = arena.take<double>(np * np), G = arena.take<double>(sp * np);
        S = arena.take<F>(Factor<F>::square(sizes.n)), T = arena.take<F>(Factor<F>::square(sizes.n));
        factor.take(sizes.n, factor_is_near ? near : arena, near);
        list = (near.holds<int>(sp) ? near : arena).take<int>(sp);
        const auto of_x = [&](auto&... vectors) { ((vectors = vector(np, arena, near)), ...); };
        const auto of_rows = [&](auto&... vectors) { ((vectors = vector(mp, arena, near)), ...); };
        of_rows(omega, low, high, Gdx, v);
        of_x(x);
        of_rows(t_m, E_inverse, Gx);
        of_x(Hx);
        of_rows(side, s, member, z, z_k);
        of_x(g, D_inverse, metric_x, x_k);
        of_rows(E, is_firm, violation, z_trial, metric_rows);
        of_x(Gz, D, Hdx, diagonal, t_x, gradient);
        of_rows(omega_inverse, q, u_m, target, in_W, in_K);
        of_x(Hx_k, best_x, push, u_x, grad_x, beta, b_s, cg_x, cg_step, cg_image, cg_direction, dx);
        of_rows(lo, hi, w, hard, Gx_k, best_z, best_s, metric_shift, grad_z, grad_s, s_W, factored, cg_rows);
        if constexpr (LANES == 1 && !IS_SINGLE<F>) dx = factor.r;  // what is solved for most often, where it is solved
    }
};

// What all parts of one problem's solve share.
template <class F>
struct Problem {
    Block block;
    Sizes sizes;
    const Options& options;
    Matrices matrices;
    Workspace<F>& work;
    const double* H_in_K = nullptr;  // of the factor; null where K has none
    bool has_hard = false;           // whether some rows are never shifted
    double c = 1;                    // cost scale
    double unit = 1;                 // of x: D and E have it
    double mean_log_w = 0;
    double mean_log_E = 0;
    double h = 0;  // largest entry of c D H D
    double row_unit = 1;  // brings w to about E^2, the weights of equilibrated rows
};

// What most functions take of a problem.
#define QP_PARTS(p)                                      \
    [[maybe_unused]] const Block block = p.block;        \
    [[maybe_unused]] const Matrices mat = p.matrices;    \
    [[maybe_unused]] Workspace<F>& work = p.work

}  // namespace qplayer
