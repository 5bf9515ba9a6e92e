// From the arrays of a call into the lanes, and back.
#pragma once

#include <string.h>

#include "../cuda/solver.h"
#include "lanes_leave.h"
#include "lanes_outer.h"
#include "lanes_scaling.h"
#include "lanes_step.h"

namespace qplayer::lanes {

inline bool take(const Rows& rows) {
    return rows.sizes.n <= LARGEST_N && rows.sizes.m() <= LARGEST_M && rows.batch >= 2 * LANES && !rows.w.data &&
           !rows.hard.data;
}

// Who gives problems of a call to the lanes, and where they are solved that need more.
struct Client {
    const Forward& call;
    qplayer::Solver<double>& alone;
    Client(const Forward& of, qplayer::Solver<double>& solver) : call(of), alone(solver) {}
    virtual int64_t next() = 0;        // a problem, or -1 where there are no more
    virtual void done(int64_t k) = 0;  // its answer is written
};

// Problems of a call in lanes.
template <int N>
struct Group {
    const Rows& rows;
    Problems<N>* const p;
    State st{};
    int64_t problem[LANES];
    bool has_matrices = false;
    Mask finite{};     // where the matrices are
    int64_t next = 0;  // after those that have been read
    int halves = 0;    // of the problems from there on that have been fetched

    Group(const Rows& of, Arena& arena) : rows(of), p(Problems<N>::take(of, arena)) {}

    // Calls put(i, j, numbers) for number j of line i of an array that the lanes have one each of; adds number - number,
    // which is 0 or NaN.
    template <class Put>
    QP_FN void read(const Array& array, int lines, int width, Pack& zeros, Put put) const {
        const double* from[LANES];
        for (int lane = 0; lane < LANES; lane++) from[lane] = array.data + problem[lane] * array.stride;
        for (int i = 0, at = 0; i < lines; i++, at += width)
            for (int j = 0; j < width; j += LANES) {
                qplayer::Pack numbers[LANES];
                for (int lane = 0; lane < LANES; lane++) {
                    const double* some = from[lane] + at + j;
                    numbers[lane] = j + LANES <= width ? load_anywhere(some) : load_some(some, width - j);
                }
                transpose(numbers);
                for (int k = 0; k < LANES; k++) {
                    const Pack entry = Vector(numbers[k]);
                    zeros += entry - entry;
                    if (j + k < width) put(i, j + k, entry);
                }
            }
    }

    // The symmetric part of H: entries that share a place are put there by halves, first the one above the diagonal. Both
    // are in a tile of the diagonal.
    QP_FN void read_H(Pack& zeros) {
        const auto place = [&](int i, int j) { return p->H + tile_at(i / TILE, j / TILE) + i % TILE * TILE + j % TILE; };
        read(rows.H, p->n, p->n, zeros, [&](int i, int j, Pack entry) {
            if (j / TILE == i / TILE) *place(i, j) = entry;
            else if (j > i) *place(j, i) = 0.5 * entry;
            else *place(i, j) += 0.5 * entry;
        });
        for (int i = 0; i < p->n; i++)
            for (int j = i / TILE * TILE; j < i; j++) *place(i, j) = *place(j, i) = 0.5 * (*place(i, j) + *place(j, i));
    }

    // Reads the matrices; where all their numbers are finite.
    Mask read_matrices() {
        Pack zeros{};
        const Sizes& sizes = rows.sizes;
        Row<N>* const C = p->row + sizes.n_eq;
        if (p->has_H) read_H(zeros);
        if (sizes.n_eq) read(rows.A, sizes.n_eq, p->n, zeros, [&](int i, int j, Pack entry) { p->row[i].G[j] = entry; });
        if (sizes.n_in) read(rows.C, sizes.n_in, p->n, zeros, [&](int i, int j, Pack entry) { C[i].G[j] = entry; });
        return zeros == 0.0;
    }

