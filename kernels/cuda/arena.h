// Memory for the arrays of one problem.
#pragma once

#include "pack.h"
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

namespace qplayer {

constexpr size_t BOUNDARY = LANES * sizeof(double);

// Hands out memory, each array on a boundary of a pack; with no memory to hand out it counts.
struct Arena {
    char* base;
    size_t size = ~size_t(0);  // bytes at most
    size_t used = 0;
    template <class T>
    QP_FN static size_t bytes(size_t count) {
        return (count * sizeof(T) + BOUNDARY - 1) / BOUNDARY * BOUNDARY;
    }
    template <class T>
    QP_FN bool holds(size_t count) const {
        return used + bytes<T>(count) <= size;
    }
    template <class T>
    QP_FN T* take(size_t count) {
        char* array = base + used;
        used += bytes<T>(count);
#ifdef __SANITIZE_ADDRESS__  // nobody may touch what lies between two arrays
        if (base) __asan_poison_memory_region(base + used, 64);
        used += 64;
#endif
        return base ? reinterpret_cast<T*>(array) : nullptr;
    }
};

}  // namespace qplayer
