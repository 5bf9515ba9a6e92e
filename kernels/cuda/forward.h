// The forward solve of one problem: phases AS_POSED, SHIFT and SHIFTED in one loop of Newton steps.
#pragma once

#include "multipliers.h"

namespace qplayer {

struct Result {
    int status;
    int64_t steps;
    double primal, dual, gap;
};

// From the start in x, z, s of the workspace to the answer there.
template <class F>
Result forward(Problem<F>& p, bool same_matrices) {
    measure_scaling(p, same_matrices);
    State st = begin(p);
    for (;;) {
        Measure at = measure(p, st);
        st.status = verdict(p, st, at);
        if (st.status == SOLVED_CLOSEST_FEASIBLE) settle_multipliers(p, at);
        if (st.status != RUNNING) return {st.status, st.steps, at.primal, at.dual, at.gap};
        outer_step(p, st, at);
        newton_step(p, st);
    }
}

}  // namespace qplayer
