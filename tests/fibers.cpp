// A block of threads as fibers, all on one thread of the host; compiled without sanitizers.
//
// A fiber runs until it waits at a barrier; the order in which they run is drawn anew each time. Where the thread
// sanitizer is linked, it is told that only barriers order what fibers do, so that it finds a barrier that is missing,
// whatever the order.
#include <ucontext.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <vector>

extern "C" {
#define WEAK __attribute__((weak))
WEAK void* __tsan_get_current_fiber();
WEAK void* __tsan_create_fiber(unsigned flags);
WEAK void __tsan_destroy_fiber(void* fiber);
WEAK void __tsan_switch_to_fiber(void* fiber, unsigned flags);
WEAK void __tsan_acquire(void* at);
WEAK void __tsan_release(void* at);
}

void __syncthreads();
void __syncwarp(unsigned lanes);

namespace blocks {

constexpr int WARP = 32;
constexpr size_t STACK = 1 << 18;
constexpr unsigned ORDERS = 0, ORDERS_NOTHING = 1;  // switches of fibers: the first and last order memory

struct Barrier {
    int size, arrived = 0, generation = 0;
    char clocks[2] = {};  // for the sanitizer, in turn: a thread may wait again before another has gone on
};

struct Fiber {
    ucontext_t context;
    void* sanitizer;
    std::vector<char> stack;
    Barrier* waits = nullptr;  // for its generation to pass
    int generation = 0;
    bool begun = false, ended = false;
};

// The lanes of a warp that wait for each other.
struct Group {
    Barrier memory, exchange;  // the second orders no memory, as shuffles do not
};

struct Warp {
    std::map<unsigned, Group> groups;  // by their lanes
    long long slots[WARP];
    double factors[2][WARP];
};

struct Machine {
    ucontext_t context;
    void* sanitizer;
    Barrier all;
    std::vector<Warp> warps;
    std::vector<std::unique_ptr<Fiber>> fibers;
    const std::function<void()>& kernel;
    int rank = 0;  // of the fiber that runs
};

static Machine* machine;

static void switch_sanitizer(void* to, bool orders) {
    if (__tsan_switch_to_fiber) __tsan_switch_to_fiber(to, orders ? ORDERS : ORDERS_NOTHING);
}

static void leave() {
    switch_sanitizer(machine->sanitizer, machine->fibers[machine->rank]->ended);
    swapcontext(&machine->fibers[machine->rank]->context, &machine->context);
}

static void wait(Barrier& barrier) {
    Fiber& fiber = *machine->fibers[machine->rank];
    fiber.waits = &barrier, fiber.generation = barrier.generation;
    if (++barrier.arrived == barrier.size) barrier.arrived = 0, barrier.generation++;
    leave();
}

static void synchronize(Barrier& barrier) {
    char* clock = &barrier.clocks[barrier.generation % 2];
    if (__tsan_release) __tsan_release(clock);
    wait(barrier);
    if (__tsan_acquire) __tsan_acquire(clock);
}

static void begin() {
    machine->kernel();
    machine->fibers[machine->rank]->ended = true;
    leave();
}

static void start(Machine& here, int threads) {
    for (int i = 0; i < threads; i++) {
        auto fiber = std::make_unique<Fiber>();
        fiber->sanitizer = __tsan_create_fiber ? __tsan_create_fiber(0) : nullptr;
        fiber->stack.resize(STACK);
        getcontext(&fiber->context);
        fiber->context.uc_stack.ss_sp = fiber->stack.data(), fiber->context.uc_stack.ss_size = STACK;
        makecontext(&fiber->context, begin, 0);
        here.fibers.push_back(std::move(fiber));
    }
}

void run(int threads, unsigned seed, const std::function<void()>& kernel) {
    void* sanitizer = __tsan_get_current_fiber ? __tsan_get_current_fiber() : nullptr;
    Machine here{{}, sanitizer, {threads}, std::vector<Warp>(threads / WARP), {}, kernel};
    machine = &here;
    start(here, threads);
    std::mt19937 generator(seed);
    std::vector<int> order(threads);
    for (int i = 0; i < threads; i++) order[i] = i;
    for (bool moved = true; moved;) {
        moved = false;
        std::shuffle(order.begin(), order.end(), generator);
        for (int i : order) {
            Fiber& fiber = *here.fibers[i];
            if (fiber.ended || (fiber.waits && fiber.waits->generation == fiber.generation)) continue;
            fiber.waits = nullptr, here.rank = i, moved = true;
            switch_sanitizer(fiber.sanitizer, !fiber.begun);
            fiber.begun = true;
            swapcontext(&here.context, &fiber.context);
        }
    }
    for (auto& fiber : here.fibers) {
        if (!fiber->ended) std::fputs("a barrier that not all threads reach\n", stderr), std::exit(3);
        if (__tsan_destroy_fiber) __tsan_destroy_fiber(fiber->sanitizer);
    }
}

int rank() { return machine->rank; }

static Warp& warp() { return machine->warps[machine->rank / WARP]; }

// The group of those lanes, of which the running fiber must be one; and the one that it asks.
static Group& group(unsigned lanes, int asked) {
    for (int lane : {machine->rank % WARP, asked % WARP})
        if (!(lanes >> lane & 1)) std::fputs("a lane that is not among those that take part\n", stderr), std::exit(3);
    const int size = __builtin_popcount(lanes);
    return warp().groups.try_emplace(lanes, Group{{size}, {size}}).first->second;
}

static const long long* said(Barrier& exchange, long long mine) {
    long long* slots = warp().slots;
    slots[machine->rank % WARP] = mine;
    wait(exchange);
    return slots;
}

long long shuffle(unsigned lanes, long long mine, int lane) {
    Barrier& exchange = group(lanes, lane).exchange;
    const long long result = said(exchange, mine)[lane % WARP];
    wait(exchange);
    return result;
}

unsigned ballot(unsigned lanes, bool mine) {
    Barrier& exchange = group(lanes, machine->rank).exchange;
    const long long* slots = said(exchange, mine);
    unsigned those = 0;
    for (int lane = 0; lane < WARP; lane++)
        if (lanes >> lane & 1) those |= unsigned(slots[lane]) << lane;
    wait(exchange);
    return those;
}

unsigned most(unsigned lanes, unsigned mine) {
    Barrier& exchange = group(lanes, machine->rank).exchange;
    const long long* slots = said(exchange, mine);
    unsigned result = 0;
    for (int lane = 0; lane < WARP; lane++)
        if (lanes >> lane & 1) result = std::max(result, unsigned(slots[lane]));
    wait(exchange);
    return result;
}

void add_quarter(double& x, double& y, double a, double b) {
    Warp& here = warp();
    Barrier& exchange = group(0xffffffff, machine->rank).exchange;
    const int lane = machine->rank % WARP, row = lane / 4, column = lane % 4 * 2;
    here.factors[0][lane] = a, here.factors[1][lane] = b;
    wait(exchange);
    for (int q = 0; q < 4; q++) {
        const double left = here.factors[0][4 * row + q];
        x += left * here.factors[1][4 * column + q];
        y += left * here.factors[1][4 * (column + 1) + q];
    }
    wait(exchange);
}

}  // namespace blocks

void __syncthreads() { blocks::synchronize(blocks::machine->all); }
void __syncwarp(unsigned lanes) { blocks::synchronize(blocks::group(lanes, blocks::machine->rank).memory); }
