// The outer loop: ending a problem, moving multipliers, penalties and phases, as kernels/reference/outer.py says.
#pragma once

#include "measure.h"

namespace qplayer {

template <class F>
__device__ int verdict(const Problem<F>& p, const State& st, const Measure& at) {
    if (st.status != RUNNING) return st.status;
    if (st.phase != SHIFT && st.settled && at.hold() && (!st.is_shifted || st.extra >= EXTRA_STEPS))
        return st.is_shifted ? SOLVED_CLOSEST_FEASIBLE : SOLVED;
    return st.steps < p.options.max_iter ? RUNNING : MAX_ITERATIONS;
}

// Whether the increment v = omega violation of the multipliers has G'v = 0, as where no x is feasible.
template <class F>
__device__ bool is_suspect(Problem<F>& p, const State& st, const Measure& at) {
    QP_PARTS(p);
    const bool stagnant = at.primal >= STAGNATION * st.primal_k;
    const bool gaping = at.gap_worst > 1 && stagnant && at.primal_worst > SUSPECT_VIOLATION;
    if (!(at.primal_worst > 1 || gaping)) return false;
    measure_push(p, st);
    double increment = largest(block, mat.mp, [&](int i) { return load(work.t_m + i) / load(work.E + i); });
    double push = largest(block, mat.np, [&](int j) { return load(work.D + j) * load(work.push + j); });
    const double balance = push / increment / st.calm;
    return balance <= SUSPICION || (at.primal_worst > 1 && stagnant && balance <= STAGNANT_SUSPICION);
}

// The last step d of the centre, scaled: its largest entry, d'd and d'Hd.
struct Ray {
    double size, square, curvature;
};

template <class F>
__device__ Ray last_step(Problem<F>& p) {
    QP_PARTS(p);
    Most size;
    Sum square, curvature;
    QP_EACH(j, mat.np) {
        Pack d = load(work.x + j) - load(work.x_k + j), scaled = d / load(work.D + j);
        size.add(scaled), square.add(scaled * scaled);
        curvature.add(p.c * d * (load(work.Hx + j) - load(work.Hx_k + j)));
    }
    const double largest_entry = size.value(block), squares = square.value(block);
    return {largest_entry, squares, curvature.value(block)};
}

// Whether the last step d of the centre is a ray: the objective falls along it without curvature, to no side.
template <class F>
__device__ bool is_unbounded(Problem<F>& p, const State& st, const Measure& at, const Ray& d) {
    QP_PARTS(p);
    const bool flat = fabs(d.curvature) <= FLAT * p.h * d.size * d.size;
    if (!(flat && d.size >= RAY_LENGTH * at.size_x && at.dual_worst > 1)) return false;
    Most approach;
    Sum descent;
    QP_EACH(j, mat.np) descent.add(load(work.g + j) * (load(work.x + j) - load(work.x_k + j)));
    if (!(p.c * descent.value(block) < -RAY * st.rho * d.square)) return false;
    QP_EACH(i, mat.mp) {
        Pack Gd = load(work.E + i) * (load(work.Gx + i) - load(work.Gx_k + i));
        Mask nears = ((Gd > 0) & (load(work.high + i) != INFINITY)) | ((Gd < 0) & (load(work.low + i) != -INFINITY));
        approach.add(pick(nears | (Gd != Gd), Gd, all(0)));
    }
    return approach.value(block) <= RECESSION * d.size;
}

// Adds to H what a step of the centre with negative curvature lacks, or ends the problem where that is too much.
template <class F>
__device__ void bend(Problem<F>& p, State& st, const Measure& at, const Ray& d) {
    QP_PARTS(p);
    const double curvature = d.curvature / d.square, noise = FLAT * p.h * fmax(d.size, at.size_x) / d.size;
    if (!(curvature < -noise)) return;
    const double more = -BEND * curvature;
    st.bend += more;
    if (st.bend > BEND_CEILING * p.h) st.status = NUMERICAL_ERROR;
    QP_EACH(j, mat.np) {
        Pack by = more * load(work.metric_x + j);
        store(work.Hx + j, load(work.Hx + j) + by * load(work.x + j));
        store(work.Hx_k + j, load(work.Hx_k + j) + by * load(work.x_k + j));
    }
    block.sync();
}

template <class F>
__device__ double hard_violation(Problem<F>& p) {
    return largest(p.block, p.matrices.mp, [&](int i) { return load(p.work.violation + i) * load(p.work.hard + i); });
}

// Whether x is feasible, or the shift s has G'(w s) = 0, up to rounding errors and next to the size of s.
template <class F>
__device__ bool is_shift_found(Problem<F>& p, const State& st, const Measure& at) {
    QP_PARTS(p);
    if (at.primal_worst <= SHIFT_FEASIBLE) return true;
    if (p.has_hard && !(hard_violation(p) <= SHIFT_FLOOR * at.primal_tolerance)) return false;
    measure_push(p, st);
    const double unit = p.row_unit / p.c;
    Most size, push, scaled_push;
    Sum terms;
    QP_EACH(i, mat.mp) {
        Pack w = load(work.w + i), E = load(work.E + i), violation = load(work.violation + i);
        Pack rounding = pick(violation != 0, rounding_of_rows(work, at.size_x, i), all(0));
        size.add(w * violation / E);
        terms.add(w * (rounding + ROUNDING * magnitude(violation)) / E);
    }
    QP_EACH(j, mat.np) {
        push.add(load(work.push + j) / unit);
        scaled_push.add(load(work.D + j) * load(work.push + j) / unit);
    }
    const double scaled = scaled_push.value(block), next_to = size.value(block), rounding = terms.value(block);
    const bool flat = push.value(block) <= SHIFT_ACCURACY * p.options.eps_abs;
    const bool settled = at.primal >= STAGNATION * st.primal_k && st.rho < p.options.rho;
    if (settled && scaled <= rounding && rounding <= next_to) return true;
    return flat && scaled <= SHIFT_BALANCE * next_to;
}

QP_FN void shrink_rho(State& st, double floor) { st.rho = fmax(st.rho * RHO_SHRINK, floor); }

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
    const bool at_floor = st.mu_eq <= st.mu_floor && st.mu_in <= st.mu_floor;
    const bool accept = violation <= st.eta_out || at.primal_worst <= 1 || at_floor;
    const bool slow = accept && at_floor && at.primal_worst > 1 && at.primal > MU_STALL * st.primal_k;
    if (slow && !IS_SINGLE<F>) st.mu_floor = fmax(st.mu_floor * MU_SHRINK, MU_LEAST);
    if (!accept || slow) {
        st.mu_eq = fmax(st.mu_eq * MU_SHRINK, st.mu_floor), st.mu_in = fmax(st.mu_in * MU_SHRINK, st.mu_floor);
        st.sums_are_old |= searches || st.sums_are_updated;  // whose rounding errors would weigh more
        set_omega(p, st);
    }
    if (accept) {
        QP_EACH(i, mat.mp) {
            Pack z = load(work.z + i);
            store(work.z_k + i, searches ? pick(load(work.hard + i) != 0, z, load(work.z_k + i)) : z);
        }
        block.sync();
        st.eta_out *= pow(st.mu_in, ETA_ACCEPT_POWER);
        st.eta_in *= st.mu_in;
    } else {
        st.eta_out = FIRST_ETA_OUT * pow(st.mu_in, ETA_REFUSE_POWER);
        st.eta_in = st.mu_in;
    }
    if (!searches && proximal > RHO_STICKY * at.dual && at.dual > at.dual_tolerance) shrink_rho(st, st.rho_floor);
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

// Moves the sides so that x is feasible: shifts rows by their violation, or relaxes them, silently, where that is next to
// none. A problem that ends here has a ray for multipliers.
template <class F>
__device__ void end_search(Problem<F>& p, State& st, const Measure& at, bool found) {
    QP_PARTS(p);
    const double floor = SHIFT_FLOOR * at.primal_tolerance;
    const bool feasible = at.primal_worst <= SHIFT_FEASIBLE;
    const bool false_alarm = feasible && st.calm == 1;
    Any shifted;
    if (found && !false_alarm) {
        QP_EACH(i, mat.mp) {
            Pack violation = load(work.violation + i), low = load(work.low + i), high = load(work.high + i);
            Mask small = (magnitude(violation) <= floor) | (load(work.hard + i) != 0), fixed = low == high;
            Pack s = feasible ? all(0) : pick(small, all(0), violation), rest = violation - s;
            shifted.add(s != 0);
            store(work.low + i, low + pick(fixed | (rest < 0), rest, all(0)));
            store(work.high + i, high + pick(fixed | (rest > 0), rest, all(0)));
            store(work.t_m + i, s);
            store(work.s + i, load(work.s + i) + s);
            store(work.is_firm + i, pick(s != 0, all(1), load(work.is_firm + i)));
        }
        block.sync();
        shift_sides(p, work.t_m);
    }
    const bool is_shifted = shifted.value(block);
    st.is_shifted |= is_shifted;
    if (!is_shifted) st.calm *= found ? CALM : CALM * CALM * CALM;
    const bool impossible = !found && p.has_hard && hard_violation(p) > at.primal_tolerance;
    if (!impossible && (p.options.closest_feasible || !is_shifted)) return;
    st.status = INFEASIBLE;
    QP_EACH(i, mat.mp) {
        Pack push = pick(load(work.hard + i) != 0, load(work.z + i), load(work.metric_shift + i) * load(work.violation + i));
        store(work.z + i, push * (p.c / p.row_unit));
    }
    block.sync();
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
    if (st.status != RUNNING) return;
    const bool ended = at.inner_scaled <= fmax(st.eta_in, at.inner_rounding) ||
                       at.inner_absolute <= INNER_FLOOR * p.options.eps_abs;
    if (st.rho > RHO_CEILING) st.status = NUMERICAL_ERROR;
    if (st.phase == SHIFT) {
        const bool found = is_shift_found(p, st, at), overdue = !found && st.steps > st.entered + SHIFT_STEPS;
        if (ended && !found && p.has_hard) move_multipliers(p, st, at);
        if (ended && !found) shrink_rho(st, st.rho_floor * SHIFT_RHO);
        if (ended || found) centre(p, st, at);
        if (found || overdue) end_search(p, st, at, found);
        if ((found || overdue) && st.status == RUNNING) enter(p, st, SHIFTED);
    } else if (ended) {
        const Ray d = last_step(p);
        if (is_unbounded(p, st, at, d)) st.status = UNBOUNDED;
        bend(p, st, at, d);
        const bool suspect = !st.is_shifted && is_suspect(p, st, at);
        if (!suspect) move_multipliers(p, st, at);
        centre(p, st, at);
        if (suspect) enter(p, st, SHIFT);
    }
}

}  // namespace qplayer
