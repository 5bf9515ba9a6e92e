// The measures and the outer loop of ../cuda/measure.h and ../cuda/outer.h in phase AS_POSED, a lane each.
#pragma once

#include "lanes.h"

namespace qplayer::lanes {

// What concerns the rows: the residuals that are largest, and sums.
struct RowMeasure {
    Pack excess, size, multiplier, may_gap;
};

template <int N>
QP_FN RowMeasure measure_rows_at(Problems<N>& p, Measure& at) {
    RowMeasure rows{};
    for (const Row<N>& row : p.rows()) {
        const Pack Gx = row.Gx, z = row.z, inverse = row.omega_inverse, v = Gx + row.z_k * inverse;
        const Pack size_z = magnitude(z), size_Gx = magnitude(Gx), violation = magnitude(Gx - clamp(Gx, row.lo, row.hi));
        const Pack inner = magnitude(v - clamp(v, row.lo, row.hi) - z * inverse);
        const Pack slack = pick(z == 0.0, 0.0, Gx - pick(z > 0.0, row.hi, row.lo));
        const Pack rounding = ROUNDING * (at.size_x * row.E_inverse + size_Gx);
        at.primal = most(violation, at.primal);
        rows.excess = larger(violation - rounding, rows.excess);
        at.scaled_violation = larger(row.E * violation, at.scaled_violation);
        rows.size = larger(size_Gx, rows.size);
        at.inner_scaled = larger(row.E * inner, at.inner_scaled), at.inner_absolute = larger(inner, at.inner_absolute);
        rows.multiplier += size_z * row.E_inverse;
        at.gap += size_z * magnitude(slack), rows.may_gap += size_z * rounding;
    }
    return rows;
}

// Writes Gz.
template <int N>
inline Measure measure(Problems<N>& p, const State& st) {
    Measure at{};
    const double eps_abs = p.options->eps_abs, eps_rel = p.options->eps_rel;
    Pack sum_x{};
    for (const Column& column : p.column) {
        const Pack scaled = magnitude(column.x * column.D_inverse);
        at.size_x = larger(scaled, at.size_x), sum_x += scaled;
    }
    const RowMeasure rows = measure_rows_at(p, at);
    columns(p, &Row<N>::z, &Column::Gz);
    Pack terms{}, size{}, objective{};
    for (const Column& column : p.column) {
        const Pack Hx = column.Hx, g = column.g, Gz = column.Gz, x = column.x, residual = Hx + g + Gz;
        const Pack inner = magnitude(residual + st.rho * column.metric * (x - column.x_k));
        const Pack of_cost = larger(magnitude(Hx), magnitude(g));
        at.dual = most(magnitude(residual), at.dual);
        at.inner_absolute = larger(inner, at.inner_absolute);
        at.inner_scaled = larger(p.of.c * column.D * inner, at.inner_scaled);
        size = larger(larger(of_cost, magnitude(Gz)), size), terms = larger(column.D * of_cost, terms);
        objective += x * (0.5 * Hx + g);
    }
    at.size_terms = larger(larger(rows.multiplier, terms), p.of.h / p.of.c * sum_x);
    at.inner_rounding = ROUNDING * larger(p.of.c * at.size_terms, at.size_x);
    at.primal_tolerance = eps_abs + eps_rel * rows.size, at.dual_tolerance = eps_abs + eps_rel * size;
    Pack dual_excess{};
    for (const Column& column : p.column) {
        const Pack residual = magnitude(column.Hx + column.g + column.Gz);
        dual_excess = larger(residual - ROUNDING * at.size_terms * column.D_inverse, dual_excess);
    }
    at.primal_holds = (rows.excess <= at.primal_tolerance) & (at.primal < INF);
    at.dual_holds = (dual_excess <= at.dual_tolerance) & (at.dual < INF);
    at.gap_holds = at.gap <= eps_abs + (eps_abs > eps_rel ? eps_abs : eps_rel) * magnitude(objective) + rows.may_gap;
    return at;
}

// Whether the increment of the multipliers is near G'v = 0, of the lanes that have ended.
template <int N>
inline Mask is_suspect(Problems<N>& p, const State& st, const Measure& at, Mask ended) {
    const Mask stagnant = at.primal >= STAGNATION * st.primal_k, violated = ~at.primal_holds;
    Mask gaping = ~at.gap_holds & stagnant;
    if (!any(ended & (violated | gaping))) return Mask{};
    Pack increment{}, push{}, excess{};
    for (Row<N>& row : p.rows()) {
        const Pack violation = row.Gx - clamp(row.Gx, row.lo, row.hi);
        const Pack rounding = ROUNDING * (at.size_x * row.E_inverse + magnitude(row.Gx));
        excess = larger(magnitude(violation) - SUSPECT_VIOLATION * rounding, excess);
        row.z_full = row.omega * violation;
        increment = larger(magnitude(row.z_full) * row.E_inverse, increment);
    }
    gaping &= excess > SUSPECT_VIOLATION * at.primal_tolerance;
    Mask suspect = ended & (violated | gaping);
    for (int j = 0; j < N && any(suspect); j += TILE) {  // of most problems the first columns suffice
        some_columns<TILE>(p, j, &Row<N>::z_full, &Column::size);
        for (int c = 0; c < TILE; c++) push = larger(p.column[j + c].D * magnitude(p.column[j + c].size), push);
        const Mask near = push <= SUSPICION * increment, nearly = push <= STAGNANT_SUSPICION * increment;
        suspect &= near | (violated & stagnant & nearly);
    }
    return suspect;
}

// Whether the last step of the centre has no curvature, as a ray, or a negative one.
template <int N>
inline Mask is_strange(Problems<N>& p, const State& st, const Measure& at, Mask ended) {
    Pack size{}, square{}, curvature{}, descent{}, approach{};
    for (const Column& column : p.column) {
        const Pack d = column.x - column.x_k, scaled = d * column.D_inverse;
        size = larger(magnitude(scaled), size);
        square += scaled * scaled;
        curvature += p.of.c * d * (column.Hx - column.Hx_k);
        descent += column.g * d;
    }
    const Mask bent = curvature * size < -FLAT * p.of.h * larger(size, at.size_x) * square;
    const Mask flat = magnitude(curvature) <= FLAT * p.of.h * size * size;
    const Mask falls = p.of.c * descent < -RAY * st.rho * square;
    const Mask ray = flat & falls & (size >= RAY_LENGTH * at.size_x) & ~at.dual_holds;
    if (!any(ended & ray)) return ended & bent;
    for (const Row<N>& row : p.rows()) {
        const Pack Gd = row.E * (row.Gx - row.Gx_k);
        const Mask nears = ((Gd > 0.0) & (row.hi != INF)) | ((Gd < 0.0) & (row.lo != -INF));
        approach = larger(pick(nears, magnitude(Gd), 0.0), approach);
    }
    return ended & (bent | (ray & (approach <= RECESSION * size)));
}

// Begins trials of the active rows in some lanes.
inline void try_rows(State& st, Mask where) {
    const Pack known = larger(st.mu_floor, KNOWN_MU);
    where &= larger(st.mu_eq, st.mu_in) > known;
    st.trial |= where;
    st.wrong = pick(where, -1.0, st.wrong);
    st.mu_eq_k = pick(where, st.mu_eq, st.mu_eq_k), st.mu_in_k = pick(where, st.mu_in, st.mu_in_k);
    st.mu_eq = pick(where, smaller(st.mu_eq, known), st.mu_eq), st.mu_in = pick(where, smaller(st.mu_in, known), st.mu_in);
}

// Tries the active rows of starts, but drops those that are far.
template <int N>
inline void begin_from_start(Problems<N>& p, State& st, const Measure& at, Mask started) {
    const Mask far = started & (at.inner_scaled > START_RESIDUAL);
    if (any(far)) {
        for (Column& column : p.column)
            for (Pack* of : {&column.x, &column.x_k, &column.Hx, &column.Hx_k}) *of = pick(far, 0.0, *of);
        for (Row<N>& row : p.rows())
            for (Pack* of : {&row.z, &row.z_k, &row.Gx, &row.Gx_k}) *of = pick(far, 0.0, *of);
        st.settled &= ~far;
    }
    try_rows(st, started & ~far);
}

// Accepts the multipliers where the primal residual meets its target or mu is at its floor, else shrinks mu.
template <int N>
inline void move_multipliers(Problems<N>& p, State& st, const Measure& at, Mask ended) {
    Pack proximal{};
    for (const Column& column : p.column)
        proximal = larger(magnitude(st.rho * column.metric * (column.x - column.x_k)), proximal);
    const Mask at_floor = (st.mu_eq <= st.mu_floor) & (st.mu_in <= st.mu_floor);
    const Mask near = at.primal_holds & at.gap_holds;  // as near as need be
    const Mask met = (at.scaled_violation <= st.eta_out) | near | at_floor;
    const Mask accept = ended & met, refuse = ended & ~met;
    const Mask slow = accept & at_floor & ~near & (at.primal > MU_STALL * st.primal_k);
    st.mu_floor = pick(slow, larger(st.mu_floor * MU_SHRINK, MU_LEAST), st.mu_floor);
    const Mask shrink = refuse | slow;
    st.mu_eq = pick(shrink, larger(st.mu_eq * MU_SHRINK, st.mu_floor), st.mu_eq);
    st.mu_in = pick(shrink, larger(st.mu_in * MU_SHRINK, st.mu_floor), st.mu_in);
    st.sums_are_old |= shrink & st.sums_are_updated;
    const Pack mu = smaller(st.mu_in, ETA_MU);
    if (any(accept)) {
        for (Row<N>& row : p.rows()) row.z_k = pick(accept, row.z, row.z_k);
        st.eta_out = pick(accept, st.eta_out * p.accept_power.of(mu, ETA_ACCEPT_POWER, accept), st.eta_out);
    }
    if (any(refuse)) st.eta_out = pick(refuse, FIRST_ETA_OUT * p.refuse_power.of(mu, ETA_REFUSE_POWER, refuse), st.eta_out);
    st.eta_in = pick(accept, st.eta_in * mu, pick(refuse, mu, st.eta_in));
    try_rows(st, accept & ~slow & st.kept & (p.of.h > 0.0));
    const Mask held_back = ended & (proximal > RHO_STICKY * at.dual) & (at.dual > at.dual_tolerance);
    st.rho = pick(held_back, larger(st.rho * RHO_SHRINK, st.rho_floor), st.rho);
}

template <int N>
inline void centre(Problems<N>& p, State& st, const Measure& at, Mask ended) {
    for (Column& column : p.column) {
        column.x_k = pick(ended, column.x, column.x_k), column.Hx_k = pick(ended, column.Hx, column.Hx_k);
    }
    for (Row<N>& row : p.rows()) row.Gx_k = pick(ended, row.Gx, row.Gx_k);
    st.primal_k = pick(ended, at.primal, st.primal_k);
}

// Problems that need more than phase AS_POSED.
struct Leaving {
    Mask suspect, strange;
};

// Moves what the inner loop holds fixed, where it has ended; nothing of the problems that leave.
template <int N>
inline Leaving outer_step(Problems<N>& p, State& st, const Measure& at) {
    const Mask started = st.running & (st.steps == 0.0) & st.settled;
    const Mask at_end = (at.inner_scaled <= larger(st.eta_in, at.inner_rounding)) |
                        (at.inner_absolute <= INNER_FLOOR * p.options->eps_abs);
    const Mask ended = st.running & ~started & at_end;
    if (!any(ended | started)) return Leaving{};
    const Pack mu_eq = st.mu_eq, mu_in = st.mu_in;
    const Leaving leaving{is_suspect(p, st, at, ended), is_strange(p, st, at, ended)};
    const Mask stay = ended & ~(leaving.suspect | leaving.strange);
    move_multipliers(p, st, at, stay);
    centre(p, st, at, stay);
    if (any(started)) begin_from_start(p, st, at, started);
    if (any((mu_eq != st.mu_eq) | (mu_in != st.mu_in))) set_omega(p, st);
    return leaving;
}

}  // namespace qplayer::lanes
