// The factor on the tensor cores: K = LL' in blocks of 8 x 8, with the inverses of those on the diagonal in their place.
//
// Left-looking, by panels of one column of blocks, which the warps share: a block is assembled, and the products of all
// panels before are taken off; one warp factors and inverts the diagonal block, and all multiply with the inverse. S and
// T have their blocks as the lanes of a warp hold them.
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
    QP_EACH_NUMBER(i, lower(f.tiles, 0)) S[i] = 0;
    block.sync();
}

// Adds weighted rows to the blocks I, I + 1 by J ... J + 3 of a sum; what is beyond n gets numbers that do not count.
template <class F, class Weight>
QP_FN void add_rows_to(const Lane& lane, const Factor<F>& f, const Matrices& mat, F* S, const int* list, int count,
                       Weight weight, int I, int J) {
    constexpr int HIGH = 2, WIDE = 4;
    Tile sum[HIGH][WIDE];
    int up[HIGH], across[WIDE];
    for (int u = 0; u < HIGH; u++) up[u] = at_most((I + u) * TILE + lane.row, f.n - 1);
    for (int v = 0; v < WIDE; v++) across[v] = at_most((J + v) * TILE + lane.row, f.n - 1);
    F* const kept[HIGH] = {S + lower(I, J) + 2 * lane.rank(), S + lower(I + 1, J) + 2 * lane.rank()};
    const auto each = [&](auto done) {
#pragma unroll
        for (int u = 0; u < HIGH; u++)
#pragma unroll
            for (int v = 0; v < WIDE; v++)
                if (J + v <= I + u && I + u < f.tiles)
                    done(sum[u][v], *reinterpret_cast<Tile*>(kept[u] + v * TILE_NUMBERS));
    };
    each([](Tile& mine, const Tile& theirs) { mine = theirs; });
    QP_ROLLED for (int first = 0; first < count; first += 4) {
        const int k = first + lane.q, row = list[at_most(k, count - 1)];
        const double w = k < count ? weight(row) : 0;
        const double* line = mat.line(row);
        double left[HIGH], right[WIDE];
#pragma unroll
        for (int u = 0; u < HIGH; u++) left[u] = w * line[up[u]];
#pragma unroll
        for (int v = 0; v < WIDE; v++) right[v] = line[across[v]];
#pragma unroll
        for (int v = 0; v < WIDE; v++)
            if (J + v < I + HIGH)
#pragma unroll
                for (int u = 0; u < HIGH; u++) add_quarter(sum[u][v], left[u], right[v]);
    }
    each([](const Tile& mine, Tile& theirs) { theirs = mine; });
}

// S += sum over the listed rows of weight(row) G_row G_row', of which the lower blocks are kept.
template <class F, class Weight>
QP_PART void add_rows(Block block, const Factor<F>& f, const Matrices& mat, F* S, const int* list, int count,
                      Weight weight) {
    const Lane lane(block);
    int part = 0;
    QP_ROLLED for (int I = 0; I < f.tiles; I += 2)
        QP_ROLLED for (int J = 0; J < I + 2; J += 4)
            if (part++ % Block::warps == lane.warp) add_rows_to(lane, f, mat, S, list, count, weight, I, J);
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

// Puts the inverse of the factor of a diagonal block's quarter, from (AT, AT) on, in its place; its last entry.
//
// Every lane factors it, as that needs no other lane's numbers, and each of the first four has a column of the inverse. A
// pivot that is not positive leaves no number in those after it.
template <int AT>
QP_FN double invert_quarter(Block block, double* tile) {
    double a[HALF][HALF], column[HALF], root;
    const int lane = block.rank % WARP, j = lane % HALF;
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
        root = inverse_of_root(a[p][p]);
        const double inverse = fma(-root, root, 0.0);  // less zero, or its sign would go to each product
#pragma unroll
        for (int r = p + 1; r < HALF; r++) {
            const double multiplier = a[r][p] * inverse;
            column[r] = fma(multiplier, column[p], column[r]);
#pragma unroll
            for (int c = p + 1; c <= r; c++) a[r][c] = fma(multiplier, a[c][p], a[r][c]);
        }
        column[p] *= root;
    }
    if (lane < HALF)
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
        first = place(t, q), transposed = place(q, t), right = place(t, HALF + q), below = place(HALF + t, q);
        last = place(HALF + t, HALF + q);
    }
};

// a b' of two quarters
QP_FN double product_of_quarters(double a, double b, double sum = 0) {
    double unused = 0;
    add_quarter(sum, unused, a, b);
    return sum;
}

// Puts the inverse of a diagonal block's factor in its place, by quarters; false where it is not positive definite.
QP_FN bool invert_factor(Block block, const Lane& lane, const Quarters& at, double* tile) {
    const bool writes = lane.row % 2 == 0;
    invert_quarter<0>(block, tile);
    const double L = product_of_quarters(tile[at.below], tile[at.first]);
    const double rest = product_of_quarters(-L, L, tile[at.last]);
    const double by_columns = product_of_quarters(tile[at.transposed], L);
    block.sync_lanes();
    if (writes) tile[at.last] = rest;
    block.sync_lanes();
    const double root = invert_quarter<HALF>(block, tile);
    const double below = product_of_quarters(-tile[at.last], by_columns);
    if (writes) tile[at.below] = below, tile[at.right] = 0;
    return root > 0 && root < INFINITY;
}

