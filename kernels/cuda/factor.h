// The factor that every step solves with: K = H + a S + b T + diag = L D L', with S and T sums of w_i G_i G_i'.
//
// Left-looking, in panels of one pack of rows of the upper triangle: each tile of a panel is assembled, takes the
// products of all panels above it, and is solved with the panel's diagonal block, all in registers. Memory holds two
// matrices, DL' and L' (unit diagonal, zero below it within the panel), so that K itself is never stored.
#pragma once

#include "products.h"

namespace qplayer {

constexpr int CHUNK = 32;  // rows gathered for one pass over S
constexpr int TILE = LANES > 2 ? 2 : 4;  // packs of columns in one tile: what fits into the registers

template <class F>
struct Factor {
    using P = typename PackOf<F>::type;
    int n, np;
    F* scaled;   // [np, np] DL'
    F* unit;     // [np, np] L', zero on the padding
    F* inverse;  // [np] 1 / D
    F* left;     // [CHUNK, np] weighted rows, for sums
    F* right;    // [CHUNK, np] rows, for sums
};

// What K is made of.
template <class F>
struct Terms {
    const double* H;  // [np, np] or null
    const F* S;       // [np, np]
    double a;
    const F* T;  // [np, np] or null
    double b;
    const double* diagonal;  // [np]
};

template <class F>
QP_FN typename PackOf<F>::type load_as(const double* p) {
    return __builtin_convertvector(load(p), typename PackOf<F>::type);
}

template <class F>
QP_FN typename PackOf<F>::type& pack_at(F* p) {
    return *reinterpret_cast<typename PackOf<F>::type*>(p);
}

template <class F>
QP_FN const typename PackOf<F>::type& pack_at(const F* p) {
    return *reinterpret_cast<const typename PackOf<F>::type*>(p);
}

// tile [LANES rows, W packs] += sign * sum_k left[k, i + row] right[k, j ...]
template <int W, bool MINUS, class F, class P>
QP_FN void add_products(P (&tile)[LANES][W], const F* left, const F* right, int np, int count, int i, int j) {
    for (int k = 0; k < count; k++) {
        P other[W];
        for (int v = 0; v < W; v++) other[v] = pack_at(right + k * np + j + v * LANES);
        for (int r = 0; r < LANES; r++) {
            F factor = left[k * np + i + r];
            for (int v = 0; v < W; v++) {
                if (MINUS)
                    tile[r][v] -= factor * other[v];
                else
                    tile[r][v] += factor * other[v];
            }
        }
    }
}

template <int W, class F>
QP_FN void sum_tile(const Factor<F>& f, F* S, int count, int i, int j) {
    typename PackOf<F>::type tile[LANES][W];
    for (int r = 0; r < LANES; r++)
        for (int v = 0; v < W; v++) tile[r][v] = pack_at(S + (i + r) * f.np + j + v * LANES);
    add_products<W, false>(tile, f.left, f.right, f.np, count, i, j);
    for (int r = 0; r < LANES; r++)
        for (int v = 0; v < W; v++) pack_at(S + (i + r) * f.np + j + v * LANES) = tile[r][v];
}

template <class F>
QP_FN void clear(Block block, F* S, int count) {
    QP_EACH(i, count) pack_at(S + i) = typename PackOf<F>::type{};
    block.sync();
}

// S += sum over the listed rows of weight[row] G_row G_row'; only the upper triangle of panels counts.
template <class F>
void add_rows(Block block, const Factor<F>& f, const double* G, F* S, const int* list, const double* weights,
              int count) {
    for (int first = 0; first < count; first += CHUNK) {
        int some = count - first < CHUNK ? count - first : CHUNK;
        for (int k = 0; k < some; k++) {
            const double* row = G + list[first + k] * f.np;
            QP_EACH(j, f.np) {
                pack_at(f.right + k * f.np + j) = load_as<F>(row + j);
                pack_at(f.left + k * f.np + j) = F(weights[first + k]) * load_as<F>(row + j);
            }
        }
        block.sync();
        QP_EACH(i, f.np) {
            int j = i;
            for (; j + TILE * LANES <= f.np; j += TILE * LANES) sum_tile<TILE>(f, S, some, i, j);
            for (; j < f.np; j += LANES) sum_tile<1>(f, S, some, i, j);
        }
        block.sync();
    }
}

template <int W, class F, class P>
QP_FN void assemble_tile(P (&tile)[LANES][W], const Terms<F>& terms, int np, int i, int j) {
    for (int r = 0; r < LANES; r++)
        for (int v = 0; v < W; v++) {
            int at = (i + r) * np + j + v * LANES;
            tile[r][v] = F(terms.a) * pack_at(terms.S + at);
            if (terms.T) tile[r][v] += F(terms.b) * pack_at(terms.T + at);
            if (terms.H) tile[r][v] += load_as<F>(terms.H + at);
        }
}

// Factors the diagonal block of panel i, without its padding; false where a pivot is not positive.
//
// The next pivot is computed on its own, ahead of its row: the chain of divisions is what takes the time.
template <class F>
QP_FN bool factor_diagonal(const Factor<F>& f, const Terms<F>& terms, int i) {
    using P = typename PackOf<F>::type;
    P tile[LANES][1];
    assemble_tile(tile, terms, f.np, i, i);
#pragma GCC unroll 8
    for (int r = 0; r < LANES; r++) tile[r][0][r] += F(terms.diagonal[i + r]);
    add_products<1, true>(tile, f.unit, f.scaled, f.np, i, i, i);
    bool positive = true;
    F pivot = tile[0][0][0];
#pragma GCC unroll 8
    for (int k = 0; k < LANES; k++) {
        if (i + k >= f.n) break;
        F inverse = 1 / pivot;
        positive &= pivot > 0;
        f.inverse[i + k] = inverse;
        if (k + 1 < LANES) pivot = tile[k + 1][0][k + 1] - tile[k][0][k + 1] * tile[k][0][k + 1] * inverse;
        P multiplier = tile[k][0] * inverse;
#pragma GCC unroll 8
        for (int r = k + 1; r < LANES; r++) tile[r][0] -= multiplier[r] * tile[k][0];
        pack_at(f.unit + (i + k) * f.np + i) = multiplier;
    }
    return positive;
}

// The tile of panel i at column j: assembled, reduced and solved with the panel's diagonal block.
template <int W, class F>
QP_FN void factor_tile(const Factor<F>& f, const Terms<F>& terms, int i, int j) {
    typename PackOf<F>::type tile[LANES][W];
    assemble_tile(tile, terms, f.np, i, j);
    add_products<W, true>(tile, f.unit, f.scaled, f.np, i, i, j);
#pragma GCC unroll 8
    for (int k = 0; k < LANES; k++) {
        const F* line = f.unit + (i + k) * f.np + i;
#pragma GCC unroll 8
        for (int r = k + 1; r < LANES; r++)
            for (int v = 0; v < W; v++) tile[r][v] -= line[r] * tile[k][v];
        F inverse = f.inverse[i + k];
        for (int v = 0; v < W; v++) {
            pack_at(f.scaled + (i + k) * f.np + j + v * LANES) = tile[k][v];
            pack_at(f.unit + (i + k) * f.np + j + v * LANES) = inverse * tile[k][v];
        }
    }
}

// False where K is not positive definite.
template <class F>
bool factorize(Block block, const Factor<F>& f, const Terms<F>& terms) {
    bool positive = true;
    QP_EACH_NUMBER(i, f.np - f.n) f.inverse[f.n + i] = 1;
    for (int i = 0; i < f.np && positive; i += LANES) {
        positive = factor_diagonal(f, terms, i);
        block.sync();
        int j = i + LANES;
        for (; j + TILE * LANES <= f.np; j += TILE * LANES) factor_tile<TILE>(f, terms, i, j);
        for (; j < f.np; j += LANES) factor_tile<1>(f, terms, i, j);
        block.sync();
    }
    return positive;
}

// r <- K^-1 r, for a factor in double precision.
QP_FN void solve(Block block, const Factor<double>& f, double* r) {
    const int np = f.np;
    for (int i = 0; i < np; i += LANES) {  // L y = r
        const double* L = f.unit + i * np;
        double y[LANES];
#pragma GCC unroll 8
        for (int a = 0; a < LANES; a++) {
            y[a] = 0;
            if (i + a >= f.n) continue;
            y[a] = r[i + a];
#pragma GCC unroll 8
            for (int k = 0; k < a; k++) y[a] -= L[k * np + i + a] * y[k];
        }
        for (int a = 0; a < LANES; a++) r[i + a] = y[a];
        for (int j = i + LANES; j < np; j += LANES) {
            Pack rest = load(r + j);
            for (int k = 0; k < LANES; k++) rest -= y[k] * load(L + k * np + j);
            store(r + j, rest);
        }
    }
    for (int i = np - LANES; i >= 0; i -= LANES) {  // L'x = y / D
        const double* L = f.unit + i * np;
        Pack sums[LANES] = {};
        for (int j = i + LANES; j < np; j += LANES) {
            Pack x = load(r + j);
            for (int k = 0; k < LANES; k++) sums[k] += x * load(L + k * np + j);
        }
        Pack rest = load(r + i) * load(f.inverse + i) - fold(sums);
        double x[LANES];
#pragma GCC unroll 8
        for (int k = LANES - 1; k >= 0; k--) {
            x[k] = 0;
            if (i + k >= f.n) continue;
            x[k] = rest[k];
#pragma GCC unroll 8
            for (int a = k + 1; a < LANES; a++) x[k] -= L[k * np + i + a] * x[a];
        }
        for (int k = 0; k < LANES; k++) r[i + k] = x[k];
    }
    block.sync();
}

}  // namespace qplayer
