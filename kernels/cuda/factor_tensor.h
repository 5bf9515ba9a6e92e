// The factor on the tensor cores: K = LL' in blocks of 8 x 8, with the inverses of those on the diagonal in their place,
// and with those below negated: so are K and what is left of it, as then products are added, not taken off.
//
// K is assembled in the place of its factor. Left-looking, by panels of one column of blocks, which the warps share: the
// products of all panels before are taken off; one warp factors and inverts the diagonal block, and all multiply with
// the inverse. S and T have their blocks as the lanes of a warp hold them.
#pragma once

#include "tile.h"

namespace qplayer {

template <class F>
struct Factor {
    int n, np, tiles;  // np: n, padded to whole blocks, of which there are so many
    F* L;              // [tiles (tiles + 1) / 2, 8, 8]
    F* r;              // [np] right-hand side

    QP_FN static int tiles_of(int n) { return (n + TILE - 1) / TILE; }
    QP_FN static int square(int n) { return lower(tiles_of(n), 0); }  // numbers in S

    __device__ void take(int size, Arena& large, Arena& near) {
        n = size, tiles = tiles_of(n), np = tiles * TILE;
        r = near.take<F>(np);
        L = large.take<F>(square(n));
    }
};

template <class F>
QP_FN void clear(Block block, const Factor<F>& f, F* S) {
    const int pairs = lower(f.tiles, 0) / 2;
    QP_EACH_NUMBER(i, pairs) reinterpret_cast<Tile*>(S)[i] = {};
    block.sync();
}

// Adds weighted rows to the blocks I ... by J ... of a sum, a group each, which are the same ones where DIAGONAL; what is
// beyond n gets numbers that do not count.
template <bool DIAGONAL, class F, class Weight>
QP_FN void add_rows_to(const Lane& lane, const Factor<F>& f, const Matrices& mat, F* S, const int* list, int count,
                       Weight weight, int I, int J) {
    Tile sum[GROUP][GROUP];
    F* kept[GROUP];
    int up[GROUP], across[GROUP];
#pragma unroll
    for (int u = 0; u < GROUP; u++) {
        kept[u] = S + lower(I + u, J) + 2 * lane.rank();
        up[u] = at_most((I + u) * TILE + lane.row, f.n - 1), across[u] = (J + u) * TILE + lane.row;
    }
    const auto each = [&](auto done) {
#pragma unroll
        for (int u = 0; u < GROUP; u++)
            if (I + u < f.tiles)
#pragma unroll
                for (int v = 0; v < (DIAGONAL ? u + 1 : GROUP); v++)
                    done(u, v, *reinterpret_cast<Tile*>(kept[u] + v * TILE_NUMBERS));
    };
    each([&](int u, int v, const Tile& theirs) { sum[u][v] = theirs; });
    QP_ROLLED for (int k = lane.q; k - lane.q < count; k += 4) {
        const int row = list[at_most(k, count - 1)];
        const double w = k < count ? weight(row) : 0;
        double left[GROUP], right[GROUP];
#pragma unroll
        for (int u = 0; u < GROUP; u++) {
            const double number = *mat.line(row, up[u]);
            left[u] = w * number, right[u] = DIAGONAL ? number : *mat.line(row, across[u]);
        }
        each([&](int u, int v, const Tile&) { add_quarter(sum[u][v], left[u], right[v]); });
    }
    each([&](int u, int v, Tile& theirs) { theirs = sum[u][v]; });
}

// S += sum over the listed rows of weight(row) G_row G_row', of which the lower blocks are kept.
template <class F, class Weight>
QP_PART void add_rows(Block block, const Factor<F>& of, const Matrices& matrices, F* S, const int* list, int count,
                      Weight weight) {
    const Factor<F> f = of;  // in registers
    const Matrices mat = matrices;
    const Lane lane(block);
    int part = 0;
    QP_ROLLED for (int I = 0; I < (IS_SMALL ? 1 : f.tiles); I += GROUP) {
        if (part++ % Block::warps == lane.warp) add_rows_to<true>(lane, f, mat, S, list, count, weight, I, I);
        if constexpr (!IS_SMALL)
            QP_ROLLED for (int J = 0; J < I; J += GROUP)
                if (part++ % Block::warps == lane.warp) add_rows_to<false>(lane, f, mat, S, list, count, weight, I, J);
    }
    block.sync();
}

// 1 / sqrt(d) of a normal number, to full precision.
QP_FN double inverse_of_root(double d) {
#ifdef __CUDACC__
    double y;
    asm("rsqrt.approx.ftz.f64 %0, %1;" : "=d"(y) : "d"(d));
    const double error = fma(d * y, y, -1.0);
    return fma(error * y, fma(error, 0.375, -0.5), y);
#else
    return 1 / sqrt(d);
#endif
}

constexpr int HALF = TILE / 2;

// Puts the inverse of the factor of a diagonal block's quarter, from (AT, AT) on, in its place; its last entry. The block
// is that of -K.
//
// Every lane factors it, as that needs no other lane's numbers, and each of the first four has a column of the inverse. A
// pivot that is not positive leaves no number in those after it.
template <int AT>
QP_FN double invert_quarter(Block block, const Lane& lane, double* tile) {
    double a[HALF][HALF], column[HALF], root;
    const int j = lane.q;
#pragma unroll
    for (int r = 0; r < HALF; r++) {
        column[r] = r == j ? 1 : 0;
#pragma unroll
        for (int c = 0; c <= r; c += 2) {
            const Tile two = *reinterpret_cast<const Tile*>(tile + place(AT + r, AT + c));
            a[r][c] = two.x, a[r][c + 1] = two.y;
        }
    }
    block.sync_lanes();
#pragma unroll
    for (int p = 0; p < HALF; p++) {
        root = inverse_of_root(-a[p][p]);
        column[p] *= root;
#pragma unroll
        for (int r = p + 1; r < HALF; r++) {
            a[r][p] *= root;
            column[r] = fma(a[r][p], column[p], column[r]);
#pragma unroll
            for (int c = p + 1; c <= r; c++) a[r][c] = fma(a[r][p], a[c][p], a[r][c]);
        }
    }
    if (lane.row == 0)
#pragma unroll
        for (int r = 0; r < HALF; r++) tile[place(AT + r, AT + j)] = column[r];
    block.sync_lanes();
    return root;
}

// The numbers that a lane has of a block's quarters: (t, q) of each, as the lanes of every second row do.
struct Quarters {
    int first, transposed, right, below, last;
    QP_FN explicit Quarters(const Lane& lane) {
        const int t = lane.row / 2, q = lane.q;
        first = place(t, q), transposed = place(q, t), right = first ^ HALF;
        below = (first ^ TILE) + HALF * TILE, last = below ^ HALF;
    }
};

// a b' of two quarters
QP_FN double product_of_quarters(double a, double b, double sum = 0) {
    double unused = 0;
    add_quarter(sum, unused, a, b);
    return sum;
}

// Puts the inverse of the factor of a diagonal block, that of -K, in its place, by quarters; false where K is not positive
// definite.
QP_FN bool invert_factor(Block block, const Lane& lane, const Quarters& at, double* tile) {
    const bool writes = lane.row % 2 == 0;
    invert_quarter<0>(block, lane, tile);
    const double L = product_of_quarters(tile[at.below], tile[at.first]);
    const double rest = product_of_quarters(L, L, tile[at.last]);
    const double by_columns = product_of_quarters(tile[at.transposed], L);
    block.sync_lanes();
    if (writes) tile[at.last] = rest;
    block.sync_lanes();
    const double root = invert_quarter<HALF>(block, lane, tile);
    const double below = product_of_quarters(tile[at.last], by_columns);
    if (writes) tile[at.below] = below, tile[at.right] = 0;
    return root < INFINITY;
}

// Puts the lower blocks of K where those of its factor will be. Rows beyond n are those of a unit matrix, and above the
// diagonal is anything. All that a group of blocks needs is asked for before any of it is used.
template <class F>
QP_FN void assemble(Block block, const Lane& lane, const Factor<F>& f, const Terms<F>& terms) {
    const int last = f.n - 1;
    QP_ROLLED for (int I = lane.warp; I < f.tiles; I += Block::warps) {
        const int i = I * TILE + lane.row, line = lower(I, 0), own = line + 2 * lane.rank();
        const double* H = terms.H ? terms.H + unsigned(at_most(i, last) * f.n) : nullptr;
        const double diagonal = i > last ? 1 : terms.diagonal ? terms.diagonal[i] : 0;
        QP_ROLLED for (int first = 0; first <= (IS_SMALL ? 0 : I); first += GROUP) {
            Tile K[GROUP], of_H[GROUP];
            const auto each = [&](auto done) {
#pragma unroll
                for (int u = 0; u < GROUP; u++)
                    if (first + u <= I) done(u, (first + u) * TILE_NUMBERS, (first + u) * TILE + 2 * lane.q);
            };
            if (H) each([&](int u, int, int j) { of_H[u] = {H[at_most(j, last)], H[at_most(j + 1, last)]}; });
            if (terms.S)
                each([&](int u, int at, int) {
                    const Tile S = *reinterpret_cast<const Tile*>(terms.S + own + at);
                    const Tile T = *reinterpret_cast<const Tile*>(terms.T + own + at);
                    K[u] = {fma(terms.b, T.x, terms.a * S.x), fma(terms.b, T.y, terms.a * S.y)};
                });
            each([&](int u, int at, int j) {
                Tile v = i > last ? Tile{} : K[u] + of_H[u];
                if (first + u == I) v.x += i == j ? diagonal : 0, v.y += i == j + 1 ? diagonal : 0;
                lane.store(f.L + line + at, v);
            });
        }
    }
    block.sync();
}

// The blocks (I, k) and (I + step, k) of -K, with the products of the panels before.
template <class F>
QP_FN void reduce(const Lane& lane, const Factor<F>& f, int I, int step, int k, Tile (&rest)[2]) {
    Tile sum[2];
    const F *lines[2] = {f.L + lower(I, 0), f.L + lower(I + step < f.tiles ? I + step : I, 0)};
    const F* line = f.L + lower(k, 0);
    const int end = k * TILE_NUMBERS;
#pragma unroll 2
    for (int j = 0; j < end; j += TILE_NUMBERS) {
        const Tile other = lane.load(line + j);
#pragma unroll
        for (int u = 0; u < 2; u++) add_product(sum[u], lane.load(lines[u] + j), other);
    }
#pragma unroll
    for (int u = 0; u < 2; u++) rest[u] = sum[u] - lane.load(lines[u] + end);
}

// Panel k of the factor: false where K is not positive definite.
template <class F>
QP_FN bool factor_panel(Block block, const Lane& lane, const Quarters& quarters, const Factor<F>& f,
                        int k) {
    constexpr int WARPS = Block::warps;
    F* diagonal = f.L + lower(k, k);
    const int own = k + 1 + (lane.warp - k & WARPS - 1);  // the first row of this warp below
    bool positive = true;
    Tile rest[2], inverse;
    const auto store = [&](int I, Tile v) { lane.store(f.L + lower(I, k), v); };
    const auto multiplied = [&](Tile v) {
        Tile X;
        add_product(X, v, inverse);
        return X;
    };
    if (own == k + 1) {
        reduce(lane, f, k, f.tiles, k, rest);
        store(k, rest[0]);
        block.sync_lanes();
        positive = invert_factor(block, lane, quarters, diagonal);
    }
    if constexpr (IS_SMALL) {
        block.sync();
        inverse = lane.load(diagonal);
#pragma unroll
        for (int I = k + 1; I < GROUP; I += 2)
            if (I < f.tiles) {
                reduce(lane, f, I, 1, k, rest);
                store(I, multiplied(rest[0]));
                if (I + 1 < f.tiles) store(I + 1, multiplied(rest[1]));
            }
    } else {
        QP_ROLLED for (int I = own; I < f.tiles; I += 2 * WARPS) {
            reduce(lane, f, I, WARPS, k, rest);
            store(I, rest[0]);
            if (I + WARPS < f.tiles) store(I + WARPS, rest[1]);
        }
        block.sync();
        inverse = lane.load(diagonal);
        QP_ROLLED for (int I = own; I < f.tiles; I += WARPS) store(I, multiplied(lane.load(f.L + lower(I, k))));
    }
    block.sync();
    return positive;
}

// False where K is not positive definite.
template <class F>
QP_PART bool factorize(Block block, const Factor<F>& factor, const Terms<F>& of) {
    const Factor<F> f = factor;  // in registers
    const Terms<F> terms = of;
    const Lane lane(block);
    const Quarters quarters(lane);
    assemble(block, lane, f, terms);
    bool positive = true;
    if constexpr (IS_SMALL) {
#pragma unroll
        for (int k = 0; k < GROUP; k++)
            if (k < f.tiles) positive &= factor_panel(block, lane, quarters, f, k);
    } else {
        QP_ROLLED for (int k = 0; k < f.tiles; k++) positive &= factor_panel(block, lane, quarters, f, k);
    }
    return Block::warps == 1 ? positive : !block.any(!positive);
}

// f.r <- (LL')^-1 f.r. One warp does it, by groups of blocks; a vector is each row of the left factor, and of the result.
template <class F>
QP_PART void substitute(Block block, const Factor<F>& of) {
    const Factor<F> f = of;  // in registers
    const Lane lane(block);
    const auto pair = [&](int k) -> Tile& { return *reinterpret_cast<Tile*>(f.r + k * TILE + 2 * lane.q); };
    const auto each = [&](int first, auto done) {
#pragma unroll
        for (int u = 0; u < GROUP; u++)
            if (first + u < f.tiles) done(u);
    };
    const auto store = [&](int first, const Tile(&r)[GROUP]) {
        block.sync_lanes();
        if (lane.row == 0) each(first, [&](int u) { pair(first + u) = r[u]; });
        block.sync_lanes();
    };
    const auto solved = [&](Tile rest, Tile inverse) {
        Tile even, odd;
        add_quarter(even, rest.x, inverse.x);
        add_quarter(odd, rest.y, inverse.y);
        return even + odd;
    };
    const int groups = IS_SMALL ? GROUP : lane.warp == 0 ? f.tiles : 0;
    const int last = IS_SMALL ? 0 : (groups - 1) & -GROUP;
    Tile r[GROUP];
    QP_ROLLED for (int first = 0; first < groups; first += GROUP) {
        each(first, [&](int u) { r[u] = pair(first + u); });
        QP_ROLLED for (int k = 0; k < first; k++) {
            const Tile y = pair(k);
            each(first, [&](int u) { add_product(r[u], y, lane.load(f.L + lower(first + u, k))); });
        }
        each(first, [&](int u) {
            r[u] = solved(r[u], lane.load(f.L + lower(first + u, first + u)));
            each(first, [&](int v) {
                if (v > u) add_product(r[v], r[u], lane.load(f.L + lower(first + v, first + u)));
            });
        });
        if (first < last) store(first, r);  // of the last, which comes next, lanes have the numbers
    }
    QP_ROLLED for (int first = last; first >= 0; first -= GROUP) {
        if (first < last) each(first, [&](int u) { r[u] = pair(first + u); });
        QP_ROLLED for (int k = first + GROUP; k < (IS_SMALL ? 0 : f.tiles); k++) {
            const Tile x = pair(k);
            each(first, [&](int u) { add_product(r[u], x, lane.transposed(f.L + lower(k, first + u))); });
        }
#pragma unroll
        for (int u = GROUP - 1; u >= 0; u--)
            if (first + u < f.tiles) {
                r[u] = solved(r[u], lane.transposed(f.L + lower(first + u, first + u)));
#pragma unroll
                for (int v = 0; v < u; v++)
                    add_product(r[v], r[u], lane.transposed(f.L + lower(first + u, first + v)));
            }
        store(first, r);
    }
    block.sync();
}

}  // namespace qplayer
