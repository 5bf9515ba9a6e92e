// One problem: its sizes, its options, and the memory that its solve works in.
#pragma once

#include "factor.h"
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

namespace qplayer {

enum Status : int {
    RUNNING = -1,
    SOLVED = 0,
    SOLVED_CLOSEST_FEASIBLE = 1,
    MAX_ITERATIONS = 2,
    INFEASIBLE = 3,
    UNBOUNDED = 4,
    NONFINITE_INPUT = 5,
    NUMERICAL_ERROR = 6,
};

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

// Hands out memory, each array on a boundary of 64 bytes; with no memory to hand out it counts.
struct Arena {
    char* base;
    size_t used = 0;
    template <class T>
    T* take(size_t count) {
        char* array = base + used;
        used += (count * sizeof(T) + 63) / 64 * 64;
#ifdef __SANITIZE_ADDRESS__  // nobody may touch what lies between two arrays
        if (base) __asan_poison_memory_region(base + used, 64);
        used += 64;
#endif
        return base ? reinterpret_cast<T*>(array) : nullptr;
    }
};

// Vectors of x are [np], vectors of rows [mp]; see state.h for what they hold.
template <class F>
struct Workspace {
    double *H, *G;                                                         // the matrices, padded
    double *g, *lo, *hi, *w;                                               // as posed
    double *hard;                                                          // 1 where a row is never shifted
    double *D, *E;                                                         // the scaling
    double *x, *x_k, *dx, *Hx, *Hx_k, *Hdx, *metric_x;                     // state and step
    double *z, *z_k, *s, *Gx, *Gx_k, *Gdx, *low, *high;                    // low and high: lo and hi, shifted
    double *metric_rows, *metric_shift, *omega, *omega_inverse, *is_firm;  // is_firm: 1 where mu_eq weighs the row
    double *best_x, *best_z, *best_s;                                      // the best iterate so far
    double *Gz, *push, *violation;                                         // measures
    double *gradient, *diagonal, *v, *z_trial, *active;                    // of a step; active: 1 or 0
    double *t_x, *u_x, *t_m, *u_m;                                         // temporary
    double *q, *target, *seed_x, *seed_z, *seed_s;                         // of the adjoint and of multipliers
    double *in_W, *in_K, *s_W, *beta, *b_s;                                // the same
    double *weights, *member;                                              // of listed rows; 1 where T has the row
    int* list;
    F *S, *T;
    Factor<F> factor;

    QP_FN Workspace(const Sizes& sizes, Arena& arena) {
        const int np = sizes.np(), mp = sizes.mp(), sp = sizes.sp();
        H = arena.take<double>(np * np), G = arena.take<double>(sp * np);
        for (double** a : {&g, &D, &x, &x_k, &dx, &Hx, &Hx_k, &Hdx, &metric_x, &best_x, &Gz, &push, &gradient,
                           &diagonal, &t_x, &u_x, &seed_x, &beta, &b_s})
            *a = arena.take<double>(np);
        for (double** a : {&lo, &hi, &w, &hard, &E, &z, &z_k, &s, &Gx, &Gx_k, &Gdx, &low, &high, &metric_rows,
                           &metric_shift, &omega, &omega_inverse, &is_firm, &best_z, &best_s, &violation, &v, &z_trial,
                           &active, &t_m, &u_m, &q, &target, &seed_z, &seed_s, &in_W, &in_K, &s_W, &weights, &member})
            *a = arena.take<double>(mp);
        list = arena.take<int>(sp);
        S = arena.take<F>(np * np), T = arena.take<F>(np * np);
        factor = {sizes.n,
                  np,
                  arena.take<F>(np * np),
                  arena.take<F>(np * np),
                  arena.take<F>(np),
                  arena.take<F>(CHUNK * np),
                  arena.take<F>(CHUNK * np)};
    }

    static size_t bytes(const Sizes& sizes) {
        Arena arena{nullptr};
        Workspace counted(sizes, arena);
        return arena.used;
    }
};

// What all parts of one problem's solve share.
template <class F>
struct Problem {
    Block block;
    Sizes sizes;
    Options options;
    Matrices matrices;
    Workspace<F>& work;
    bool has_hard = false;     // whether some rows are never shifted
    double c = 1;              // cost scale
    double log_mean_w = 0;     // mean of log w
    double row_unit = 1;       // brings w to about E^2, the weights of equilibrated rows
};

}  // namespace qplayer
