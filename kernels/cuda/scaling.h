// Equilibration as vectors D and E and a cost scale c (Ruiz 2001): the data is never scaled, see
// kernels/reference/scaling.py.
#pragma once

#include "problem.h"

namespace qplayer {

QP_FN double inverse_root(double size) { return size > 0 ? 1 / sqrt(size) : 1; }

// One pass: t_x gets the size of each column of D H D and E G D, t_m that of each stored row.
template <class F>
__device__ void measure_sizes(Problem<F>& p) {
    QP_PARTS(p);
    set(block, work.t_x, mat.np, 0);
    if (mat.H)
        each_row<Most>(
            block, mat.n, mat.np, [&](int i, int j) { return load(mat.H + i * mat.np + j) * load(work.D + j); },
            [&](int i, double size) { work.t_x[i] = work.D[i] * size; });
    each_row<Most>(
        block, mat.stored, mat.np, [&](int i, int j) { return load(mat.line(i) + j) * load(work.D + j); },
        [&](int i, double size) { work.t_m[i] = work.E[i] * size; });
    block.sync();
    QP_EACH(j, mat.np) {
        Pack size = load(work.t_x + j), D = load(work.D + j);
        for (int i = 0; i < mat.stored; i++) {
            Pack entry = magnitude(load(mat.line(i) + j)) * D * work.E[i];
            size = pick(entry > size, entry, size);
        }
        store(work.t_x + j, size);
    }
    block.sync();
}

// c = 1 / max(mean column size of D H D, max |D g|), and h.
template <class F>
__device__ void measure_cost(Problem<F>& p) {
    QP_PARTS(p);
    p.h = 0;
    double size = largest(block, mat.np, [&](int j) { return load(work.D + j) * load(work.g + j); });
    if (mat.H) {
        set(block, work.t_x, mat.np, 0);
        each_row<Most>(
            block, mat.n, mat.np, [&](int i, int j) { return load(mat.H + i * mat.np + j) * load(work.D + j); },
            [&](int i, double largest_entry) { work.t_x[i] = work.D[i] * largest_entry; });
        block.sync();
        Sum sizes;
        Most most;
        QP_EACH(j, mat.np) sizes.add(load(work.t_x + j)), most.add(load(work.t_x + j));
        const double mean = sizes.value(block) / mat.n;
        size = mean > size ? mean : size;
        p.h = most.value(block);
    }
    p.c = p.options.equilibrate && size > 0 ? 1 / size : 1;
    p.h *= p.c;
}

// Gives rows that are next to nothing beside the largest one the E of that.
template <class F>
__device__ void limit_rows(Problem<F>& p) {
    QP_PARTS(p);
    set(block, work.t_m, mat.mp, 0);
    QP_EACH_NUMBER(i, mat.stored) work.t_m[i] = 1 / work.E[i];
    if (mat.mp > mat.sp) QP_EACH_NUMBER(j, mat.n) work.t_m[mat.sp + j] = work.D[j];
    block.sync();
    const double most = largest(block, mat.mp, [&](int i) { return load(work.t_m + i); });
    QP_EACH_NUMBER(i, mat.stored) if (work.t_m[i] <= ZERO_ROW * most) work.E[i] = 1 / most;
    block.sync();
}

// D and E of the matrices, and the mean of E^2.
template <class F>
__device__ void measure_rows(Problem<F>& p) {
    QP_PARTS(p);
    set(block, work.D, mat.np, 1);
    set(block, work.E, mat.mp, 1);
    for (int pass = 0; pass < (p.options.equilibrate ? RUIZ_PASSES : 0); pass++) {
        measure_sizes(p);
        QP_EACH_NUMBER(j, mat.n) work.D[j] *= inverse_root(work.t_x[j]);
        QP_EACH_NUMBER(i, mat.stored) work.E[i] *= inverse_root(work.t_m[i]);
        block.sync();
    }
    if (mat.mp > mat.sp) QP_EACH_NUMBER(j, mat.n) work.E[mat.sp + j] = 1 / work.D[j];
    block.sync();
    limit_rows(p);
    double squares = -(mat.mp - p.sizes.m());  // of the padding, which are 1
    Sum sum;
    QP_EACH(i, mat.mp) sum.add(load(work.E + i) * load(work.E + i));
    squares += sum.value(block);
    p.mean_square_E = squares / p.sizes.m();
}

// The metric of the solve; D and E are kept where the matrices are those of the problem before.
template <class F>
QP_PART void measure_scaling(Problem<F>& p, bool same_matrices) {
    if (!same_matrices) measure_rows(p);
    p.row_unit = p.sizes.m() ? p.mean_square_E / exp(p.mean_log_w) : 1;
    measure_cost(p);
}

}  // namespace qplayer
