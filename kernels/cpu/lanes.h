// Small problems, a lane each: LANES problems of one batch are solved in step, in packs of one number of each.
//
// The method is that of ../cuda/forward.h as far as most problems need it: its phase AS_POSED, in double precision. What
// one problem decides by is a pack here, and a decision a mask; no lane's arithmetic depends on another lane. A problem
// that needs more (a suspicion of infeasibility, a ray, a factor that fails) leaves, and is solved on its own from the
// start.
#pragma once

#include "../cuda/call.h"

namespace qplayer::lanes {

constexpr int LARGEST_N = 16, LARGEST_M = 48;  // beyond, packs of one problem's numbers are as good
constexpr int TILE = LANES > 4 ? 4 : 2;        // lines and columns of a tile of the factor: what fits into the registers

// A symmetric matrix as tiles of its lower triangle, each of TILE lines; a row of G is padded to whole tiles.
QP_FN int tiled(int n) { return (n + TILE - 1) / TILE * TILE; }
QP_FN int tile_at(int i, int j) { return (i * (i + 1) / 2 + j) * TILE * TILE; }

// The power of a few numbers that come again and again.
class Power {
    static constexpr int SLOTS = 64;
    const double exponent;
    double base[SLOTS] = {}, value[SLOTS] = {};

  public:
    explicit Power(double e) : exponent(e) {}

    Pack of(Pack numbers) {
        for (int lane = 0; lane < LANES; lane++) {
            const double number = numbers[lane];
            const int slot = ((Mask)numbers)[lane] >> 52 & (SLOTS - 1);
            if (base[slot] != number) base[slot] = number, value[slot] = pow(number, exponent);
            numbers[lane] = value[slot];
        }
        return numbers;
    }
};

// LANES problems. Vectors of x are [n], those of rows [m], all as in Workspace (../cuda/problem.h).
struct Problems {
    const Sizes& sizes;
    const Options& options;
    const bool has_H;
    const int n = sizes.n, np = tiled(n), stored = sizes.stored(), m = sizes.m();
    Pack* G;                          // [stored, np], padded with zeros
    Pack *H, *S, *T, *left, *scaled;  // tiles, padded with zeros: the sums, L and L D
    int* place;                       // [n, n] of the entries of H
    Pack *g, *D, *D_inverse, *metric_x, *x, *x_k, *dx, *Hx, *Hx_k, *Hdx, *Gz, *pull, *diagonal, *t_x;  // of x
    Pack *inverse;                                                                                     // [np] 1 / D
    Pack *lo, *hi, *E, *E_inverse, *metric, *metric_inverse, *omega, *omega_inverse, *z, *z_k, *Gx, *Gx_k, *Gdx, *v,
        *z_trial, *z_full;       // of rows
    Mask *firm, *up, *down, *active, *member;  // of rows: lo = hi, the active side, whether T should have it and has it
    Pack* weight;                              // [stored] of the listed rows
    int* list;                                 // [stored]
    Pack c, h, unit;
    mutable Power accept_power{ETA_ACCEPT_POWER}, refuse_power{ETA_REFUSE_POWER};

    Problems(const Rows& rows) : sizes(rows.sizes), options(rows.options), has_H(rows.H.data) {}

