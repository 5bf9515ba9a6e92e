// The outer loop: ending a problem, moving multipliers, penalties and phases, as kernels/reference/outer.py says.
#pragma once

#include "measure.h"

namespace qplayer {

template <class F>
__device__ int verdict(const Problem<F>& p, const State& st, const Measure& at) {
    if (st.status != RUNNING) return st.status;
    const bool exact = !st.is_shifted || st.extra >= EXTRA_STEPS || at.worst() <= EXTRA_ACCURACY;
    if (st.phase != SHIFT && st.settled && at.hold() && exact)
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
    double increment = largest(block, mat.mp, [&](int i) { return load(work.t_m + i) * load(work.E_inverse + i); });
    double push = largest(block, mat.np, [&](int j) { return load(work.D + j) * load(work.push + j); });
    const double imbalance = push / increment, balance = imbalance / st.calm;
    if (at.primal_worst > 1 && (balance <= SUSPICION || (stagnant && balance <= STAGNANT_SUSPICION))) return true;
    // calm one alarm later, as it is the second at which the sides give way
    return gaping && imbalance <= SUSPICION * fmin(st.calm / CALM, 1.0);
}

// The last step d of the centre, scaled: its largest entry, d'd and d'Hd; and the largest entry of the proximal term.
struct Ray {
    double size, square, curvature, proximal;
};

template <class F>
__device__ Ray last_step(Problem<F>& p, const State& st) {
    QP_PARTS(p);
    Most size, proximal;
    Sum square, curvature;
    QP_EACH(j, mat.np) {
        Pack d = load(work.x + j) - load(work.x_k + j), scaled = d * load(work.D_inverse + j);
        size.add(scaled), square.add(scaled * scaled);
        curvature.add(p.c * d * (load(work.Hx + j) - load(work.Hx_k + j)));
        proximal.add(st.rho * load(work.metric_x + j) * d);
    }
    gather(block, size, square, curvature, proximal);
    return {size.total(), square.total(), curvature.total(), proximal.total()};
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
    if (!(d.curvature < 0)) return;
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

// How far the hard rows are from holding, and from the side that their multipliers push against.
template <class F>
__device__ double hard_residual(Problem<F>& p) {
    QP_PARTS(p);
    return largest(block, mat.mp, [&](int i) {
        Pack z = load(work.z + i), slack = load(work.Gx + i) - pick(z > 0, load(work.high + i), load(work.low + i));
        return pick(load(work.hard + i) != 0, pick(z == 0, load(work.violation + i), slack), all(0));
    });
}

// Whether x is feasible, or the shift s has G'(w s) = 0, up to rounding errors and next to the size of s; whether that is
// in doubt, as rounding leaves much.
struct Search {
    bool found, doubtful;
};

template <class F>
__device__ Search judge_search(Problem<F>& p, const State& st, const Measure& at) {
    QP_PARTS(p);
    if (at.primal_worst <= SHIFT_FEASIBLE) return {true, false};
    if (p.has_hard && !(hard_residual(p) <= SHIFT_FLOOR * at.primal_tolerance)) return {false, false};
    measure_push(p, st);
    const double unit = st.shift_unit;
    Most size, push, scaled_push;
    Sum terms;
    QP_EACH(i, mat.mp) {
        Pack scaled_w = load(work.w + i) * load(work.E_inverse + i), violation = load(work.violation + i);
        Pack rounding = pick(violation != 0, rounding_of_rows(work, at.size_x, i), all(0));
        size.add(scaled_w * violation);
        terms.add(scaled_w * (rounding + ROUNDING * magnitude(violation)));
    }
    QP_EACH(j, mat.np) {
        push.add(load(work.push + j) / unit);
        scaled_push.add(load(work.D + j) * load(work.push + j) / unit);
    }
    const double scaled = scaled_push.value(block), next_to = size.value(block), rounding = terms.value(block);
    const bool flat = push.value(block) <= SHIFT_ACCURACY * p.options.eps_abs;
    const bool again = st.steps > st.entered + 1 && st.rho < p.options.rho;
    const bool stagnant = again && at.primal >= STAGNATION * st.primal_k;
    const bool near = at.primal_worst <= SHIFT_NEAR && st.rho <= SHIFT_FIRST_RHO;
    if (flat && scaled <= SHIFT_BALANCE * next_to) return {true, false};
    const bool rounded = stagnant && scaled <= rounding && rounding <= (near ? SHIFT_NEAR : 1) * next_to;
    const bool doubtful = st.calm == 1 && scaled > (near ? SHIFT_NEAR_DOUBT : SHIFT_DOUBT) * next_to;
    return {rounded && !doubtful, rounded && doubtful};
}

QP_FN void shrink_rho(State& st, double floor) { st.rho = fmax(st.rho * RHO_SHRINK, floor); }

// Begins a trial of the active rows.
template <class F>
__device__ void try_rows(Problem<F>& p, State& st) {
    const double known = fmax(st.mu_floor, KNOWN_MU);
    st.trial = fmax(st.mu_eq, st.mu_in) > known, st.wrong = -1;
    if (!st.trial) return;
    st.mu_eq_k = st.mu_eq, st.mu_in_k = st.mu_in;
    st.mu_eq = fmin(st.mu_eq, known), st.mu_in = fmin(st.mu_in, known);
    set_omega(p, st);
}

// Tries the active rows of a start, but drops one that is far; its multipliers wait where the shift is sought.
template <class F>
__device__ void begin_from_start(Problem<F>& p, State& st, const Measure& at) {
    QP_PARTS(p);
    if (st.phase == SHIFTED) st.extra = EXTRA_STEPS;
    if (st.phase == SHIFT)
        QP_EACH(i, mat.mp) store(work.z_k + i, pick(load(work.hard + i) != 0, all(0), load(work.z_k + i)));
    if (st.phase == AS_POSED && at.inner_scaled > START_RESIDUAL) {
        for (double* of_x : {work.x, work.x_k, work.Hx, work.Hx_k}) set(block, of_x, mat.np, 0);
        for (double* of_rows : {work.z, work.z_k, work.Gx, work.Gx_k}) set(block, of_rows, mat.mp, 0);
        st.settled = false;
    } else if (st.phase == AS_POSED) {
        try_rows(p, st);
    }
    block.sync();
}

// Accepts the multipliers where the primal residual meets its target or mu is at its floor, else shrinks mu. `proximal` is
// the largest entry of the proximal term, which does not matter in phase SHIFT.
template <class F>
__device__ void move_multipliers(Problem<F>& p, State& st, const Measure& at, double proximal) {
    QP_PARTS(p);
    const bool searches = st.phase == SHIFT;  // what may be violated there has no multipliers
    double violation = at.scaled_violation;
    if (searches)
        violation = largest(block, p.matrices.mp, [&](int i) {
            return load(work.E + i) * load(work.violation + i) * load(work.hard + i);
        });
    const bool at_floor = st.mu_eq <= st.mu_floor && st.mu_in <= st.mu_floor;
    const bool near = at.primal_worst <= 1 && at.gap_worst <= 1;  // as near as need be
    const bool accept = violation <= st.eta_out || near || at_floor;
    const bool slow = accept && at_floor && !near && at.primal > MU_STALL * st.primal_k;
    if (slow && !IS_SINGLE<F>) st.mu_floor = fmax(st.mu_floor * MU_SHRINK, MU_LEAST);
    if (!accept || slow) {
        st.mu_eq = fmax(st.mu_eq * MU_SHRINK, st.mu_floor), st.mu_in = fmax(st.mu_in * MU_SHRINK, st.mu_floor);
        st.sums_are_old |= searches || st.sums_are_updated;  // whose rounding errors would weigh more
        set_omega(p, st);
    }
    const double mu = fmin(st.mu_in, ETA_MU);
    if (accept) {
        QP_EACH(i, mat.mp) {
            Pack z = load(work.z + i);
            store(work.z_k + i, searches ? pick(load(work.hard + i) != 0, z, load(work.z_k + i)) : z);
        }
        block.sync();
        if (mu != st.accepted_mu) st.accepted_mu = mu, st.tightening = exp(ETA_ACCEPT_POWER * log(mu));
        st.eta_out *= st.tightening;
        st.eta_in *= mu;
        if (!slow && st.kept && !searches && p.h > 0) try_rows(p, st);  // without H the active rows seldom suffice
    } else {
        st.eta_out = FIRST_ETA_OUT * exp(ETA_REFUSE_POWER * log(mu));
        st.eta_in = mu;
    }
    if (!searches && proximal > RHO_STICKY * at.dual && at.dual > at.dual_tolerance) shrink_rho(st, st.rho_floor);
}

template <class F>
__device__ void centre(Problem<F>& p, State& st, const Measure& at) {
    QP_PARTS(p);
    QP_EACH(j, mat.np) store(work.x_k + j, load(work.x + j)), store(work.Hx_k + j, load(work.Hx + j));
    QP_EACH(i, mat.mp) store(work.Gx_k + i, load(work.Gx + i));
    block.sync();
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

// Fixes the hard rows that press on the shift, as they do at every feasible point.
template <class F>
__device__ void fix_pressing_rows(Problem<F>& p, const State& st) {
    QP_PARTS(p);
    const double size = largest(block, mat.mp, [&](int i) {
        Pack push = load(work.metric_shift + i) * load(work.violation + i) * load(work.E_inverse + i);
        return pick(load(work.hard + i) != 0, all(0), push);
    });
    QP_EACH(i, mat.mp) {
        Pack push = magnitude(load(work.z + i) * load(work.E_inverse + i));
        Mask presses = (load(work.hard + i) != 0) & (push > HARD_PRESSING * size);
        store(work.low + i, pick(presses, load(work.Gx + i), load(work.low + i)));
        store(work.high + i, pick(presses, load(work.Gx + i), load(work.high + i)));
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
        }
        block.sync();
        shift_sides(p, work.t_m);
    }
    const bool is_shifted = shifted.value(block);
    st.is_shifted |= is_shifted;
    if (is_shifted && p.has_hard) fix_pressing_rows(p, st);
    mark_firm_rows(p);
    if (!is_shifted) st.calm *= found ? CALM : CALM * CALM * CALM;
    const bool impossible = !found && p.has_hard && hard_violation(p) > at.primal_tolerance;
    if (!impossible && (p.options.closest_feasible || !is_shifted)) return;
    st.status = INFEASIBLE;
    QP_EACH(i, mat.mp) {
        Pack push = pick(load(work.hard + i) != 0, load(work.z + i), load(work.metric_shift + i) * load(work.violation + i));
        store(work.z + i, push / st.shift_unit);
    }
    block.sync();
}

// Begins a phase at the present x with the first penalties, and no multipliers but those of a start.
template <class F>
__device__ void enter(Problem<F>& p, State& st, Phase phase) {
    Block block = p.block;
    const bool kept = st.entered == 0 && st.steps <= 1 && st.is_shifted, searches = phase == SHIFT;
    st.phase = phase, st.entered = st.steps, st.sums_are_old = true, st.trial = false;
    st.mu_eq = searches ? p.options.mu_eq : fmin(fmax(st.mu_floor, KNOWN_MU), p.options.mu_eq);
    st.mu_in = p.options.mu_in, st.rho = searches ? first_rho_of_shift(p) : p.options.rho;
    st.eta_out = FIRST_ETA_OUT, st.eta_in = searches ? SHIFT_INNER : FIRST_ETA_IN;
    if (!kept) set(block, p.work.z_k, p.matrices.mp, 0);
    copy(block, p.work.z, p.work.z_k, p.matrices.mp);
    set_omega(p, st);
}

// Moves what the inner loop holds fixed, where the inner loop has ended.
template <class F>
QP_PART void outer_step(Problem<F>& p, State& st, const Measure& at) {
    st.extra += st.phase == SHIFTED && at.hold();
    if (st.status != RUNNING) return;
    const bool started = st.steps == 0 && st.settled;
    const bool ended = !started && (at.inner_scaled <= fmax(st.eta_in, at.inner_rounding) ||
                                    at.inner_absolute <= INNER_FLOOR * p.options.eps_abs);
    if (st.rho > RHO_CEILING) st.status = NUMERICAL_ERROR;
    if (st.phase == SHIFT) {
        const Search search = judge_search(p, st, at);
        const bool found = search.found, late = !found && (search.doubtful || st.steps > st.entered + SHIFT_STEPS);
        const bool holds = late && (!p.has_hard || hard_violation(p) <= at.primal_tolerance);
        const bool overdue = late && (holds || st.mu_in <= st.mu_floor);
        if (ended && !found && p.has_hard) move_multipliers(p, st, at, 0);
        if (ended && !found) shrink_rho(st, st.rho_floor * SHIFT_RHO);
        if (ended || found) centre(p, st, at);
        if (found || overdue) end_search(p, st, at, found);
        if ((found || overdue) && st.status == RUNNING) enter(p, st, SHIFTED);
    } else if (ended) {
        const Ray d = last_step(p, st);
        if (is_unbounded(p, st, at, d)) st.status = UNBOUNDED;
        bend(p, st, at, d);
        const bool suspect = !st.is_shifted && is_suspect(p, st, at);
        if (!suspect) move_multipliers(p, st, at, d.proximal);
        centre(p, st, at);
        if (suspect) enter(p, st, SHIFT);
    }
    if (started) begin_from_start(p, st, at);
}

}  // namespace qplayer
