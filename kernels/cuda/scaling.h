// Equilibration as vectors D and E and a cost scale c (Ruiz 2001), in a unit of x: the data is never scaled, see
// kernels/reference/scaling.py.
#pragma once

#include "problem.h"

namespace qplayer {

// The largest entries of columns j ... of D H D, which is symmetric.
template <class F>
QP_FN Pack sizes_of_H(Problem<F>& p, int j) {
    QP_PARTS(p);
    Pack size = all(0);
    const double* line = mat.H + j;
    const int count = mat.H ? mat.n : 0;
    QP_AHEAD(8) for (int i = 0; i < count; i++, line += mat.np) {
        Pack entry = magnitude(load(line)) * work.D[i];
        size = pick(entry > size, entry, size);
    }
    return load(work.D + j) * size;
}

// One pass: t_x gets the size of each column of D H D and E G D, t_m that of each stored row.
template <class F>
__device__ void measure_sizes(Problem<F>& p) {
    QP_PARTS(p);
    each_row<Most>(
        block, mat.stored, mat.np, [&](int i, int j) { return load(mat.line(i, j)) * load(work.D + j); },
        [&](int i, double size) { work.t_m[i] = work.E[i] * size; });
    block.sync();
    QP_EACH(j, mat.np) {
        Pack size = sizes_of_H(p, j), D = load(work.D + j);
        QP_AHEAD(8) for (int i = 0; i < mat.stored; i++) {
            Pack entry = magnitude(load(mat.line(i, j))) * D * work.E[i];
            size = pick(entry > size, entry, size);
        }
        store(work.t_x + j, size);
    }
    block.sync();
}

// About how large x is, equilibrated, as a power of two, from the curvature and the slope of the cost and the sides;
// t_x has the curvature of each x.
template <class F>
__device__ double measure_unit(Problem<F>& p, double curvature, double slope) {
    QP_PARTS(p);
    bool flat = !mat.H, open = mat.mp == mat.sp;
    if (mat.H) QP_EACH_NUMBER(j, mat.n) flat |= work.t_x[j] == 0;
    if (mat.mp > mat.sp)
        QP_EACH_NUMBER(i, mat.n) open |= work.lo[mat.sp + i] == -INFINITY || work.hi[mat.sp + i] == INFINITY;
    const bool is_flat = block.any(flat), is_open = block.any(open), confined = is_flat || !is_open;
    Most sides, needed;
    QP_EACH(i, mat.mp) {
        Pack low = load(work.lo + i), high = load(work.hi + i), E = load(work.E + i);
        Pack below = pick(low == -INFINITY, all(0), low), above = pick(high == INFINITY, all(0), high);
        sides.add(E * below), sides.add(E * above);
        needed.add(E * pick(low > 0, low, all(0))), needed.add(E * pick(high < 0, high, all(0)));
    }
    const double farthest = p.unit * sides.value(block), nearest = p.unit * needed.value(block);
    double size = curvature > 0 ? slope / curvature : INFINITY;
    if (confined && farthest > 0) size = fmin(size, farthest);
    size = fmax(size, nearest);
    if (!(size > 0 && size < INFINITY)) return 1;
    return ldexp(1.0, int(fmin(fmax(rint(log2(size)), -UNIT_POWER), UNIT_POWER)));
}

// The unit of x, which goes into D and E; c and h.
template <class F>
__device__ void measure_cost(Problem<F>& p) {
    QP_PARTS(p);
    const double last = p.unit;
    double slope = largest(block, mat.np, [&](int j) { return load(work.D + j) * load(work.g + j); }) / last;
    double curvature = 0, most = 0;
    if (mat.H) {
        Sum sizes;
        Most largest_size;
        QP_EACH(j, mat.np) {
            Pack size = sizes_of_H(p, j);
            store(work.t_x + j, size);
            sizes.add(size), largest_size.add(size);
        }
        block.sync();
        curvature = sizes.value(block) / mat.n / (last * last), most = largest_size.value(block) / (last * last);
    }
    p.c = 1;
    if (p.options.equilibrate) {
        p.unit = measure_unit(p, curvature, slope);
        const double size = p.unit * fmax(p.unit * curvature, slope);
        p.c = size > 0 ? 1 / size : 1 / p.unit;
    }
    p.h = p.c * p.unit * p.unit * most;
    if (p.unit == last) return;
    QP_EACH(j, mat.np) store(work.D + j, load(work.D + j) * (p.unit / last));
    QP_EACH(i, mat.mp) store(work.E + i, load(work.E + i) * (last / p.unit));
    block.sync();
}

// Gives stored rows that are next to nothing beside the largest one, or beside any bound, the E of that.
template <class F>
__device__ void limit_rows(Problem<F>& p) {
    QP_PARTS(p);
    set(block, work.t_m, mat.mp, 0);
    QP_EACH_NUMBER(i, mat.stored) work.t_m[i] = 1 / work.E[i];
    if (mat.mp > mat.sp) QP_EACH_NUMBER(j, mat.n) work.t_m[mat.sp + j] = work.E[mat.sp + j];
    block.sync();
    double most = largest(block, mat.sp, [&](int i) { return load(work.t_m + i); });
    if (mat.mp > mat.sp)
        most = fmax(most, 1 / largest(block, mat.mp - mat.sp, [&](int j) { return load(work.t_m + mat.sp + j); }));
    QP_EACH_NUMBER(i, mat.stored) if (work.t_m[i] <= ZERO_ROW * most) work.E[i] = 1 / most;
    block.sync();
}

// D and E of the matrices, in unit 1, and the mean of log E.
template <class F>
__device__ void measure_rows(Problem<F>& p) {
    QP_PARTS(p);
    set(block, work.D, mat.np, 1);
    set(block, work.E, mat.mp, 1);
    set(block, work.t_m, mat.sp, 0);
    for (int pass = 0; pass < (p.options.equilibrate ? RUIZ_PASSES : 0); pass++) {
        measure_sizes(p);
        QP_EACH(j, mat.np) store(work.D + j, load(work.D + j) * inverse_root(load(work.t_x + j)));
        QP_EACH(i, mat.sp) store(work.E + i, load(work.E + i) * inverse_root(load(work.t_m + i)));
        block.sync();
    }
    if (mat.mp > mat.sp) QP_EACH_NUMBER(j, mat.n) work.E[mat.sp + j] = 1 / work.D[j];
    block.sync();
    limit_rows(p);
    double logs = 0;
    QP_EACH_NUMBER(i, mat.mp) logs += log(work.E[i]);  // 0 on the padding
    p.mean_log_E = block.sum(logs) / p.sizes.m(), p.unit = 1;
}

// The metric of the solve; D and E are kept where the matrices are those of the problem before.
template <class F>
QP_PART void measure_scaling(Problem<F>& p, bool same_matrices) {
    QP_PARTS(p);
    if (!same_matrices) measure_rows(p);
    measure_cost(p);
    QP_EACH(j, mat.np) store(work.D_inverse + j, 1 / load(work.D + j));
    QP_EACH(i, mat.mp) store(work.E_inverse + i, 1 / load(work.E + i));
    block.sync();
    p.row_unit = p.sizes.m() ? exp(2 * p.mean_log_E - p.mean_log_w) / (p.unit * p.unit) : 1;
}

}  // namespace qplayer
