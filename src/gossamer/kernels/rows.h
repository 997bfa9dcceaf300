// How a kernel becomes a row of the table of its instruction set.

#pragma once

#include <cstdint>

#include "kernel.h"
#include "vec.h"

namespace gossamer {
namespace {

#define ROW(operation, layout, tile, shape, data, promises, epilogue, ...) \
    {                                                                      \
        operation,                                                         \
        layout,                                                            \
        tile,                                                              \
        GOSSAMER_ISA,                                                      \
        W,                                                                 \
        shape::fields,                                                     \
        sizeof(shape) / sizeof(int64_t),                                   \
        data,                                                              \
        promises,                                                          \
        epilogue,                                                          \
        &__VA_ARGS__}
#define KERNEL(operation, layout, tile, shape, data, promises, ...) \
    ROW(operation, layout, tile, shape, data, promises, true, __VA_ARGS__)
// Without an epilogue.
#define PLAIN_KERNEL(operation, layout, tile, shape, data, promises, ...) \
    ROW(operation, layout, tile, shape, data, promises, false, __VA_ARGS__)

// More rows where there are more registers; sums, weights and one input must fit.
constexpr bool roomy = W == 16;
// Of pixels, at most, in a tile of an image whose channels lie one behind the other.
constexpr int planes_vectors = roomy ? 20 : 9;

}  // namespace
}  // namespace gossamer
