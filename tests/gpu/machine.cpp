// Blocks, fibers and their order.
#include "machine.h"

#include <sys/mman.h>
#include <ucontext.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

#include "memory.h"

namespace gpu {

using Kernel = void (*)(Thread&, uint8_t** arguments);
using State = Thread::State;

enum class Order { FORWARD, BACKWARD, RANDOM };  // of threads that may run; more: other seeds

struct Machine {
    Kernel kernel;
    uint8_t** arguments;
    const uint8_t* is_removed;  // of barriers, by their sites: whether threads pass them as if they were not there
    uint64_t* accesses;         // by site and space, which a generic address does not say
    double cycles;              // of all blocks, one after the other: see timing.h
    Thread* running;
    bool stopped;
    jmp_buf context;
    std::vector<Finding> findings;
};

static Machine machine;
double gpu_latency[UNITS], gpu_busy[UNITS];

void report(Finding finding) {
    for (Finding& known : machine.findings)
        if (known.kind == finding.kind && known.site == finding.site && known.other == finding.other) {
            known.count++;
            return;
        }
    machine.findings.push_back(finding);
}

static void leave(Thread& t) {
    if (!_setjmp(t.context)) _longjmp(machine.context, 1);
}

void stop(Finding finding) {
    report(finding);
    machine.stopped = true;
    for (;;) leave(*machine.running);
}

// ---- waiting

static Thread* threads_of(const Thread& t) { return t.warp - t.rank / WARP * WARP; }

static int lanes_of(const Thread& t) { return std::min(WARP, int(t.block->threads) - t.rank / WARP * WARP); }

static void pass_barrier(Thread& t) {
    Block& block = *t.block;
    if (block.waiting < block.alive || !block.alive) return;
    block.barriers++, block.waiting = 0;
    uint32_t site = 0;  // of the warp
    double met = 0;
    for (uint32_t i = 0; i < block.threads; i++) met = std::max(met, threads_of(t)[i].times.met);
    for (uint32_t i = 0; i < block.threads; i++) {
        Thread& other = threads_of(t)[i];
        if (other.lane == 0) site = 0;
        other.times.met = met;
        if (other.state != State::AT_BARRIER) continue;
        if (site && site != other.site)
            report({Kind::WARP_APART, other.site, site, other.number(), other.warp->number(), 0, 0});
        site = other.site, other.state = State::READY;
    }
}

bool is_removed(uint32_t site) { return machine.is_removed[site]; }

void count_access(uint32_t site, Space space) { machine.accesses[site * int(Space::COUNT) + int(space)]++; }

void barrier(Thread& t, uint32_t site) {
    if (is_removed(site)) return;
    t.site = site, t.state = State::AT_BARRIER;
    t.block->waiting++;
    pass_barrier(t);
    if (t.state != State::READY) leave(t);
}

// The lanes that t waits for, if all of them are there that have not ended; else none.
static uint32_t present(const Thread& t) {
    uint32_t lanes = 0;
    for (int lane = 0; lane < lanes_of(t); lane++) {
        const Thread& other = t.warp[lane];
        if (!(t.mask >> lane & 1) || other.state == State::ENDED) continue;
        if (other.state != State::MEETING || other.mask != t.mask) return 0;
        lanes |= 1u << lane;
    }
    return lanes;
}

static void pass_meeting(Thread& t) {
    const uint32_t lanes = present(t);
    if (!lanes) return;
    double met = 0;
    for (int lane = 0; lane < WARP; lane++)
        if (lanes >> lane & 1) met = std::max(met, t.warp[lane].times.met);
    for (int lane = 0; lane < WARP; lane++) {
        if (!(lanes >> lane & 1)) continue;
        Thread& other = t.warp[lane];
        other.times.met = met;
        if (other.site != t.site) report({Kind::LANES_APART, t.site, other.site, t.number(), other.number(), 0, 0});
        other.state = State::READY;
    }
    t.meeting(t.warp, lanes);
}

void meet(Thread& t, Meeting meeting, uint32_t mask, uint32_t site) {
    if (!(mask >> t.lane & 1)) stop({Kind::LANE_OUTSIDE_MASK, site, 0, t.number(), 0, 0, 0});
    t.site = site, t.mask = mask, t.meeting = meeting, t.state = State::MEETING;
    pass_meeting(t);
    if (t.state != State::READY) leave(t);
}

static void end(Thread& t) {
    t.state = State::ENDED, t.block->alive--;
    pass_barrier(t);
    for (int lane = 0; lane < lanes_of(t); lane++)
        if (t.warp[lane].state == State::MEETING) pass_meeting(t.warp[lane]);
    leave(t);
}

// ---- running

static void begin() {
    Thread& t = *machine.running;
    machine.kernel(t, machine.arguments);
    end(t);
}

__attribute__((noinline)) static void resume(Thread& t) {
    machine.running = &t;
    if (_setjmp(machine.context)) return;
    if (t.begun) _longjmp(t.context, 1);
    t.begun = true;
    static ucontext_t context;
    getcontext(&context);
    context.uc_stack.ss_sp = reinterpret_cast<void*>(t.stack), context.uc_stack.ss_size = STACK, context.uc_link = nullptr;
    makecontext(&context, begin, 0);
    setcontext(&context);
}

static void report_deadlock(const std::vector<Thread>& threads) {
    for (const Thread& t : threads)
        if (t.state != State::ENDED) report({Kind::DEADLOCK, t.site, 0, t.number(), 0, 0, 0});
}

static void run(Block& block, uint64_t stacks, int order, std::mt19937& generator) {
    std::vector<Thread> threads(block.threads);
    for (uint32_t i = 0; i < block.threads; i++) {
        Thread& t = threads[i];
        t.block = &block, t.rank = i, t.lane = i % WARP, t.warp = &threads[i / WARP * WARP], t.stack = stacks + i * STACK;
    }
    block.alive = block.threads;
    begin_block(block);
    std::vector<uint32_t> sequence(block.threads);
    std::iota(sequence.begin(), sequence.end(), 0);
    if (order == int(Order::BACKWARD)) std::reverse(sequence.begin(), sequence.end());
    for (bool moved = true; moved;) {
        moved = false;
        if (order >= int(Order::RANDOM)) std::shuffle(sequence.begin(), sequence.end(), generator);
        for (uint32_t i : sequence) {
            if (threads[i].state != State::READY) continue;
            moved = true;
            resume(threads[i]);
            if (machine.stopped) return;
        }
    }
    if (block.alive) report_deadlock(threads), machine.stopped = true;
    double cycles = 0;
    for (const Thread& t : threads) cycles = std::max(cycles, t.times.last);
    machine.cycles += cycles;
}

}  // namespace gpu

