// What every step solves with: K = H + a S + b T + diag, with S and T sums of w_i G_i G_i', and its factor.
//
// In double precision, or in single precision as a preconditioner; then K is scaled to a unit diagonal first.
#pragma once

#include "arena.h"
#include "products.h"

namespace qplayer {

template <class F>
constexpr bool IS_SINGLE = sizeof(F) < sizeof(double);

// What K is made of; S and T are laid out as Factor has it.
template <class F>
struct Terms {
    const double* H = nullptr;  // [np, np] or null
    const F* S = nullptr;       // or null, where tensor cores make the factor
    double a = 0;
    const F* T = nullptr;  // or null
    double b = 0;
    const double* diagonal = nullptr;  // [np], or null as S
};

}  // namespace qplayer

#if defined(QP_TENSOR) && !defined(QP_SINGLE)
#include "factor_tensor.h"
#elif defined(QP_BLOCK)
#include "factor_block.h"
#else
#include "factor_host.h"
#endif
