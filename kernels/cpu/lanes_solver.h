// From the arrays of a call into the lanes, and back.
#pragma once

#include <string.h>

#include "../cuda/solver.h"
#include "lanes_outer.h"
#include "lanes_scaling.h"
#include "lanes_step.h"

namespace qplayer::lanes {

inline bool take(const Rows& rows) {
    return rows.sizes.n <= LARGEST_N && rows.sizes.m() <= LARGEST_M && rows.batch >= 2 * LANES && !rows.w.data &&
           !rows.hard.data;
}

class Solver {
    const Rows& rows;
    Problems p;
    State st{};
    int64_t problem[LANES];

    // Calls put(pack) for each number of an array that the lanes have one each of; with zeros where it is absent.
    template <class Put>
    void read(const Array& array, int count, Put put) const {
        const double* from[LANES];
        for (int lane = 0; lane < LANES; lane++) from[lane] = array.of(problem[lane]);
        int i = 0;
        for (; array.data && i + LANES <= count; i += LANES) {
            Pack numbers[LANES];
            for (int lane = 0; lane < LANES; lane++) memcpy(&numbers[lane], from[lane] + i, sizeof(Pack));
            transpose(numbers);
            for (const Pack& each : numbers) put(each);
        }
        for (; i < count; i++) {
            Pack numbers{};
            for (int lane = 0; array.data && lane < LANES; lane++) numbers[lane] = from[lane][i];
            put(numbers);
        }
    }

    void read_vector(Pack* to, const Array& array, int count) const {
        read(array, count, [&](Pack numbers) { *to++ = numbers; });
    }

    // The symmetric part of H: entries that share a place are put there by halves, the others are in tiles of the diagonal.
    void read_H(Mask& nan) const {
        const int* place = p.place;
        for (int i = 0; i < tile_at(p.np / TILE, 0); i++) p.H[i] = Pack{};
        read(rows.H, p.n * p.n, [&](Pack entry) { nan |= (Mask)(entry - entry), p.H[*place++] += 0.5 * entry; });
        for (int i = 0; i < p.np / TILE; i++) {
            Pack* tile = p.H + tile_at(i, i);
            for (int r = 0; r < TILE; r++)
                for (int c = 0; c <= r; c++)
                    tile[r * TILE + c] = tile[c * TILE + r] = tile[r * TILE + c] + tile[c * TILE + r];
        }
    }

    // Reads the matrices; where all numbers are finite.
    Mask read_matrices() const {
        Mask nan{};
        if (p.has_H) read_H(nan);
        Pack* to = p.G;
        int j = 0;
        const auto put = [&](Pack entry) {
            nan |= (Mask)(entry - entry), *to++ = entry;
            if (++j == p.n) j = 0, to += p.np - p.n;
        };
        read(rows.A, p.sizes.n_eq * p.n, put);
        read(rows.C, p.sizes.n_in * p.n, put);
        return nan == 0;
    }

    // Reads the problems; those that can be solved here.
    Mask read_problems(const Forward& call) {
        Mask usable = read_matrices();
        read_vector(p.g, rows.g, p.n), read_vector(p.lo, rows.lo, p.m), read_vector(p.hi, rows.hi, p.m);
        read_vector(p.x, call.x_start, p.n), read_vector(p.z, call.z_start, p.m);
        read(call.s_start, p.m, [&](Pack s) { usable &= s == 0; });
        for (int j = 0; j < p.n; j++) usable &= (p.g[j] - p.g[j]) == 0;
        for (int i = 0; i < p.m; i++) usable &= (p.lo[i] < INF) & (p.hi[i] > -INF);
        return usable;
    }

    // The first iterate, at x and z.
    void begin(Mask running) {
        const Options& options = p.options;
        measure_scaling(p, false);
        sum_firm_rows(p);
        st = State{};
        st.running = running, st.sums_are_old = ~Mask{};
        for (int j = 0; j < p.n; j++) st.settled |= p.x[j] != 0;
        for (int i = 0; i < p.m; i++) st.settled |= p.z[i] != 0;
        st.wrong = all(-1), st.primal_k = all(INF), st.factored_a = all(NAN);
        st.mu_eq = all(options.mu_eq), st.mu_in = all(options.mu_in), st.mu_floor = all(MU_FLOOR);
        st.rho = all(options.rho), st.rho_floor = RHO_FLOOR * pick((p.h > 0) & (p.h < 1), p.h, all(1));
        st.eta_out = all(FIRST_ETA_OUT), st.eta_in = all(FIRST_ETA_IN);
        set_omega(p, st);
        for (int j = 0; j < p.n; j++) p.dx[j] = all(0);
        hessian_two(p);
        rows_two(p);
        for (int j = 0; j < p.n; j++) p.x_k[j] = p.x[j], p.Hx_k[j] = p.Hx[j];
        for (int i = 0; i < p.m; i++) p.z_k[i] = p.z[i], p.Gx_k[i] = p.Gx[i];
    }

    static void write(double* to, const Pack* from, int count, int lane) {
        for (int i = 0; i < count; i++) to[i] = from[i][lane];
    }

    void write_answer(const Forward& call, int lane, const Measure& at) const {
        const int64_t k = problem[lane];
        const int n = p.n, m = p.m;
        write(call.x + k * n, p.x, n, lane), write(call.z + k * m, p.z, m, lane);
        for (int i = 0; i < m; i++) call.s[k * m + i] = 0;
        call.status[k] = SOLVED, call.iterations[k] = int64_t(st.steps[lane]);
        call.primal[k] = at.primal[lane], call.dual[k] = at.dual[lane], call.gap[k] = at.gap[lane];
    }

    // Calls act(lane) for some lanes, which run no longer.
    template <class Do>
    void end(Mask lanes, Do act) {
        lanes &= st.running;
        st.running &= no(lanes);
        if (!any(lanes)) return;
        for (int lane = 0; lane < LANES; lane++)
            if (lanes[lane]) act(lane);
    }

  public:
    Solver(const Rows& call, Arena& arena) : rows(call), p(call) {
        p.take(arena);
        if (!arena.base) return;
        for (int j = p.n; j < p.np; j++) p.diagonal[j] = all(1);
        for (int i = 0; i < p.n * p.n; i++) p.place[i] = entry_at(i / p.n, i % p.n);
    }

    // Solves problems first ... first + count - 1, and calls leave(k) for those that need more.
    template <class Leave>
    void forward(const Forward& call, int64_t first, int64_t count, Leave leave) {
        Mask present{};
        for (int lane = 0; lane < LANES; lane++) {
            problem[lane] = first + (lane < count ? lane : 0);
            present[lane] = -(lane < count);
        }
        const auto alone = [&](int lane) { leave(problem[lane]); };
        const Mask usable = read_problems(call);
        begin(present);
        end(no(usable), alone);
        while (any(st.running)) {
            const Measure at = measure(p, st);
            const Mask hold = at.primal_holds & at.dual_holds & at.gap_holds;
            end(st.settled & hold, [&](int lane) { write_answer(call, lane, at); });
            end((st.steps >= all(double(p.options.max_iter))) | outer_step(p, st, at), alone);
            if (any(st.running)) end(newton_step(p, st), alone);
        }
    }
};

}  // namespace qplayer::lanes
