// Products of a matrix with one vector or two on the tensor cores. Vectors are the rows of the left factor, the matrix is
// read once, from memory that is far; what a block has beyond its last row or column is read from there, and not used.
#pragma once

#include "tile.h"

namespace qplayer {

// The products of HIGH blocks of lines, from i on, with two vectors, those of the even and of the odd rows of lanes.
template <int HIGH, class Line>
QP_FN void multiply_lines(const Lane& lane, Line line, int i, int count, int n, const double* vector, double* to) {
    constexpr int CHAINS = 4 / HIGH;  // of products that wait for each other
    Tile sums[CHAINS][HIGH];
    const double* lines[HIGH];
#pragma unroll
    for (int u = 0; u < HIGH; u++) lines[u] = line(at_most(i + u * TILE + lane.row, count - 1), lane.q);
    vector += lane.q;
    const auto add = [&](Tile(&sum)[HIGH], double number, int j) {
#pragma unroll
        for (int u = 0; u < HIGH; u++) add_quarter(sum[u], number, lines[u][j]);
    };
#pragma unroll 2
    for (const double* end = vector + n / TILE * TILE; vector != end; vector += TILE) {
        add(sums[0], vector[0], 0);
        add(sums[CHAINS - 1], vector[4], 4);
#pragma unroll
        for (int u = 0; u < HIGH; u++) lines[u] += TILE;
    }
    QP_ROLLED for (int j = 0; j < n % TILE; j += 4) {
        const int inside = at_most(j, n % TILE - 1 - lane.q);
        add(sums[0], j == inside ? vector[inside] : 0, inside);
    }
    if (!to) return;
#pragma unroll
    for (int u = 0; u < HIGH; u++) {
        const int at = i + u * TILE + 2 * lane.q;
        const Tile sum = CHAINS == 1 ? sums[0][u] : sums[0][u] + sums[CHAINS - 1][u];
        if (at < count) to[at] = sum.x;
        if (at + 1 < count) to[at + 1] = sum.y;
    }
}

// y = M a and z = M b for `count` lines of n numbers; z is null where there is no b.
template <class Line>
QP_FN void multiply_two(Block block, Line line, int count, int n, const double* a, const double* b, double* y, double* z) {
    constexpr int LINES = Block::warps * TILE;
    const Lane lane(block);
    const double* vector = lane.row % 2 && z ? b : a;
    double* to = lane.row == 0 ? y : lane.row == 1 ? z : nullptr;
    int i = 0;
    QP_ROLLED for (; i + 2 * LINES < count; i += 4 * LINES)
        multiply_lines<4>(lane, line, i + lane.warp * 4 * TILE, count, n, vector, to);
    if (i < count) multiply_lines<2>(lane, line, i + lane.warp * 2 * TILE, count, n, vector, to);
    block.sync();
}

template <class Line>
QP_FN void multiply(Block block, Line line, int count, int n, const double* a, double* y) {
    multiply_two(block, line, count, n, a, a, y, nullptr);
}

// y[j ...] = (G'z)[j ...], for WIDE blocks of columns, or for those that there are.
template <bool WHOLE, int WIDE>
QP_FN void some_columns(const Lane& lane, const Matrices& mat, const double* z, double* y, int j) {
    Tile sum[WIDE];
    int across[WIDE];
#pragma unroll
    for (int v = 0; v < WIDE; v++) across[v] = WHOLE ? v * TILE : at_most(v * TILE, mat.n - 1 - j - lane.row);
    QP_ROLLED for (int i = lane.q; i - lane.q < mat.stored; i += 4) {
        const int k = at_most(i, mat.stored - 1);
        const double number = z[k], factor = k == i ? number : 0;
        const double* line = mat.line(k, j + lane.row);
#pragma unroll
        for (int v = 0; v < WIDE; v++) add_quarter(sum[v], factor, line[across[v]]);
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
    constexpr int WIDE = 4, NARROW = 2;
    const Matrices mat = of;  // in registers
    const Lane lane(block);
    QP_ROLLED for (int j = lane.warp * WIDE * TILE; j < mat.n; j += Block::warps * WIDE * TILE)
        if (j + WIDE * TILE <= mat.n)
            some_columns<true, WIDE>(lane, mat, z, y, j);
        else
            QP_ROLLED for (int k = j; k < mat.n; k += NARROW * TILE) some_columns<false, NARROW>(lane, mat, z, y, k);
    block.sync();
}

}  // namespace qplayer
