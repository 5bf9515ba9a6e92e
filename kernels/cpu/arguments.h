// A call as users make it: their arguments to rows, the answer of the rows to theirs, and gradients back to the arguments.
//
// What qplayer_gpu/problem.py, solution.py and derivatives.py say in torch operations, which every other way goes, stands
// here once more for one problem at a time. kernels/cpu/arguments.py mirrors the structures.
#pragma once

#include <algorithm>
#include <cmath>

#include "../cuda/call.h"

namespace qplayer {

enum Name : int { ARG_H, ARG_g, ARG_A, ARG_b, ARG_C, ARG_l, ARG_u, ARG_lb, ARG_ub, ARG_w_eq, ARG_w_in, ARG_w_box, ARGUMENTS };
enum Part : int { X, Y, Z, Z_BOX, S_EQ, S_IN, S_BOX, PARTS };  // of an answer

// How an argument is given: not, as an array for each problem at this distance or one for all (0), or as a number.
struct Form {
    int64_t kind, stride;
};
enum Kind : int64_t { ABSENT, ARRAY, NUMBER };

union Word {
    const double* data;
    double number;
};

// A row's sides: as given, and what they stand for.
struct Sides {
    double lower, upper;
    bool crossed() const { return lower > upper; }
    double halfway() const { return 0.5 * (lower + upper); }
    // By how much each gives way, rounding errors aside.
    double crossing() const {
        const double half = 0.5 * (lower - upper);
        return half > ROUNDING * std::abs(halfway()) ? half : 0.0;
    }
};

struct Arguments {
    Rows rows;  // batch, sizes and options; its arrays are found by `lay_out`
    Form forms[ARGUMENTS];
    int64_t weighted, may_be_hard, on_failure;
    Word words[ARGUMENTS];
    double* kept;  // what the backward needs: numbers as many as `lay_out` says; null: nobody asks

    // Places in the memory at hand for the rows, the multipliers and shifts of all rows, x, and whether derivatives pass.
    struct Places {
        double *lo, *hi, *crossing, *w, *hard, *x, *z, *s, *regular;
        int64_t count;
    };

    bool varies(int first, int last) const {
        return std::any_of(forms + first, forms + last + 1, [](const Form& form) { return form.stride != 0; });
    }

    Places lay_out(double* memory) {
        const int64_t B = rows.batch, n = rows.sizes.n, m = rows.sizes.m();
        Places at{};
        auto take = [&](int64_t each, bool batched, Array* array) {
            double* data = memory ? memory + at.count : nullptr;
            at.count += each * (batched ? B : 1);
            if (array) *array = {data, batched ? each : 0};
            return data;
        };
        const bool sides = varies(ARG_b, ARG_b) || varies(ARG_l, ARG_ub);
        rows.w = rows.hard = {nullptr, 0};
        for (auto [array, name] : {std::pair{&rows.H, ARG_H}, {&rows.g, ARG_g}, {&rows.A, ARG_A}, {&rows.C, ARG_C}})
            *array = {words[name].data, forms[name].stride};
        at.lo = take(m, sides, &rows.lo), at.hi = take(m, sides, &rows.hi), at.crossing = take(m, sides, nullptr);
        if (weighted) at.w = take(m, varies(ARG_w_eq, ARG_w_box), &rows.w);
        if (may_be_hard) at.hard = take(m, varies(ARG_w_eq, ARG_w_box), &rows.hard);
        at.x = take(n, true, nullptr), at.z = take(m, true, nullptr), at.s = take(m, true, nullptr);
        at.regular = take(1, true, nullptr);
        return at;
    }

    // A part of an answer that is given as x and the rest: one after the other the other parts, then `PARTS + i`, what is
    // said of it.
    template <class T>
    T* part(T* x, T* rest, int part) const {
        if (part == X || !rest) return part == X ? x : nullptr;
        const int64_t counts[] = {rows.sizes.n_eq, rows.sizes.n_in, rows.sizes.n};
        for (int before = Y; before < part; before++) rest += rows.batch * (before < PARTS ? counts[(before - Y) % 3] : 1);
        return rest;
    }

    // A vector of problem k: its numbers, or one for all.
    struct Numbers {
        const double* data;
        double number;
        double operator[](int i) const { return data ? data[i] : number; }
    };

    Numbers numbers(Name name, int64_t k, double absent) const {
        const Form form = forms[name];
        return {form.kind == ARRAY ? words[name].data + k * form.stride : nullptr, form.kind == NUMBER ? words[name].number : absent};
    }

    // Calls f(from, count, part) for the rows of A, of C and of the bounds.
    template <class F>
    void each_part(F f) const {
        const Sizes& sizes = rows.sizes;
        f(0, sizes.n_eq, 0), f(sizes.n_eq, sizes.n_in, 1), f(sizes.stored(), sizes.m() - sizes.stored(), 2);
    }

