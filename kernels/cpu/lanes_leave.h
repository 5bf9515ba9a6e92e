// What one lane has found out, to where its problem goes on alone.
#pragma once

#include "../cuda/forward.h"
#include "lanes.h"

namespace qplayer::lanes {

// Writes the scaling and the iterate of a lane to the workspace that its problem has been read into; the state there.
template <int N>
qplayer::State hand_over(const Problems<N>& p, const State& st, int lane, Problem<double>& to) {
    Workspace<double>& work = to.work;
    const Sizes& sizes = to.sizes;
    const auto columns = [&](Pack Column::*of, double* vector) {
        for (int j = 0; j < p.n; j++) vector[j] = (p.column[j].*of)[lane];
    };
    const auto rows = [&](Pack Row<N>::*of, double* vector) {
        for (int i = 0; i < p.m; i++) vector[i < p.stored ? i : i - p.stored + sizes.sp()] = (p.row[i].*of)[lane];
    };
    for (double* vector : {work.D, work.D_inverse}) set(to.block, vector, sizes.np(), 1);
    for (double* vector : {work.E, work.E_inverse}) set(to.block, vector, sizes.mp(), 1);
    for (double* vector : {work.x, work.x_k, work.Hx_k}) set(to.block, vector, sizes.np(), 0);
    for (double* vector : {work.z, work.z_k, work.Gx_k, work.s}) set(to.block, vector, sizes.mp(), 0);
    columns(&Column::D, work.D), columns(&Column::D_inverse, work.D_inverse), columns(&Column::x, work.x);
    rows(&Row<N>::E, work.E), rows(&Row<N>::E_inverse, work.E_inverse), rows(&Row<N>::z, work.z);
    const double unit = p.of.unit[lane];
    double logs = 0;
    for (int i = 0; i < p.m; i++) logs += log(p.row[i].E[lane] * unit);
    to.c = p.of.c[lane], to.h = p.of.h[lane], to.unit = unit;
    to.row_unit = p.m ? exp(2 * (logs / p.m)) / (unit * unit) : 1;

    qplayer::State at = begin(to);
    columns(&Column::x_k, work.x_k), columns(&Column::Hx_k, work.Hx_k);
    rows(&Row<N>::z_k, work.z_k), rows(&Row<N>::Gx_k, work.Gx_k);
    at.steps = int64_t(st.steps[lane]), at.wrong = int(st.wrong[lane]), at.primal_k = st.primal_k[lane];
    at.mu_eq = st.mu_eq[lane], at.mu_in = st.mu_in[lane], at.mu_floor = st.mu_floor[lane];
    at.mu_eq_k = st.mu_eq_k[lane], at.mu_in_k = st.mu_in_k[lane];
    at.rho = st.rho[lane], at.rho_floor = st.rho_floor[lane];
    at.eta_out = st.eta_out[lane], at.eta_in = st.eta_in[lane];
    at.settled = st.settled[lane], at.kept = st.kept[lane], at.trial = st.trial[lane];
    set_omega(to, at);
    return at;
}

}  // namespace qplayer::lanes
