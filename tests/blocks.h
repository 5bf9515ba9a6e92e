// The words of CUDA for a block that a host runs: a fiber for each thread, all on one thread of the host.
//
// A fiber runs until it waits at a barrier; the order in which they run is drawn anew each time. The thread sanitizer is
// told that only barriers order what fibers do, so that it finds a barrier that is missing, whatever the order.
#pragma once

#include <math.h>
#include <string.h>
#include <ucontext.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <random>
#include <vector>

#define QP_BLOCK
#define __global__
#define __shared__
#define __grid_constant__
#define __launch_bounds__(threads)
#define __align__(bytes) __attribute__((aligned(bytes)))

#ifdef __SANITIZE_THREAD__
#include <sanitizer/tsan_interface.h>
extern "C" void __tsan_acquire(void*);
extern "C" void __tsan_release(void*);
#else
inline void* __tsan_get_current_fiber() { return nullptr; }
inline void* __tsan_create_fiber(unsigned) { return nullptr; }
inline void __tsan_destroy_fiber(void*) {}
inline void __tsan_switch_to_fiber(void*, unsigned) {}
inline void __tsan_acquire(void*) {}
inline void __tsan_release(void*) {}
constexpr unsigned __tsan_switch_to_fiber_no_sync = 1;
#endif

namespace blocks {

constexpr int WARP = 32;

struct Barrier {
    int size, arrived = 0, generation = 0;
};

struct Fiber {
    ucontext_t context;
    void* sanitizer;
    std::vector<char> stack;
    Barrier* waits = nullptr;  // for its generation to pass
    int generation = 0;
    bool ended = false;
};

struct Warp {
    Barrier memory{WARP}, exchange{WARP};  // the second orders no memory, as shuffles do not
    long long slots[WARP];
};

struct Machine {
    ucontext_t context;
    void* sanitizer;
    std::vector<std::unique_ptr<Fiber>> fibers;
    std::vector<Warp> warps;
    Barrier all;
    std::function<void()> kernel;
    std::mt19937 generator;
    int rank = 0;  // of the fiber that runs
};

inline Machine* machine;

inline void leave() {
    Fiber& fiber = *machine->fibers[machine->rank];
    __tsan_switch_to_fiber(machine->sanitizer, __tsan_switch_to_fiber_no_sync);
    swapcontext(&fiber.context, &machine->context);
}

inline void wait(Barrier& barrier) {
    Fiber& fiber = *machine->fibers[machine->rank];
    fiber.waits = &barrier, fiber.generation = barrier.generation;
    if (++barrier.arrived == barrier.size) barrier.arrived = 0, barrier.generation++;
    leave();
}

inline void synchronize(Barrier& barrier) {
    __tsan_release(&barrier);
    wait(barrier);
    __tsan_acquire(&barrier);
}

inline void begin() {
    machine->kernel();
    machine->fibers[machine->rank]->ended = true;
    leave();
}

// Runs a kernel on one block of fibers.
inline void run(int threads, unsigned seed, std::function<void()> kernel) {
    Machine here{{}, __tsan_get_current_fiber(), {}, std::vector<Warp>(threads / WARP), {threads}, kernel,
                 std::mt19937(seed)};
    machine = &here;
    for (int i = 0; i < threads; i++) {
        auto fiber = std::make_unique<Fiber>();
        fiber->sanitizer = __tsan_create_fiber(0), fiber->stack.resize(1 << 18);
        getcontext(&fiber->context);
        fiber->context.uc_stack.ss_sp = fiber->stack.data(), fiber->context.uc_stack.ss_size = fiber->stack.size();
        makecontext(&fiber->context, begin, 0);
        here.fibers.push_back(std::move(fiber));
    }
    std::vector<int> order(threads);
    for (int i = 0; i < threads; i++) order[i] = i;
    for (bool moved = true; moved;) {
        moved = false;
        std::shuffle(order.begin(), order.end(), here.generator);
        for (int i : order) {
            Fiber& fiber = *here.fibers[i];
            if (fiber.ended || (fiber.waits && fiber.waits->generation == fiber.generation)) continue;
            fiber.waits = nullptr, here.rank = i, moved = true;
            __tsan_switch_to_fiber(fiber.sanitizer, __tsan_switch_to_fiber_no_sync);
            swapcontext(&here.context, &fiber.context);
        }
    }
    for (auto& fiber : here.fibers) {
        if (!fiber->ended) std::puts("a barrier that not all threads reach"), std::exit(3);
        __tsan_destroy_fiber(fiber->sanitizer);
    }
}

inline Warp& warp() { return machine->warps[machine->rank / WARP]; }

// What every lane of the warp says, as numbers of 64 bits; read by `read` before any lane goes on.
template <class Read>
auto exchange(long long mine, Read read) {
    Warp& here = warp();
    __atomic_store_n(&here.slots[machine->rank % WARP], mine, __ATOMIC_RELAXED);
    wait(here.exchange);
    auto result = read([&here](int lane) { return __atomic_load_n(&here.slots[lane % WARP], __ATOMIC_RELAXED); });
    wait(here.exchange);
    return result;
}

template <class T>
T shuffle(T v, int lane) {
    long long bits = 0;
    memcpy(&bits, &v, sizeof v);
    bits = exchange(bits, [lane](auto of) { return of(lane); });
    memcpy(&v, &bits, sizeof v);
    return v;
}

struct Index {
    struct {
        operator int() const { return machine->rank; }
    } x;
};
struct First {
    int x = 0;
};

}  // namespace blocks

inline blocks::Index threadIdx;
inline blocks::First blockIdx;

inline void __syncthreads() { blocks::synchronize(blocks::machine->all); }
inline void __syncwarp() { blocks::synchronize(blocks::warp().memory); }

template <class T>
T __shfl_sync(unsigned, T v, int lane) {
    return blocks::shuffle(v, lane);
}
template <class T>
T __shfl_xor_sync(unsigned, T v, int distance) {
    return blocks::shuffle(v, (blocks::machine->rank % blocks::WARP) ^ distance);
}
inline unsigned __ballot_sync(unsigned, bool v) {
    return blocks::exchange(v, [](auto of) {
        unsigned those = 0;
        for (int lane = 0; lane < blocks::WARP; lane++) those |= unsigned(of(lane)) << lane;
        return those;
    });
}
inline int __popc(unsigned v) { return __builtin_popcount(v); }
inline long long __double_as_longlong(double v) {
    long long bits;
    memcpy(&bits, &v, sizeof bits);
    return bits;
}
inline double __longlong_as_double(long long bits) {
    double v;
    memcpy(&v, &bits, sizeof v);
    return v;
}
inline unsigned long long atomicAdd(unsigned long long* to, unsigned long long v) {
    return __atomic_fetch_add(to, v, __ATOMIC_RELAXED);
}
