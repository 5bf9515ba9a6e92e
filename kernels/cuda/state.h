// The iterates, multipliers and penalties of the problem that is being solved.
#pragma once

#include "linear.h"
#include "scaling.h"

namespace qplayer {

struct State {
    int phase = AS_POSED;
    int status = RUNNING;
    int64_t steps = 0;
    int64_t entered = 0;  // the step at which the phase began
    int64_t extra = 0;    // steps made since the shifted problem was solved
    bool is_shifted = false;
    bool sums_are_old = true;      // S and T belong to another phase, or hold too many rounding errors
    bool sums_are_updated = false;  // T has lost rows since it was built
    double factored_a = NAN, factored_b = NAN;  // what S and T weigh in the K that the factor is of
    double primal_k = INFINITY;    // primal residual at x_k
    double shift_unit;               // the weight in phase SHIFT of a row with w = 1
    double mu_eq, mu_in, rho;
    double mu_floor, rho_floor;      // below which they do not shrink
    double bend = 0;                 // what is added to H, in the metric of x, where that is a little indefinite
    double calm = 1;                 // what the thresholds of suspicion are times, less after each false alarm
    bool settled = false;            // the last step had a factor, or there is a start: else nothing is solved yet
    bool kept = false;               // the last step was full, and left the active rows as they were
    bool trial = false;              // the active rows are being tried as those of the solution
    int wrong = -1;                  // rows that were wrong after the last step of the trial, -1 before its first
    double mu_eq_k, mu_in_k;         // the penalties before the trial
    double eta_out = FIRST_ETA_OUT;  // primal residual that accepts the multipliers, scaled
    double eta_in = FIRST_ETA_IN;    // residual that ends the inner loop, scaled
    double accepted_mu = NAN, tightening;  // mu at the last acceptance, and what eta_out is times at one
};

// The accepted multipliers; in phase SHIFT only hard rows have some, those of a start wait in z_k.
template <class F>
QP_FN Pack multipliers(const Workspace<F>& work, const State& st, int i) {
    Pack z = load(work.z_k + i);
    return st.phase == SHIFT ? pick(load(work.hard + i) != 0, z, all(0)) : z;
}

// The weight of each row's violation: E^2 / (c mu), and in phase SHIFT that of its shift, if it may shift.
template <class F>
__device__ void set_omega(Problem<F>& p, const State& st) {
    QP_PARTS(p);
    const bool searches = st.phase == SHIFT;
    QP_EACH(i, p.matrices.mp) {
        Pack mu_inverse = pick(load(work.is_firm + i) != 0, all(1 / st.mu_eq), all(1 / st.mu_in));
        Pack omega = load(work.metric_rows + i) * mu_inverse;
        if (searches) omega = pick(load(work.hard + i) != 0, omega, load(work.metric_shift + i));
        store(work.omega + i, omega);
        store(work.omega_inverse + i, 1 / omega);
    }
    block.sync();
}

// The proximal term that phase SHIFT begins with.
template <class F>
QP_FN double first_rho_of_shift(const Problem<F>& p) {
    return p.has_hard ? SHIFT_FIRST_RHO_HARD : SHIFT_FIRST_RHO;
}

// What w is times in phase SHIFT. Beside hard rows the heaviest shift weighs as its row does with mu = 1.
template <class F>
__device__ double shift_unit(Problem<F>& p) {
    QP_PARTS(p);
    if (!p.has_hard) return p.row_unit / p.c;
    const auto weigh = [&](int i) { work.t_m[i] = work.hard[i] != 0 ? 0 : work.w[i] / (work.E[i] * work.E[i]); };
    set(block, work.t_m, mat.mp, 0);  // of the padding
    QP_EACH_NUMBER(i, mat.stored) weigh(i);
    if (mat.mp > mat.sp) QP_EACH_NUMBER(j, mat.n) weigh(mat.sp + j);
    block.sync();
    const double heaviest = largest(block, mat.mp, [&](int i) { return load(work.t_m + i); });
    return (heaviest > 0 ? 1 / heaviest : p.row_unit) / p.c;
}

// A row whose sides are equal is always active.
template <class F>
__device__ void mark_firm_rows(Problem<F>& p) {
    QP_PARTS(p);
    QP_EACH(i, p.matrices.mp)
    store(work.is_firm + i, pick(load(work.low + i) == load(work.high + i), all(1), all(0)));
    block.sync();
}

// Everything that belongs to x, and the centre at x.
template <class F>
__device__ void begin_at_x(Problem<F>& p) {
    QP_PARTS(p);
    hessian(block, p.matrices, work.x, work.Hx);
    rows(block, p.matrices, work.x, work.Gx);
    copy(block, work.x_k, work.x, p.matrices.np);
    copy(block, work.Hx_k, work.Hx, p.matrices.np);
    copy(block, work.Gx_k, work.Gx, p.matrices.mp);
    copy(block, work.z_k, work.z, p.matrices.mp);
}

// The first iterate, at x and z; the answer to an infeasible problem (its shift in s) asks first whether that is one still.
template <class F>
QP_PART State begin(Problem<F>& p) {
    QP_PARTS(p);
    State st;
    st.settled = any(block, mat.np, [&](int j) { return load(work.x + j) != 0; }) ||
                 any(block, mat.mp, [&](int i) { return load(work.z + i) != 0; });
    st.mu_eq = p.options.mu_eq, st.mu_in = p.options.mu_in, st.rho = p.options.rho;
    st.shift_unit = shift_unit(p);
    st.mu_floor = IS_SINGLE<F> ? MU_FLOOR_MIXED : MU_FLOOR;
    st.rho_floor = RHO_FLOOR * (p.h > 0 && p.h < 1 ? p.h : 1);
    if (any(block, mat.mp, [&](int i) { return load(work.s + i) != 0; })) {
        st.phase = SHIFT, st.rho = first_rho_of_shift(p), st.eta_in = SHIFT_INNER;
        set(block, work.s, mat.mp, 0);
    }
    copy(block, work.low, work.lo, mat.mp);
    copy(block, work.high, work.hi, mat.mp);
    QP_EACH(j, mat.np) {
        Pack D = load(work.D + j);
        store(work.metric_x + j, 1 / (p.c * D * D));
    }
    QP_EACH(i, mat.mp) {
        Pack E = load(work.E + i);
        store(work.metric_rows + i, E * E / p.c);
        store(work.metric_shift + i, st.shift_unit * load(work.w + i));
    }
    block.sync();
    mark_firm_rows(p);
    set_omega(p, st);
    begin_at_x(p);
    return st;
}

}  // namespace qplayer
