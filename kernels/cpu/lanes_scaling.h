// The equilibration of ../cuda/scaling.h, a lane each.
#pragma once

#include "lanes.h"

namespace qplayer::lanes {

// The power of two next to a positive size.
QP_FN Pack power_of_two(Pack size) {
    constexpr double ROOT_OF_TWO = 1.4142135623730951;
    const Mask bias = Mask{} + 1023;
    Mask exponent = ((Mask)(size * ROOT_OF_TWO) >> 52) - bias;
    exponent = exponent < -UNIT_POWER ? Mask{} - UNIT_POWER : exponent;
    exponent = exponent > UNIT_POWER ? Mask{} + UNIT_POWER : exponent;
    return (Pack)((exponent + bias) << 52);
}

// The largest entry of each line of D H D.
inline void sizes_of_H(const Problems& p, Pack* size) {
    for (int j = 0; j < p.np; j++) size[j] = Pack{};
    if (!p.has_H) return;
    for (int i = 0; i < p.np / TILE; i++)
        for (int j = 0; j <= i; j++)
            for (int r = 0; r < TILE; r++)
                for (int c = 0; c < TILE; c++) {
                    const int line = i * TILE + r, column = j * TILE + c;
                    const Pack entry = magnitude(p.H[tile_at(i, j) + r * TILE + c]);
                    size[line] = larger(entry * p.D[column], size[line]);
                    if (j < i) size[column] = larger(entry * p.D[line], size[column]);
                }
    for (int j = 0; j < p.n; j++) size[j] *= p.D[j];
}

// One pass of Ruiz.
inline void equilibrate(const Problems& p) {
    Pack* const size = p.t_x;
    sizes_of_H(p, size);
    for (int i = 0; i < p.stored; i++) {
        const Pack E = p.E[i];
        Pack most{};
        for (int j = 0; j < p.n; j++) {
            const Pack entry = magnitude(p.G[i * p.np + j]) * p.D[j];
            most = larger(entry, most);
            size[j] = larger(entry * E, size[j]);
        }
        most *= E;
        const Pack root = inverse_root(most);
        p.E[i] *= root;
        p.E_inverse[i] *= pick(most > 0, most, all(1)) * root;
    }
    for (int j = 0; j < p.n; j++) {
        const Pack root = inverse_root(size[j]);
        p.D[j] *= root;
        p.D_inverse[j] *= pick(size[j] > 0, size[j], all(1)) * root;
    }
}

// D and E of the matrices, in unit 1.
inline void measure_rows(const Problems& p) {
    for (int j = 0; j < p.n; j++) p.D[j] = p.D_inverse[j] = all(1);
    for (int i = 0; i < p.stored; i++) p.E[i] = p.E_inverse[i] = all(1);
    for (int pass = 0; pass < (p.options.equilibrate ? RUIZ_PASSES : 0); pass++) equilibrate(p);
    for (int i = p.stored; i < p.m; i++) p.E[i] = p.D_inverse[i - p.stored], p.E_inverse[i] = p.D[i - p.stored];
    Pack most{};
    for (int i = 0; i < p.m; i++) most = larger(p.E_inverse[i], most);
    const Pack least = 1 / most;
    for (int i = 0; i < p.stored; i++) {
        const Mask zero = p.E_inverse[i] <= ZERO_ROW * most;
        p.E[i] = pick(zero, least, p.E[i]), p.E_inverse[i] = pick(zero, most, p.E_inverse[i]);
    }
}

inline void change_unit(const Problems& p, Pack unit) {
    const Pack inverse = 1 / unit;
    for (int j = 0; j < p.n; j++) p.D[j] *= unit, p.D_inverse[j] *= inverse;
    for (int i = 0; i < p.m; i++) p.E[i] *= inverse, p.E_inverse[i] *= unit;
}

// About how large x is, equilibrated; t_x has the curvature of each x.
inline Pack measure_unit(const Problems& p, Pack curvature, Pack slope) {
    Mask flat{}, open{};
    if (p.has_H)
        for (int j = 0; j < p.n; j++) flat |= p.t_x[j] == 0;
    for (int i = p.stored; i < p.m; i++) open |= (p.lo[i] == -INF) | (p.hi[i] == INF);
    const bool never_confined = p.has_H && p.m == p.stored;
    Pack farthest{}, nearest{};
    for (int i = 0; i < p.m; i++) {
        const Pack low = p.lo[i], high = p.hi[i], E = p.E[i];
        const Pack below = pick(low == -INF, all(0), magnitude(low)), above = pick(high == INF, all(0), magnitude(high));
        farthest = larger(E * larger(below, above), farthest);
        nearest = larger(E * larger(low, -high), nearest);
    }
    const Mask confined = never_confined ? flat : p.has_H ? flat | no(open) : ~Mask{};
    Pack size = pick(curvature > 0, slope / curvature, all(INF));
    size = pick(confined & (farthest > 0), smaller(size, farthest), size);
    size = larger(nearest, size);
    return pick((size > 0) & (size < INF), power_of_two(size), all(1));
}

// D, E, c and h of each problem, and the metrics of x and of its rows; D and E are kept where the matrices are those
// of the problems before.
inline void measure_scaling(Problems& p, bool same_matrices) {
    Pack slope{}, curvature{}, most{}, unit = all(1);
    if (same_matrices)
        change_unit(p, 1 / p.unit);
    else
        measure_rows(p);
    for (int j = 0; j < p.n; j++) slope = larger(magnitude(p.D[j] * p.g[j]), slope);
    sizes_of_H(p, p.t_x);
    for (int j = 0; j < p.n; j++) curvature += p.t_x[j], most = larger(p.t_x[j], most);
    curvature /= double(p.n);
    p.c = unit;
    if (p.options.equilibrate) {
        unit = measure_unit(p, curvature, slope);
        const Pack size = unit * larger(unit * curvature, slope);
        p.c = 1 / pick(size > 0, size, unit);
    }
    p.h = p.c * unit * unit * most;
    p.unit = unit;
    change_unit(p, unit);
    const Pack c_inverse = 1 / p.c;
    for (int j = 0; j < p.n; j++) p.metric_x[j] = p.D_inverse[j] * p.D_inverse[j] * c_inverse;
    for (int i = 0; i < p.m; i++) {
        p.metric[i] = p.E[i] * p.E[i] * c_inverse;
        p.metric_inverse[i] = p.E_inverse[i] * p.E_inverse[i] * p.c;
        p.firm[i] = p.lo[i] == p.hi[i];
    }
}

}  // namespace qplayer::lanes
