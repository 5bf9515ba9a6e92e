// The Newton step of ../cuda/newton.h, a lane each.
#pragma once

#include "lanes_factor.h"

namespace qplayer::lanes {

// The minimiser of phi over alpha > 0 in the lanes `open`, 1 in the others.
template <int N>
inline Pack exact_line_search(Problems<N>& p, Pack slope, Pack curvature, Mask open) {
    Pack alpha = 1.0, left{}, right = INF;
    for (int trial = 0; trial < LINE_SEARCH_TRIALS && any(open); trial++) {
        Pack values{}, slopes{};
        for (const Row<N>& row : p.rows()) {
            const Pack step = row.Gdx, v = row.v + alpha * step, weighted = row.omega * step;
            const Pack d = v - clamp(v, row.lo, row.hi);
            values += weighted * d;
            slopes += pick(d != 0.0, weighted * step, 0.0);
        }
        const Pack value = slope + alpha * curvature + values;
        left = pick(value < 0.0, alpha, left), right = pick(value < 0.0, right, alpha);
        const Pack newton = alpha - value / (curvature + slopes);
        const Pack next = pick((newton >= left) & (newton <= right), newton, 0.5 * (left + right));
        const Mask moved = magnitude(next - alpha) > LINE_SEARCH_ACCURACY * alpha;
        alpha = pick(open, next, alpha);
        open &= moved;
    }
    return alpha;
}

// v, the multipliers omega d and the active rows at x; minus the gradient of phi in dx, and the diagonal of K. Where
// that changed.
template <int N>
inline Mask prepare_step(Problems<N>& p, const State& st) {
    const Mask first_of_trial = st.trial & (st.wrong < 0.0);
    const bool begins = any(first_of_trial);
    for (Row<N>& row : p.rows()) {
        const Pack v = row.Gx + row.z_k * row.omega_inverse;
        Pack seen = v;
        if (begins) {
            const Pack mu = pick(row.firm, st.mu_eq_k, st.mu_in_k);
            seen = pick(first_of_trial, row.Gx + row.z_k * mu * row.metric_inverse, v);
        }
        row.up = seen >= row.hi, row.down = seen <= row.lo;
        row.v = v;
        row.z_trial = row.omega * pick(row.up, v - row.hi, pick(row.down, v - row.lo, 0.0));
    }
    columns(p, &Row<N>::z_trial, &Column::dx);
    Mask changed{};
    for (int j = 0; j < N; j++) {
        Column& column = p.column[j];
        const Pack prox = st.rho * column.metric, pull = column.Hx + column.g + prox * (column.x - column.x_k);
        Pack diagonal = prox;
        if (p.bounded() && j < p.n) diagonal += pick(p.bound(j).up | p.bound(j).down, p.bound(j).omega, 0.0);
        column.pull = pull;
        column.dx = -(column.dx + pull);
        changed |= diagonal != column.diagonal;
        column.diagonal = diagonal;
    }
    return changed;
}

// Factors K where it is not what the factor is of; where that fails.
template <int N>
inline Mask factor_step(Problems<N>& p, State& st, Mask changed) {
    const Pack a = 1.0 / st.mu_eq, b = 1.0 / st.mu_in;
    changed |= update_sums(p, st) | (a != st.factored_a) | (b != st.factored_b);
    if (!any(changed)) return Mask{};
    st.factored_a = a, st.factored_b = b;
    return ~factorize(p, a, b);
}

// Writes the multipliers after a full step to z_full; how many rows are not as active there as they should be.
template <int N>
inline Pack full_step(Problems<N>& p) {
    Pack wrong{}, size{};
    for (const Column& column : p.column) size = larger(magnitude(column.x * column.D_inverse), size);
    size *= ACTIVE_ROUNDING;
    for (Row<N>& row : p.rows()) {
        const Pack z = row.z_trial + row.omega * row.Gdx, after = row.v + row.Gdx, slop = size * row.E_inverse;
        const Mask active = row.up | row.down;
        const Mask wrong_up = row.up & ~row.down & (z < 0.0), wrong_down = row.down & ~row.up & (z > 0.0);
        const Mask passed = ~active & ((after > row.hi + slop) | (after < row.lo - slop));
        wrong += pick(wrong_up | wrong_down | passed, 1.0, 0.0);
        row.z_full = pick(active, z, 0.0);
    }
    return wrong;
}

// Ends trials where no row is wrong, and undoes them where not fewer are than before.
template <int N>
inline void judge_trial(Problems<N>& p, State& st, Pack wrong) {
    if (!any(st.trial)) return;
    const Pack bound = pick(st.wrong < 0.0, TRIAL_WRONG, st.wrong);
    const Mask undo = st.trial & (wrong >= bound);
    st.trial &= ~undo & (wrong > 0.0);
    st.wrong = pick(st.trial, wrong, -1.0);
    if (!any(undo)) return;
    for (Column& column : p.column) {
        column.x = pick(undo, column.x_k, column.x), column.Hx = pick(undo, column.Hx_k, column.Hx);
    }
    for (Row<N>& row : p.rows()) row.z = pick(undo, row.z_k, row.z), row.Gx = pick(undo, row.Gx_k, row.Gx);
    st.mu_eq = pick(undo, st.mu_eq_k, st.mu_eq), st.mu_in = pick(undo, st.mu_in_k, st.mu_in);
    set_omega(p, st);
}

// One step of each problem; where it failed.
template <int N>
inline Mask newton_step(Problems<N>& p, State& st) {
    Mask failed = factor_step(p, st, prepare_step(p, st));
    substitute(p);
    for (const Column& column : p.column) failed |= ~is_finite(column.dx);
    hessian_two(p);
    rows_two(p);
    const Pack wrong = full_step(p);
    const Mask same = wrong == 0.0;
    Pack slope{}, curvature{};
    for (const Column& column : p.column) {
        slope += column.dx * column.pull;
        curvature += column.dx * (column.Hdx + st.rho * column.metric * column.dx);
    }
    const Pack alpha = exact_line_search(p, slope, curvature, st.running & ~(same | failed | st.trial));
    for (Column& column : p.column) column.x += alpha * column.dx, column.Hx += alpha * column.Hdx;
    for (Row<N>& row : p.rows()) {
        const Pack step = alpha * row.Gdx, v = row.v + step;
        row.Gx += step;
        row.z = pick(same, row.z_full, row.omega * (v - clamp(v, row.lo, row.hi)));
    }
    st.settled = every(), st.kept = same;
    st.steps += 1.0;
    judge_trial(p, st, wrong);
    return failed;
}

}  // namespace qplayer::lanes
