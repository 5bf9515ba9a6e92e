// How far the present point is from optimal, in the units of the data, and from the end of the inner loop.
#pragma once

#include "state.h"

namespace qplayer {

struct Residuals {
    double primal, dual, gap;  // max |violation|, max |Hx + g + G'z|, sum of |z_i| times the distance from its side
};

struct Measure : Residuals {
    double primal_tolerance, dual_tolerance;
    double primal_worst, dual_worst, gap_worst;  // next to what they may be: the tolerance, and what rounding leaves
    double inner_scaled, inner_absolute;         // residual of the inner loop
    double inner_rounding;                       // what rounding errors may leave of inner_scaled
    double scaled_violation;                     // max |E violation|
    double size_x;                               // max |x / D|
    double size_terms;                           // what the terms of D (Hx + g + G'z) add up to, about
    QP_FN double worst() const { return fmax(fmax(primal_worst, dual_worst), gap_worst); }
    QP_FN bool hold() const { return worst() <= 1; }
};

// What rounding may leave of Gx next to a side of about its size, shifted by s: rows i ...
template <class F>
QP_FN Pack rounding_of_rows(const Workspace<F>& work, double size_x, int i) {
    return ROUNDING * (size_x * load(work.E_inverse + i) + magnitude(load(work.Gx + i)) + magnitude(load(work.s + i)));
}

// The larger one, NaN if either is.
QP_FN double larger(double a, double b) { return a > b || a != a ? a : b; }

// What row i pushes with: omega violation, or z of the hard rows of phase SHIFT.
template <class F>
QP_FN Pack pushing(const Workspace<F>& work, const State& st, int i, Pack violation, Pack z) {
    Pack push = load(work.omega + i) * violation;
    return st.phase == SHIFT ? pick(load(work.hard + i) != 0, z, push) : push;
}

// The residuals, of which the rows' needs nothing else, and x's needs Gz; writes the violation Gx - clamp(Gx, low, high).
// The tolerance of the gap.
template <class F>
__device__ double measure_residuals(Problem<F>& p, const State& st, Measure& at) {
    QP_PARTS(p);
    const double sigma = st.phase == SHIFT ? 0 : 1;
    Most primal, scaled_violation, size_rows, dual, size, size_x, inner_scaled, inner_absolute, terms;
    Sum gap, multiplier, objective, sum_x;
    QP_EACH(i, mat.mp) {
        Pack low = load(work.low + i), high = load(work.high + i), z = load(work.z + i), Gx = load(work.Gx + i);
        Pack E = load(work.E + i), violation = Gx - clamp(Gx, low, high), inverse = load(work.omega_inverse + i);
        Pack v = Gx + multipliers(work, st, i) * inverse;
        Pack inner = v - clamp(v, low, high) - z * inverse;
        Pack slack = pick(z == 0, all(0), Gx - pick(z > 0, high, low));
        store(work.violation + i, violation);
        if (TWO_COLUMNS) store(work.t_m + i, pushing(work, st, i, violation, z));
        primal.add(violation), scaled_violation.add(E * violation), size_rows.add(Gx);
        inner_scaled.add(E * inner), inner_absolute.add(inner), multiplier.add(magnitude(z) * load(work.E_inverse + i));
        gap.add(magnitude(z) * magnitude(slack));
    }
    if (TWO_COLUMNS) {
        block.sync();
        columns_two(block, p.matrices, work.z, work.t_m, work.Gz, work.push);
    } else {
        columns(block, p.matrices, work.z, work.Gz);
    }
    QP_EACH(j, mat.np) {
        Pack Hx = load(work.Hx + j), g = load(work.g + j), Gz = load(work.Gz + j), x = load(work.x + j);
        Pack inner = sigma * (Hx + g) + Gz + st.rho * load(work.metric_x + j) * (x - load(work.x_k + j));
        Pack D = load(work.D + j);
        dual.add(Hx + g + Gz), inner_absolute.add(inner), inner_scaled.add(p.c * D * inner);
        size.add(Hx), size.add(g), size.add(Gz);
        terms.add(D * Hx), terms.add(D * g);
        Pack scaled = magnitude(x * load(work.D_inverse + j));
        size_x.add(scaled), sum_x.add(scaled);
        objective.add(x * (0.5 * Hx + g));
    }
    gather(block, primal, scaled_violation, size_rows, dual, size, size_x, inner_scaled, inner_absolute, terms, gap,
           multiplier, objective, sum_x);
    const double eps_abs = p.options.eps_abs, eps_rel = p.options.eps_rel;
    at.primal = primal.total(), at.dual = dual.total(), at.gap = gap.total();
    at.scaled_violation = scaled_violation.total(), at.size_x = size_x.total();
    at.inner_scaled = inner_scaled.total(), at.inner_absolute = inner_absolute.total();
    at.size_terms = larger(larger(multiplier.total(), terms.total()), p.h / p.c * sum_x.total());
    at.inner_rounding = ROUNDING * fmax(p.c * at.size_terms, at.size_x);
    at.primal_tolerance = eps_abs + eps_rel * size_rows.total(), at.dual_tolerance = eps_abs + eps_rel * size.total();
    return eps_abs + (eps_abs > eps_rel ? eps_abs : eps_rel) * fabs(objective.total());
}

// The residuals next to what they may be: each row and column has rounding errors of its own.
template <class F>
__device__ void measure_worst(Problem<F>& p, Measure& at, double gap_tolerance) {
    QP_PARTS(p);
    Most primal, dual;
    Sum gap;
    QP_EACH(i, mat.mp) {
        Pack terms = rounding_of_rows(work, at.size_x, i);
        primal.add(load(work.violation + i) / (at.primal_tolerance + terms));
        gap.add(magnitude(load(work.z + i)) * terms);
    }
    QP_EACH(j, mat.np) {
        Pack residual = load(work.Hx + j) + load(work.g + j) + load(work.Gz + j);
        dual.add(residual / (at.dual_tolerance + ROUNDING * at.size_terms * load(work.D_inverse + j)));
    }
    gather(block, primal, dual, gap);
    at.primal_worst = primal.total(), at.dual_worst = dual.total();
    at.gap_worst = at.gap / (gap_tolerance + gap.total());
}

template <class F>
QP_PART void measure(Problem<F>& p, const State& st, Measure& at) {
    measure_worst(p, at, measure_residuals(p, st, at));
}

// push = G' of what pushes, at the point that was measured last; t_m gets what pushes. measure() has done it where it is
// next to free.
template <class F>
__device__ void measure_push(Problem<F>& p, const State& st) {
    if (TWO_COLUMNS) return;
    QP_PARTS(p);
    QP_EACH(i, p.matrices.mp)
    store(work.t_m + i, pushing(work, st, i, load(work.violation + i), load(work.z + i)));
    block.sync();
    columns(block, p.matrices, work.t_m, work.push);
}

}  // namespace qplayer
