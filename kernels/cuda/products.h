// Products with H and with the rows G = [A; C; I] of one problem, in the units of the data.
//
// The stored rows [A; C] are padded to whole packs in both directions; the identity rows of bounds on x are never
// stored. A vector of rows holds the stored rows (padded), then the n identity rows (padded) where x is bounded.
#pragma once

#include "pack.h"

namespace qplayer {

struct Matrices {
    int n, np;        // np: padded
    int n_eq;
    int stored, sp;   // sp: padded
    int mp;           // length of a vector of rows: sp, and np more where x is bounded
    const double* H;  // [np, np], null where there is none
    const double* G;  // [sp, np]; on a GPU only the equalities,
    const double* C;  // and the inequalities here, both where the caller has them
    QP_FN const double* line(int i) const { return LANES == 1 && i >= n_eq ? C + (i - n_eq) * np : G + i * np; }
};

// y = M a for `count` lines of np numbers.
template <class Line>
QP_FN void multiply(Block block, Line line, int count, int np, const double* a, double* y) {
    if constexpr (LANES == 1) {
        each_row<Sum>(
            block, count, np, [&](int i, int j) { return line(i)[j] * a[j]; }, [&](int i, double sum) { y[i] = sum; });
    } else {
        QP_EACH(i, count) {
            Pack s[LANES] = {};
            for (int j = 0; j < np; j += LANES) {
                Pack aj = load(a + j);
                for (int r = 0; r < LANES; r++) s[r] += load(line(i + r) + j) * aj;
            }
            store(y + i, fold(s));
        }
    }
    block.sync();
}

// y = M a and z = M b, on the host in one pass.
template <class Line>
QP_FN void multiply_two(Block block, Line line, int count, int np, const double* a, const double* b, double* y,
                        double* z) {
    if constexpr (LANES == 1) {
        multiply(block, line, count, np, a, y);
        multiply(block, line, count, np, b, z);
    } else {
        QP_EACH(i, count) {
            Pack s[LANES] = {}, t[LANES] = {};
            for (int j = 0; j < np; j += LANES) {
                Pack aj = load(a + j), bj = load(b + j);
                for (int r = 0; r < LANES; r++) {
                    Pack entry = load(line(i + r) + j);
                    s[r] += entry * aj;
                    t[r] += entry * bj;
                }
            }
            store(y + i, fold(s));
            store(z + i, fold(t));
        }
    }
    block.sync();
}

QP_FN void set(Block block, double* y, int count, double value) {
    QP_EACH(i, count) store(y + i, all(value));
    block.sync();
}

QP_FN void copy(Block block, double* y, const double* x, int count) {
    QP_EACH(i, count) store(y + i, load(x + i));
    block.sync();
}

// y = H x
QP_PART void hessian(Block block, const Matrices& mat, const double* x, double* y) {
    if (mat.H)
        multiply(block, [&](int i) { return mat.H + i * mat.np; }, mat.np, mat.np, x, y);
    else
        set(block, y, mat.np, 0);
}

QP_FN void hessian_two(Block block, const Matrices& mat, const double* a, const double* b, double* y, double* z) {
    if (mat.H) {
        multiply_two(block, [&](int i) { return mat.H + i * mat.np; }, mat.np, mat.np, a, b, y, z);
    } else {
        set(block, y, mat.np, 0);
        set(block, z, mat.np, 0);
    }
}

// y = G x
QP_PART void rows(Block block, const Matrices& mat, const double* x, double* y) {
    multiply(block, [&](int i) { return mat.line(i); }, mat.sp, mat.np, x, y);
    copy(block, y + mat.sp, x, mat.mp - mat.sp);
}

QP_FN void rows_two(Block block, const Matrices& mat, const double* a, const double* b, double* y, double* z) {
    multiply_two(block, [&](int i) { return mat.line(i); }, mat.sp, mat.np, a, b, y, z);
    copy(block, y + mat.sp, a, mat.mp - mat.sp);
    copy(block, z + mat.sp, b, mat.mp - mat.sp);
}

// y[j ...] = (G'z)[j ...], for WIDTH packs of columns.
template <int WIDTH>
QP_FN void some_columns(const Matrices& mat, const double* z, double* y, int j) {
    Pack sum[WIDTH];
    for (int v = 0; v < WIDTH; v++) sum[v] = mat.mp > mat.sp ? load(z + mat.sp + j + v * LANES) : Pack{};
    for (int i = 0; i < mat.stored; i++)
        for (int v = 0; v < WIDTH; v++) sum[v] += z[i] * load(mat.line(i) + j + v * LANES);
    for (int v = 0; v < WIDTH; v++) store(y + j + v * LANES, sum[v]);
}

// y = G'z
QP_PART void columns(Block block, const Matrices& mat, const double* z, double* y) {
    constexpr int WIDTH = LANES == 1 ? 1 : 4;
    int wide = mat.np / (WIDTH * LANES) * (WIDTH * LANES);
    for (int j = block.rank * WIDTH * LANES; j < wide; j += block.size * WIDTH * LANES)
        some_columns<WIDTH>(mat, z, y, j);
    for (int j = wide + block.rank * LANES; j < mat.np; j += block.size * LANES) some_columns<1>(mat, z, y, j);
    block.sync();
}

}  // namespace qplayer
