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
__device__ void copy_iterate(Problem<F>& p, double* const (&to)[3], double* const (&from)[3]) {
    copy(p.block, to[0], from[0], p.matrices.np);
    copy(p.block, to[1], from[1], p.matrices.mp);
    copy(p.block, to[2], from[2], p.matrices.mp);
}

// From the start in x, z, s of the workspace to the answer there.
template <class F>
QP_PART Result forward(Problem<F>& p, bool same_matrices) {
    Workspace<F>& work = p.work;
    double* const now[3] = {work.x, work.z, work.s};
    double* const best[3] = {work.best_x, work.best_z, work.best_s};
    measure_scaling(p, same_matrices);
    State st = begin(p);
    Measure at_best;
    for (bool first = true;; first = false) {
        Measure at = measure(p, st);
        st.status = verdict(p, st, at);
        if (first || (st.phase != SHIFT && at.worst() < at_best.worst())) {
            at_best = at;
            copy_iterate(p, best, now);
        }
        outer_step(p, st, at);
        if (st.status == MAX_ITERATIONS || st.status == NUMERICAL_ERROR) {
            at = at_best;
            copy_iterate(p, now, best);
        }
        if (st.status == SOLVED_CLOSEST_FEASIBLE) settle_multipliers(p, at);
        if (st.status != RUNNING) return {st.status, st.steps, at.primal, at.dual, at.gap};
        newton_step(p, st);
    }
}

}  // namespace qplayer
