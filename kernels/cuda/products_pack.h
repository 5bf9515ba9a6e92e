// Products of a matrix with one vector or two, by packs of numbers.
#pragma once

namespace qplayer {

// y = M a for `count` lines of np numbers.
template <class Line>
QP_FN void multiply(Block block, Line line, int count, int np, const double* a, double* y) {
    if constexpr (LANES == 1) {
        each_row<Sum>(
            block, count, np, [&](int i, int j) { return *line(i, j) * a[j]; }, [&](int i, double sum) { y[i] = sum; });
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
