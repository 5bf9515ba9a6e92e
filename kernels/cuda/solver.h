// One problem of a batch after the other: from the arrays of a call into the workspace, and back.
#pragma once

#include "adjoint.h"
#include "call.h"
#include "forward.h"

namespace qplayer {

// What a block keeps from one problem to the next. Matrices that the batch shares are read and measured once.
template <class F>
struct Solver {
    const Rows& rows;
    Problem<F> problem;
    int64_t present = -1;  // the problem that the matrices were read of
    bool is_scaled = false, matrices_are_finite = false;

    __device__ Solver(const Rows& call, Block block, Workspace<F>& work)
        : rows(call), problem{block, rows.sizes, rows.options, {}, work} {
        const Sizes& sizes = rows.sizes;
        problem.matrices = {sizes.n,       sizes.np(), sizes.n_eq,      sizes.stored(),
                            sizes.sp(),    sizes.mp(), rows.H.data ? work.H : nullptr, work.G};
    }

    // The start, the solve and the answer of problem k.
    __device__ void forward(const Forward& call, int64_t k) {
        Block block = problem.block;
        Workspace<F>& work = problem.work;
        if (call.again && call.status[k] != MAX_ITERATIONS && call.status[k] != NUMERICAL_ERROR) return;
        const int64_t before = call.again ? call.iterations[k] : 0;
        load_x(work.x, call.x_start.of(k));
        load_rows(work.z, call.z_start.of(k), 0);
        load_rows(work.s, call.s_start.of(k), 0);
        Result result{NONFINITE_INPUT, 0, NAN, NAN, NAN};
        if (load(k)) {
            result = qplayer::forward(problem, is_scaled);
            is_scaled = true;
        } else {
            set(block, work.x, rows.sizes.np(), NAN);
            set(block, work.z, rows.sizes.mp(), NAN);
            set(block, work.s, rows.sizes.mp(), NAN);
        }
        result.steps += before;
        write(call, k, result);
    }

    // The answer of problem k, whose vectors the workspace has.
    __device__ void write(const Forward& call, int64_t k, const Result& result) {
        Block block = problem.block;
        const int n = rows.sizes.n, m = rows.sizes.m();
        store_x(call.x + k * n, problem.work.x);
        store_rows(call.z + k * m, problem.work.z);
        store_rows(call.s + k * m, problem.work.s);
        if (block.rank == 0) {
            call.status[k] = result.status, call.iterations[k] = result.steps;
            call.primal[k] = result.primal, call.dual[k] = result.dual, call.gap[k] = result.gap;
        }
        block.sync();
    }

    // The adjoint vectors of problem k, unless its cotangents are all zero.
    __device__ void backward(const Backward& call, int64_t k) {
        Block block = problem.block;
        Workspace<F>& work = problem.work;
        const int n = rows.sizes.n, m = rows.sizes.m();
        load_x(work.grad_x, call.grad_x + k * n);
        load_rows(work.grad_z, call.grad_z + k * m, 0);
        load_rows(work.grad_s, call.grad_s + k * m, 0);
        block.sync();
        bool wanted = false;
        QP_EACH_NUMBER(j, rows.sizes.np()) wanted |= work.grad_x[j] != 0;
        QP_EACH_NUMBER(i, rows.sizes.mp()) wanted |= (work.grad_z[i] != 0) | (work.grad_s[i] != 0);
        if (!block.any(wanted)) return;
        load_x(work.x, call.x + k * n);
        load_rows(work.z, call.z + k * m, 0);
        load_rows(work.s, call.s + k * m, 0);
        load(k);
        adjoint(problem, is_scaled);
        is_scaled = true;
        store_x(call.b_x + k * n, work.x);
        store_x(call.b_s + k * n, work.b_s);
        store_x(call.b_z + k * n, work.beta);
        store_rows(call.p + k * m, work.z_trial);
        store_rows(call.z_unique + k * m, work.z);
        store_rows(call.ws + k * m, work.s);
        store_rows(call.q_z + k * m, work.z_k);
        block.sync();
    }

    // Reads problem k; whether all its numbers are finite, sides that are absent (lo = -inf, hi = inf) aside.
    __device__ bool load(int64_t k) {
        Block block = problem.block;
        Workspace<F>& work = problem.work;
        const double *lo = rows.lo.of(k), *hi = rows.hi.of(k), *g = rows.g.of(k);
        load_matrices(k);
        load_x(work.g, g);
        load_rows(work.lo, lo, -INFINITY);
        load_rows(work.hi, hi, INFINITY);
        bool usable = load_weights(k) & are_finite(block, g, rows.sizes.n);
        QP_EACH_NUMBER(i, rows.sizes.m()) usable &= (lo[i] < INFINITY) & (hi[i] > -INFINITY);
        block.sync();
        return !block.any(!usable) && matrices_are_finite;
    }