// Block (I, k) of K, which is at `at` in S; the padding is that of a unit matrix.
template <class F>
QP_FN Tile assembled(const Lane& lane, const Terms<F>& terms, int n, int I, int k, int at) {
    const int i = I * TILE + lane.row, j = k * TILE + 2 * lane.q, own = at + 2 * lane.rank(), last = n - 1;
    const bool whole = (I + 1) * TILE <= n;
    Tile K;
    if (terms.S) {
        const Tile S = *reinterpret_cast<const Tile*>(terms.S + own), T = *reinterpret_cast<const Tile*>(terms.T + own);
        K = {fma(terms.b, T.x, terms.a * S.x), fma(terms.b, T.y, terms.a * S.y)};
    }
    if (terms.H) {
        const double* H = terms.H + unsigned(at_most(i, last) * n + at_most(j, last));
        K.x += H[0], K.y += H[j < last];
    }
    if (I == k) {
        const double diagonal = terms.diagonal ? terms.diagonal[at_most(i, last)] : 0;
        K.x += i == j ? diagonal : 0, K.y += i == j + 1 ? diagonal : 0;
    }
    if (!whole) {
        K.x = i < n && j < n ? K.x : i == j;
        K.y = i < n && j < last ? K.y : i == j + 1;
    }
    return K;
}

// Puts the blocks (I, k) and (I + step, k) of K, less the products of the panels before, where those of L will be.
template <class F>
QP_FN void reduce(const Lane& lane, const Factor<F>& f, const Terms<F>& terms, int I, int step, int k) {
    constexpr int HIGH = 2;
    const bool both = I + step < f.tiles;
    Tile sum[HIGH];
    const int at[HIGH] = {lower(I, 0), both ? lower(I + step, 0) : lower(I, 0)};
    F* const lines[HIGH] = {f.L + lane.place + at[0], f.L + lane.place + at[1]};
    const F* line = f.L + lane.place + lower(k, 0);
    const int end = k * TILE_NUMBERS;
#pragma unroll 2
    for (int j = 0; j < end; j += TILE_NUMBERS) {
        const Tile other = *reinterpret_cast<const Tile*>(line + j);
#pragma unroll
        for (int u = 0; u < HIGH; u++) add_product(sum[u], *reinterpret_cast<const Tile*>(lines[u] + j), other);
    }
#pragma unroll
    for (int u = 0; u < HIGH; u++)
        if (u == 0 || both)
            *reinterpret_cast<Tile*>(lines[u] + end) =
                assembled(lane, terms, f.n, I + u * step, k, at[u] + end) - sum[u];
}

// False where K is not positive definite.
template <class F>
QP_PART bool factorize(Block block, const Factor<F>& factor, const Terms<F>& of) {
    const Factor<F> f = factor;  // in registers
    const Terms<F> terms = of;
    const Lane lane(block);
    const Quarters quarters(lane);
    constexpr int WARPS = Block::warps;
    bool positive = true;
    QP_ROLLED for (int k = 0; k < f.tiles; k++) {
        F* diagonal = f.L + lower(k, k);
        const int own = k + 1 + (lane.warp - k & WARPS - 1);  // the first row of this warp below
        if (own == k + 1) {
            reduce(lane, f, terms, k, f.tiles, k);
            block.sync_lanes();
            positive &= invert_factor(block, lane, quarters, diagonal);
        }
        QP_ROLLED for (int I = own; I < f.tiles; I += 2 * WARPS) reduce(lane, f, terms, I, WARPS, k);
        block.sync();
        const Tile inverse = lane.load(diagonal);
        QP_ROLLED for (int I = own; I < f.tiles; I += WARPS) {
            F* tile = f.L + lower(I, k);
            Tile X;
            add_product(X, lane.load(tile), inverse);
            lane.store(tile, X);
        }
        block.sync();
    }
    return !block.any(!positive);
}

// f.r <- (LL')^-1 f.r. One warp does it; a vector is each row of the left factor, and of the result.
template <class F>
QP_PART void substitute(Block block, const Factor<F>& f) {
    const Lane lane(block);
    F* const first = f.r + 2 * lane.q;
    F* const end = first + f.np;
    const auto pair = [](F* at) -> Tile& { return *reinterpret_cast<Tile*>(at); };
    const auto solve = [&](F* at, Tile even, Tile odd, Tile inverse) {
        const Tile rest = pair(at) - (even + odd);
        even = odd = {};
        add_quarter(even, rest.x, inverse.x);
        add_quarter(odd, rest.y, inverse.y);
        block.sync_lanes();
        if (lane.row == 0) pair(at) = even + odd;
        block.sync_lanes();
    };
    if (lane.warp == 0) {
        const F* line = f.L;
        QP_ROLLED for (F* to = first; to != end; to += TILE) {
            Tile even, odd;
            QP_ROLLED for (F* from = first; from != to; from += TILE, line += TILE_NUMBERS) {
                const Tile y = pair(from), L = lane.load(line);
                add_quarter(even, y.x, L.x);
                add_quarter(odd, y.y, L.y);
            }
            solve(to, even, odd, lane.load(line));
            line += TILE_NUMBERS;
        }
        int k = f.tiles;
        QP_ROLLED for (F* to = end; to != first;) {
            to -= TILE, k--;
            Tile even, odd;
            line = f.L + lower(k, k);
            const Tile inverse = lane.transposed(line);
            int down = k * TILE_NUMBERS;
            QP_ROLLED for (F* from = to + TILE; from != end; from += TILE) {
                down += TILE_NUMBERS, line += down;
                const Tile x = pair(from), L = lane.transposed(line);
                add_quarter(even, x.x, L.x);
                add_quarter(odd, x.y, L.y);
            }
            solve(to, even, odd, inverse);
        }
    }
    block.sync();
}

}  // namespace qplayer
