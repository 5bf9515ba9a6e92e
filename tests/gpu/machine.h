// A GPU that runs translated PTX: blocks one after the other, in each a fiber for every thread.
//
// A fiber runs until it waits: at a barrier of its block, or where lanes of its warp meet (shuffles, votes, reductions,
// barriers of the warp, products of matrices). Such places are the only ones where threads change, so that one run shows
// one order of memory accesses; which others there may be is for memory.cpp to find.
#pragma once

#include <csetjmp>
#include <cstddef>
#include <cstdint>

#include "findings.h"
#include "timing.h"

namespace gpu {

constexpr int WARP = 32, MOST_THREADS = 1024;  // of a block
constexpr uint64_t STACK = 1 << 19;            // bytes of a thread, of its local memory among others
constexpr int ENTRIES = 8;                     // that a lane brings to where lanes meet, or takes from there

enum class Space { GLOBAL, SHARED, LOCAL, COUNT };

struct Block;
struct Thread;

// Done by the last of the lanes that meet, for all that are there.
using Meeting = void (*)(Thread* warp, uint32_t lanes);

struct Thread {
    enum class State { READY, AT_BARRIER, MEETING, ENDED };
    Block* block;
    Thread* warp;  // its first lane
    uint64_t stack;
    int rank, lane;
    State state = State::READY;
    bool begun = false;
    uint32_t site = 0;  // where it waits
    Meeting meeting = nullptr;
    uint32_t mask = 0;  // of the lanes that it waits for
    uint64_t brings[3 * ENTRIES], takes[ENTRIES];
    uint32_t clock = 1, seen[WARP] = {};  // barriers of the warp that this lane has passed, and knows others to have
    Timeline times;
    jmp_buf context;

    uint32_t number() const;                        // among the threads of all blocks
    bool is_near_shared(uint64_t address) const;    // rather than elsewhere, where it is in no range
};

struct Block {
    uint32_t index, count, threads;
    uint8_t* shared;
    uint32_t shared_size;
    uint32_t barriers = 0;  // that all threads have passed
    uint32_t alive = 0, waiting = 0;

    uint64_t window() const { return reinterpret_cast<uint64_t>(shared); }  // where shared memory is, of all addresses
};

inline uint32_t Thread::number() const { return block->index * MOST_THREADS + rank; }
inline bool Thread::is_near_shared(uint64_t address) const { return address - block->window() < (1u << 20); }

void barrier(Thread& t, uint32_t site);                               // of the block
void meet(Thread& t, Meeting meeting, uint32_t mask, uint32_t site);  // of lanes of the warp
bool is_removed(uint32_t site);                                       // a barrier, as an experiment
void count_access(uint32_t site, Space space);
[[noreturn]] void stop(Finding finding);                              // ends the launch

}  // namespace gpu
