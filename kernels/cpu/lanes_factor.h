// What every step solves with, K = H + S / mu_eq + T / mu_in + diag, and its factor L D L', a lane each.
//
// Left-looking, in tiles of the lower triangle.
#pragma once

#include "lanes.h"

namespace qplayer::lanes {

using Tile = Pack[TILE][TILE];

QP_FN void load_tile(Tile& tile, const Pack* from) {
    for (int r = 0; r < TILE; r++)
        for (int c = 0; c < TILE; c++) tile[r][c] = from[r * TILE + c];
}

QP_FN void store_tile(Pack* to, const Tile& tile) {
    for (int r = 0; r < TILE; r++)
        for (int c = 0; c < TILE; c++) to[r * TILE + c] = tile[r][c];
}

// sum += over the listed rows of weight(row) G_row G_row', from zero where `anew`.
template <int N>
inline void add_rows(Problems<N>& p, Pack* sum, int count, Mask anew) {
    const bool clears = any(anew);
    for (int i = 0; i < N; i += TILE)
        for (int j = 0; j <= i; j += TILE, sum += TILE * TILE) {
            Tile tile;
            load_tile(tile, sum);
            if (clears)
                for (auto& line : tile)
                    for (Pack& entry : line) entry = pick(anew, 0.0, entry);
            for (int k = 0; k < count; k++) {
                const Row<N>& row = *p.list[k];
                Pack left[TILE];
                for (int r = 0; r < TILE; r++) left[r] = row.weight * row.G[i + r];
                for (int r = 0; r < TILE; r++)
                    for (int c = 0; c < TILE; c++) tile[r][c] += left[r] * row.G[j + c];
            }
            store_tile(sum, tile);
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

// tile -= L [i, k] (D L')[j, k] over the tiles k before j; `scaled` has the lines of L D.
template <int N>
QP_FN void subtract_products(const Problems<N>& p, Tile& tile, const Pack* scaled, int i, int j) {
    const Pack* left = p.factor + tile_at(i, 0);
    for (int k = 0; k < j; k++, left += TILE * TILE, scaled += TILE * TILE)
        for (int e = 0; e < TILE; e++)
            for (int r = 0; r < TILE; r++)
                for (int c = 0; c < TILE; c++) tile[r][c] -= left[r * TILE + e] * scaled[c * TILE + e];
}

template <int N>
QP_FN void assemble_tile(const Problems<N>& p, Tile& tile, Pack a, Pack b, int i, int j) {
    const int at = tile_at(i, j);
    for (int r = 0; r < TILE; r++)
        for (int c = 0; c < TILE; c++) {
            const int k = at + r * TILE + c;
            tile[r][c] = p.H[k] + a * p.S[k] + b * p.T[k];
        }
}

// Factors K; where it is positive definite.
template <int N>
inline Mask factorize(Problems<N>& p, Pack a, Pack b) {
    Mask positive = every();
    for (int j = 0; j < TILES<N>; j++) {
        Pack scaled[N * TILE];
        for (int k = 0; k < j; k++)
            for (int c = 0; c < TILE; c++)
                for (int e = 0; e < TILE; e++)
                    scaled[(k * TILE + c) * TILE + e] = p.factor[tile_at(j, k) + c * TILE + e] * p.column[k * TILE + e].pivot;
        Tile tile;
        assemble_tile(p, tile, a, b, j, j);
        for (int r = 0; r < TILE; r++) tile[r][r] += p.column[j * TILE + r].diagonal;
        subtract_products(p, tile, scaled, j, j);
        Pack* const L = p.factor + tile_at(j, j);
        Pack inverse[TILE];
        for (int k = 0; k < TILE; k++) {
            positive &= tile[k][k] > 0.0;
            p.column[j * TILE + k].pivot = tile[k][k];
            inverse[k] = p.column[j * TILE + k].inverse = 1.0 / tile[k][k];
            for (int r = k + 1; r < TILE; r++) {
                const Pack multiplier = L[r * TILE + k] = tile[r][k] * inverse[k];
                for (int c = k + 1; c <= r; c++) tile[r][c] -= multiplier * tile[c][k];
            }
        }
        for (int i = j + 1; i < TILES<N>; i++) {
            Tile below;
            assemble_tile(p, below, a, b, i, j);
            subtract_products(p, below, scaled, i, j);
            for (int k = 0; k < TILE; k++)
                for (int c = k + 1; c < TILE; c++)
                    for (int r = 0; r < TILE; r++) below[r][c] -= L[c * TILE + k] * below[r][k];
            for (int k = 0; k < TILE; k++)
                for (int r = 0; r < TILE; r++) below[r][k] *= inverse[k];
            store_tile(p.factor + tile_at(i, j), below);
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
