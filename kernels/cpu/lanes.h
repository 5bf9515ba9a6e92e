// Small problems, a lane each: LANES problems of one batch are solved in step, in packs of one number of each.
//
// The method is that of ../cuda/forward.h as far as most problems need it: its phase AS_POSED, in double precision. What
// one problem decides by is a pack here, and a decision a mask; no lane's arithmetic depends on another lane. A problem
// that needs more leaves: where it is suspected to be infeasible, it goes on alone from where it is, else (a ray, a factor
// that fails) from its start.
#pragma once

#include "../cuda/call.h"
#include "lanes_pack.h"

namespace qplayer::lanes {

constexpr int STEP_OF_N = 4, LARGEST_N = 16, LARGEST_M = 48;  // beyond, packs of one problem's numbers are as good
constexpr int TILE = LANES > 4 ? 4 : 2;  // lines and columns of a tile of the factor: what fits into the registers

// The lower triangle of a symmetric N x N matrix in tiles, each of TILE lines.
constexpr int tile_at(int i, int j) { return (i * (i + 1) / 2 + j) * TILE * TILE; }
template <int N>
constexpr int TILES = N / TILE;
template <int N>
using Triangle = Pack[tile_at(TILES<N>, 0)];

// The power of a few numbers that come again and again.
class Power {
    static constexpr int SLOTS = 64;
    double base[SLOTS], value[SLOTS];
    int known;  // zero at first

    void learn(Pack numbers, double exponent, Mask where) {
        for (int lane = 0; lane < LANES; lane++)
            if (where[lane]) base[known] = numbers[lane];
        value[known] = pow(base[known], exponent);
        known++;
    }

  public:
    // In some lanes, of numbers that are not NaN.
    Pack of(Pack numbers, double exponent, Mask where) {
        Pack powers = numbers;
        for (int slot = 0; any(where); slot++) {
            if (slot == SLOTS) slot = known = 0;
            if (slot == known) learn(numbers, exponent, where);
            const Mask found = where & (numbers == base[slot]);
            powers = pick(found, value[slot], powers);
            where &= ~found;
        }
        return powers;
    }
};

// What a row and a variable have from one step to the next; all as in Workspace (../cuda/problem.h).
struct OfRow {
    Pack lo, hi, E, E_inverse, metric, metric_inverse, z, z_k, Gx, Gx_k;
};

struct OfColumn {
    Pack g, D, D_inverse, metric, x, x_k, Hx, Hx_k;
};

template <int N>
struct Row : OfRow {
    Pack omega, omega_inverse, Gdx, v, z_trial, z_full;
    Pack weight;                          // in a sum
    Mask firm, up, down, active, member;  // lo = hi, the active side, whether T should have it and has it
    Pack G[N];                            // of a stored row
};

struct Column : OfColumn {
    Pack dx, Hdx, Gz, pull, diagonal, size;
    Pack pivot, inverse;  // D of the factor, and 1 / D
};

// Of the scaling.
struct Scales {
    Pack c, h, unit;
};

// LANES problems of at most N variables; those that they have not are zero.
template <int N>
struct Problems {
    const Options* options;
    bool has_H;
    int n, stored, m;
    Triangle<N> H, S, T, factor;  // the sums, and L
    Scales of;
    Column column[N];
    Row<N>* row;                       // [m]
    const Row<N>* list[LARGEST_M];     // some of them
    Power accept_power, refuse_power;

    // In memory of zeros.
    static Problems* take(const Rows& rows, Arena& arena) {
        Problems* const p = arena.take<Problems>(1);
        Row<N>* const row = arena.take<Row<N>>(rows.sizes.m());
        if (!p) return p;
        p->options = &rows.options, p->has_H = rows.H.data;
        p->n = rows.sizes.n, p->stored = rows.sizes.stored(), p->m = rows.sizes.m();
        p->row = row;
        return p;
    }