    // Reads the problems but for matrices that are here; those that can be solved here.
    Mask read_problems(const Forward& call, bool same_matrices) {
        if (!same_matrices) finite = read_matrices();
        Pack zeros{}, infinite{};  // of what must be finite, and of sides, which need not be
        const auto of_columns = [&](const Array& array, Pack Column::*to) {
            if (array.data) read(array, 1, p->n, zeros, [&](int, int j, Pack numbers) { p->column[j].*to = numbers; });
            else for (Column& column : p->column) column.*to = 0.0;
        };
        const auto of_rows = [&](const Array& array, Pack Row<N>::*to) {
            if (array.data) read(array, 1, p->m, infinite, [&](int, int i, Pack numbers) { p->row[i].*to = numbers; });
            else for (Row<N>& row : p->rows()) row.*to = 0.0;
        };
        of_columns(rows.g, &Column::g), of_columns(call.x_start, &Column::x);
        of_rows(rows.lo, &Row<N>::lo), of_rows(rows.hi, &Row<N>::hi), of_rows(call.z_start, &Row<N>::z);
        Mask usable = finite & (zeros == 0.0);
        if (call.s_start.data) read(call.s_start, 1, p->m, infinite, [&](int, int, Pack s) { usable &= s == 0.0; });
        for (const Row<N>& row : p->rows()) usable &= (row.lo < INF) & (row.hi > -INF);
        return usable;
    }

    // The first iterate, at x and z.
    void begin(Mask running, bool same_matrices) {
        const Options& options = rows.options;
        measure_scaling(*p, same_matrices);
        sum_firm_rows(*p);
        st = State{};
        st.running = running, st.sums_are_old = every();
        for (Column& column : p->column) st.settled |= column.x != 0.0, column.dx = 0.0;
        for (const Row<N>& row : p->rows()) st.settled |= row.z != 0.0;
        st.wrong = -1.0, st.primal_k = INF, st.factored_a = NAN;
        st.mu_eq = options.mu_eq, st.mu_in = options.mu_in, st.mu_floor = MU_FLOOR;
        st.rho = options.rho, st.rho_floor = RHO_FLOOR * pick((p->of.h > 0.0) & (p->of.h < 1.0), p->of.h, 1.0);
        st.eta_out = FIRST_ETA_OUT, st.eta_in = FIRST_ETA_IN;
        set_omega(*p, st);
        for (Column& column : p->column) column.Hx = 0.0;
        for (Row<N>& row : p->rows()) row.Gx = 0.0;
        if (any(st.settled)) hessian_two(*p), rows_two(*p);
        for (Column& column : p->column) column.x_k = column.x, column.Hx_k = column.Hx;
        for (Row<N>& row : p->rows()) row.z_k = row.z, row.Gx_k = row.Gx;
    }

    // Calls act(lane) for some lanes, which run no longer.
    template <class Do>
    void end(Mask lanes, Do act) {
        lanes &= st.running;
        if (!any(lanes)) return;
        st.running &= ~lanes;
        for (int lane = 0; lane < LANES; lane++)
            if (lanes[lane]) act(lane);
    }

    // Measures where the problems are, ends those that are solved, and moves what the inner loop holds fixed.
    void look(Client& client) {
        const Measure at = measure(*p, st);
        end(st.settled & at.primal_holds & at.dual_holds & at.gap_holds, [&](int lane) {
            write_answer(client.call, lane, at);
            client.done(problem[lane]);
        });
        begin_alone(st.steps >= double(rows.options.max_iter), client);
        const Leaving leaving = outer_step(*p, st, at);
        begin_alone(leaving.strange, client);
        end(leaving.suspect, [&](int lane) {
            if (!go_on_alone(lane, client)) client.alone.forward(client.call, problem[lane]);
            client.done(problem[lane]);
        });
    }

    // Has problems solved from their start.
    void begin_alone(Mask lanes, Client& client) {
        end(lanes, [&](int lane) {
            client.alone.forward(client.call, problem[lane]);
            client.done(problem[lane]);
        });
    }

    // Has a problem solved from where it is, unless that ends with a status whose answer depends on the way there.
    bool go_on_alone(int lane, Client& client) const {
        qplayer::Solver<double>& alone = client.alone;
        alone.load(problem[lane]);
        qplayer::State at = hand_over(*p, st, lane, alone.problem);
        const Result result = go_on(alone.problem, at);
        alone.is_scaled = false;  // but by this lane
        if (result.status > SOLVED_CLOSEST_FEASIBLE && result.status != INFEASIBLE) return false;
        alone.write(client.call, problem[lane], result);
        return true;
    }

