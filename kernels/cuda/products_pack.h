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

// y = G a and z = G b for the stored rows, by the lines of LANES rows in one pass.
QP_FN void multiply_lines_two(Block block, const Matrices& mat, const double* a, const double* b, double* y, double* z) {
    QP_EACH(i, mat.sp) {
        Pack s[LANES] = {}, t[LANES] = {};
        for (int j = 0; j < mat.np; j += LANES) {
            Pack aj = load(a + j), bj = load(b + j);
            for (int r = 0; r < LANES; r++) {
                Pack entry = load(mat.line(i + r) + j);
                s[r] += entry * aj;
                t[r] += entry * bj;
            }
        }
        store(y + i, fold(s));
        store(z + i, fold(t));
    }
    block.sync();
}

// y = H a and z = H b from column j on, by WIDTH packs of columns at a time: H is symmetric, so these are parts of its lines.
template <int WIDTH>
QP_FN void combine_lines(const Matrices& mat, const double* a, const double* b, double* y, double* z, int j) {
    for (; j + WIDTH * LANES <= mat.np; j += WIDTH * LANES) {
        Pack s[WIDTH] = {}, t[WIDTH] = {};
        for (int i = 0; i < mat.n; i++)
            for (int v = 0; v < WIDTH; v++) {
                Pack entry = load(mat.H + i * mat.np + j + v * LANES);
                s[v] += a[i] * entry, t[v] += b[i] * entry;
            }
        for (int v = 0; v < WIDTH; v++) store(y + j + v * LANES, s[v]), store(z + j + v * LANES, t[v]);
    }
    if constexpr (WIDTH > 1) combine_lines<WIDTH / 2>(mat, a, b, y, z, j);
}

// Ha = H a and Hb = H b, Ga = G a and Gb = G b for the stored rows; on the host each matrix in one pass.
QP_FN void multiply_two(Block block, const Matrices& mat, const double* a, const double* b, double* Ha, double* Hb,
                        double* Ga, double* Gb) {
    if constexpr (LANES == 1) {
        const auto of_H = [&](int i, int j) { return mat.H + unsigned(i * mat.np + j); };
        const auto of_G = [&](int i, int j) { return mat.line(i, j); };
        if (mat.H) {
            multiply(block, of_H, mat.np, mat.np, a, Ha);
            multiply(block, of_H, mat.np, mat.np, b, Hb);
        }
        multiply(block, of_G, mat.sp, mat.np, a, Ga);
        multiply(block, of_G, mat.sp, mat.np, b, Gb);
    } else {
        if (mat.H) combine_lines<4>(mat, a, b, Ha, Hb, 0);
        multiply_lines_two(block, mat, a, b, Ga, Gb);
    }
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

constexpr bool TWO_COLUMNS = false;  // whether the second of two products is next to free

// y = G'a and z = G'b
QP_FN void columns_two(Block block, const Matrices& mat, const double* a, const double* b, double* y, double* z) {
    columns(block, mat, a, y);
    columns(block, mat, b, z);
}

}  // namespace qplayer
