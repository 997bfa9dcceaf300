// The operations that work number by number: one row each, from which the kernels, the names in
// Python and the text of generated C are made. An expression is C++ of vectors as well as C of one
// number: its choices are made for each lane.

#pragma once

#include <cstdint>

namespace gossamer {

// clang-format off
// Of a value v, with the numbers a and b of the node.
#define GOSSAMER_UNARY \
    KIND(clip, v < a ? a : v > b ? b : v) \
    KIND(gelu, 0.5f * v * (1.0f + erff(v * 0.70710678118654752f))) \
    KIND(gelu_tanh, 0.5f * v * (1.0f + tanhf(0.7978845608028654f * (v + 0.044715f * v * v * v)))) \
    KIND(sigmoid, 1.0f / (1.0f + expf(-v))) \
    KIND(tanh, tanhf(v)) \
    KIND(erf, erff(v)) \
    KIND(leaky_relu, v < 0.0f ? a * v : v) \
    KIND(silu, v / (1.0f + expf(-v))) \
    KIND(hard_sigmoid, a * v + b < 0.0f ? 0.0f : a * v + b > 1.0f ? 1.0f : a * v + b) \
    KIND(sqrt, sqrtf(v)) \
    KIND(exp, expf(v)) \
    KIND(neg, -v) \
    KIND(reciprocal, 1.0f / v) \
    KIND(abs, fabsf(v)) \
    KIND(truncate, truncf(v)) \
    KIND(elu, v < 0.0f ? a * expm1f(v) : v) \
    KIND(softplus, v > 20.0f ? v : log1pf(expf(v))) \
    KIND(is_nan, v != v ? 1.0f : 0.0f) \
    KIND(hard_swish, a * v + b < 0.0f ? 0.0f * v : a * v + b > 1.0f ? v : v * (a * v + b)) \
    KIND(mish, v > 20.0f ? v : v * tanhf(log1pf(expf(v)))) \
    KIND(log, logf(v)) \
    KIND(floor, floorf(v)) \
    KIND(ceil, ceilf(v)) \
    KIND(round, rintf(v)) \
    KIND(sign, v > 0.0f ? 1.0f : v < 0.0f ? -1.0f : v) \
    KIND(sin, sinf(v)) \
    KIND(cos, cosf(v))

// Of two values v and w. min and max are NaN if either is. A choice between two values is their
// sum, each gated by the condition: adding -0 changes nothing.
#define GOSSAMER_BINARY \
    KIND(add, v + w) \
    KIND(sub, v - w) \
    KIND(mul, v * w) \
    KIND(div, v / w) \
    KIND(equal, v == w ? 1.0f : 0.0f) \
    KIND(not_equal, v != w ? 1.0f : 0.0f) \
    KIND(less, v < w ? 1.0f : 0.0f) \
    KIND(less_equal, v <= w ? 1.0f : 0.0f) \
    KIND(greater, v > w ? 1.0f : 0.0f) \
    KIND(greater_equal, v >= w ? 1.0f : 0.0f) \
    KIND(min, ((v < w) | (v != v)) ? v : w) \
    KIND(max, ((v > w) | (v != v)) ? v : w) \
    KIND(power, powf(v, w)) \
    KIND(gate, v != 0.0f ? w : -0.0f) \
    KIND(gate_not, v == 0.0f ? w : -0.0f) \
    KIND(gated, w != 0.0f ? v : -0.0f) \
    KIND(gated_not, w == 0.0f ? v : -0.0f)
// clang-format on

#define KIND(name, expression) name,
enum class Unary : int64_t { GOSSAMER_UNARY };
enum class Binary : int64_t { GOSSAMER_BINARY };
#undef KIND

struct Kind {
    const char* name;
    const char* expression;
};

#define KIND(name, expression) {#name, #expression},
constexpr Kind unary_kinds[] = {GOSSAMER_UNARY};
constexpr Kind binary_kinds[] = {GOSSAMER_BINARY};
#undef KIND

}  // namespace gossamer
