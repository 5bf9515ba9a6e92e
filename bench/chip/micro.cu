// What an instruction costs: kernels that execute many of one kind and read the clock; micro.py compiles and runs them.
//
// measure_UNIT(cycles, out, ring): each thread has CHAINS chains, of STEPS instructions each of which needs the one before,
// first to have all in the caches and then by the clock. cycles[warp] is what the clock says, out[thread] the sum of the ends
// of the chains; ring has RING * STRIDE numbers. With one chain of one warp it is the latency, with several of many warps
// the rate.
using u32 = unsigned;
using u64 = unsigned long long;

constexpr int UNROLLED = 64, ROUNDS = 8, STEPS = UNROLLED * ROUNDS, RING = 31, STRIDE = 16;
__shared__ u32 ring_near[RING];

__device__ u64 now() {
    u64 t;
    asm volatile("mov.u64 %0, %%clock64;" : "=l"(t)::"memory");
    return t;
}

struct Integer {
    u32 x = threadIdx.x;  // not the same in all lanes, nor sums, which the assembler would join
    __device__ void step(u32 one, double) { asm volatile("mad.lo.s32 %0, %0, %1, %1;" : "+r"(x) : "r"(one)); }
    __device__ u64 end() const { return x; }
};

struct Double {
    double x = 0;
    __device__ void step(u32, double one) { asm volatile("fma.rn.f64 %0, %0, %1, %1;" : "+d"(x) : "d"(one)); }
    __device__ u64 end() const { return u64(x); }
};

struct Product {
    double x = 0, y = 0;
    __device__ void step(u32, double one) {
        asm volatile("mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%0, %1}, {%2}, {%2}, {%0, %1};"
                     : "+d"(x), "+d"(y)
                     : "d"(one));
    }
    __device__ u64 end() const { return u64(x + y); }
};

#if __CUDA_ARCH__ >= 900
struct LargeProduct {
    double x[4] = {};
    __device__ void step(u32, double one) {
        asm volatile(
            "mma.sync.aligned.m16n8k8.row.col.f64.f64.f64.f64 {%0, %1, %2, %3}, {%4, %4, %4, %4}, {%4, %4}, "
            "{%0, %1, %2, %3};"
            : "+d"(x[0]), "+d"(x[1]), "+d"(x[2]), "+d"(x[3])
            : "d"(one));
    }
    __device__ u64 end() const { return u64(x[0] + x[1] + x[2] + x[3]); }
};
#endif

struct Division {
    double x = 1;
    __device__ void step(u32, double one) { asm volatile("div.rn.f64 %0, %1, %0;" : "+d"(x) : "d"(one)); }
    __device__ u64 end() const { return u64(x); }
};

struct Approximate {
    double x = 1;
    __device__ void step(u32, double) { asm volatile("rsqrt.approx.ftz.f64 %0, %0;" : "+d"(x)); }
    __device__ u64 end() const { return u64(x); }
};

struct Shuffle {
    u32 x = threadIdx.x % 32;
    __device__ void step(u32 one, double) {
        asm volatile("shfl.sync.bfly.b32 %0, %0, %1, 31, 0xffffffff;" : "+r"(x) : "r"(one));
    }
    __device__ u64 end() const { return x; }
};

struct Barrier {
    __device__ void step(u32, double) { asm volatile("bar.sync 0;" ::: "memory"); }
    __device__ u64 end() const { return 0; }
};

struct WarpBarrier {  // an instruction that does nothing, where the lanes of a warp are together
    __device__ void step(u32, double) { asm volatile("bar.warp.sync 0xffffffff;" ::: "memory"); }
    __device__ u64 end() const { return 0; }
};

struct Shared {
    u32 x = u32(__cvta_generic_to_shared(ring_near));
    __device__ void step(u32, double) { asm volatile("ld.shared.u32 %0, [%0];" : "+r"(x)); }
    __device__ u64 end() const { return (x - u32(__cvta_generic_to_shared(ring_near))) / sizeof(u32); }
};

struct Local {
    u64 places[RING], x;
    __device__ Local() {
        const u64 first = __cvta_generic_to_local(places);
        for (int k = 0; k < RING; k++) reinterpret_cast<volatile u64*>(places)[k] = first + (k + 1) % RING * sizeof(u64);
        x = first;
    }
    __device__ void step(u32, double) { asm volatile("ld.local.u64 %0, [%0];" : "+l"(x)::"memory"); }
    __device__ u64 end() const { return (x - __cvta_generic_to_local(places)) / sizeof(u64); }
};

// In the L2 cache, of which an access that is relaxed has to ask.
struct Global {
    u64 begin, x;
    __device__ void start(u64* ring) { x = begin = __cvta_generic_to_global(ring); }
    __device__ void step(u32, double) { asm volatile("ld.relaxed.gpu.global.u64 %0, [%0];" : "+l"(x)::"memory"); }
    __device__ u64 end() const { return (x - begin) / (STRIDE * sizeof(u64)); }
};

template <class Chain>
__device__ void start(Chain&, u64*) {}
__device__ void start(Global& chain, u64* ring) { chain.start(ring); }

template <class Chain>
__device__ void measure(u64* cycles, u64* out, u64* ring) {
    if (threadIdx.x == 0)
        for (int k = 0; k < RING; k++) {
            const int next = (k + 1) % RING;
            ring_near[k] = u32(__cvta_generic_to_shared(ring_near + next));
            ring[k * STRIDE] = __cvta_generic_to_global(ring + next * STRIDE);
        }
    __syncthreads();
    const u32 one = blockDim.y;  // which the compiler does not know
    const double one_too = one;
    Chain chains[CHAINS];
    for (Chain& chain : chains) start(chain, ring);
    u64 taken = 0;
#pragma unroll 1
    for (int pass = 0; pass < 2; pass++) {
        __syncthreads();
        const u64 begin = now();
#pragma unroll 1
        for (int round = 0; round < ROUNDS; round++)
#pragma unroll
            for (int k = 0; k < UNROLLED; k++)
#pragma unroll
                for (Chain& chain : chains) chain.step(one, one_too);
        taken = now() - begin;
    }
    u64 sum = 0;
    for (const Chain& chain : chains) sum += chain.end();
    out[threadIdx.x] = sum;
    if (threadIdx.x % 32 == 0) cycles[threadIdx.x / 32] = taken;
}

#define MEASURE(UNIT, CHAIN) \
    extern "C" __global__ void measure_##UNIT(u64* cycles, u64* out, u64* ring) { measure<CHAIN>(cycles, out, ring); }

MEASURE(integer, Integer)
MEASURE(double, Double)
MEASURE(product, Product)
#if __CUDA_ARCH__ >= 900
MEASURE(large_product, LargeProduct)
#endif
MEASURE(division, Division)
MEASURE(approximate, Approximate)
MEASURE(shuffle, Shuffle)
MEASURE(barrier, Barrier)
MEASURE(warp_barrier, WarpBarrier)
MEASURE(shared, Shared)
MEASURE(local, Local)
MEASURE(global, Global)
