// The inner loop: semi-smooth Newton on the augmented Lagrangian phi, with an exact line search. The function and the
// system of a step are in kernels/reference/newton.py.
#pragma once

#include "state.h"

namespace qplayer {

// The minimiser over alpha > 0: a root of phi', which increases and is piecewise linear, by bracketed Newton.
template <class F>
QP_PART double exact_line_search(Problem<F>& p, double slope, double curvature) {
    QP_PARTS(p);
    double alpha = 1, left = 0, right = INFINITY;
    for (int trial = 0; trial < LINE_SEARCH_TRIALS; trial++) {
        Sum values, slopes;
        QP_EACH(i, p.matrices.mp) {
            Pack step = load(work.Gdx + i), v = load(work.v + i) + alpha * step;
            Pack weighted = load(work.omega + i) * step;
            Pack d = v - clamp(v, load(work.low + i), load(work.high + i));
            values.add(weighted * d);
            slopes.add(pick(d != 0, weighted * step, all(0)));
        }
        gather(block, values, slopes);
        double value = slope + alpha * curvature + values.total();
        (value < 0 ? left : right) = alpha;
        double newton = alpha - value / (curvature + slopes.total());
        double next = newton >= left && newton <= right ? newton : 0.5 * (left + right);
        bool moved = fabs(next - alpha) > LINE_SEARCH_ACCURACY * alpha;
        alpha = next;
        if (!moved) break;
    }
    return alpha;
}

// Brings the sums S (rows that are always active) and T (the other active rows) up to date: T by the rows that changed.
// Whether there was anything to do.
template <class F>
QP_PART bool update_sums(Problem<F>& p, State& st) {
    QP_PARTS(p);
    const double* metric = st.phase == SHIFT ? work.omega : work.metric_rows;
    const bool anew = st.sums_are_old;
    if (anew) {
        const int firm = list_those(block, mat.stored, work.list, [&](int i) { return work.is_firm[i] != 0; });
        clear(block, work.factor, work.S);
        add_rows(block, work.factor, p.matrices, work.S, work.list, firm, [&](int i) { return metric[i]; });
    }
    Sum members;
    QP_EACH(i, mat.sp) {
        Pack now = pick((load(work.is_firm + i) != 0) | (load(work.side + i) == 0), all(0), all(1));
        members.add(now);
        store(work.t_m + i, pick(now != load(work.member + i), all(1), all(0)));
        store(work.member + i, now);
    }
    const int count = int(members.value(block));  // which orders what was written, too
    int changed = list_those(block, mat.stored, work.list, [&](int i) { return work.t_m[i] != 0; });
    if (!anew && !changed) return false;
    if (anew || changed >= count) {  // without rounding errors of rows that left
        changed = list_those(block, mat.stored, work.list, [&](int i) { return work.member[i] != 0; });
        clear(block, work.factor, work.T);
        st.sums_are_updated = false;
    } else {
        st.sums_are_updated = true;
    }
    add_rows(block, work.factor, p.matrices, work.T, work.list, changed,
             [&](int i) { return work.member[i] != 0 ? metric[i] : -metric[i]; });
    st.sums_are_old = false;
    return true;
}

// Factors K, unless it is what the factor is of; where it is not positive definite for the rounding errors of updated
// sums, they are built anew. A new phase, of another H, begins with sums that are old.
template <class F>
__device__ bool factor_step(Problem<F>& p, State& st, bool diagonal_changed) {
    const bool searches = st.phase == SHIFT;
    p.H_in_K = searches ? nullptr : p.matrices.H;
    const double a = searches ? 1 : 1 / st.mu_eq, b = searches ? 1 : 1 / st.mu_in;
    const Terms<F> terms{p.H_in_K, p.work.S, a, p.work.T, b, p.work.diagonal};
    const bool sums_changed = update_sums(p, st);
    if (!sums_changed && !diagonal_changed && a == st.factored_a && b == st.factored_b) return true;
    bool factored = factorize(p.block, p.work.factor, terms);
    if (!factored && st.sums_are_updated) {
        st.sums_are_old = true;
        update_sums(p, st);
        factored = factorize(p.block, p.work.factor, terms);
    }
    st.factored_a = factored ? a : NAN, st.factored_b = b;
    return factored;
}

// v, the multipliers omega d and the active rows at x, whose side is 1 above, -1 below and BOTH of an equality; the gradient
// of phi, and the diagonal of K. Whether that changed. A trial first has the active rows of the penalties before it.
constexpr double BOTH = 2;

template <class F>
__device__ bool prepare_step(Problem<F>& p, const State& st) {
    QP_PARTS(p);
    const bool first_of_trial = st.trial && st.wrong < 0;
    QP_EACH(i, mat.mp) {
        Pack low = load(work.low + i), high = load(work.high + i), Gx = load(work.Gx + i);
        Pack z = multipliers(work, st, i), v = Gx + z * load(work.omega_inverse + i), seen = v;
        if (first_of_trial) {
            Pack mu = pick(load(work.is_firm + i) != 0, all(st.mu_eq_k), all(st.mu_in_k));
            seen = Gx + z * mu / load(work.metric_rows + i);
        }
        Mask up = seen >= high, down = seen <= low;
        Pack d = pick(up, v - high, pick(down, v - low, all(0)));
        store(work.v + i, v);
        store(work.z_trial + i, load(work.omega + i) * d);
        store(work.side + i, pick(up, pick(down, all(BOTH), all(1)), pick(down, all(-1), all(0))));
        if (IS_SINGLE<F>) store(work.factored + i, pick(up | down, load(work.omega + i), all(0)));
    }
    block.sync();
    columns(block, p.matrices, work.z_trial, work.gradient);
    const double sigma = st.phase == SHIFT ? 0 : 1;
    Any changed;
    QP_EACH(j, mat.np) {
        Pack prox = st.rho * load(work.metric_x + j);
        Pack pull = sigma * (load(work.Hx + j) + load(work.g + j)) + prox * (load(work.x + j) - load(work.x_k + j));
        Pack gradient = load(work.gradient + j) + pull, diagonal = prox + sigma * st.bend * load(work.metric_x + j);
        if (mat.mp > mat.sp)
            diagonal += pick(load(work.side + mat.sp + j) != 0, load(work.omega + mat.sp + j), all(0));
        store(work.t_x + j, pull);
        store(work.dx + j, -gradient);
        changed.add(diagonal != load(work.diagonal + j));
        store(work.diagonal + j, diagonal);
    }
    block.sync();
    return changed.value(block);
}

// Writes the multipliers after a full step to t_m; how many rows are not as active there as they should be. `size` is
// max |x / D|.
//
// Adding the step to the multipliers, rather than measuring omega d anew, leaves no rounding error of omega Gx in the
// dual residual. For the same reason it is the sign of the multiplier that tells whether an active row stays so, and an
// inactive row may pass its side by a rounding error.
template <class F>
__device__ int full_step(Problem<F>& p, double size) {
    QP_PARTS(p);
    Sum wrong;
    QP_EACH(i, p.matrices.mp) {
        Pack low = load(work.low + i), high = load(work.high + i), v = load(work.v + i), step = load(work.Gdx + i);
        Pack z = load(work.z_trial + i) + load(work.omega + i) * step, after = v + step;
        Pack slop = ACTIVE_ROUNDING * size * load(work.E_inverse + i);
        Pack side = load(work.side + i);
        Mask wrong_up = (side == 1) & (z < 0), wrong_down = (side == -1) & (z > 0);
        Mask passed = (side == 0) & ((after > high + slop) | (after < low - slop));
        wrong.add(pick(wrong_up | wrong_down | passed, all(1), all(0)));
        store(work.t_m + i, pick(side != 0, z, all(0)));
    }
    block.sync();
    return int(wrong.value(block));
}

// After a factorization that failed: the rows are too heavy, or rho is too small, or H is indefinite.
template <class F>
__device__ void give_way(Problem<F>& p, State& st) {
    if (st.mu_in < MU_FLOOR) {
        st.mu_eq /= MU_SHRINK, st.mu_in /= MU_SHRINK, st.mu_floor /= MU_SHRINK;
        set_omega(p, st);
    } else {
        st.rho *= RHO_GROWTH;
        if (st.phase != SHIFT) st.rho_floor = st.rho;
    }
    const bool light = st.rho * fmin(st.mu_eq, st.mu_in) >= INDEFINITE;
    if (light && p.matrices.H && p.h > 0 && st.phase != SHIFT && st.status == RUNNING) st.status = NUMERICAL_ERROR;
}

// Ends a trial where no row is wrong, and undoes it where not fewer are than before.
template <class F>
__device__ void judge_trial(Problem<F>& p, State& st, int wrong, bool failed) {
    if (!st.trial) return;
    Block block = p.block;
    const int bound = st.wrong < 0 ? TRIAL_WRONG : st.wrong;
    const bool undo = failed || wrong >= bound;
    st.trial = !undo && wrong > 0, st.wrong = st.trial ? wrong : -1;
    if (!undo) return;
    copy(block, p.work.x, p.work.x_k, p.matrices.np);
    copy(block, p.work.Hx, p.work.Hx_k, p.matrices.np);
    copy(block, p.work.z, p.work.z_k, p.matrices.mp);
    copy(block, p.work.Gx, p.work.Gx_k, p.matrices.mp);
    st.mu_eq = st.mu_eq_k, st.mu_in = st.mu_in_k;
    set_omega(p, st);
}

// One step in place; where the factorization fails, x stays.
template <class F>
QP_PART void newton_step(Problem<F>& p, State& st) {
    QP_PARTS(p);
    const bool diagonal_changed = prepare_step(p, st);
    bool failed = !factor_step(p, st, diagonal_changed);
    if (!failed) solve(p, work.dx);
    Any endless;
    Most size;
    QP_EACH(j, mat.np) {
        Pack dx = load(work.dx + j), zero = dx - dx;
        endless.add(zero != zero);
        size.add(load(work.x + j) * load(work.D_inverse + j));
    }
    gather(block, endless, size);
    failed |= endless.total();
    if (failed) set(block, work.dx, mat.np, 0);
    products_two(block, p.matrices, work.x, work.dx, work.Hx, work.Hdx, work.Gx, work.Gdx);
    if (st.bend != 0) {
        QP_EACH(j, mat.np) {
            Pack bend = st.bend * load(work.metric_x + j);
            store(work.Hx + j, load(work.Hx + j) + bend * load(work.x + j));
            store(work.Hdx + j, load(work.Hdx + j) + bend * load(work.dx + j));
        }
        block.sync();
    }

    const int wrong = full_step(p, size.total());
    const bool same = wrong == 0;
    const double sigma = st.phase == SHIFT ? 0 : 1;
    double alpha = 1;
    if (!same && !failed && !st.trial) {
        Sum slopes, curvatures;
        QP_EACH(j, mat.np) {
            Pack dx = load(work.dx + j);
            slopes.add(dx * load(work.t_x + j));
            curvatures.add(dx * (sigma * load(work.Hdx + j) + st.rho * load(work.metric_x + j) * dx));
        }
        gather(block, slopes, curvatures);
        alpha = exact_line_search(p, slopes.total(), curvatures.total());
    }
    QP_EACH(j, mat.np) {
        store(work.x + j, load(work.x + j) + alpha * load(work.dx + j));
        store(work.Hx + j, load(work.Hx + j) + alpha * load(work.Hdx + j));
    }
    QP_EACH(i, mat.mp) {
        Pack step = alpha * load(work.Gdx + i), v = load(work.v + i) + step;
        Pack measured = load(work.omega + i) * (v - clamp(v, load(work.low + i), load(work.high + i)));
        store(work.Gx + i, load(work.Gx + i) + step);
        if (!failed) store(work.z + i, same ? load(work.t_m + i) : measured);
    }
    block.sync();
    st.settled = !failed, st.kept = same && !failed;
    if (failed) give_way(p, st);
    st.steps++;
    judge_trial(p, st, wrong, failed);
}

}  // namespace qplayer
