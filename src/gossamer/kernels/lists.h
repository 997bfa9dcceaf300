// Lists of active inputs, as kernel.h has them.

#pragma once

#include <cstddef>
#include <cstdint>

#include "kernel.h"

namespace gossamer {
namespace {

// The count and the indices of a list into another; returns the count.
inline int64_t copy_list_head(const float* in, float* out) {
    const int64_t count = *reinterpret_cast<const int32_t*>(in);
    __builtin_memcpy(out, in, static_cast<size_t>(list_header + count) * sizeof(float));
    return count;
}

// The work of blocks of entries, of which block b has those from start[b] to start[b + 1]: what
// comes before a block. A block itself, and its results, take about as long as so many entries.
inline auto work_of(const int32_t* start) {
    constexpr int64_t block = 4;
    return [start](int64_t b) { return start[b] + block * b; };
}

}  // namespace
}  // namespace gossamer
