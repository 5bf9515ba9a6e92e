// The Newton step of ../cuda/newton.h, a lane each.
#pragma once

#include "lanes_factor.h"

namespace qplayer::lanes {

// The minimiser of phi over alpha > 0 in the lanes `open`, 1 in the others.
inline Pack exact_line_search(const Problems& p, Pack slope, Pack curvature, Mask open) {
    Pack alpha = all(1), left{}, right = all(INF);
    for (int trial = 0; trial < LINE_SEARCH_TRIALS && any(open); trial++) {
        Pack values{}, slopes{};
        for (int i = 0; i < p.m; i++) {
            const Pack step = p.Gdx[i], v = p.v[i] + alpha * step, weighted = p.omega[i] * step;
            const Pack d = v - clamp(v, p.lo[i], p.hi[i]);
            values += weighted * d;
            slopes += pick(d != 0, weighted * step, all(0));
        }
        const Pack value = slope + alpha * curvature + values;
        left = pick(value < 0, alpha, left), right = pick(value < 0, right, alpha);
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
inline Mask prepare_step(const Problems& p, const State& st) {
    const Mask first_of_trial = st.trial & (st.wrong < 0);
    const bool begins = any(first_of_trial);
    for (int i = 0; i < p.m; i++) {
        const Pack low = p.lo[i], high = p.hi[i], v = p.Gx[i] + p.z_k[i] * p.omega_inverse[i];
        Pack seen = v;
        if (begins) {
            const Pack mu = pick(p.firm[i], st.mu_eq_k, st.mu_in_k);
            seen = pick(first_of_trial, p.Gx[i] + p.z_k[i] * mu * p.metric_inverse[i], v);
        }
        const Mask up = seen >= high, down = seen <= low;
        p.v[i] = v;
        p.z_trial[i] = p.omega[i] * pick(up, v - high, pick(down, v - low, all(0)));
        p.up[i] = up, p.down[i] = down;
    }
    columns(p, p.z_trial, p.dx);
    Mask changed{};
    for (int j = 0; j < p.n; j++) {
        const Pack prox = st.rho * p.metric_x[j], pull = p.Hx[j] + p.g[j] + prox * (p.x[j] - p.x_k[j]);
        Pack diagonal = prox;
        if (p.m > p.stored) {
            const int i = p.stored + j;
            diagonal += pick(p.up[i] | p.down[i], p.omega[i], all(0));
        }
        p.pull[j] = pull;
        p.dx[j] = -(p.dx[j] + pull);
        changed |= diagonal != p.diagonal[j];
        p.diagonal[j] = diagonal;
    }
    return changed;
}

// Factors K where it is not what the factor is of; where that fails.
inline Mask factor_step(const Problems& p, State& st, Mask changed) {
    changed |= update_sums(p, st) | (st.a != st.factored_a) | (st.b != st.factored_b);
    if (!any(changed)) return Mask{};
    st.factored_a = st.a, st.factored_b = st.b;
    return no(factorize(p, st.a, st.b));
}

// Writes the multipliers after a full step to z_full; how many rows are not as active there as they should be.
inline Pack full_step(const Problems& p) {
    Pack wrong{}, size{};
    for (int j = 0; j < p.n; j++) size = larger(magnitude(p.x[j] * p.D_inverse[j]), size);
    size *= ACTIVE_ROUNDING;
    for (int i = 0; i < p.m; i++) {
        const Pack step = p.Gdx[i], z = p.z_trial[i] + p.omega[i] * step, after = p.v[i] + step;
        const Pack slop = size * p.E_inverse[i];
        const Mask up = p.up[i], down = p.down[i];
        const Mask wrong_up = up & no(down) & (z < 0), wrong_down = down & no(up) & (z > 0);
        const Mask passed = no(up | down) & ((after > p.hi[i] + slop) | (after < p.lo[i] - slop));
        wrong += pick(wrong_up | wrong_down | passed, all(1), all(0));
        p.z_full[i] = pick(up | down, z, all(0));
    }
    return wrong;
}

// Ends trials where no row is wrong, and undoes them where not fewer are than before.
inline void judge_trial(const Problems& p, State& st, Pack wrong) {
    if (!any(st.trial)) return;
    const Pack bound = pick(st.wrong < 0, all(TRIAL_WRONG), st.wrong);
    const Mask undo = st.trial & (wrong >= bound);
    st.trial &= no(undo) & (wrong > 0);
    st.wrong = pick(st.trial, wrong, all(-1));
    if (!any(undo)) return;
    for (int j = 0; j < p.n; j++) p.x[j] = pick(undo, p.x_k[j], p.x[j]), p.Hx[j] = pick(undo, p.Hx_k[j], p.Hx[j]);
    for (int i = 0; i < p.m; i++) p.z[i] = pick(undo, p.z_k[i], p.z[i]), p.Gx[i] = pick(undo, p.Gx_k[i], p.Gx[i]);
    st.mu_eq = pick(undo, st.mu_eq_k, st.mu_eq), st.mu_in = pick(undo, st.mu_in_k, st.mu_in);
    set_omega(p, st);
}

// One step of each problem; where it failed.
inline Mask newton_step(const Problems& p, State& st) {
    Mask failed = factor_step(p, st, prepare_step(p, st));
    substitute(p, p.dx);
    for (int j = 0; j < p.n; j++) failed |= (p.dx[j] - p.dx[j]) != 0;
    hessian_two(p);
    rows_two(p);
    const Pack wrong = full_step(p);
    const Mask same = wrong == 0;
    Pack slope{}, curvature{};
    for (int j = 0; j < p.n; j++) {
        const Pack dx = p.dx[j];
        slope += dx * p.pull[j];
        curvature += dx * (p.Hdx[j] + st.rho * p.metric_x[j] * dx);
    }
    const Pack alpha = exact_line_search(p, slope, curvature, st.running & no(same | failed | st.trial));
    for (int j = 0; j < p.n; j++) p.x[j] += alpha * p.dx[j], p.Hx[j] += alpha * p.Hdx[j];
    for (int i = 0; i < p.m; i++) {
        const Pack step = alpha * p.Gdx[i], v = p.v[i] + step;
        p.Gx[i] += step;
        p.z[i] = pick(same, p.z_full[i], p.omega[i] * (v - clamp(v, p.lo[i], p.hi[i])));
    }
    st.settled = ~Mask{}, st.kept = same;
    st.steps += 1;
    judge_trial(p, st, wrong);
    return failed;
}

}  // namespace qplayer::lanes
