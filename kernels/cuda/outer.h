// The outer loop: ending a problem, moving multipliers, penalties and phases, as kernels/reference/outer.py says.
#pragma once

#include "measure.h"

namespace qplayer {

template <class F>
__device__ int verdict(const Problem<F>& p, const State& st, const Measure& at) {
    if (st.status != RUNNING) return st.status;
    if (st.phase != SHIFT && at.hold() && (!st.is_shifted || st.extra >= EXTRA_STEPS))
        return st.is_shifted ? SOLVED_CLOSEST_FEASIBLE : SOLVED;
    return st.steps < p.options.max_iter ? RUNNING : MAX_ITERATIONS;
}

// Whether the increment v = omega violation of the multipliers has G'v = 0, as where no x is feasible.
template <class F>
__device__ bool is_suspect(Problem<F>& p, const State& st, const Measure& at) {
    QP_PARTS(p);
    if (!(at.primal > SUSPECT_VIOLATION * at.primal_tolerance)) return false;
    measure_push(p, st);
    double increment =
        largest(block, p.matrices.mp, [&](int i) { return load(work.t_m + i) / load(work.E + i); });
    double balance =
        largest(block, p.matrices.np, [&](int j) { return load(work.D + j) * load(work.push + j); }) / increment;
    return balance <= SUSPICION || (balance <= STAGNANT_SUSPICION && at.primal >= STAGNATION * st.primal_k);
}

// Whether the last step of the centre is a direction of descent with no curvature that approaches no side.
template <class F>
__device__ bool is_unbounded(Problem<F>& p) {
    QP_PARTS(p);
    Most size, curvature, approach;
    Sum descent;
    QP_EACH(j, p.matrices.np) {
        Pack d = load(work.x + j) - load(work.x_k + j), D = load(work.D + j);
        size.add(d / D);
        curvature.add(p.c * D * (load(work.Hx + j) - load(work.Hx_k + j)));
        descent.add(load(work.g + j) * d);
    }
    const double bound = RECESSION * size.value(block);
    if (!(p.c * descent.value(block) < -DESCENT * bound && curvature.value(block) <= bound)) return false;
    QP_EACH(i, p.matrices.mp) {
        Pack Gd = load(work.E + i) * (load(work.Gx + i) - load(work.Gx_k + i));
        Mask nears = ((Gd > 0) & (load(work.high + i) != INFINITY)) | ((Gd < 0) & (load(work.low + i) != -INFINITY));
        approach.add(pick(nears | (Gd != Gd), Gd, all(0)));
    }
    return approach.value(block) <= bound;
}

template <class F>
__device__ double hard_violation(Problem<F>& p) {
    return largest(p.block, p.matrices.mp, [&](int i) { return load(p.work.violation + i) * load(p.work.hard + i); });
}

// Whether x is feasible, or the shift s has G'(w s) = 0, up to rounding errors and next to the size of s.
template <class F>
__device__ bool is_shift_found(Problem<F>& p, const State& st, const Measure& at) {
    QP_PARTS(p);
    if (at.primal <= at.primal_tolerance) return true;
    if (p.has_hard && !(hard_violation(p) <= SHIFT_FLOOR * at.primal_tolerance)) return false;
    measure_push(p, st);
    const double unit = p.row_unit / p.c;
    Most size, weight, push, scaled_push, x;
    QP_EACH(i, p.matrices.mp) {
        Pack w = load(work.w + i), E = load(work.E + i);
        size.add(w * load(work.violation + i) / E);
        weight.add(pick(load(work.violation + i) != 0, w / (E * E), all(0)));
    }
    QP_EACH(j, p.matrices.np) {
        Pack D = load(work.D + j);
        push.add(load(work.push + j) / unit);
        scaled_push.add(D * load(work.push + j) / unit);
        x.add(load(work.x + j) / D);
    }
    const double scaled = scaled_push.value(block), rounding = SHIFT_ROUNDING * x.value(block) * weight.value(block);
    const bool flat = push.value(block) <= SHIFT_ACCURACY * p.options.eps_abs;
    if (scaled <= rounding && scaled <= SHIFT_BALANCE_ROUNDED * size.value(block)) return true;
    return flat && scaled <= SHIFT_BALANCE * size.value(block);
}

QP_FN void shrink_rho(State& st) { st.rho = fmax(st.rho * RHO_SHRINK, RHO_FLOOR); }

// Accepts the multipliers where the primal residual meets its target or mu is at its floor, else shrinks mu.
template <class F>
__device__ void move_multipliers(Problem<F>& p, State& st, const Measure& at) {
    QP_PARTS(p);
    const double proximal = largest(block, p.matrices.np, [&](int j) {
        return st.rho * load(work.metric_x + j) * (load(work.x + j) - load(work.x_k + j));
    });
    const bool searches = st.phase == SHIFT;  // what may be violated there has no multipliers
    double violation = at.scaled_violation;
    if (searches)
        violation = largest(block, p.matrices.mp, [&](int i) {
            return load(work.E + i) * load(work.violation + i) * load(work.hard + i);
        });
    constexpr double floor = IS_SINGLE<F> ? MU_FLOOR_MIXED : MU_FLOOR;
    if (violation <= st.eta_out || (st.mu_eq <= floor && st.mu_in <= floor)) {
        QP_EACH(i, p.matrices.mp) {
            Pack z = load(work.z + i);
            store(work.z_k + i, searches ? pick(load(work.hard + i) != 0, z, load(work.z_k + i)) : z);
        }
        block.sync();
        st.eta_out *= pow(st.mu_in, ETA_ACCEPT_POWER);
        st.eta_in *= st.mu_in;
    } else {
        st.mu_eq = fmax(st.mu_eq * MU_SHRINK, floor);
        st.mu_in = fmax(st.mu_in * MU_SHRINK, floor);
        st.eta_out = FIRST_ETA_OUT * pow(st.mu_in, ETA_REFUSE_POWER);
        st.eta_in = st.mu_in;
        st.sums_are_old |= searches || st.sums_are_updated;  // whose rounding errors would weigh more
        set_omega(p, st);
    }
    if (!searches && proximal > RHO_STICKY * at.dual && at.dual > at.dual_tolerance) shrink_rho(st);
}

template <class F>
__device__ void centre(Problem<F>& p, State& st, const Measure& at) {
    Block block = p.block;
    copy(block, p.work.x_k, p.work.x, p.matrices.np);
    copy(block, p.work.Hx_k, p.work.Hx, p.matrices.np);
    copy(block, p.work.Gx_k, p.work.Gx, p.matrices.mp);
    st.primal_k = at.primal;
}

// The sides after a shift: a row that is shifted holds with equality at every feasible point, and becomes one.
template <class F>
__device__ void shift_sides(Problem<F>& p, const double* s) {
    QP_PARTS(p);
    QP_EACH(i, p.matrices.mp) {
        Pack by = load(s + i), low = load(work.low + i), high = load(work.high + i);
        store(work.low + i, pick(by > 0, high, low) + by);
        store(work.high + i, pick(by < 0, low, high) + by);
    }
    block.sync();
}

// Shifts the rows by their violation, which makes x feasible.
template <class F>
__device__ void shift(Problem<F>& p, State& st, const Measure& at) {
    QP_PARTS(p);
    if (at.primal <= at.primal_tolerance) return;
    const double floor = SHIFT_FLOOR * at.primal_tolerance;
    Any shifted;
    QP_EACH(i, p.matrices.mp) {
        Pack violation = load(work.violation + i);
        Pack s = pick((magnitude(violation) <= floor) | (load(work.hard + i) != 0), all(0), violation);
        shifted.add(s != 0);
        store(work.t_m + i, s);
        store(work.s + i, load(work.s + i) + s);
        store(work.is_firm + i, pick(s != 0, all(1), load(work.is_firm + i)));
    }
    block.sync();
    shift_sides(p, work.t_m);
    if (!shifted.value(block)) return;
    st.is_shifted = true;
    if (!p.options.closest_feasible) st.status = INFEASIBLE;
}

// Begins a phase at the present x with no multipliers and the first penalties.
template <class F>
__device__ void enter(Problem<F>& p, State& st, Phase phase) {
    Block block = p.block;
    st.phase = phase, st.entered = st.steps, st.sums_are_old = true;
    st.mu_eq = p.options.mu_eq, st.mu_in = p.options.mu_in, st.rho = p.options.rho;
    st.eta_out = FIRST_ETA_OUT, st.eta_in = phase == SHIFT ? SHIFT_INNER : FIRST_ETA_IN;
    set(block, p.work.z, p.matrices.mp, 0);
    set(block, p.work.z_k, p.matrices.mp, 0);
    set_omega(p, st);
}

// Moves what the inner loop holds fixed, where the inner loop has ended.
template <class F>
QP_PART void outer_step(Problem<F>& p, State& st, const Measure& at) {
    st.extra += st.phase == SHIFTED && at.hold();
    const bool ended = at.inner_scaled <= fmax(st.eta_in, at.inner_rounding) ||
                       at.inner_absolute <= INNER_FLOOR * p.options.eps_abs;
    if (st.rho > RHO_CEILING) st.status = NUMERICAL_ERROR;
    if (st.phase == SHIFT) {
        const bool found = is_shift_found(p, st, at), overdue = !found && st.steps > st.entered + SHIFT_STEPS;
        if (ended && !found && p.has_hard) move_multipliers(p, st, at);
        if (overdue && hard_violation(p) > at.primal_tolerance) st.status = INFEASIBLE;
        if (ended && !found) shrink_rho(st);
        if (ended || found) centre(p, st, at);
        if (found) shift(p, st, at);
        if (found || overdue) enter(p, st, SHIFTED);
    } else if (ended) {
        if (is_unbounded(p)) st.status = UNBOUNDED;
        const bool suspect = st.phase == AS_POSED && is_suspect(p, st, at);
        if (!suspect) move_multipliers(p, st, at);
        centre(p, st, at);
        if (suspect) enter(p, st, SHIFT);
    }
}

}  // namespace qplayer