    static double side(double v) { return std::abs(v) >= ABSENT_SIDE ? v * INFINITY : v; }

    void pack_sides(const Places& at, int64_t k) const {
        double *const lo = at.lo + k * rows.lo.stride, *const hi = at.hi + k * rows.lo.stride;
        double* const crossing = at.crossing + k * rows.lo.stride;
        each_part([&](int from, int count, int part) {
            constexpr Name LOWER[] = {ARG_b, ARG_l, ARG_lb}, UPPER[] = {ARG_b, ARG_u, ARG_ub};
            const Numbers lower = numbers(LOWER[part], k, -INFINITY), upper = numbers(UPPER[part], k, INFINITY);
            for (int i = 0; i < count; i++) {
                const Sides given{side(lower[i]), side(upper[i])};
                const bool crossed = given.crossed();
                lo[from + i] = crossed ? given.halfway() : given.lower;
                hi[from + i] = crossed ? given.halfway() : given.upper;
                crossing[from + i] = given.crossing();
            }
        });
    }

    void pack_weights(const Places& at, int64_t k) const {
        each_part([&](int from, int count, int part) {
            constexpr Name OF[] = {ARG_w_eq, ARG_w_in, ARG_w_box};
            const Numbers weights = numbers(OF[part], k, 1);
            for (int i = 0; i < count; i++) {
                const bool hard = at.hard && weights[i] == INFINITY;
                at.w[k * rows.w.stride + from + i] = hard ? 1.0 : weights[i];
                if (at.hard) at.hard[k * rows.hard.stride + from + i] = hard;
            }
        });
    }

    // The rows of problem k; `shared`: only what the batch shares, else only what it does not.
    void pack(const Places& at, int64_t k, bool shared) const {
        if (shared == (rows.lo.stride == 0)) pack_sides(at, k);
        if (at.w && shared == (rows.w.stride == 0)) pack_weights(at, k);
    }

    // What the sides of row i of problem k cross by, where that is more than the tolerance.
    double crossing(const Places& at, int64_t k, int i) const {
        const double half = at.crossing[k * rows.lo.stride + i];
        return half > 0.5 * rows.options.eps_abs ? half : 0.0;
    }
};

struct Solve {
    Arguments given;
    const double *x_start, *rest_start;  // an earlier answer, as `Arguments::part` takes it; null: none
    double *x, *rest;
    int64_t* status;
    const double* start[PARTS];  // found by `place`, as is what follows
    double* answer[PARTS];
    int64_t* iterations;
    double *primal, *dual, *gap;
    Forward of_rows;

    void place() {
        for (int i = 0; i < PARTS; i++) start[i] = given.part(x_start, rest_start, i), answer[i] = given.part(x, rest, i);
        iterations = reinterpret_cast<int64_t*>(given.part(x, rest, int(PARTS)));
        int measure = PARTS + 1;
        for (double** found : {&primal, &dual, &gap}) *found = given.part(x, rest, measure++);
    }

    // The solve of the rows, which a caller may end by its limit of steps.
    const Forward& forward(const Arguments::Places& at) {
        const Sizes& sizes = given.rows.sizes;
        place();
        of_rows = {given.rows, {}, {}, {}, answer[X], at.z, at.s, status, iterations, primal, dual, gap, 0};
        if (start[X]) {  // where the answer will stand, which is written when the start has been read
            of_rows.x_start = {of_rows.x, sizes.n};
            of_rows.z_start = {of_rows.z, sizes.m()}, of_rows.s_start = {of_rows.s, sizes.m()};
        }
        return of_rows;
    }

    // The parts of a vector of rows, for problem k.
    template <class F>
    void each_part(int64_t k, F f) const {
        const Sizes& sizes = given.rows.sizes;
        const int counts[] = {sizes.n_eq, sizes.n_in, sizes.bounded ? sizes.n : 0};
        for (int i = 0, from = 0; i < 3; from += counts[i++]) f(i, from, counts[i], k * (i < 2 ? counts[i] : sizes.n));
    }

    // Where problem k starts; at zero where the earlier answer is not finite. What sides cross by is no shift of the rows.
    void begin(const Arguments::Places& at, const Forward& call, int64_t k) const {
        if (!start[X]) return;
        const int n = given.rows.sizes.n, m = given.rows.sizes.m();
        double *x = call.x + k * n, *z = call.z + k * m, *s = call.s + k * m;
        std::copy_n(start[X] + k * n, n, x);
        each_part(k, [&](int i, int from, int count, int64_t of) {
            std::copy_n(start[Y + i] + of, count, z + from);
            std::copy_n(start[S_EQ + i] + of, count, s + from);
        });
        for (int i = 0; i < m; i++)
            if (at.crossing[k * given.rows.lo.stride + i] != 0) s[i] = 0;
        auto finite = [](double v) { return std::isfinite(v); };
        if (std::all_of(x, x + n, finite) && std::all_of(z, z + m, finite) && std::all_of(s, s + m, finite)) return;
        std::fill_n(x, n, 0), std::fill_n(z, m, 0), std::fill_n(s, m, 0);
    }

