// The memory that kernels may use, and the races there.
#pragma once

#include "machine.h"

namespace gpu {

enum class Access : uint32_t { READ, WRITE, ATOMIC };

// The host's pointer to what a thread accesses, which must be in a known range and aligned. Two writes at one
// instruction of what is there already are no race: compilers have threads that hold copies of a number write all of them.
uint8_t* accessed(Thread& t, uint64_t address, uint32_t size, Access access, uint32_t site,
                  const void* written = nullptr);

void begin_block(const Block& block);  // forgets what happened to shared memory
void synchronize_lanes(Thread* warp, uint32_t lanes);
void synchronize_blocks(const Thread& t, uint64_t address);  // by an atomic operation that acquires and releases

}  // namespace gpu