    struct Span {
        Row<N>*first, *last;
        Row<N>* begin() const { return first; }
        Row<N>* end() const { return last; }
    };
    QP_FN Span rows() { return {row, row + m}; }
    QP_FN Span stored_rows() { return {row, row + stored}; }
    QP_FN bool bounded() const { return m > stored; }
    QP_FN Row<N>& bound(int j) { return row[stored + j]; }
};

// The state of each problem; see ../cuda/state.h.
struct Numbers {
    Pack steps, wrong, primal_k, mu_eq, mu_in, mu_floor, rho, rho_floor, mu_eq_k, mu_in_k, eta_out, eta_in;
    Pack factored_a, factored_b;  // 1 / mu_eq and 1 / mu_in of the factor
};

struct State : Numbers {
    Mask running, settled, kept, trial, sums_are_old, sums_are_updated;
};

// How far each problem is from its end; see ../cuda/measure.h.
struct Measure {
    Pack primal, dual, gap, primal_tolerance, dual_tolerance, scaled_violation, size_x, size_terms;
    Pack inner_scaled, inner_absolute, inner_rounding;
    Mask primal_holds, dual_holds, gap_holds;  // the residuals are within what they may be
};

// Hx and Hdx, from one triangle of H.
template <int N>
inline void hessian_two(Problems<N>& p) {
    for (Column& column : p.column) column.Hx = column.Hdx = 0.0;
    if (!p.has_H) return;
    const Pack* H = p.H;
    for (int i = 0; i < N; i += TILE) {
        Column* const lines = p.column + i;
        Pack s[TILE] = {}, t[TILE] = {}, x[TILE], dx[TILE];
        for (int r = 0; r < TILE; r++) x[r] = lines[r].x, dx[r] = lines[r].dx;
        for (int j = 0; j < i; j += TILE, H += TILE * TILE)
            for (int c = 0; c < TILE; c++) {
                Column& column = p.column[j + c];
                Pack Hx = column.Hx, Hdx = column.Hdx;
                for (int r = 0; r < TILE; r++) {
                    const Pack entry = H[r * TILE + c];
                    s[r] += entry * column.x, t[r] += entry * column.dx;
                    Hx += entry * x[r], Hdx += entry * dx[r];
                }
                column.Hx = Hx, column.Hdx = Hdx;
            }
        for (int r = 0; r < TILE; r++, H += TILE) {
            for (int c = 0; c < TILE; c++) s[r] += H[c] * lines[c].x, t[r] += H[c] * lines[c].dx;
            lines[r].Hx = s[r], lines[r].Hdx = t[r];
        }
    }
}

// Gx and Gdx of a few rows from this one on.
template <int LINES, int N>
QP_FN void some_rows(const Problems<N>& p, Row<N>* row) {
    Pack s[LINES] = {}, t[LINES] = {};
    for (int j = 0; j < N; j++) {
        const Pack x = p.column[j].x, dx = p.column[j].dx;
        for (int r = 0; r < LINES; r++) s[r] += row[r].G[j] * x, t[r] += row[r].G[j] * dx;
    }
    for (int r = 0; r < LINES; r++) row[r].Gx = s[r], row[r].Gdx = t[r];
}

template <int N>
inline void rows_two(Problems<N>& p) {
    int i = 0;
    for (; i + 4 <= p.stored; i += 4) some_rows<4>(p, p.row + i);
    for (; i < p.stored; i++) some_rows<1>(p, p.row + i);
    for (; i < p.m; i++) p.row[i].Gx = p.column[i - p.stored].x, p.row[i].Gdx = p.column[i - p.stored].dx;
}

// y = G'z from column j on, of so many.
template <int COUNT, int N, class Member>
QP_FN void some_columns(Problems<N>& p, int j, Member z, Pack Column::*y) {
    Pack sum[COUNT] = {};
    for (const Row<N>& row : p.stored_rows())
        for (int c = 0; c < COUNT; c++) sum[c] += row.*z * row.G[j + c];
    for (int c = 0; c < COUNT; c++) p.column[j + c].*y = sum[c];
    if (p.bounded())
        for (int c = 0; c < COUNT && j + c < p.n; c++) p.column[j + c].*y += p.bound(j + c).*z;
}

// y = G'z
template <int N, class Member>
QP_FN void columns(Problems<N>& p, Member z, Pack Column::*y) {
    some_columns<N>(p, 0, z, y);
}

template <int N>
inline void set_omega(Problems<N>& p, const State& st) {
    const Pack a = 1.0 / st.mu_eq, b = 1.0 / st.mu_in;
    for (Row<N>& row : p.rows()) {
        row.omega = row.metric * pick(row.firm, a, b);
        row.omega_inverse = row.metric_inverse * pick(row.firm, st.mu_eq, st.mu_in);
    }
}

}  // namespace qplayer::lanes