    // Ends problem k, solved halfway between sides that cross: these give way, unless the row is hard.
    void cross(const Arguments::Places& at, int64_t k) const {
        each_part(k, [&](int part, int from, int count, int64_t to) {
            for (int i = 0; i < count; i++) {
                const double by = given.crossing(at, k, from + i);
                if (by == 0) continue;
                answer[S_EQ + part][to + i] += by;
                if (status[k] == SOLVED) status[k] = given.rows.options.closest_feasible ? SOLVED_CLOSEST_FEASIBLE : INFEASIBLE;
                if (at.hard && at.hard[k * given.rows.hard.stride + from + i] != 0) status[k] = INFEASIBLE;
            }
        });
    }

    // The answer of problem k, from that of its rows.
    void unpack(const Arguments::Places& at, const Forward& call, int64_t k) const {
        const int n = given.rows.sizes.n, m = given.rows.sizes.m();
        const double *x = call.x + k * n, *z = call.z + k * m, *s = call.s + k * m;
        each_part(k, [&](int i, int from, int count, int64_t to) {
            std::copy_n(z + from, count, answer[Y + i] + to);
            std::copy_n(s + from, count, answer[S_EQ + i] + to);
        });
        if (!given.rows.sizes.bounded) std::fill_n(answer[Z_BOX] + k * n, n, 0), std::fill_n(answer[S_BOX] + k * n, n, 0);
        if (status[k] <= SOLVED_CLOSEST_FEASIBLE) cross(at, k);
        if (!given.kept) return;
        const bool finite = std::all_of(x, x + n, [](double v) { return std::isfinite(v); });
        const bool regular = given.on_failure ? finite : status[k] <= SOLVED_CLOSEST_FEASIBLE;
        at.regular[k] = regular;
        std::copy_n(x, n, at.x + k * n);
        if (regular) return;
        std::fill_n(at.x + k * n, n, 0), std::fill_n(at.z + k * m, m, 0), std::fill_n(at.s + k * m, m, 0);
    }
};

// Gradients of the arguments, from the cotangents of the answer.
struct Pullback {
    Arguments given;
    const double *of_x, *of_rest;    // the cotangents, as `Arguments::part` takes them; null: zero
    double* gradient[ARGUMENTS];     // of each problem alone; null: not wanted
    double *left, *right;            // [B, 4, stored] and [B, 4, n], whose outer products the matrices' are; right null: not wanted

    // The adjoint solve of the batch, in this memory of as many numbers as `count` says.
    static int64_t count(const Sizes& sizes) { return 4 * sizes.n + 6 * sizes.m(); }

    Backward backward(const Arguments::Places& at, double* memory) const {
        const int64_t n = given.rows.batch * given.rows.sizes.n, m = given.rows.batch * given.rows.sizes.m();
        double *cotangents = memory, *q = memory + n + 2 * m;
        return {given.rows, at.x,  at.z,          at.s,          cotangents,          cotangents + n,          cotangents + n + m,
                q,          q + 3 * n, q + 3 * n + m, q + 3 * n + 2 * m, q + n, q + 3 * n + 3 * m, q + 2 * n};
    }

    // The cotangents of problem k; zero where no derivatives pass, as are the adjoint vectors at first.
    void gather(const Arguments::Places& at, const Backward& call, int64_t k) const {
        const int n = given.rows.sizes.n, m = given.rows.sizes.m();
        const int counts[] = {given.rows.sizes.n_eq, given.rows.sizes.n_in, given.rows.sizes.bounded ? n : 0};
        auto put = [&](Part part, double* to, int count, int stride) {
            const double* from = at.regular[k] ? given.part(of_x, of_rest, part) : nullptr;
            if (from) std::copy_n(from + k * stride, count, to);
            else std::fill_n(to, count, 0);
        };
        put(X, const_cast<double*>(call.grad_x) + k * n, n, n);
        for (auto [first, of_rows] : {std::pair{Y, call.grad_z}, {S_EQ, call.grad_s}}) {
            double* to = const_cast<double*>(of_rows) + k * m;
            for (int i = 0; i < 3; to += counts[i++]) put(Part(first + i), to, counts[i], i < 2 ? counts[i] : n);
        }
        for (double* v : {call.b_x, call.b_s, call.b_z}) std::fill_n(v + k * n, n, 0);
        for (double* v : {call.p, call.z_unique, call.ws, call.q_z}) std::fill_n(v + k * m, m, 0);
    }

