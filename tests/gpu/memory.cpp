// Each word of four bytes keeps its last accesses: by whom, at which instruction, and at which of the thread's times. An
// access races with an earlier one of another thread to the same bytes, one of the two a write, unless barriers order
// them. Times are vector clocks (Lamport 1978; as in FastTrack, Flanagan and Freund, PLDI 2009), which here are small:
// only barriers of the block order threads of different warps, and these order all of them.
#include "memory.h"

#include <cstring>
#include <map>
#include <vector>

namespace gpu {

constexpr int KEPT = 4;  // accesses of a word
constexpr uint32_t WORD = 4;

struct Past {
    uint32_t thread, barriers, clock;
    uint32_t site : 26, access : 2, bytes : 4;  // no site: nothing
};

struct Word {
    Past past[KEPT];
};

// What a block knows of another one that has released an address before it acquired that.
struct Known {
    uint32_t released;        // the other block's barriers at its release: what was before the last of these is known
    uint32_t thread, barriers;  // the thread that acquired, and its block's barriers then: others know from the next on
};
using Knowledge = std::map<uint32_t, Known>;  // by block

struct Range {
    uint64_t begin, end;
    bool is_writable, is_shared;
    std::vector<Word> words;
};

static std::vector<Range> ranges(1);  // the first is the shared memory of the block that runs
static Knowledge known;                        // by the block that runs
static std::map<uint64_t, Knowledge> releases;  // by address
static size_t last_range = 0;
static unsigned next_evicted = 0;

static Range* range_of(uint64_t address, uint32_t size) {
    const auto holds = [&](const Range& range) { return address >= range.begin && address + size <= range.end; };
    if (last_range < ranges.size() && holds(ranges[last_range])) return &ranges[last_range];
    for (size_t i = 0; i < ranges.size(); i++)
        if (holds(ranges[i])) return &ranges[last_range = i];
    return nullptr;
}

static bool is_released(const Past& past, const Thread& t) {
    const auto found = known.find(past.thread / MOST_THREADS);
    if (found == known.end() || past.barriers >= found->second.released) return false;
    return t.number() == found->second.thread || t.block->barriers > found->second.barriers;
}

// Whether it happened before all that the thread does from now on.
static bool is_before(const Past& past, const Thread& t) {
    if (past.thread == t.number()) return true;
    if (past.thread / MOST_THREADS != t.block->index) return is_released(past, t);
    if (past.barriers < t.block->barriers) return true;
    const int rank = past.thread % MOST_THREADS;
    return rank / WARP == t.rank / WARP && past.clock <= t.seen[rank % WARP];
}

static bool conflict(Access one, Access other) {
    return one != other || one == Access::WRITE;  // reads do not, nor atomic accesses
}

static Kind kind_of(Access now, Access then) {
    if (now == Access::READ) return Kind::READ_OF_UNORDERED_WRITE;
    return then == Access::READ ? Kind::WRITE_AFTER_UNORDERED_READ : Kind::UNORDERED_WRITES;
}

static void keep(Range& range, uint64_t address, const Thread& t, Access access, uint32_t bytes, uint32_t site,
                 bool changes) {
    const Past now{t.number(), t.block->barriers, t.clock, site, uint32_t(access), bytes};
    Word& word = range.words[(address - range.begin) / WORD];
    Past* place = nullptr;
    for (Past& past : word.past) {
        const bool is_old = range.is_shared && past.thread / MOST_THREADS != t.block->index;
        if (!past.site || is_old) {
            past.site = 0, place = &past;
        } else if (is_before(past, t)) {
            const bool covers = (past.bytes & ~bytes) == 0 && (access != Access::READ || past.access == now.access);
            if (covers) past.site = 0, place = &past;  // what races with the old one from now on races with the new one
        } else if (!changes && past.site == site) {
            continue;
        } else if (conflict(access, Access(past.access)) && (past.bytes & bytes)) {
            const uint64_t at = address - range.begin;
            report({kind_of(access, Access(past.access)), site, past.site, now.thread, past.thread, range.is_shared, at});
        }
    }
    for (int tries = 0; !place && tries < KEPT; tries++) {  // the reads of many: some must go
        Past& past = word.past[next_evicted++ % KEPT];
        if (past.access == uint32_t(Access::READ)) place = &past;
    }
    *(place ? place : &word.past[next_evicted++ % KEPT]) = now;
}

uint8_t* accessed(Thread& t, uint64_t address, uint32_t size, Access access, uint32_t site, const void* written) {
    uint8_t* const at = reinterpret_cast<uint8_t*>(address);
    const auto wrong = [&](Kind kind, uint64_t where, bool is_shared) {
        stop({kind, site, 0, t.number(), 0, is_shared, where});
    };
    Range* const range = range_of(address, size);
    const bool is_local = address - t.stack < STACK;
    if (!range && !is_local) wrong(Kind::OUT_OF_BOUNDS, address - t.block->window(), t.is_near_shared(address));
    if (address % size) wrong(Kind::MISALIGNED, address - (range ? range->begin : t.stack), range && range->is_shared);
    count_access(site, !range ? Space::LOCAL : range->is_shared ? Space::SHARED : Space::GLOBAL);
    if (!range) return at;
    if (!range->is_writable && access != Access::READ) wrong(Kind::READ_ONLY, address - range->begin, false);
    if (range->words.empty()) return at;
    const bool changes = !written || memcmp(at, written, size) != 0;
    for (uint64_t first = address; first < address + size; first = (first / WORD + 1) * WORD) {
        const uint64_t in_word = first % WORD, last = address + size - (first - in_word);
        const uint32_t bytes = (0xfu << in_word) & (0xfu >> (WORD - (last < WORD ? last : WORD)));
        keep(*range, first - in_word, t, access, bytes, site, changes);
    }
    return at;
}

void begin_block(const Block& block) {
    Range& shared = ranges[0];
    shared.begin = block.window(), shared.end = shared.begin + block.shared_size;
    shared.is_writable = shared.is_shared = true;
    shared.words.resize((block.shared_size + WORD - 1) / WORD);
    known.clear();
}

void synchronize_blocks(const Thread& t, uint64_t address) {
    Knowledge& released = releases[address];
    for (const auto& [block, what] : released)
        if (block != t.block->index) known[block] = {what.released, t.number(), t.block->barriers};
    for (const auto& [block, what] : known) released[block] = what;
    released[t.block->index] = {t.block->barriers, 0, 0};
}

void synchronize_lanes(Thread* warp, uint32_t lanes) {
    uint32_t known[WARP] = {};
    const auto each = [&](auto done) {
        for (int lane = 0; lane < WARP; lane++)
            if (lanes >> lane & 1) done(warp[lane]);
    };
    each([&](Thread& t) {
        t.seen[t.lane] = t.clock++;
        for (int i = 0; i < WARP; i++) known[i] = known[i] > t.seen[i] ? known[i] : t.seen[i];
    });
    each([&](Thread& t) {
        for (int i = 0; i < WARP; i++) t.seen[i] = known[i];
    });
}

}  // namespace gpu

// A range of the host's memory that kernels may access; races are looked for in what they may write.
extern "C" void gpu_add_range(void* begin, uint64_t size, int is_writable) {
    using namespace gpu;
    const uint64_t at = reinterpret_cast<uint64_t>(begin) / WORD * WORD;
    ranges.push_back({at, reinterpret_cast<uint64_t>(begin) + size, bool(is_writable), false, {}});
    if (is_writable) ranges.back().words.resize(size / WORD + 2);
}

extern "C" void gpu_clear_ranges() {
    gpu::ranges.resize(1), gpu::ranges[0].words.clear();
    gpu::releases.clear();
}
