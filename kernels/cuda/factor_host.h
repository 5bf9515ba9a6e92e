// The factor on the host: K = L D L'.
//
// Left-looking, in panels of one pack of rows of the upper triangle: each tile of a panel is assembled, takes the
// products of all panels above it, and is solved with the panel's diagonal block, all in registers. Memory holds DL', but L'
// in the diagonal blocks, and of L' what is above the present panel; K itself is never stored.
#pragma once

namespace qplayer {

constexpr int TILE = LANES > 2 ? 2 : 4;  // packs of columns in one tile: what fits into the registers

template <class F>
struct Factor {
    int n, np;
    F* upper;    // [np, np] DL', with L' in the diagonal blocks; zero on the padding
    F* above;    // [np, LANES] L' above a panel
    F* inverse;  // [np] 1 / D
    F* scale;    // [np] that brings K to a unit diagonal, in single precision
    F* r;        // [np] right-hand side
    F* left;     // [HOST_CHUNK, np] weighted rows, for sums
    F* right;    // [HOST_CHUNK, np] rows, for sums

    static int square(int n) { return padded(n) * padded(n); }  // numbers in S

    void take(int size, Arena& large, Arena& near) {
        n = size, np = padded(n);
        upper = large.take<F>(np * np), above = near.take<F>(np * LANES);
        inverse = near.take<F>(np), scale = near.take<F>(np), r = near.take<F>(np);
        left = near.take<F>(HOST_CHUNK * np), right = near.take<F>(HOST_CHUNK * np);
    }
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

// tile [LANES rows, W packs] += sign * sum_k left[k, row] right[k, 0 ...]; lines of left are `pitch` apart.
template <int W, bool MINUS, class F, class P>
QP_FN void add_products(P (&tile)[LANES][W], const F* left, int pitch, const F* right, int np, int count) {
    for (int k = 0; k < count; k++) {
        P other[W];
        for (int v = 0; v < W; v++) other[v] = pack_at(right + k * np + v * LANES);
        for (int r = 0; r < LANES; r++) {
            F factor = left[k * pitch + r];
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
    add_products<W, false>(tile, f.left + i, f.np, f.right + j, f.np, count);
    for (int r = 0; r < LANES; r++)
        for (int v = 0; v < W; v++) pack_at(S + (i + r) * f.np + j + v * LANES) = tile[r][v];
}

template <class F>
QP_FN void clear(Block block, const Factor<F>& f, F* S) {
    QP_EACH(i, f.np * f.np) pack_at(S + i) = typename PackOf<F>::type{};
    block.sync();
}

// S += sum over the listed rows of weight(row) G_row G_row'; only the upper triangle of panels counts.
template <class F, class Weight>
void add_rows(Block block, const Factor<F>& f, const Matrices& mat, F* S, const int* list, int count, Weight weight) {
    for (int first = 0; first < count; first += HOST_CHUNK) {
        int some = count - first < HOST_CHUNK ? count - first : HOST_CHUNK;
        for (int k = 0; k < some; k++) {
            const double* row = mat.line(list[first + k]);
            const F factor = F(weight(list[first + k]));
            QP_EACH(j, f.np) {
                pack_at(f.right + k * f.np + j) = load_as<F>(row + j);
                pack_at(f.left + k * f.np + j) = factor * load_as<F>(row + j);
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

// Brings a tile of K to the unit diagonal, in single precision.
template <int W, class F, class P>
QP_FN void scale_tile(P (&tile)[LANES][W], const Factor<F>& f, int i, int j) {
    if constexpr (IS_SINGLE<F>)
        for (int r = 0; r < LANES; r++)
            for (int v = 0; v < W; v++) tile[r][v] *= f.scale[i + r] * pack_at(f.scale + j + v * LANES);
}

// The scale of a unit diagonal.
template <class F>
void measure_diagonal(const Factor<F>& f, const Terms<F>& terms) {
    for (int i = 0; i < f.n; i++) {
        const int at = i * f.np + i;
        F size = F(terms.a) * terms.S[at] + F(terms.diagonal[i]);
        if (terms.T) size += F(terms.b) * terms.T[at];
        if (terms.H) size += F(terms.H[at]);
        f.scale[i] = 1 / sqrt(size);
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
    scale_tile(tile, f, i, i);
    if constexpr (IS_SINGLE<F>) {
#pragma GCC unroll 8
        for (int r = 0; r < LANES; r++) tile[r][0][r] += F(MIXED_JITTER);
    }
    add_products<1, true>(tile, f.above, LANES, f.upper + i, f.np, i);
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
        for (int r = k + 1; r < LANES; r++) tile[r][0] -= tile[k][0][r] * multiplier;
        pack_at(f.upper + (i + k) * f.np + i) = multiplier;
    }
    return positive;
}

// The tile of panel i at column j: assembled, reduced and solved with the panel's diagonal block.
template <int W, class F>
QP_FN void factor_tile(const Factor<F>& f, const Terms<F>& terms, int i, int j) {
    typename PackOf<F>::type tile[LANES][W];
    assemble_tile(tile, terms, f.np, i, j);
    scale_tile(tile, f, i, j);
    add_products<W, true>(tile, f.above, LANES, f.upper + j, f.np, i);
#pragma GCC unroll 8
    for (int k = 0; k < LANES; k++) {
        const F* line = f.upper + (i + k) * f.np + i;
#pragma GCC unroll 8
        for (int r = k + 1; r < LANES; r++)
            for (int v = 0; v < W; v++) tile[r][v] -= line[r] * tile[k][v];
        for (int v = 0; v < W; v++) pack_at(f.upper + (i + k) * f.np + j + v * LANES) = tile[k][v];
    }
}

// False where K is not positive definite.
template <class F>
bool factorize(Block block, const Factor<F>& f, const Terms<F>& terms) {
    bool positive = true;
    if constexpr (IS_SINGLE<F>) measure_diagonal(f, terms);
    QP_EACH_NUMBER(i, f.np - f.n) f.inverse[f.n + i] = 1;
    for (int i = 0; i < f.np && positive; i += LANES) {
        for (int k = 0; k < i; k++) pack_at(f.above + k * LANES) = f.inverse[k] * pack_at(f.upper + k * f.np + i);
        positive = factor_diagonal(f, terms, i);
        block.sync();
        int j = i + LANES;
        for (; j + TILE * LANES <= f.np; j += TILE * LANES) factor_tile<TILE>(f, terms, i, j);
        for (; j < f.np; j += LANES) factor_tile<1>(f, terms, i, j);
        block.sync();
    }
    return positive;
}

// f.r <- (L D L')^-1 f.r
template <class F>
void substitute(Block block, const Factor<F>& f) {
    using P = typename PackOf<F>::type;
    const int np = f.np;
    F* r = f.r;
    for (int i = 0; i < np; i += LANES) {  // L y = r
        const F* U = f.upper + i * np;
        F y[LANES];
#pragma GCC unroll 8
        for (int a = 0; a < LANES; a++) {
            y[a] = 0;
            if (i + a >= f.n) continue;
            y[a] = r[i + a];
#pragma GCC unroll 8
            for (int k = 0; k < a; k++) y[a] -= U[k * np + i + a] * y[k];
        }
        for (int a = 0; a < LANES; a++) r[i + a] = y[a] *= f.inverse[i + a];
        for (int j = i + LANES; j < np; j += LANES) {
            P even = pack_at(r + j), odd = {};  // two sums, as each addition waits for the one before
            for (int k = 0; k < LANES; k += 2) {
                even -= y[k] * pack_at(U + k * np + j);
                odd -= y[k + 1] * pack_at(U + (k + 1) * np + j);
            }
            pack_at(r + j) = even + odd;
        }
    }
    for (int i = np - LANES; i >= 0; i -= LANES) {  // L'x = y / D, which is in r
        const F* U = f.upper + i * np;
        P sums[LANES] = {};
        for (int j = np - LANES; j > i; j -= LANES) {  // the newest last
            P x = pack_at(r + j);
            for (int k = 0; k < LANES; k++) sums[k] += x * pack_at(U + k * np + j);
        }
        P rest = pack_at(r + i) - pack_at(f.inverse + i) * fold(sums);
        F x[LANES];
        P found = {};  // stored at once: a pack cannot be loaded while its numbers are on their way to memory
#pragma GCC unroll 8
        for (int k = LANES - 1; k >= 0; k--) {
            x[k] = 0;
            if (i + k >= f.n) continue;
            x[k] = rest[k];
#pragma GCC unroll 8
            for (int a = LANES - 1; a > k; a--) x[k] -= U[k * np + i + a] * x[a];
            found[k] = x[k];
        }
        pack_at(r + i) = found;
    }
    block.sync();
}

}  // namespace qplayer