    // The gradients of problem k, from its adjoint vectors: see Adjoint in kernels/interface.py.
    void scatter(const Arguments::Places& at, const Backward& call, int64_t k) const {
        const Sizes& sizes = given.rows.sizes;
        const int n = sizes.n, m = sizes.m(), n_eq = sizes.n_eq, stored = sizes.stored();
        const double *x = call.x + k * n, *z = call.z + k * m, *lo = given.rows.lo.of(k), *hi = given.rows.hi.of(k);
        const double *b_x = call.b_x + k * n, *b_s = call.b_s + k * n, *b_z = call.b_z + k * n;
        const double *p = call.p + k * m, *y = call.z_unique + k * m, *ws = call.ws + k * m, *q_z = call.q_z + k * m;
        if (double* to = gradient[ARG_H])
            for (int i = 0; i < n; i++)
                for (int j = 0; j < n; j++) to[(k * n + i) * n + j] = -0.5 * (b_x[i] * x[j] + x[i] * b_x[j]);
        if (double* to = gradient[ARG_g])
            for (int j = 0; j < n; j++) to[k * n + j] = -b_x[j];
        for (int i = 0; i < stored; i++) {
            double* to = gradient[i < n_eq ? ARG_A : ARG_C];
            if (!to) continue;
            to += (i < n_eq ? k * n_eq + i : k * sizes.n_in + i - n_eq) * n;
            for (int j = 0; j < n; j++) to[j] = -(y[i] * b_x[j] + p[i] * x[j] + ws[i] * b_s[j] - q_z[i] * b_z[j]);
        }
        if (right) {
            for (int i = 0; i < stored; i++) {
                double* to = left + k * 4 * stored + i;
                to[0] = y[i], to[stored] = p[i], to[2 * stored] = ws[i], to[3 * stored] = -q_z[i];
            }
            const double* const of_x[] = {b_x, x, b_s, b_z};
            for (int r = 0; r < 4; r++) std::copy_n(of_x[r], n, right + (4 * k + r) * n);
        }
        for (int i = 0; i < m; i++) {
            const bool up = (ws[i] != 0 ? ws[i] : z[i]) > 0, equal = lo[i] == hi[i];
            double upper = equal ? 0.5 * p[i] : up ? p[i] : 0.0, lower = equal ? 0.5 * p[i] : up ? 0.0 : p[i];
            if (given.crossing(at, k, i) != 0) lower += 0.5 * call.grad_s[k * m + i], upper -= 0.5 * call.grad_s[k * m + i];
            if (i < n_eq) put(ARG_b, k, i, lower + upper);
            else if (i < stored) put(ARG_l, k, i - n_eq, lower), put(ARG_u, k, i - n_eq, upper);
            else put(ARG_lb, k, i - stored, lower), put(ARG_ub, k, i - stored, upper);
        }
        if (gradient[ARG_w_eq] || gradient[ARG_w_in] || gradient[ARG_w_box]) scatter_weights(at, call, k);
    }

    void scatter_weights(const Arguments::Places& at, const Backward& call, int64_t k) const {
        const Sizes& sizes = given.rows.sizes;
        const int n = sizes.n, m = sizes.m(), n_eq = sizes.n_eq, stored = sizes.stored();
        const double *b_s = call.b_s + k * n, *b_z = call.b_z + k * n, *w = given.rows.w.of(k), *hard = given.rows.hard.of(k);
        const double *A = given.rows.A.of(k), *C = given.rows.C.of(k);
        for (int i = 0; i < m; i++) {
            double of_s = 0, of_z = 0;
            if (i < stored) {
                const double* row = i < n_eq ? A + i * n : C + (i - n_eq) * n;
                for (int j = 0; j < n; j++) of_s += row[j] * b_s[j], of_z += row[j] * b_z[j];
            } else {
                of_s = b_s[i - stored], of_z = b_z[i - stored];
            }
            const double log_w = call.q_z[k * m + i] * of_z - call.ws[k * m + i] * of_s;
            const bool is_zero = !at.regular[k] || (hard && hard[i]);  // 0 times a NaN of the matrices is NaN
            const double found = is_zero ? 0 : log_w / w[i];
            if (i < n_eq) put(ARG_w_eq, k, i, found);
            else if (i < stored) put(ARG_w_in, k, i - n_eq, found);
            else put(ARG_w_box, k, i - stored, found);
        }
    }

    void put(Name name, int64_t k, int i, double value) const {
        const Sizes& sizes = given.rows.sizes;
        const bool of_A = name == ARG_b || name == ARG_w_eq, of_C = name == ARG_l || name == ARG_u || name == ARG_w_in;
        if (gradient[name]) gradient[name][k * (of_A ? sizes.n_eq : of_C ? sizes.n_in : sizes.n) + i] = value;
    }
};

}  // namespace qplayer