    // The weights of problem k, and which of its rows are hard; whether the weights that this thread looks at are usable.
    __device__ bool load_weights(int64_t k) {
        Block block = problem.block;
        Workspace<F>& work = problem.work;
        const double *w = rows.w.of(k), *hard = rows.hard.of(k);
        const int m = rows.sizes.m();
        load_rows(work.w, w, 1);
        load_rows(work.hard, hard, 0);
        bool usable = true;
        double logs = 0, hards = 0;
        if (w) QP_EACH_NUMBER(i, m) usable &= (w[i] > 0) & (w[i] < INFINITY), logs += log(w[i]);
        if (hard) QP_EACH_NUMBER(i, m) hards += hard[i];
        problem.mean_log_w = w && m ? block.sum(logs) / m : 0;
        problem.has_hard = hard && block.sum(hards) != 0;
        return usable;
    }

    // The matrices of problem k, unless they are those of the present one.
    __device__ void load_matrices(int64_t k) {
        Block block = problem.block;
        Matrices& mat = problem.matrices;
        const Sizes& sizes = rows.sizes;
        const double *H = rows.H.of(k), *A = rows.A.of(k), *C = rows.C.of(k);
        if (present >= 0 && H == rows.H.of(present) && A == rows.A.of(present) && C == rows.C.of(present)) return;
        present = k, is_scaled = false;
        bool finite = true;
        if constexpr (LANES == 1) {
            mat.H = H, mat.G = A, mat.C = C - sizes.n_eq * sizes.n;
            finite &= are_finite(block, H, H ? sizes.n * sizes.n : 0);
            finite &= are_finite(block, A, sizes.n_eq * sizes.n);
            finite &= are_finite(block, C, sizes.n_in * sizes.n);
        } else {
            finite &= copy_lines(problem.work.H, H, H ? sizes.n : 0);
            if (H) symmetrize(problem.work.H, sizes.np());
            finite &= copy_lines(problem.work.G, A, sizes.n_eq);
            finite &= copy_lines(problem.work.G + sizes.n_eq * sizes.np(), C, sizes.n_in);
        }
        matrices_are_finite = !block.any(!finite);
    }

    // Copies lines to padded ones; whether all their numbers are finite.
    __device__ bool copy_lines(double* to, const double* from, int count) {
        Block block = problem.block;
        const int n = rows.sizes.n, np = rows.sizes.np(), whole = n / LANES * LANES;
        Any nan;
        double zero = 0;
        for (int i = 0; i < count; i++, to += np, from += n) {
            QP_EACH(j, whole) {
                const Pack numbers = load_anywhere(from + j), zeros = numbers - numbers;
                nan.add(zeros != zeros);
                store(to + j, numbers);
            }
            for (int j = whole; j < n; j++) to[j] = from[j], zero += from[j] - from[j];
        }
        return !nan.value(block) && zero == 0;
    }

    // Whether the numbers that this thread looks at are finite.
    __device__ static bool are_finite(Block block, const double* numbers, int count) {
        double zeros[LANES] = {};
        const int whole = count / LANES * LANES;
        QP_AHEAD(8) for (int i = block.rank * LANES; i < whole; i += block.size * LANES)
            for (int lane = 0; lane < LANES; lane++) zeros[lane] += numbers[i + lane] - numbers[i + lane];
        for (int i = whole + block.rank; i < count; i += block.size) zeros[0] += numbers[i] - numbers[i];
        bool finite = true;
        for (double zero : zeros) finite &= zero == 0;
        return finite;
    }

    // Between vectors as the caller has them and padded ones.
    __device__ void load_x(double* to, const double* from) {
        Block block = problem.block;
        if (!from || LANES > 1) set(block, to, rows.sizes.np(), 0);
        if (from) QP_EACH_NUMBER(j, rows.sizes.n) to[j] = from[j];
    }

    __device__ void load_rows(double* to, const double* from, double padding) {
        Block block = problem.block;
        const Sizes& sizes = rows.sizes;
        if (!from || LANES > 1) set(block, to, sizes.mp(), padding);
        if (!from) return;
        QP_EACH_NUMBER(i, sizes.stored()) to[i] = from[i];
        QP_EACH_NUMBER(j, sizes.m() - sizes.stored()) to[sizes.sp() + j] = from[sizes.stored() + j];
    }

    __device__ void store_x(double* to, const double* from) {
        Block block = problem.block;
        QP_EACH_NUMBER(j, rows.sizes.n) to[j] = from[j];
    }

    __device__ void store_rows(double* to, const double* from) {
        Block block = problem.block;
        const Sizes& sizes = rows.sizes;
        QP_EACH_NUMBER(i, sizes.stored()) to[i] = from[i];
        QP_EACH_NUMBER(j, sizes.m() - sizes.stored()) to[sizes.stored() + j] = from[sizes.sp() + j];
    }
};

}  // namespace qplayer
