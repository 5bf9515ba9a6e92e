// What is wrong with a kernel, as it is found; gpu/program.py has the words for it.
#pragma once

#include <cstdint>

namespace gpu {

enum class Kind : uint32_t {
    READ_OF_UNORDERED_WRITE,
    WRITE_AFTER_UNORDERED_READ,
    UNORDERED_WRITES,
    OUT_OF_BOUNDS,
    MISALIGNED,
    READ_ONLY,
    LANE_OUTSIDE_MASK,  // which takes part, or which is asked
    LANES_APART,        // those that meet are at different instructions
    WARP_APART,         // lanes of a warp are at different barriers of the block
    DEADLOCK,
};

struct Finding {
    Kind kind;
    uint32_t site, other;              // of the instruction, and of an earlier one
    uint32_t thread, other_thread;     // numbers in the grid
    uint32_t is_shared;                // whether the address is one of shared memory
    uint64_t address;                  // in shared memory, or next to the range that it is in
    uint64_t count = 1;
};

void report(Finding finding);  // counts what was found before at the same places

}  // namespace gpu
