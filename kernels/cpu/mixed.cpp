// Forward solves with factors in single precision: a library of its own, as few want it and it takes a while to compile.
#include "batch.h"

using namespace qplayer;

#pragma GCC visibility push(default)
extern "C" {

int64_t qplayer_size_of_forward_mixed() { return sizeof(Forward); }

// Returns 0, or 1 where there is not enough memory.
int qplayer_forward_mixed(const Forward* call, Threads by) { return forward_by<Alone<float>>({*call}, by); }
}
#pragma GCC visibility pop
