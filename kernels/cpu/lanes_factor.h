// What every step solves with, K = H + S / mu_eq + T / mu_in + diag, and its factor L D L', a lane each.
//
// Left-looking, in tiles of the lower triangle.
#pragma once

#include "lanes.h"

namespace qplayer::lanes {

using Tile = Pack[TILE][TILE];

// Calls act(r, c) for each entry of a tile, of the diagonal only for its lower triangle.
template <bool DIAGONAL, class Do>
QP_FN void each(Do act) {
#pragma GCC unroll 4
    for (int r = 0; r < TILE; r++)
#pragma GCC unroll 4
        for (int c = 0; c <= (DIAGONAL ? r : TILE - 1); c++) act(r, c);
}

template <bool DIAGONAL>
QP_FN void load_tile(Tile& tile, const Pack* from) {
    each<DIAGONAL>([&](int r, int c) { tile[r][c] = from[r * TILE + c]; });
}

template <bool DIAGONAL>
QP_FN void store_tile(Pack* to, const Tile& tile) {
    each<DIAGONAL>([&](int r, int c) { to[r * TILE + c] = tile[r][c]; });
}

// One tile of that at lines i ... and columns j ..., of the diagonal or not.
template <bool DIAGONAL, int N>
QP_FN void add_to_tile(const Problems<N>& p, Pack* sum, int count, Mask anew, int i, int j) {
    Tile tile;
    load_tile<DIAGONAL>(tile, sum);
    if (any(anew)) each<DIAGONAL>([&](int r, int c) { tile[r][c] = pick(anew, 0.0, tile[r][c]); });
    for (int k = 0; k < count; k++) {
        const Pack* const G = p.list[k]->G;
        Pack left[TILE];
        for (int r = 0; r < TILE; r++) left[r] = p.list[k]->weight * G[i + r];
        each<DIAGONAL>([&](int r, int c) { tile[r][c] += left[r] * G[j + c]; });
    }
    store_tile<DIAGONAL>(sum, tile);
}

// sum += over the listed rows of weight(row) G_row G_row', from zero where `anew`.
template <int N>
inline void add_rows(Problems<N>& p, Pack* sum, int count, Mask anew) {
    for (int i = 0; i < N; i += TILE, sum += TILE * TILE) {
        for (int j = 0; j < i; j += TILE, sum += TILE * TILE) add_to_tile<false>(p, sum, count, anew, i, j);
        add_to_tile<true>(p, sum, count, anew, i, i);
    }
}

// The sum over the rows that are always active.
template <int N>
inline void sum_firm_rows(Problems<N>& p) {
    int count = 0;
    for (Row<N>& row : p.stored_rows()) {
        if (!any(row.firm)) continue;
        row.weight = pick(row.firm, row.metric, 0.0);
        p.list[count++] = &row;
    }
    add_rows(p, p.S, count, every());
}

// Brings T, the sum over the other active rows, up to date by the rows that changed. Where it changed.
template <int N>
inline Mask update_sums(Problems<N>& p, State& st) {
    Pack members{}, changes{};
    for (Row<N>& row : p.stored_rows()) {
        const Mask now = (row.up | row.down) & ~row.firm;
        members += pick(now, 1.0, 0.0);
        changes += pick(now ^ row.member, 1.0, 0.0);
        row.active = now;
    }
    const Mask changed = st.sums_are_old | (changes > 0.0), anew = st.sums_are_old | (changed & (changes >= members));
    if (!any(changed)) return changed;
    int count = 0;
    for (Row<N>& row : p.stored_rows()) {
        const Mask now = row.active, moved = now ^ (row.member & ~anew);
        row.member = now;
        if (!any(moved)) continue;
        row.weight = pick(moved, pick(now, row.metric, -row.metric), 0.0);
        p.list[count++] = &row;
    }
    add_rows(p, p.T, count, anew);
    st.sums_are_updated = (st.sums_are_updated | changed) & ~anew;
    st.sums_are_old = Mask{};
    return changed;
}

// Tile (i, j) of K less the products L [i, k] (D L')[k, j] over the tiles k before j; `scaled` has the lines of L D.
template <bool DIAGONAL, int N>
QP_FN void reduce_tile(const Problems<N>& p, Tile& tile, Pack a, Pack b, const Pack* scaled, int i, int j) {
    const int at = tile_at(i, j);
    each<DIAGONAL>([&](int r, int c) {
        const int k = at + r * TILE + c;
        tile[r][c] = p.H[k] + a * p.S[k] + b * p.T[k];
    });
#pragma GCC unroll 4
    for (int r = 0; r < (DIAGONAL ? TILE : 0); r++) tile[r][r] += p.column[j * TILE + r].diagonal;
    const Pack* left = p.factor + tile_at(i, 0);
    for (int k = 0; k < j; k++, left += TILE * TILE, scaled += TILE * TILE)
#pragma GCC unroll 4
        for (int e = 0; e < TILE; e++)
            each<DIAGONAL>([&](int r, int c) { tile[r][c] -= left[r * TILE + e] * scaled[c * TILE + e]; });
}

// Factors tile j of the diagonal; where it is positive definite. Each pivot is computed ahead of its line: the chain of
// divisions is what takes the time.
template <int N>
QP_FN Mask factor_diagonal(Problems<N>& p, Tile& tile, int j) {
    Pack* const L = p.factor + tile_at(j, j);
    Mask positive = every();
    Pack pivot = tile[0][0];
#pragma GCC unroll 4
    for (int k = 0; k < TILE; k++) {
        const Pack inverse = 1.0 / pivot;
        positive &= pivot > 0.0;
        p.column[j * TILE + k].pivot = pivot, p.column[j * TILE + k].inverse = inverse;
        if (k + 1 < TILE) pivot = tile[k + 1][k + 1] - tile[k + 1][k] * tile[k + 1][k] * inverse;
#pragma GCC unroll 4
        for (int r = k + 1; r < TILE; r++) {
            const Pack multiplier = L[r * TILE + k] = tile[r][k] * inverse;
#pragma GCC unroll 4
            for (int c = k + 1; c <= r; c++) tile[r][c] -= multiplier * tile[c][k];
        }
    }
    return positive;
}

// Solves a tile below tile j of the diagonal with that.
template <int N>
QP_FN void solve_tile(const Problems<N>& p, Tile& tile, int j) {
    const Pack* const L = p.factor + tile_at(j, j);
#pragma GCC unroll 4
    for (int k = 0; k < TILE; k++)
#pragma GCC unroll 4
        for (int c = k + 1; c < TILE; c++)
#pragma GCC unroll 4
            for (int r = 0; r < TILE; r++) tile[r][c] -= L[c * TILE + k] * tile[r][k];
    each<false>([&](int r, int c) { tile[r][c] *= p.column[j * TILE + c].inverse; });
}

// Factors K; where it is positive definite.
template <int N>
inline Mask factorize(Problems<N>& p, Pack a, Pack b) {
    Mask positive = every();
    for (int j = 0; j < TILES<N>; j++) {
        Pack scaled[N * TILE];
        for (int k = 0; k < j; k++)
            each<false>([&](int c, int e) {
                scaled[(k * TILE + c) * TILE + e] = p.factor[tile_at(j, k) + c * TILE + e] * p.column[k * TILE + e].pivot;
            });
        Tile tile;
        reduce_tile<true>(p, tile, a, b, scaled, j, j);
        positive &= factor_diagonal(p, tile, j);
        for (int i = j + 1; i < TILES<N>; i++) {
            reduce_tile<false>(p, tile, a, b, scaled, i, j);
            solve_tile(p, tile, j);
            store_tile<false>(p.factor + tile_at(i, j), tile);
        }
    }
    return positive;
}

// dx <- (L D L')^-1 dx
template <int N>
inline void substitute(Problems<N>& p) {
    Pack r[N];
    for (int j = 0; j < N; j++) r[j] = p.column[j].dx;
    for (int j = 0; j < TILES<N>; j++) {
        Pack* const y = r + j * TILE;
        const Pack* L = p.factor + tile_at(j, j);
        for (int a = 0; a < TILE; a++)
            for (int k = 0; k < a; k++) y[a] -= L[a * TILE + k] * y[k];
        for (int i = j + 1; i < TILES<N>; i++)
            for (int a = 0; a < TILE; a++)
                for (int k = 0; k < TILE; k++) r[i * TILE + a] -= p.factor[tile_at(i, j) + a * TILE + k] * y[k];
    }
    for (int j = TILES<N> - 1; j >= 0; j--) {
        Pack* const x = r + j * TILE;
        for (int a = 0; a < TILE; a++) x[a] *= p.column[j * TILE + a].inverse;
        for (int i = j + 1; i < TILES<N>; i++)
            for (int k = 0; k < TILE; k++)
                for (int a = 0; a < TILE; a++) x[a] -= p.factor[tile_at(i, j) + k * TILE + a] * r[i * TILE + k];
        const Pack* L = p.factor + tile_at(j, j);
        for (int a = TILE - 1; a >= 0; a--)
            for (int k = a + 1; k < TILE; k++) x[a] -= L[k * TILE + a] * x[k];
    }
    for (int j = 0; j < N; j++) p.column[j].dx = r[j];
}

}  // namespace qplayer::lanes
