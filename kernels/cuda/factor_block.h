// The factor on a GPU: K = U'U, with U in the memory that is near.
//
// Left-looking, in panels of PANEL rows of the upper triangle. A thread has one column of a panel in its registers: it
// assembles it, takes off the products of all panels above, and solves with the panel's diagonal block, which the first
// warp factors together with its other columns. Rows of U are read along the threads or by all threads at once, and its
// leading dimension spreads its columns over the banks.
#pragma once

namespace qplayer {

constexpr int PANEL = Block::width < 16 ? Block::width : 16;

template <class F>
struct Factor {
    int n, np, ld;  // np: n, padded; ld: leading dimension of U
    F* U;           // [np, ld]
    F* inverse;     // [np] 1 / U_ii
    F* scale;       // [np] that brings K to a unit diagonal, in single precision
    F* r;           // [np] right-hand side
    F* rows;        // [BLOCK_CHUNK, np], for sums
    F* weights;     // [BLOCK_CHUNK], for sums

    QP_FN static int padded(int n) { return (n + 3) / 4 * 4; }
    QP_FN static int square(int n) { return padded(n) * padded(n); }  // numbers in S

    __device__ void take(int size, Arena& large, Arena& near) {
        n = size, np = padded(n), ld = np + 2;
        inverse = near.take<F>(np), scale = near.take<F>(np), r = near.take<F>(np);
        rows = near.take<F>(BLOCK_CHUNK * np), weights = near.take<F>(BLOCK_CHUNK);
        U = large.take<F>(np * ld);
    }
};

template <class F>
QP_FN void clear(Block block, const Factor<F>& f, F* S) {
    QP_EACH_NUMBER(i, f.np * f.np) S[i] = 0;
    block.sync();
}

// S[i ..., j] += sum_k weights[k] rows[k, i ...] rows[k, j], for the rows of one panel.
template <class F>
__device__ void sum_column(const Factor<F>& f, F* S, int count, int i, int j) {
    const int height = f.np - i < PANEL ? f.np - i : PANEL;
    F column[PANEL] = {};
    for (int k = 0; k < count; k++) {
        const F* row = f.rows + k * f.np;
        const F other = f.weights[k] * row[j];
#pragma unroll
        for (int r = 0; r < PANEL; r++)
            if (r < height) column[r] += row[i + r] * other;
    }
#pragma unroll
    for (int r = 0; r < PANEL; r++)
        if (r < height) S[(i + r) * f.np + j] += column[r];
}

// S += sum over the listed rows of weight(row) G_row G_row'; only the upper triangle of panels counts.
template <class F, class Weight>
QP_PART void add_rows(Block block, const Factor<F>& f, const Matrices& mat, F* S, const int* list, int count,
                         Weight weight) {
    for (int first = 0; first < count; first += BLOCK_CHUNK) {
        const int some = count - first < BLOCK_CHUNK ? count - first : BLOCK_CHUNK;
        QP_EACH_NUMBER(e, some * f.np) {
            const int k = e / f.np, j = e % f.np;
            f.rows[e] = j < f.n ? F(mat.line(list[first + k])[j]) : F(0);
        }
        QP_EACH_NUMBER(k, some) f.weights[k] = F(weight(list[first + k]));
        block.sync();
        for (int i = 0; i < f.np; i += PANEL)
            for (int j = i + block.rank; j < f.np; j += block.size) sum_column(f, S, some, i, j);
        block.sync();
    }
}

// K_ij, of which the padding is that of a unit matrix.
template <class F>
QP_FN F entry(const Factor<F>& f, const Terms<F>& terms, int i, int j) {
    if (i >= f.n || j >= f.n) return i == j ? 1 : 0;
    F sum = F(terms.a) * terms.S[i * f.np + j];
    if (terms.T) sum += F(terms.b) * terms.T[i * f.np + j];
    if (terms.H) sum += F(terms.H[i * f.n + j]);
    if (i == j) sum += F(terms.diagonal[i]);
    return sum;
}

// The entries of panel i in column j, with the products of all panels above taken off.
template <class F>
__device__ void reduce_column(const Factor<F>& f, const Terms<F>& terms, int i, int j, F (&column)[PANEL]) {
#pragma unroll
    for (int r = 0; r < PANEL; r++) {
        column[r] = i + r < f.np ? entry(f, terms, i + r, j) : F(0);
        if constexpr (IS_SINGLE<F>) {
            if (i + r < f.np) column[r] *= f.scale[i + r] * f.scale[j];
            if (i + r == j) column[r] += F(MIXED_JITTER);
        }
    }
    for (int k = 0; k < i; k++) {
        const F* row = f.U + k * f.ld;
        const F other = row[j];
#pragma unroll
        for (int r = 0; r < PANEL; r++)  // past np, what is read is of no use and does no harm
            column[r] -= row[i + r] * other;
    }
}

// Factors the diagonal block of panel i and solves with it, for the columns that the lanes of a warp have, of which the
// first make up the block; false where it is not positive.
template <class F>
__device__ bool factor_diagonal(Block block, const Factor<F>& f, int i, F (&column)[PANEL]) {
    const int lane = block.rank;
    bool positive = true;
#pragma unroll
    for (int k = 0; k < PANEL; k++) {
        if (i + k >= f.np) break;
        F* row = f.U + (i + k) * f.ld + i;
        const F pivot = Block::from_lane(k, column[k]);
        const F inverse = 1 / sqrt(pivot);
        const F mine = column[k] * inverse;
        positive &= pivot > 0;
        if (lane >= k && i + lane < f.np) row[lane] = mine;
        if (lane == k) f.inverse[i + k] = inverse;
        block.sync_lanes();
#pragma unroll
        for (int r = k + 1; r < PANEL; r++)
            if (i + r < f.np) column[r] -= row[r] * mine;
    }
    return positive;
}

// Solves column j of panel i with the panel's diagonal block. There is none unless the panel is of full height.
template <class F>
__device__ void solve_column(const Factor<F>& f, int i, int j, F (&column)[PANEL]) {
#pragma unroll
    for (int k = 0; k < PANEL; k++) {
        F* row = f.U + (i + k) * f.ld;
        column[k] *= f.inverse[i + k];
        row[j] = column[k];
#pragma unroll
        for (int r = k + 1; r < PANEL; r++) column[r] -= row[i + r] * column[k];
    }
}

// False where K is not positive definite.
template <class F>
QP_PART bool factorize(Block block, const Factor<F>& f, const Terms<F>& terms) {
    if constexpr (IS_SINGLE<F>) {
        QP_EACH_NUMBER(i, f.np) f.scale[i] = 1 / sqrt(entry(f, terms, i, i));
        block.sync();
    }
    bool positive = true;
    for (int i = 0; i < f.np; i += PANEL) {
        F column[PANEL] = {};
        int j = i + block.rank;
        if (j < f.np) reduce_column(f, terms, i, j, column);
        if (block.rank < WARP) positive &= factor_diagonal(block, f, i, column);
        block.sync();
        while (j < f.np) {
            if (j >= i + Block::width) solve_column(f, i, j, column);
            j += block.size;
            if (j < f.np) reduce_column(f, terms, i, j, column);
        }
        block.sync();
    }
    return !block.any(!positive);
}

// Solves with the diagonal block of panel i of U' or of U, in place: one warp, a number in each lane.
template <bool TRANSPOSED, class F>
__device__ void substitute_diagonal(Block block, const Factor<F>& f, int i) {
    const int lane = block.rank, height = f.np - i < PANEL ? f.np - i : PANEL;
    const bool inside = lane < height;
    F mine = inside ? f.r[i + lane] : F(0);
    for (int step = 0; step < height; step++) {
        const int k = TRANSPOSED ? step : height - 1 - step;
        const F solved = Block::from_lane(k, mine) * f.inverse[i + k];
        if (lane == k)
            mine = solved;
        else if (inside && (TRANSPOSED ? lane > k : lane < k))
            mine -= f.U[TRANSPOSED ? (i + k) * f.ld + i + lane : (i + lane) * f.ld + i + k] * solved;
    }
    if (inside) f.r[i + lane] = mine;
}

// f.r <- (U'U)^-1 f.r
template <class F>
QP_PART void substitute(Block block, const Factor<F>& f) {
    for (int i = 0; i < f.np; i += PANEL) {
        if (block.rank < WARP) substitute_diagonal<true>(block, f, i);
        block.sync();
        for (int j = i + PANEL + block.rank; j < f.np; j += block.size) {
            F rest = f.r[j];
            for (int k = 0; k < PANEL; k++) rest -= f.U[(i + k) * f.ld + j] * f.r[i + k];
            f.r[j] = rest;
        }
        block.sync();
    }
    for (int i = (f.np - 1) / PANEL * PANEL; i >= 0; i -= PANEL) {
        const int height = f.np - i < PANEL ? f.np - i : PANEL;
        if (block.rank < WARP) substitute_diagonal<false>(block, f, i);
        block.sync();
        QP_EACH_NUMBER(j, i) {
            F rest = f.r[j];
            for (int k = 0; k < height; k++) rest -= f.U[j * f.ld + i + k] * f.r[i + k];
            f.r[j] = rest;
        }
        block.sync();
    }
}

}  // namespace qplayer
