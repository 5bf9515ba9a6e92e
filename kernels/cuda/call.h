// The arguments of a call, as plain structures that the callers mirror (kernels/call.py).
//
// A stride is the distance from one problem's array to the next one's, in numbers: 0 where the batch shares it. All
// arrays are of contiguous numbers in the layout of kernels/interface.py.
#pragma once

#include "problem.h"

namespace qplayer {

struct Array {
    const double* data;  // null: absent
    int64_t stride;
    QP_FN const double* of(int64_t problem) const { return data ? data + problem * stride : nullptr; }
};

struct Rows {
    int64_t batch;
    Sizes sizes;
    Array H, g, A, C, lo, hi, w, hard;  // w null: 1; hard null: none
    Options options;
};

struct Forward {
    Rows rows;
    Array x_start, z_start, s_start;  // null: starts at zero
    double *x, *z, *s;
    int64_t *status, *iterations;
    double *primal, *dual, *gap;
    int64_t again;  // 1: only problems that an earlier call did not solve, whose steps count on
};

struct Backward {
    Rows rows;
    const double *x, *z, *s, *grad_x, *grad_z, *grad_s;
    double *b_x, *p, *z_unique, *ws, *b_s, *q_z, *b_z;  // zero at first
};

}  // namespace qplayer