// Runs a kernel; whether all its threads have ended.
extern "C" int gpu_launch(gpu::Kernel kernel, uint32_t blocks, uint32_t threads, uint32_t shared, uint8_t** arguments,
                          int order, const uint8_t* is_removed, uint64_t* accesses) {
    using namespace gpu;
    machine.kernel = kernel, machine.arguments = arguments;
    machine.is_removed = is_removed, machine.accesses = accesses, machine.stopped = false, machine.cycles = 0;
    machine.findings.clear();
    const size_t size = STACK * threads;
    void* const stacks = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    void* const memory = aligned_alloc(1024, (shared + 1024) / 1024 * 1024);
    std::mt19937 generator(order);
    for (uint32_t i = 0; i < blocks && !machine.stopped; i++) {
        memset(memory, 0xff, shared);  // NaN
        Block block{i, blocks, threads, static_cast<uint8_t*>(memory), shared};
        run(block, reinterpret_cast<uint64_t>(stacks), order, generator);
    }
    munmap(stacks, size);
    free(memory);
    return !machine.stopped;
}

extern "C" double gpu_cycles() { return gpu::machine.cycles; }

extern "C" int gpu_count() { return int(gpu::machine.findings.size()); }

extern "C" const gpu::Finding* gpu_findings() { return gpu::machine.findings.data(); }
