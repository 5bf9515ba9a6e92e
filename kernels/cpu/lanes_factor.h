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

// S += sum over the listed rows of weight(row) G_row G_row', from zero where `anew`.
inline void add_rows(const Problems& p, Pack* S, int count, Mask anew) {
    const bool clears = any(anew);
    for (int i = 0, at = 0; i < p.np; i += TILE)
        for (int j = 0; j <= i; j += TILE, at += TILE * TILE) {
            Tile tile;
            load_tile(tile, S + at);
            if (clears)
                for (int r = 0; r < TILE; r++)
                    for (int c = 0; c < TILE; c++) tile[r][c] = pick(anew, all(0), tile[r][c]);
            for (int k = 0; k < count; k++) {
                const Pack *row = p.G + p.list[k] * p.np, weight = p.weight[k];
                Pack left[TILE], right[TILE];
                for (int r = 0; r < TILE; r++) left[r] = weight * row[i + r], right[r] = row[j + r];
                for (int r = 0; r < TILE; r++)
                    for (int c = 0; c < TILE; c++) tile[r][c] += left[r] * right[c];
            }
            store_tile(S + at, tile);
        }
}

// The sum over the rows that are always active.
inline void sum_firm_rows(const Problems& p) {
    int count = 0;
    for (int i = 0; i < p.stored; i++) {
        if (!any(p.firm[i])) continue;
        p.list[count] = i;
        p.weight[count++] = pick(p.firm[i], p.metric[i], all(0));
    }
    add_rows(p, p.S, count, ~Mask{});
}

// Brings T, the sum over the other active rows, up to date by the rows that changed. Where it changed.
inline Mask update_sums(const Problems& p, State& st) {
    Pack members{}, changes{};
    for (int i = 0; i < p.stored; i++) {
        const Mask now = (p.up[i] | p.down[i]) & no(p.firm[i]);
        members += pick(now, all(1), all(0));
        changes += pick(now ^ p.member[i], all(1), all(0));
        p.active[i] = now;
    }
    const Mask changed = st.sums_are_old | (changes > 0), anew = st.sums_are_old | (changed & (changes >= members));
    if (!any(changed)) return changed;
    int count = 0;
    for (int i = 0; i < p.stored; i++) {
        const Mask now = p.active[i], before = p.member[i] & no(anew), moved = now ^ before;
        p.member[i] = now;
        if (!any(moved)) continue;
        p.list[count] = i;
        p.weight[count++] = pick(moved, pick(now, p.metric[i], -p.metric[i]), all(0));
    }
    add_rows(p, p.T, count, anew);
    st.sums_are_updated = (st.sums_are_updated | changed) & no(anew);
    st.sums_are_old = Mask{};
    return changed;
}

// tile -= L [i, k] (D L')[j, k] over the tiles k before j.
QP_FN void subtract_products(const Problems& p, Tile& tile, int i, int j) {
    const Pack *left = p.left + tile_at(i, 0), *right = p.scaled + tile_at(j, 0);
    for (int k = 0; k < j; k++, left += TILE * TILE, right += TILE * TILE)
        for (int e = 0; e < TILE; e++)
            for (int r = 0; r < TILE; r++)
                for (int c = 0; c < TILE; c++) tile[r][c] -= left[r * TILE + e] * right[c * TILE + e];
}

QP_FN void assemble_tile(const Problems& p, Tile& tile, Pack a, Pack b, int i, int j) {
    const int at = tile_at(i, j);
    for (int r = 0; r < TILE; r++)
        for (int c = 0; c < TILE; c++) {
            const int k = at + r * TILE + c;
            tile[r][c] = p.H[k] + a * p.S[k] + b * p.T[k];
        }
}

// Factors K; where it is positive definite.
inline Mask factorize(const Problems& p, Pack a, Pack b) {
    Mask positive = ~Mask{};
    for (int j = 0; j < p.np / TILE; j++) {
        Tile tile;
        assemble_tile(p, tile, a, b, j, j);
        for (int r = 0; r < TILE; r++) tile[r][r] += p.diagonal[j * TILE + r];
        subtract_products(p, tile, j, j);
        Pack* const L = p.left + tile_at(j, j);
        Pack inverse[TILE];
        for (int k = 0; k < TILE; k++) {
            positive &= tile[k][k] > 0;
            inverse[k] = p.inverse[j * TILE + k] = 1 / tile[k][k];
            for (int r = k + 1; r < TILE; r++) {
                const Pack multiplier = L[r * TILE + k] = tile[r][k] * inverse[k];
                for (int c = k + 1; c <= r; c++) tile[r][c] -= multiplier * tile[c][k];
            }
        }
        for (int i = j + 1; i < p.np / TILE; i++) {
            Tile below;
            assemble_tile(p, below, a, b, i, j);
            subtract_products(p, below, i, j);
            for (int k = 0; k < TILE; k++)
                for (int c = k + 1; c < TILE; c++)
                    for (int r = 0; r < TILE; r++) below[r][c] -= L[c * TILE + k] * below[r][k];
            store_tile(p.scaled + tile_at(i, j), below);
            for (int k = 0; k < TILE; k++)
                for (int r = 0; r < TILE; r++) below[r][k] *= inverse[k];
            store_tile(p.left + tile_at(i, j), below);
        }
    }
    return positive;
}

// r <- (L D L')^-1 r
inline void substitute(const Problems& p, Pack* r) {
    const int tiles = p.np / TILE;
    for (int j = 0; j < tiles; j++) {
        Pack y[TILE];
        const Pack* L = p.left + tile_at(j, j);
        for (int a = 0; a < TILE; a++) {
            y[a] = r[j * TILE + a];
            for (int k = 0; k < a; k++) y[a] -= L[a * TILE + k] * y[k];
        }
        for (int a = 0; a < TILE; a++) r[j * TILE + a] = y[a];
        for (int i = j + 1; i < tiles; i++)
            for (int a = 0; a < TILE; a++)
                for (int k = 0; k < TILE; k++) r[i * TILE + a] -= p.left[tile_at(i, j) + a * TILE + k] * y[k];
    }
    for (int j = tiles - 1; j >= 0; j--) {
        Pack x[TILE];
        for (int a = 0; a < TILE; a++) x[a] = r[j * TILE + a] * p.inverse[j * TILE + a];
        for (int i = j + 1; i < tiles; i++)
            for (int k = 0; k < TILE; k++)
                for (int a = 0; a < TILE; a++) x[a] -= p.left[tile_at(i, j) + k * TILE + a] * r[i * TILE + k];
        const Pack* L = p.left + tile_at(j, j);
        for (int a = TILE - 1; a >= 0; a--)
            for (int k = a + 1; k < TILE; k++) x[a] -= L[k * TILE + a] * x[k];
        for (int a = 0; a < TILE; a++) r[j * TILE + a] = x[a];
    }
}

}  // namespace qplayer::lanes