    void write_answer(const Forward& call, int lane, const Measure& at) const {
        const int64_t k = problem[lane];
        double *x = call.x + k * p->n, *z = call.z + k * p->m, *s = call.s + k * p->m;
        for (int j = 0; j < p->n; j++) x[j] = p->column[j].x[lane];
        for (int i = 0; i < p->m; i++) z[i] = p->row[i].z[lane], s[i] = 0;
        call.status[k] = SOLVED, call.iterations[k] = int64_t(st.steps[lane]);
        call.primal[k] = at.primal[lane], call.dual[k] = at.dual[lane], call.gap[k] = at.gap[lane];
    }

    // Takes over the problems that run in other lanes, as many as there are lanes to spare.
    void take_over(Group& from) {
        Move move;
        for (int lane = 0, other = 0; lane < LANES; lane++) {
            if (st.running[lane]) continue;
            while (other < LANES && !from.st.running[other]) other++;
            if (other == LANES) break;
            move.add(lane, other), problem[lane] = from.problem[other++];
        }
        Problems<N>& to = *p;
        move(to.H, from.p->H), move(to.S, from.p->S), move(to.T, from.p->T), move(to.of, from.p->of);
        for (int j = 0; j < N; j++) move.template operator()<OfColumn>(to.column[j], from.p->column[j]);
        for (int i = 0; i < to.m; i++) {
            Row<N>& row = to.row[i];
            const Row<N>& other = from.p->row[i];
            move.template operator()<OfRow>(row, other);
            if (i < to.stored) move(row.G, other.G), move(row.member, other.member);
            row.firm = row.lo == row.hi;
        }
        move.template operator()<Numbers>(st, from.st);
        for (Mask State::*of : {&State::settled, &State::kept, &State::trial, &State::sums_are_old,
                                &State::sums_are_updated, &State::running})
            move(st.*of, from.st.*of);
        st.factored_a = NAN;
        from.st.running = Mask{};
        set_omega(to, st);
    }

    // Reads the next problems, and looks at where they begin; whether there are any.
    bool begin_next(Client& client) {
        Mask present{};
        int count = 0;
        for (int64_t k; count < LANES && (k = client.next()) >= 0; count++) problem[count] = k, present.set(count, true);
        for (int lane = count; lane < LANES; lane++) problem[lane] = problem[0];
        if (!count) return false;
        next = problem[count - 1] + 1, halves = 0;
        const bool same_matrices = has_matrices && !rows.H.stride && !rows.A.stride && !rows.C.stride;
        const Mask usable = read_problems(client.call, same_matrices);
        begin(present, same_matrices);
        has_matrices = true;
        begin_alone(~usable, client);
        look(client);
        return true;
    }

    // Has memory fetched that is probably read next, that of half a problem: more at a time would keep what a step needs
    // waiting.
    void fetch() {
        const int64_t k = next + halves / 2;
        if (halves == 2 * LANES || k >= rows.batch) return;
        const int n = p->n, n_eq = rows.sizes.n_eq;
        if (halves++ % 2) {
            fetch(rows.H, k, n * n);
        } else {
            fetch(rows.A, k, n_eq * n), fetch(rows.C, k, (p->stored - n_eq) * n);
            fetch(rows.g, k, n), fetch(rows.lo, k, p->m), fetch(rows.hi, k, p->m);
        }
    }

    QP_FN static void fetch(const Array& array, int64_t k, int count) {
        constexpr int LINE = 8;  // numbers
        if (array.stride)
            for (int i = 0; i < count; i += LINE) __builtin_prefetch(array.data + k * array.stride + i, 0, 2);
    }

    void step(Client& client) {
        fetch();
        const Mask failed = newton_step(*p, st);
        fetch();
        begin_alone(failed, client);
        look(client);
    }
};

// Where at most half of the lanes run, their problems wait until they fit beside others.
template <int N>
class Solver {
    Group<N> first, second;

  public:
    Solver(const Rows& rows, Arena& arena) : first(rows, arena), second(rows, arena) {}

    // Solves the problems that the client has.
    void forward(Client& client) {
        Group<N>*now = &first, *waiting = &second;
        for (bool more = true;;) {
            const int running = now->st.running.count(), wait = waiting->st.running.count();
            if (wait && running + wait <= LANES) now->take_over(*waiting);
            else if (more && !wait && running <= LANES / 2) std::swap(now, waiting), more = now->begin_next(client);
            else if (!running) return;
            else now->step(client);
        }
    }
};

}  // namespace qplayer::lanes
