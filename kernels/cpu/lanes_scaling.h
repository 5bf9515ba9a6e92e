// The equilibration of ../cuda/scaling.h, a lane each.
#pragma once

#include "lanes.h"

namespace qplayer::lanes {

// The power of two next to a positive size.
QP_FN Pack power_of_two(Pack size) {
    constexpr double ROOT_OF_TWO = 1.4142135623730951;
    constexpr int64_t BIAS = 1023;
    const Pack rounded = size * ROOT_OF_TWO;
    Integers exponent = ((Integers)rounded.v >> 52) - BIAS;
    exponent = exponent < -UNIT_POWER ? Integers{} - UNIT_POWER : exponent;
    exponent = exponent > UNIT_POWER ? Integers{} + UNIT_POWER : exponent;
    return Vector((exponent + BIAS) << 52);
}

// The largest entry of each line of D H D.
template <int N>
inline void sizes_of_H(Problems<N>& p) {
    for (Column& column : p.column) column.size = 0.0;
    if (!p.has_H) return;
    const Pack* H = p.H;
    for (int i = 0; i < N; i += TILE) {
        Column* const lines = p.column + i;
        Pack size[TILE] = {}, D[TILE];
        for (int r = 0; r < TILE; r++) D[r] = lines[r].D;
        for (int j = 0; j < i; j += TILE, H += TILE * TILE)
            for (int c = 0; c < TILE; c++) {
                Column& column = p.column[j + c];
                Pack of_column = column.size;
                for (int r = 0; r < TILE; r++) {
                    const Pack entry = magnitude(H[r * TILE + c]);
                    size[r] = larger(entry * column.D, size[r]), of_column = larger(entry * D[r], of_column);
                }
                column.size = of_column;
            }
        for (int r = 0; r < TILE; r++, H += TILE) {
            for (int c = 0; c < TILE; c++) size[r] = larger(magnitude(H[c]) * D[c], size[r]);
            lines[r].size = size[r];
        }
    }
    for (Column& column : p.column) column.size *= column.D;
}

// One pass of Ruiz.
template <int N>
inline void equilibrate(Problems<N>& p) {
    sizes_of_H(p);
    Pack size[N], D[N];
    for (int j = 0; j < N; j++) size[j] = p.column[j].size, D[j] = p.column[j].D;
    for (Row<N>& row : p.stored_rows()) {
        Pack most{};
        for (int j = 0; j < N; j++) {
            const Pack entry = magnitude(row.G[j]) * D[j];
            most = larger(entry, most);
            size[j] = larger(entry * row.E, size[j]);
        }
        most *= row.E;
        const Pack root = inverse_root(most);
        row.E *= root;
        row.E_inverse *= pick(most > 0.0, most, 1.0) * root;
    }
    for (int j = 0; j < N; j++) {
        const Pack root = inverse_root(size[j]);
        p.column[j].D *= root;
        p.column[j].D_inverse *= pick(size[j] > 0.0, size[j], 1.0) * root;
    }
}

// D and E of the matrices, in unit 1.
template <int N>
inline void measure_rows(Problems<N>& p) {
    for (Column& column : p.column) column.D = column.D_inverse = 1.0;
    for (Row<N>& row : p.stored_rows()) row.E = row.E_inverse = 1.0;
    for (int pass = 0; pass < (p.options->equilibrate ? RUIZ_PASSES : 0); pass++) equilibrate(p);
    for (int i = p.stored; i < p.m; i++) {
        const Column& column = p.column[i - p.stored];
        p.row[i].E = column.D_inverse, p.row[i].E_inverse = column.D;
    }
    Pack most{}, least = INF;
    for (int i = p.stored; i < p.m; i++) least = smaller(p.row[i].E_inverse, least);
    if (p.bounded()) most = least;
    for (const Row<N>& row : p.stored_rows()) most = larger(row.E_inverse, most);
    least = 1.0 / most;
    for (Row<N>& row : p.stored_rows()) {
        const Mask zero = row.E_inverse <= ZERO_ROW * most;
        row.E = pick(zero, least, row.E), row.E_inverse = pick(zero, most, row.E_inverse);
    }
}

template <int N>
inline void change_unit(Problems<N>& p, Pack unit) {
    const Pack inverse = 1.0 / unit;
    for (Column& column : p.column) column.D *= unit, column.D_inverse *= inverse;
    for (Row<N>& row : p.rows()) row.E *= inverse, row.E_inverse *= unit;
}

// About how large x is, equilibrated, where the sizes of the columns are the curvature of each x.
template <int N>
inline Pack measure_unit(Problems<N>& p, Pack curvature, Pack slope) {
    Mask flat{}, open{};
    if (p.has_H)
        for (int j = 0; j < p.n; j++) flat |= p.column[j].size == 0.0;
    for (int i = p.stored; i < p.m; i++) open |= (p.row[i].lo == -INF) | (p.row[i].hi == INF);
    const Mask confined = !p.has_H ? every() : p.bounded() ? flat | ~open : flat;
    Pack farthest{}, nearest{};
    for (const Row<N>& row : p.rows()) {
        const Pack low = row.lo, high = row.hi;
        const Pack below = pick(low == -INF, 0.0, magnitude(low)), above = pick(high == INF, 0.0, magnitude(high));
        farthest = larger(row.E * larger(below, above), farthest);
        nearest = larger(row.E * larger(low, -high), nearest);
    }
    Pack size = pick(curvature > 0.0, slope / curvature, INF);
    size = pick(confined & (farthest > 0.0), smaller(size, farthest), size);
    size = larger(nearest, size);
    return pick((size > 0.0) & (size < INF), power_of_two(size), 1.0);
}

// D, E, c and h of each problem, and the metrics of x and of its rows; D and E are kept where the matrices are those
// of the problems before.
template <int N>
inline void measure_scaling(Problems<N>& p, bool same_matrices) {
    if (same_matrices)
        change_unit(p, 1.0 / p.of.unit);
    else
        measure_rows(p);
    Pack slope{}, curvature{}, largest{}, unit = 1.0;
    sizes_of_H(p);
    for (const Column& column : p.column) {
        slope = larger(magnitude(column.D * column.g), slope);
        curvature += column.size, largest = larger(column.size, largest);
    }
    curvature /= double(p.n);
    p.of.c = 1.0;
    if (p.options->equilibrate) {
        unit = measure_unit(p, curvature, slope);
        const Pack size = unit * larger(unit * curvature, slope);
        p.of.c = 1.0 / pick(size > 0.0, size, unit);
    }
    p.of.h = p.of.c * unit * unit * largest;
    p.of.unit = unit;
    change_unit(p, unit);
    const Pack c_inverse = 1.0 / p.of.c;
    for (Column& column : p.column) column.metric = column.D_inverse * column.D_inverse * c_inverse;
    for (Row<N>& row : p.rows()) {
        row.metric = row.E * row.E * c_inverse;
        row.metric_inverse = row.E_inverse * row.E_inverse * p.of.c;
        row.firm = row.lo == row.hi;
    }
}

}  // namespace qplayer::lanes
