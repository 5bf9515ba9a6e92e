// What one thread handles at once, and how the threads of a block work together.
//
// A block is the threads that solve one problem. All is written as loops over packs of numbers that they share
// (QP_EACH), with block.sync() between loops of which one needs the other's results; a branch that holds a barrier is
// taken by all threads or by none, as what they decide by is the same in all. On a GPU a pack is one number, and a block
// is one of the launch or, for very small problems, a part of a warp; on the host a block is one thread and a pack a
// vector register, which vectors are padded to, with numbers that change nothing. The two have the same names in
// pack_block.h and pack_host.h, and a factor of their own (factor_block.h, factor_host.h); all other files hold for both.
#pragma once

#include "words.h"
#ifdef QP_BLOCK
#include "pack_block.h"
#else
#include "pack_host.h"
#endif

namespace qplayer {

QP_FN int padded(int count) { return (count + LANES - 1) / LANES * LANES; }

template <class At>
QP_FN double largest(Block block, int count, At at) {
    Most most;
    QP_EACH(i, count) most.add(at(i));
    return most.value(block);
}

template <class At>
QP_FN bool any(Block block, int count, At at) {
    Any found;
    QP_EACH(i, count) found.add(at(i));
    return found.value(block);
}

}  // namespace qplayer