    void take(Arena& arena) {
        Pack** const of_x[] = {&g,  &D,    &D_inverse, &metric_x, &x,    &x_k,      &dx,
                               &Hx, &Hx_k, &Hdx,       &Gz,       &pull, &diagonal, &t_x};
        Pack** const of_rows[] = {&lo, &hi, &E,    &E_inverse, &metric, &metric_inverse, &omega,   &omega_inverse,
                                  &z,  &z_k, &Gx, &Gx_k,      &Gdx,    &v,              &z_trial, &z_full};
        for (Pack** a : of_x) *a = arena.take<Pack>(np);
        for (Pack** a : of_rows) *a = arena.take<Pack>(m);
        for (Mask** a : {&firm, &up, &down, &active, &member}) *a = arena.take<Mask>(m);
        for (Pack** a : {&H, &S, &T, &left, &scaled}) *a = arena.take<Pack>(tile_at(np / TILE, 0));
        G = arena.take<Pack>(stored * np), place = arena.take<int>(n * n);
        inverse = arena.take<Pack>(np), weight = arena.take<Pack>(stored), list = arena.take<int>(stored);
    }
};

// The state of each problem; see ../cuda/state.h.
struct State {
    Mask running, settled, kept, trial;
    Mask sums_are_old, sums_are_updated;
    Pack steps, wrong, primal_k, mu_eq, mu_in, mu_floor, rho, rho_floor, mu_eq_k, mu_in_k, eta_out, eta_in;
    Pack a, b, factored_a, factored_b;  // 1 / mu_eq and 1 / mu_in, and those of the factor
};

// How far each problem is from its end; see ../cuda/measure.h.
struct Measure {
    Pack primal, dual, gap, primal_tolerance, dual_tolerance, scaled_violation, size_x, size_terms;
    Pack inner_scaled, inner_absolute, inner_rounding;
    Mask primal_holds, dual_holds, gap_holds;  // the residuals are within what they may be
};

QP_FN Pack larger(Pack a, Pack b) { return a > b ? a : b; }
QP_FN Pack smaller(Pack a, Pack b) { return a < b ? a : b; }
QP_FN bool any(Mask m) {
    Any found;
    found.add(m);
    return found.value(Block());
}
QP_FN Pack most(const Most& m) { return (Pack)m.most; }
constexpr double INF = INFINITY;

// Hx and Hdx, from one triangle of H.
inline void hessian_two(const Problems& p) {
    for (int j = 0; j < p.np; j++) p.Hx[j] = p.Hdx[j] = Pack{};
    if (!p.has_H) return;
    for (int i = 0; i < p.np / TILE; i++) {
        const Pack *xi = p.x + i * TILE, *dxi = p.dx + i * TILE;
        Pack s[TILE] = {}, t[TILE] = {};
        for (int j = 0; j < i; j++)
            for (int c = 0; c < TILE; c++) {
                const int k = j * TILE + c;
                const Pack x = p.x[k], dx = p.dx[k];
                Pack y = p.Hx[k], z = p.Hdx[k];
                for (int r = 0; r < TILE; r++) {
                    const Pack entry = p.H[tile_at(i, j) + r * TILE + c];
                    s[r] += entry * x, t[r] += entry * dx;
                    y += entry * xi[r], z += entry * dxi[r];
                }
                p.Hx[k] = y, p.Hdx[k] = z;
            }
        for (int r = 0; r < TILE; r++) {
            for (int c = 0; c < TILE; c++) {
                const Pack entry = p.H[tile_at(i, i) + r * TILE + c];
                s[r] += entry * xi[c], t[r] += entry * dxi[c];
            }
            p.Hx[i * TILE + r] = s[r], p.Hdx[i * TILE + r] = t[r];
        }
    }
}

// Lines i ... of Gx and Gdx.
template <int LINES>
QP_FN void some_rows(const Problems& p, int i) {
    const Pack* G = p.G + i * p.np;
    Pack s[LINES] = {}, t[LINES] = {};
    for (int j = 0; j < p.n; j++) {
        const Pack x = p.x[j], dx = p.dx[j];
        for (int r = 0; r < LINES; r++) s[r] += G[r * p.np + j] * x, t[r] += G[r * p.np + j] * dx;
    }
    for (int r = 0; r < LINES; r++) p.Gx[i + r] = s[r], p.Gdx[i + r] = t[r];
}

inline void rows_two(const Problems& p) {
    int i = 0;
    for (; i + 4 <= p.stored; i += 4) some_rows<4>(p, i);
    for (; i < p.stored; i++) some_rows<1>(p, i);
    for (; i < p.m; i++) p.Gx[i] = p.x[i - p.stored], p.Gdx[i] = p.dx[i - p.stored];
}

// y[j ...] = (G'z)[j ...] of the stored rows, for WIDTH columns.
template <int WIDTH>
QP_FN void some_columns(const Problems& p, const Pack* z, Pack* y, int j) {
    Pack sum[WIDTH] = {};
    for (int i = 0; i < p.stored; i++)
        for (int v = 0; v < WIDTH; v++) sum[v] += z[i] * p.G[i * p.np + j + v];
    for (int v = 0; v < WIDTH; v++) y[j + v] = sum[v];
}

// y = G'z
inline void columns(const Problems& p, const Pack* z, Pack* y) {
    int j = 0;
    for (; j + 8 <= p.np; j += 8) some_columns<8>(p, z, y, j);
    for (; j < p.np; j += TILE) some_columns<TILE>(p, z, y, j);
    for (int i = p.stored; i < p.m; i++) y[i - p.stored] += z[i];
}

// Where an entry of a symmetric matrix is.
inline int entry_at(int i, int j) {
    if (i / TILE < j / TILE) return entry_at(j, i);
    return tile_at(i / TILE, j / TILE) + i % TILE * TILE + j % TILE;
}

inline void set_omega(const Problems& p, State& st) {
    st.a = 1 / st.mu_eq, st.b = 1 / st.mu_in;
    for (int i = 0; i < p.m; i++) {
        const Mask firm = p.firm[i];
        p.omega[i] = p.metric[i] * pick(firm, st.a, st.b);
        p.omega_inverse[i] = p.metric_inverse[i] * pick(firm, st.mu_eq, st.mu_in);
    }
}

}  // namespace qplayer::lanes
