// Products with H and with the rows G = [A; C; I] of one problem, in the units of the data.
//
// The stored rows [A; C] are padded to whole packs in both directions; the identity rows of bounds on x are never
// stored. A vector of rows holds the stored rows (padded), then the n identity rows (padded) where x is bounded.
#pragma once

#include "pack.h"

namespace qplayer {

struct Matrices {
    int n, np;        // np: padded
    int n_eq;
    int stored, sp;   // sp: padded
    int mp;           // length of a vector of rows: sp, and np more where x is bounded
    const double* H;  // [np, np], null where there is none
    const double* G;  // [sp, np]; on a GPU only the equalities,
    const double* C;  // and the inequalities here, counted as G's rows are; both where the caller has them
    QP_FN const double* line(int i, int j = 0) const {  // from number j on
        return (LANES == 1 && i >= n_eq ? C : G) + unsigned(i * np + j);
    }
};

}  // namespace qplayer

#ifdef QP_TENSOR
#include "products_tensor.h"
#else
#include "products_pack.h"
#endif

namespace qplayer {

QP_CALL void set(Block block, double* y, int count, double value) {
    QP_EACH(i, count) store(y + i, all(value));
    block.sync();
}

QP_CALL void copy(Block block, double* y, const double* x, int count) {
    QP_EACH(i, count) store(y + i, load(x + i));
    block.sync();
}

// y = H x
QP_PART void hessian(Block block, const Matrices& mat, const double* x, double* y) {
    if (mat.H)
        multiply(block, [&](int i, int j = 0) { return mat.H + unsigned(i * mat.np + j); }, mat.np, mat.np, x, y);
    else
        set(block, y, mat.np, 0);
}

// y = G x
QP_PART void rows(Block block, const Matrices& mat, const double* x, double* y) {
    multiply(block, [&](int i, int j = 0) { return mat.line(i, j); }, mat.sp, mat.np, x, y);
    copy(block, y + mat.sp, x, mat.mp - mat.sp);
}

// Ha = H a and Hb = H b, Ga = G a and Gb = G b
QP_FN void products_two(Block block, const Matrices& of, const double* a, const double* b, double* Ha, double* Hb,
                        double* Ga, double* Gb) {
    const Matrices mat = of;  // in registers
    if (!mat.H) {
        set(block, Ha, mat.np, 0);
        set(block, Hb, mat.np, 0);
    }
    multiply_two(block, mat, a, b, Ha, Hb, Ga, Gb);
    QP_EACH(j, mat.mp - mat.sp) {
        store(Ga + mat.sp + j, load(a + j));
        store(Gb + mat.sp + j, load(b + j));
    }
    block.sync();
}

}  // namespace qplayer
