// The words of CUDA for a block that a host runs: a fiber for each thread (fibers.cpp).
#pragma once

#include <math.h>
#include <string.h>

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <vector>

#define QP_BLOCK
#define __global__
#define __shared__
#define __grid_constant__
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))

namespace blocks {

void run(int threads, unsigned seed, const std::function<void()>& kernel);
int rank();  // of the thread that runs
long long shuffle(unsigned lanes, long long mine, int lane);  // what that lane of the warp says, among these
unsigned ballot(unsigned lanes, bool mine);
unsigned most(unsigned lanes, unsigned mine);
void add_quarter(double& x, double& y, double a, double b);  // mma.sync.m8n8k4 of doubles

template <class T>
T shuffled(unsigned lanes, T v, int lane) {
    long long bits = 0;
    memcpy(&bits, &v, sizeof v);
    bits = shuffle(lanes, bits, lane);
    memcpy(&v, &bits, sizeof v);
    return v;
}

struct Rank {
    operator int() const { return rank(); }
};
struct Zero {
    operator int() const { return 0; }
};
template <class X>
struct Index {
    X x;
};

}  // namespace blocks

constexpr blocks::Index<blocks::Rank> threadIdx{};
constexpr blocks::Index<blocks::Zero> blockIdx{};

void __syncthreads();
void __syncwarp(unsigned lanes);

template <class T>
T __shfl_sync(unsigned lanes, T v, int lane, int width) {
    return blocks::shuffled(lanes, v, blocks::rank() / width * width + lane);
}
template <class T>
T __shfl_xor_sync(unsigned lanes, T v, int distance) {
    return blocks::shuffled(lanes, v, blocks::rank() ^ distance);
}
inline unsigned __reduce_max_sync(unsigned lanes, unsigned v) { return blocks::most(lanes, v); }
inline unsigned __ballot_sync(unsigned lanes, bool v) { return blocks::ballot(lanes, v); }
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
inline int __double2hiint(double v) { return int(__double_as_longlong(v) >> 32); }
inline int __double2loint(double v) { return int(__double_as_longlong(v)); }
inline double __hiloint2double(int high, int low) { return __longlong_as_double((long long)(high) << 32 | unsigned(low)); }
inline unsigned long long atomicAdd(unsigned long long* to, unsigned long long v) {
    return __atomic_fetch_add(to, v, __ATOMIC_RELAXED);
}
