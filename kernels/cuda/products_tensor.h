// Products of a matrix with one vector or two on the tensor cores. Vectors are the rows of the left factor, the matrix is
// read once, from memory that is far; what a block has beyond its last row or column is read from there, and not used.
#pragma once

#include "tile.h"

namespace qplayer {

// The products of HIGH blocks of lines, from i on, with two vectors, those of the even and of the odd rows of lanes. The
// lanes of the first `told` rows write them.
template <int HIGH, class Line, class To>
QP_FN void multiply_lines(const Lane& lane, Line line, int i, int count, int n, const double* vector, int told, To to) {
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
    const int rest = n % unsigned(TILE);
#pragma unroll (IS_SMALL ? 1 : 8 / HIGH)
    for (int j = rest; j < n; j += TILE) {
        add(sums[0], vector[0], 0);
        add(sums[CHAINS - 1], vector[4], 4);
        vector += TILE;
#pragma unroll
        for (int u = 0; u < HIGH; u++) lines[u] += TILE;
    }
    QP_ROLLED for (int j = 0; j < rest; j += 4) {
        const int inside = at_most(j, rest - 1 - lane.q);
        add(sums[0], j == inside ? vector[inside] : 0, inside);
    }
    if (lane.row >= told) return;
#pragma unroll
    for (int u = 0; u < HIGH; u++) {
        const int at = i + u * TILE + 2 * lane.q;
        const Tile sum = CHAINS == 1 ? sums[0][u] : sums[0][u] + sums[CHAINS - 1][u];
        if (at < count) to(at) = sum.x;
        if (at + 1 < count) to(at + 1) = sum.y;
    }
}

// The same of all lines from i on.
template <class Line, class To>
QP_FN void multiply_all(const Lane& lane, Line line, int i, int count, int n, const double* vector, int told, To to) {
    constexpr int LINES = Block::warps * TILE;
    QP_ROLLED for (; i + 2 * LINES < count; i += 4 * LINES)
        multiply_lines<4>(lane, line, i + lane.warp * 4 * TILE, count, n, vector, told, to);
    if (i < count) multiply_lines<2>(lane, line, i + lane.warp * 2 * TILE, count, n, vector, told, to);
}

// y = M a for `count` lines of n numbers.
template <class Line>
QP_FN void multiply(Block block, Line line, int count, int n, const double* a, double* y) {
    multiply_all(Lane(block), line, 0, count, n, a, 1, [&](int i) -> double& { return y[i]; });
    block.sync();
}

// Ha = H a and Hb = H b, Ga = G a and Gb = G b for the stored rows, with no barrier at the end: the lines of G follow on
// those of H.
QP_FN void multiply_two(Block block, const Matrices& mat, const double* a, const double* b, double* Ha, double* Hb,
                        double* Ga, double* Gb) {
    const Lane lane(block);
    const int n = mat.n;
    const double *G = mat.G - n * n, *C = mat.C - n * n;
    const auto line = [&](int i, int j) { return (i < n ? mat.H : i < n + mat.n_eq ? G : C) + unsigned(i * n + j); };
    const bool odd = lane.row % 2;
    double *of_H = odd ? Hb : Ha, *of_G = (odd ? Gb : Ga) - n;
    const auto to = [&](int i) -> double& { return (i < n ? of_H : of_G)[i]; };
    multiply_all(lane, line, mat.H ? 0 : n, n + mat.stored, n, odd ? b : a, 2, to);
}

constexpr int AHEAD = 4;  // groups of four lines that are asked for before the first is there

// y[j ...] = (G'z)[j ...], for WIDE blocks of columns, or for those that there are; y is null in lanes that write none.
template <bool WHOLE, int WIDE>
QP_FN void some_columns(const Lane& lane, const Matrices& mat, const double* z, double* y, int j) {
    Tile sum[WIDE];
    int across[WIDE];
#pragma unroll
    for (int v = 0; v < WIDE; v++) across[v] = WHOLE ? v * TILE : at_most(v * TILE, mat.n - 1 - j - lane.row);
    const auto add = [&](int k, double number) {
        const double* line = mat.line(k, j + lane.row);
#pragma unroll
        for (int v = 0; v < WIDE; v++) add_quarter(sum[v], number, line[across[v]]);
    };
    const int end = (mat.stored & -4) + lane.q;
    int i = lane.q;
    QP_ROLLED for (; i + 4 * (AHEAD - 1) < end; i += 4 * AHEAD)
#pragma unroll
        for (int u = 0; u < AHEAD; u++) add(i + 4 * u, z[i + 4 * u]);
    QP_ROLLED for (; i < end; i += 4) add(i, z[i]);
    if (mat.stored % 4) {
        const int k = at_most(end, mat.stored - 1);
        const double number = z[k];
        add(k, k == end ? number : 0);
    }
    if (!y) return;
    const double* bounds = mat.mp > mat.sp ? z + mat.sp : nullptr;
#pragma unroll
    for (int v = 0; v < WIDE; v++) {
        const int at = j + v * TILE + 2 * lane.q;
        if (WHOLE || at < mat.n) y[at] = bounds ? sum[v].x + bounds[at] : sum[v].x;
        if (WHOLE || at + 1 < mat.n) y[at + 1] = bounds ? sum[v].y + bounds[at + 1] : sum[v].y;
    }
}

constexpr bool TWO_COLUMNS = true;  // whether the second of two products is next to free

// y = G'a and z = G'b, which lanes of even and of odd rows have; without z not the second.
QP_PART void columns_two(Block block, const Matrices& of, const double* a, const double* b, double* y, double* z) {
    constexpr int WIDE = 4, NARROW = 2;
    const Matrices mat = of;  // in registers
    const Lane lane(block);
    const double* from = lane.row % 2 ? b : a;
    double* to = lane.row == 0 ? y : lane.row == 1 ? z : nullptr;
    QP_ROLLED for (int j = lane.warp * WIDE * TILE; j < (IS_SMALL ? 1 : mat.n); j += Block::warps * WIDE * TILE)
        if (j + NARROW * TILE == mat.n)
            some_columns<true, NARROW>(lane, mat, from, to, j);
        else if (j + WIDE * TILE <= mat.n)
            some_columns<true, WIDE>(lane, mat, from, to, j);
        else
            QP_ROLLED for (int k = j; k < mat.n; k += NARROW * TILE) some_columns<false, NARROW>(lane, mat, from, to, k);
    block.sync();
}

// y = G'z
QP_FN void columns(Block block, const Matrices& mat, const double* z, double* y) {
    columns_two(block, mat, z, z, y, nullptr);
}

}  // namespace qplayer
