// Products of a matrix with one vector or two on the tensor cores. Vectors are the rows of the left factor, the matrix is
// read once, from memory that is far; what a block has beyond its last row or column is read from there, and not used.
#pragma once

#include "tile.h"

namespace qplayer {

// sum[u] += the products of columns j ... j + 7 of lines[u] with those of a vector, which ends at n.
template <bool WHOLE, int HIGH>
QP_FN void add_columns(const Lane& lane, int j, int n, const double* vector, const double* const (&lines)[HIGH],
                       Tile (&even)[HIGH], Tile (&odd)[HIGH]) {
    const int first = j + lane.q, second = first + 4;
    const int i = WHOLE ? first : at_most(first, n - 1), k = WHOLE ? second : at_most(second, n - 1);
    const double a = WHOLE || first < n ? vector[i] : 0, b = WHOLE || second < n ? vector[k] : 0;
#pragma unroll
    for (int u = 0; u < HIGH; u++) {
        add_quarter(even[u], a, lines[u][i]);
        add_quarter(odd[u], b, lines[u][k]);
    }
}

// y = M a and z = M b for `count` lines of n numbers; z is null where there is no b.
template <class Line>
QP_FN void multiply_two(Block block, Line line, int count, int n, const double* a, const double* b, double* y, double* z) {
    constexpr int HIGH = 2;
    const Lane lane(block);
    const double* vector = lane.row % 2 && z ? b : a;
    QP_ROLLED for (int i = lane.warp * HIGH * TILE; i < count; i += Block::warps * HIGH * TILE) {
        Tile even[HIGH], odd[HIGH];
        const double* lines[HIGH];
        for (int u = 0; u < HIGH; u++) lines[u] = line(at_most(i + u * TILE + lane.row, count - 1));
        int j = 0;
#pragma unroll 2
        for (; j + TILE <= n; j += TILE) add_columns<true>(lane, j, n, vector, lines, even, odd);
        if (j < n) add_columns<false>(lane, j, n, vector, lines, even, odd);
        double* to = lane.row == 0 ? y : lane.row == 1 ? z : nullptr;
        for (int u = 0; u < HIGH; u++) {
            const int at = i + u * TILE + 2 * lane.q;
            const Tile sum = even[u] + odd[u];
            if (to && at < count) to[at] = sum.x;
            if (to && at + 1 < count) to[at + 1] = sum.y;
        }
    }
    block.sync();
}

template <class Line>
QP_FN void multiply(Block block, Line line, int count, int n, const double* a, double* y) {
    multiply_two(block, line, count, n, a, a, y, nullptr);
}

// y[j ...] = (G'z)[j ...], for WIDE blocks of columns, or for those that there are.
template <bool WHOLE>
QP_FN void some_columns(const Lane& lane, const Matrices& mat, const double* z, double* y, int j) {
    constexpr int WIDE = 4;
    Tile sum[WIDE];
    int across[WIDE];
#pragma unroll
    for (int v = 0; v < WIDE; v++) across[v] = WHOLE ? v * TILE : at_most(v * TILE, mat.n - 1 - j - lane.row);
    QP_ROLLED for (int i = 0; i < mat.stored; i += 4) {
        const int k = i + lane.q;
        const double factor = k < mat.stored ? z[k] : 0;
        const double* line = mat.line(at_most(k, mat.stored - 1)) + j + lane.row;
#pragma unroll
        for (int v = 0; v < WIDE; v++)
            if (WHOLE || j + v * TILE < mat.n) add_quarter(sum[v], factor, line[across[v]]);
    }
    if (lane.row != 0) return;
    const double* bounds = mat.mp > mat.sp ? z + mat.sp : nullptr;
#pragma unroll
    for (int v = 0; v < WIDE; v++) {
        const int at = j + v * TILE + 2 * lane.q;
        if (WHOLE || at < mat.n) y[at] = bounds ? sum[v].x + bounds[at] : sum[v].x;
        if (WHOLE || at + 1 < mat.n) y[at + 1] = bounds ? sum[v].y + bounds[at + 1] : sum[v].y;
    }
}

// y = G'z
QP_PART void columns(Block block, const Matrices& of, const double* z, double* y) {
    constexpr int WIDTH = 4 * TILE;
    const Matrices mat = of;  // in registers
    const Lane lane(block);
    QP_ROLLED for (int j = lane.warp * WIDTH; j < mat.n; j += Block::warps * WIDTH)
        if (j + WIDTH <= mat.n)
            some_columns<true>(lane, mat, z, y, j);
        else
            some_columns<false>(lane, mat, z, y, j);
    block.sync();
}

}  // namespace qplayer
