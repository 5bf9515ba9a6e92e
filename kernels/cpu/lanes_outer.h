// The measures and the outer loop of ../cuda/measure.h and ../cuda/outer.h in phase AS_POSED, a lane each.
#pragma once

#include "lanes.h"

namespace qplayer::lanes {

// Writes Gz.
inline Measure measure(const Problems& p, const State& st) {
    Measure at{};
    const double eps_abs = p.options.eps_abs, eps_rel = p.options.eps_rel;
    Pack sum_x{};
    for (int j = 0; j < p.n; j++) {
        const Pack scaled = magnitude(p.x[j] * p.D_inverse[j]);
        at.size_x = larger(scaled, at.size_x), sum_x += scaled;
    }
    Most primal, dual;  // which are NaN where anything is
    Pack excess{}, size_rows{}, multiplier{}, may_gap{};
    for (int i = 0; i < p.m; i++) {
        const Pack low = p.lo[i], high = p.hi[i], z = p.z[i], Gx = p.Gx[i], E_inverse = p.E_inverse[i];
        const Pack violation = Gx - clamp(Gx, low, high), inverse = p.omega_inverse[i], v = Gx + p.z_k[i] * inverse;
        const Pack inner = magnitude(v - clamp(v, low, high) - z * inverse);
        const Pack slack = pick(z == 0, all(0), Gx - pick(z > 0, high, low));
        const Pack rounding = ROUNDING * (at.size_x * E_inverse + magnitude(Gx));
        primal.add(violation);
        excess = larger(magnitude(violation) - rounding, excess);
        at.scaled_violation = larger(p.E[i] * magnitude(violation), at.scaled_violation);
        size_rows = larger(magnitude(Gx), size_rows);
        at.inner_scaled = larger(p.E[i] * inner, at.inner_scaled), at.inner_absolute = larger(inner, at.inner_absolute);
        multiplier += magnitude(z) * E_inverse;
        at.gap += magnitude(z) * magnitude(slack), may_gap += magnitude(z) * rounding;
    }
    columns(p, p.z, p.Gz);
    Pack terms{}, size{}, objective{};
    for (int j = 0; j < p.n; j++) {
        const Pack Hx = p.Hx[j], g = p.g[j], Gz = p.Gz[j], x = p.x[j], D = p.D[j], residual = Hx + g + Gz;
        const Pack inner = magnitude(residual + st.rho * p.metric_x[j] * (x - p.x_k[j]));
        const Pack of_cost = larger(magnitude(Hx), magnitude(g));
        dual.add(residual);
        at.inner_absolute = larger(inner, at.inner_absolute);
        at.inner_scaled = larger(p.c * D * inner, at.inner_scaled);
        size = larger(larger(of_cost, magnitude(Gz)), size), terms = larger(D * of_cost, terms);
        objective += x * (0.5 * Hx + g);
    }
    at.size_terms = larger(larger(multiplier, terms), p.h / p.c * sum_x);
    at.inner_rounding = ROUNDING * larger(p.c * at.size_terms, at.size_x);
    at.primal_tolerance = eps_abs + eps_rel * size_rows, at.dual_tolerance = eps_abs + eps_rel * size;
    Pack dual_excess{};
    for (int j = 0; j < p.n; j++) {
        const Pack residual = magnitude(p.Hx[j] + p.g[j] + p.Gz[j]);
        dual_excess = larger(residual - ROUNDING * at.size_terms * p.D_inverse[j], dual_excess);
    }
    at.primal = most(primal), at.dual = most(dual);
    at.primal_holds = (excess <= at.primal_tolerance) & (at.primal < INF);
    at.dual_holds = (dual_excess <= at.dual_tolerance) & (at.dual < INF);
    at.gap_holds = at.gap <= eps_abs + (eps_abs > eps_rel ? eps_abs : eps_rel) * magnitude(objective) + may_gap;
    return at;
}

// Whether the increment of the multipliers is near G'v = 0, of the lanes that have ended.
inline Mask is_suspect(const Problems& p, const State& st, const Measure& at, Mask ended) {
    const Mask stagnant = at.primal >= STAGNATION * st.primal_k, violated = no(at.primal_holds);
    Mask gaping = no(at.gap_holds) & stagnant;
    if (!any(ended & (violated | gaping))) return Mask{};
    Pack increment{}, push{}, excess{};
    for (int i = 0; i < p.m; i++) {
        const Pack Gx = p.Gx[i], violation = Gx - clamp(Gx, p.lo[i], p.hi[i]);
        const Pack rounding = ROUNDING * (at.size_x * p.E_inverse[i] + magnitude(Gx));
        excess = larger(magnitude(violation) - SUSPECT_VIOLATION * rounding, excess);
        p.z_full[i] = p.omega[i] * violation;
        increment = larger(magnitude(p.z_full[i]) * p.E_inverse[i], increment);
    }
    columns(p, p.z_full, p.t_x);
    for (int j = 0; j < p.n; j++) push = larger(p.D[j] * magnitude(p.t_x[j]), push);
    gaping &= excess > SUSPECT_VIOLATION * at.primal_tolerance;
    const Mask near = push <= SUSPICION * increment, nearly = push <= STAGNANT_SUSPICION * increment;
    return ended & ((violated & (near | (stagnant & nearly))) | (gaping & near));
}

// Whether the last step of the centre has no curvature, as a ray, or a negative one.
inline Mask is_strange(const Problems& p, const State& st, const Measure& at, Mask ended) {
    Pack size{}, square{}, curvature{}, descent{}, approach{};
    for (int j = 0; j < p.n; j++) {
        const Pack d = p.x[j] - p.x_k[j], scaled = d * p.D_inverse[j];
        size = larger(magnitude(scaled), size);
        square += scaled * scaled;
        curvature += p.c * d * (p.Hx[j] - p.Hx_k[j]);
        descent += p.g[j] * d;
    }
    const Mask bent = curvature * size < -FLAT * p.h * larger(size, at.size_x) * square;
    const Mask flat = magnitude(curvature) <= FLAT * p.h * size * size;
    const Mask falls = p.c * descent < -RAY * st.rho * square;
    const Mask ray = flat & falls & (size >= RAY_LENGTH * at.size_x) & no(at.dual_holds);
    if (!any(ended & ray)) return ended & bent;
    for (int i = 0; i < p.m; i++) {
        const Pack Gd = p.E[i] * (p.Gx[i] - p.Gx_k[i]);
        const Mask nears = ((Gd > 0) & (p.hi[i] != INF)) | ((Gd < 0) & (p.lo[i] != -INF));
        approach = larger(pick(nears, magnitude(Gd), all(0)), approach);
    }
    return ended & (bent | (ray & (approach <= RECESSION * size)));
}

// Begins trials of the active rows in some lanes.
inline void try_rows(State& st, Mask where) {
    const Pack known = larger(st.mu_floor, all(KNOWN_MU));
    where &= larger(st.mu_eq, st.mu_in) > known;
    st.trial |= where;
    st.wrong = pick(where, all(-1), st.wrong);
    st.mu_eq_k = pick(where, st.mu_eq, st.mu_eq_k), st.mu_in_k = pick(where, st.mu_in, st.mu_in_k);
    st.mu_eq = pick(where, smaller(st.mu_eq, known), st.mu_eq), st.mu_in = pick(where, smaller(st.mu_in, known), st.mu_in);
}

// Tries the active rows of starts, but drops those that are far.
inline void begin_from_start(const Problems& p, State& st, const Measure& at, Mask started) {
    const Mask far = started & (at.inner_scaled > START_RESIDUAL);
    if (any(far)) {
        for (Pack* of_x : {p.x, p.x_k, p.Hx, p.Hx_k})
            for (int j = 0; j < p.n; j++) of_x[j] = pick(far, all(0), of_x[j]);
        for (Pack* of_rows : {p.z, p.z_k, p.Gx, p.Gx_k})
            for (int i = 0; i < p.m; i++) of_rows[i] = pick(far, all(0), of_rows[i]);
        st.settled &= no(far);
    }
    try_rows(st, started & no(far));
}

// Accepts the multipliers where the primal residual meets its target or mu is at its floor, else shrinks mu.
inline void move_multipliers(const Problems& p, State& st, const Measure& at, Mask ended) {
    Pack proximal{};
    for (int j = 0; j < p.n; j++)
        proximal = larger(magnitude(st.rho * p.metric_x[j] * (p.x[j] - p.x_k[j])), proximal);
    const Mask at_floor = (st.mu_eq <= st.mu_floor) & (st.mu_in <= st.mu_floor);
    const Mask near = at.primal_holds & at.gap_holds;  // as near as need be
    const Mask met = (at.scaled_violation <= st.eta_out) | near | at_floor;
    const Mask accept = ended & met, refuse = ended & no(met);
    const Mask slow = accept & at_floor & no(near) & (at.primal > MU_STALL * st.primal_k);
    st.mu_floor = pick(slow, larger(st.mu_floor * MU_SHRINK, all(MU_LEAST)), st.mu_floor);
    const Mask shrink = refuse | slow;
    st.mu_eq = pick(shrink, larger(st.mu_eq * MU_SHRINK, st.mu_floor), st.mu_eq);
    st.mu_in = pick(shrink, larger(st.mu_in * MU_SHRINK, st.mu_floor), st.mu_in);
    st.sums_are_old |= shrink & st.sums_are_updated;
    const Pack mu = smaller(st.mu_in, all(ETA_MU));
    if (any(accept))
        for (int i = 0; i < p.m; i++) p.z_k[i] = pick(accept, p.z[i], p.z_k[i]);
    if (any(accept)) st.eta_out = pick(accept, st.eta_out * p.accept_power.of(mu), st.eta_out);
    if (any(refuse)) st.eta_out = pick(refuse, FIRST_ETA_OUT * p.refuse_power.of(mu), st.eta_out);
    st.eta_in = pick(accept, st.eta_in * mu, pick(refuse, mu, st.eta_in));
    try_rows(st, accept & no(slow) & st.kept & (p.h > 0));
    const Mask held_back = ended & (proximal > RHO_STICKY * at.dual) & (at.dual > at.dual_tolerance);
    st.rho = pick(held_back, larger(st.rho * RHO_SHRINK, st.rho_floor), st.rho);
}

inline void centre(const Problems& p, State& st, const Measure& at, Mask ended) {
    for (int j = 0; j < p.n; j++) p.x_k[j] = pick(ended, p.x[j], p.x_k[j]), p.Hx_k[j] = pick(ended, p.Hx[j], p.Hx_k[j]);
    for (int i = 0; i < p.m; i++) p.Gx_k[i] = pick(ended, p.Gx[i], p.Gx_k[i]);
    st.primal_k = pick(ended, at.primal, st.primal_k);
}

// Moves what the inner loop holds fixed, where it has ended. Which problems need more than phase AS_POSED.
inline Mask outer_step(const Problems& p, State& st, const Measure& at) {
    const Mask started = st.running & (st.steps == 0) & st.settled;
    const Mask ended = st.running & no(started) &
                       ((at.inner_scaled <= larger(st.eta_in, at.inner_rounding)) |
                        (at.inner_absolute <= INNER_FLOOR * p.options.eps_abs));
    if (!any(ended | started)) return Mask{};
    const Pack mu_eq = st.mu_eq, mu_in = st.mu_in;
    const Mask leave = is_suspect(p, st, at, ended) | is_strange(p, st, at, ended);
    move_multipliers(p, st, at, ended);
    centre(p, st, at, ended);
    if (any(started)) begin_from_start(p, st, at, started);
    if (any((mu_eq != st.mu_eq) | (mu_in != st.mu_in))) set_omega(p, st);
    return leave;
}

}  // namespace qplayer::lanes
