// How far the present point is from optimal, in the units of the data, and from the end of the inner loop.
#pragma once

#include "state.h"

namespace qplayer {

struct Measure {
    double primal, dual, gap;  // max |violation|, max |Hx + g + G'z|, sum of |z_i| times the distance from its side
    double primal_tolerance, dual_tolerance, gap_tolerance;
    double inner_scaled, inner_absolute;  // residual of the inner loop
    double inner_rounding;                // what rounding errors may leave of inner_scaled
    double scaled_violation;              // max |E violation|
    // The largest residual next to its tolerance.
    QP_FN double worst() const {
        return fmax(fmax(primal / primal_tolerance, dual / dual_tolerance), gap / gap_tolerance);
    }
    QP_FN bool hold() const { return primal <= primal_tolerance && dual <= dual_tolerance && gap <= gap_tolerance; }
};

// What concerns the rows; writes the violation Gx - clamp(Gx, low, high).
template <class F>
__device__ void measure_rows_at(Problem<F>& p, Measure& at) {
    QP_PARTS(p);
    Most primal, scaled_violation, inner_scaled, inner_absolute, size, multiplier;
    Sum gap;
    QP_EACH(i, p.matrices.mp) {
        Pack low = load(work.low + i), high = load(work.high + i), z = load(work.z + i), Gx = load(work.Gx + i);
        Pack E = load(work.E + i), violation = Gx - clamp(Gx, low, high), inverse = load(work.omega_inverse + i);
        Pack v = Gx + load(work.z_k + i) * inverse;
        Pack inner = v - clamp(v, low, high) - z * inverse;
        Pack slack = pick(z == 0, all(0), Gx - pick(z > 0, high, low));
        store(work.violation + i, violation);
        primal.add(violation), scaled_violation.add(E * violation), size.add(Gx);
        inner_scaled.add(E * inner), inner_absolute.add(inner), multiplier.add(p.c * z / E);
        gap.add(magnitude(z) * magnitude(slack));
    }
    block.sync();
    at.primal = primal.value(block), at.gap = gap.value(block);
    at.scaled_violation = scaled_violation.value(block);
    at.inner_rounding = INNER_ROUNDING * multiplier.value(block);
    at.inner_scaled = inner_scaled.value(block), at.inner_absolute = inner_absolute.value(block);
    at.primal_tolerance = p.options.eps_abs + p.options.eps_rel * size.value(block);
}

// The larger one, NaN if either is.
QP_FN double larger(double a, double b) { return a > b || a != a ? a : b; }

// What concerns x; needs Gz.
template <class F>
__device__ void measure_x(Problem<F>& p, const State& st, Measure& at) {
    QP_PARTS(p);
    const double sigma = st.phase == SHIFT ? 0 : 1;
    Most dual, inner_scaled, inner_absolute, size;
    Sum objective;
    QP_EACH(j, p.matrices.np) {
        Pack Hx = load(work.Hx + j), g = load(work.g + j), Gz = load(work.Gz + j), x = load(work.x + j);
        Pack inner = sigma * (Hx + g) + Gz + st.rho * load(work.metric_x + j) * (x - load(work.x_k + j));
        dual.add(Hx + g + Gz), inner_absolute.add(inner), inner_scaled.add(p.c * load(work.D + j) * inner);
        size.add(Hx), size.add(g), size.add(Gz);
        objective.add(x * (0.5 * Hx + g));
    }
    const double eps_abs = p.options.eps_abs, eps_rel = p.options.eps_rel;
    at.dual = dual.value(block);
    at.inner_scaled = larger(at.inner_scaled, inner_scaled.value(block));
    at.inner_absolute = larger(at.inner_absolute, inner_absolute.value(block));
    at.dual_tolerance = eps_abs + eps_rel * size.value(block);
    at.gap_tolerance = eps_abs + (eps_abs > eps_rel ? eps_abs : eps_rel) * fabs(objective.value(block));
}

template <class F>
QP_PART Measure measure(Problem<F>& p, const State& st) {
    Measure at;
    measure_rows_at(p, at);
    columns(p.block, p.matrices, p.work.z, p.work.Gz);
    measure_x(p, st, at);
    return at;
}

// push = G' (omega violation), with z for the hard rows of phase SHIFT; t_m gets what is pushed.
template <class F>
__device__ void measure_push(Problem<F>& p, const State& st) {
    QP_PARTS(p);
    QP_EACH(i, p.matrices.mp) {
        Pack push = load(work.omega + i) * load(work.violation + i);
        if (st.phase == SHIFT) push = pick(load(work.hard + i) != 0, load(work.z + i), push);
        store(work.t_m + i, push);
    }
    block.sync();
    columns(block, p.matrices, work.t_m, work.push);
}

}  // namespace qplayer
