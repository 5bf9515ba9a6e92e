// When the instructions of a thread issue, in cycles: a model of a warp alone on a multiprocessor, for what timed.py writes.
//
// An instruction issues when all is there that it reads. Between two places where control may come or go the assembler may
// order them at will, but for loads, which stay behind the stores before them: such a stretch begins when the one before has
// issued, and lasts until its own last instruction issues, at least as long as its instructions keep the scheduler, or the
// units of double precision, busy. Threads that meet go on when the last of them has come.
#pragma once

#include <cstdint>

namespace gpu {

constexpr int UNITS = 16;  // at most
extern "C" double gpu_latency[UNITS], gpu_busy[UNITS];  // by the number of a unit in timed.py

inline double later(double a, double b) { return a > b ? a : b; }

// Its functions are called, not inlined: there is a call for each instruction of PTX, and it is to be compiled.
struct Timeline {
    double start = 0, last = 0;  // of the stretch at hand: when it begins, and when its last instruction issues
    double slots = 0, busy = 0;  // that its instructions take of the scheduler and of the units of double precision
    double at = 0, stored = 0;   // when the instruction at hand issues, and the last store
    double met = 0;              // when this thread comes to where threads wait, then when the last one came

    double now() const { return later(last, start + later(slots, busy)); }

    [[gnu::noinline]] void go_on() {
        start = last = now();
        slots = busy = 0;
    }

    [[gnu::noinline]] void issue(int unit, double ready, int instructions) {
        at = later(start, ready);
        last = later(last, at);
        slots += instructions, busy += gpu_busy[unit];
    }

    double result(int unit) const { return at + gpu_latency[unit]; }

    void bring() { met = at; }  // to where lanes meet

    [[gnu::noinline]] void take() {
        at = met;
        last = later(last, at);
    }

    void arrive() {  // at a barrier
        go_on();
        met = start;
    }

    void leave(int unit) { start = last = met + gpu_latency[unit]; }
};

}  // namespace gpu
