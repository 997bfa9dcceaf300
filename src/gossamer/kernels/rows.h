// How a kernel becomes a row of the table of its instruction set.

#pragma once

#include <cstdint>

#include "kernel.h"
#include "vec.h"

namespace gossamer {
namespace {

#define KERNEL(operation, layout, tile, shape, data, ...) \
    {                                                     \
        operation,                                        \
        layout,                                           \
        tile,                                             \
        GOSSAMER_ISA,                                     \
        W,                                                \
        shape::fields,                                    \
        sizeof(shape) / sizeof(int64_t),                  \
        data,                                             \
        &__VA_ARGS__}

// More rows where there are more registers; sums, weights and one input must fit.
constexpr bool roomy = W == 16;

}  // namespace
}  // namespace gossamer
