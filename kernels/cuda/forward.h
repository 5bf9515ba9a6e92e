// The forward solve of one problem: phases AS_POSED, SHIFT and SHIFTED in one loop of Newton steps.
#pragma once

#include "multipliers.h"

namespace qplayer {

struct Result {
    int status;
    int64_t steps;
    double primal, dual, gap;
};

template <class F>
__device__ void keep_best(Problem<F>& p) {
    QP_PARTS(p);
    QP_EACH(j, mat.np) store(work.best_x + j, load(work.x + j));
    QP_EACH(i, mat.mp) store(work.best_z + i, load(work.z + i)), store(work.best_s + i, load(work.s + i));
    block.sync();
}

template <class F>
__device__ void take_best(Problem<F>& p) {
    copy(p.block, p.work.x, p.work.best_x, p.matrices.np);
    copy(p.block, p.work.z, p.work.best_z, p.matrices.mp);
    copy(p.block, p.work.s, p.work.best_s, p.matrices.mp);
}

// From the iterate in the workspace to the answer there.
template <class F>
QP_FN Result go_on(Problem<F>& p, State& st) {
    Measure at;
    Residuals best{};
    double best_worst = 0;
    for (bool first = true;; first = false) {
        measure(p, st, at);
        st.status = verdict(p, st, at);
        if (first || (st.phase != SHIFT && at.worst() < best_worst)) {
            best = at, best_worst = at.worst();
            keep_best(p);
        }
        outer_step(p, st, at);
        if (st.status == MAX_ITERATIONS || st.status == NUMERICAL_ERROR) {
            static_cast<Residuals&>(at) = best;
            take_best(p);
        }
        if (st.status == SOLVED_CLOSEST_FEASIBLE) settle_multipliers(p, at);
        if (st.status != RUNNING) return {st.status, st.steps, at.primal, at.dual, at.gap};
        newton_step(p, st);
    }
}

// From the start in x, z, s of the workspace to the answer there.
template <class F>
QP_PART Result forward(Problem<F>& p, bool same_matrices) {
    measure_scaling(p, same_matrices);
    State st = begin(p);
    return go_on(p, st);
}

}  // namespace qplayer
