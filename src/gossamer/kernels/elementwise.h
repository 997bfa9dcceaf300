// Everything between the layers with weights: pooling, copies, elementwise functions,
// normalizations over rows.

#pragma once

#include <cstdint>

#include "kernel.h"
#include "kinds.h"
#include "vec.h"

namespace gossamer {
namespace {

// The larger of neighbors in a row: two vectors become one of every second lane.
inline V pairs_max(V a, V b) { return larger(every_second<1>(a, b), every_second(a, b)); }

// The common pool, channels first: the maximum of 2 x 2 squares side by side.
inline void pool_halves(const PoolShape& s, const float* in, float* out, int64_t first,
                        int64_t last) {
    const int64_t whole = s.width - s.width % W;
    for (int64_t row = first; row < last; ++row) {
        const float* above = in + (row / s.height * s.in_height + row % s.height * 2) * s.in_width;
        const float* below = above + s.in_width;
        float* to = out + row * s.width;
        for (int64_t x = 0; x < whole; x += W) {
            const V left = larger(load(below + 2 * x), load(above + 2 * x));
            const V right = larger(load(below + 2 * x + W), load(above + 2 * x + W));
            store(to + x, pairs_max(left, right));
        }
        for (int64_t x = whole; x < s.width; ++x) {
            const float left = larger(below[2 * x], above[2 * x]);
            to[x] = larger(larger(below[2 * x + 1], above[2 * x + 1]), left);
        }
    }
}

void pool(const Call& call) {
    const auto& s = *reinterpret_cast<const PoolShape*>(call.shape);
    // channels last: lanes are channels; otherwise one channel plane after the other
    const int64_t pixel = s.channels_last ? s.channels : 1;
    const int64_t in_plane = s.channels_last ? 0 : s.in_height * s.in_width;
    const int64_t out_plane = s.channels_last ? 0 : s.height * s.width;
    const int64_t planes = s.channels_last ? 1 : s.channels;
    const int64_t first = share(planes * s.height, call.part, call.parts);
    const int64_t last = share(planes * s.height, call.part + 1, call.parts);
    const bool halves = s.kind == 0 && s.kernel_height == 2 && s.kernel_width == 2 &&
                        s.stride_height == 2 && s.stride_width == 2 && s.top + s.left == 0 &&
                        s.in_height >= 2 * s.height && s.in_width >= 2 * s.width;
    for (int64_t item = 0; item < call.items; ++item) {
        if (halves && !s.channels_last) {
            pool_halves(s, call.in[0] + item * call.in_size[0],
                        call.out[0] + item * call.out_size[0], first, last);
            continue;
        }
        for (int64_t row = first; row < last; ++row) {
            const int64_t plane = row / s.height, y = row % s.height;
            const float* in = call.in[0] + item * call.in_size[0] + plane * in_plane;
            float* out =
                call.out[0] + item * call.out_size[0] + plane * out_plane + y * s.width * pixel;
            const int64_t top = y * s.stride_height - s.top;
            const int64_t y0 = top < 0 ? 0 : top, y1 = least(s.in_height, top + s.kernel_height);
            for (int64_t x = 0; x < s.width; ++x) {
                const int64_t left = x * s.stride_width - s.left;
                const int64_t x0 = left < 0 ? 0 : left,
                              x1 = least(s.in_width, left + s.kernel_width);
                float scale = 1.0f;
                if (s.kind == 1) scale = 1.0f / static_cast<float>((y1 - y0) * (x1 - x0));
                if (s.kind == 2) {
                    const int64_t inside_y =
                        least(s.in_height + s.below, top + s.kernel_height) - top;
                    const int64_t inside_x =
                        least(s.in_width + s.right, left + s.kernel_width) - left;
                    scale = 1.0f / static_cast<float>(inside_y * inside_x);
                }
                if (!s.channels_last) {
                    float best = s.kind ? 0.0f : -__builtin_inff();
                    for (int64_t i = y0; i < y1; ++i) {
                        for (int64_t j = x0; j < x1; ++j) {
                            const float v = in[i * s.in_width + j];
                            best = s.kind ? best + v : larger(v, best);
                        }
                    }
                    out[x] = best * scale;
                    continue;
                }
                for (int64_t c = 0; c < s.channels; c += W) {
                    const int64_t lanes = s.channels - c;
                    V best = splat(s.kind ? 0.0f : -__builtin_inff());
                    for (int64_t i = y0; i < y1; ++i) {
                        for (int64_t j = x0; j < x1; ++j) {
                            const V v =
                                load_first(in + (i * s.in_width + j) * s.channels + c, lanes);
                            best = s.kind ? best + v : larger(v, best);
                        }
                    }
                    store_first(out + x * s.channels + c, best * splat(scale), lanes);
                }
            }
        }
    }
}

// Any rearrangement by strides: transposes, padding, layouts, concatenation.
void copy(const Call& call) {
    const auto& s = *reinterpret_cast<const CopyShape*>(call.shape);
    if (call.part) return;
    for (int64_t item = 0; item < call.items; ++item) {
        const float* in = call.in[0] + item * call.in_size[0] + s.in_offset;
        float* whole = call.out[0] + item * call.out_size[0];
        for (int64_t i = 0; i < s.clear; ++i) whole[i] = 0.0f;
        float* out = whole + s.out_offset;
        for (int64_t a = 0; a < s.sizes[0]; ++a) {
            for (int64_t b = 0; b < s.sizes[1]; ++b) {
                for (int64_t c = 0; c < s.sizes[2]; ++c) {
                    const float* from =
                        in + a * s.in_strides[0] + b * s.in_strides[1] + c * s.in_strides[2];
                    float* to =
                        out + a * s.out_strides[0] + b * s.out_strides[1] + c * s.out_strides[2];
                    const int64_t rows = s.sizes[3], columns = s.sizes[4];
                    if (s.in_strides[4] == 1 && s.out_strides[4] == 1) {
                        for (int64_t d = 0; d < rows; ++d) {
                            const float* x = from + d * s.in_strides[3];
                            float* y = to + d * s.out_strides[3];
                            for (int64_t e = 0; e < columns; ++e) y[e] = x[e];
                        }
                    } else if (s.in_strides[4] == 1 && s.out_strides[3] == 1) {
                        transpose(from, s.in_strides[3], rows, columns, to, s.out_strides[4]);
                    } else {
                        for (int64_t d = 0; d < rows; ++d) {
                            for (int64_t e = 0; e < columns; ++e) {
                                to[d * s.out_strides[3] + e * s.out_strides[4]] =
                                    from[d * s.in_strides[3] + e * s.in_strides[4]];
                            }
                        }
                    }
                }
            }
        }
    }
}

// What the expressions of kinds.h call, without a header whose templates would be shared between
// instruction sets.
inline float erff(float x) { return __builtin_erff(x); }
inline float expf(float x) { return __builtin_expf(x); }
inline float expm1f(float x) { return __builtin_expm1f(x); }
inline float fabsf(float x) { return __builtin_fabsf(x); }
inline float log1pf(float x) { return __builtin_log1pf(x); }
inline float powf(float x, float y) { return __builtin_powf(x, y); }
inline float sqrtf(float x) { return __builtin_sqrtf(x); }
inline float tanhf(float x) { return __builtin_tanhf(x); }
inline float truncf(float x) { return __builtin_truncf(x); }

#define KIND(name, expression) \
    case Kinds::name:          \
        return expression;

inline float unary_one(Unary kind, float v, float a, float b) {
    using Kinds = Unary;
    switch (kind) { GOSSAMER_UNARY }
    return v;
}

inline float binary_one(Binary kind, float v, float w) {
    using Kinds = Binary;
    switch (kind) { GOSSAMER_BINARY }
    return v;
}

#undef KIND

void unary(const Call& call) {
    const auto& s = *reinterpret_cast<const UnaryShape*>(call.shape);
    const auto kind = static_cast<Unary>(s.kind);
    const auto* limits = static_cast<const float*>(call.data[0]);
    const int64_t first = share(s.size, call.part, call.parts);
    const int64_t last = share(s.size, call.part + 1, call.parts);
    for (int64_t item = 0; item < call.items; ++item) {
        const float* in = call.in[0] + item * call.in_size[0];
        float* out = call.out[0] + item * call.out_size[0];
        if (kind == Unary::clip) {
            const float lo = limits[0], hi = limits[1];
            for (int64_t i = first; i < last; ++i) {
                const float x = in[i], y = x < lo ? lo : x;
                out[i] = y > hi ? hi : y;
            }
        } else {
            for (int64_t i = first; i < last; ++i)
                out[i] = unary_one(kind, in[i], limits[0], limits[1]);
        }
    }
}

// The right side is a second tensor (inputs: two) or a constant (data).
void binary(const Call& call) {
    const auto& s = *reinterpret_cast<const BinaryShape*>(call.shape);
    if (call.part) return;
    const auto kind = static_cast<Binary>(s.kind);
    const auto* constant = static_cast<const float*>(call.data[0]);
    for (int64_t item = 0; item < call.items; ++item) {
        const float* left = call.in[0] + item * call.in_size[0];
        const float* right = call.in[1] ? call.in[1] + item * call.in_size[1] : constant;
        float* out = call.out[0] + item * call.out_size[0];
        for (int64_t a = 0; a < s.sizes[0]; ++a) {
            for (int64_t b = 0; b < s.sizes[1]; ++b) {
                for (int64_t c = 0; c < s.sizes[2]; ++c, out += s.sizes[3]) {
                    const float* x = left + a * s.left[0] + b * s.left[1] + c * s.left[2];
                    const float* y = right + a * s.right[0] + b * s.right[1] + c * s.right[2];
                    const int64_t n = s.sizes[3], dx = s.left[3], dy = s.right[3];
                    if (dx == 1 && dy == 1 && kind == Binary::add) {
                        for (int64_t i = 0; i < n; ++i) out[i] = x[i] + y[i];
                    } else if (dx == 1 && dy == 1 && kind == Binary::mul) {
                        for (int64_t i = 0; i < n; ++i) out[i] = x[i] * y[i];
                    } else {
                        for (int64_t i = 0; i < n; ++i)
                            out[i] = binary_one(kind, x[i * dx], y[i * dy]);
                    }
                }
            }
        }
    }
}

// Rows of a table (data) by their numbers, which count from its end where negative. A number
// beyond the table gives NaN: the engine looks at what it is given, not at what it computes.
void embed(const Call& call) {
    const auto& s = *reinterpret_cast<const EmbedShape*>(call.shape);
    const auto* table = static_cast<const float*>(call.data[0]);
    const int64_t last = share(s.count, call.part + 1, call.parts);
    for (int64_t item = 0; item < call.items; ++item) {
        const float* in = call.in[0] + item * call.in_size[0];
        float* out = call.out[0] + item * call.out_size[0];
        for (int64_t i = share(s.count, call.part, call.parts); i < last; ++i) {
            const auto rows = static_cast<float>(s.rows);
            const float at = in[i] < 0.0f ? in[i] + rows : in[i];
            float* to = out + i * s.width;
            if (at >= 0.0f && at < rows) {
                const float* from = table + static_cast<int64_t>(at) * s.width;
                for (int64_t j = 0; j < s.width; ++j) to[j] = from[j];
            } else {
                for (int64_t j = 0; j < s.width; ++j) to[j] = __builtin_nanf("");
            }
        }
    }
}

// Softmax (kind 0) and its logarithm (1) over rows.
void softmax(const Call& call) {
    const auto& s = *reinterpret_cast<const RowsShape*>(call.shape);
    const int64_t rows = call.items * s.rows;
    const int64_t last = share(rows, call.part + 1, call.parts);
    for (int64_t r = share(rows, call.part, call.parts); r < last; ++r) {
        const float* x = call.in[0] + r * s.size;
        float* y = call.out[0] + r * s.size;
        float top = x[0], sum = 0.0f;
        for (int64_t i = 1; i < s.size; ++i) top = x[i] > top ? x[i] : top;
        for (int64_t i = 0; i < s.size; ++i) sum += y[i] = __builtin_expf(x[i] - top);
        if (s.kind) {
            const float log_sum = __builtin_logf(sum);
            for (int64_t i = 0; i < s.size; ++i) y[i] = x[i] - top - log_sum;
        } else {
            for (int64_t i = 0; i < s.size; ++i) y[i] /= sum;
        }
    }
}

void layer_norm(const Call& call) {
    const auto& s = *reinterpret_cast<const RowsShape*>(call.shape);
    const auto* scale = static_cast<const float*>(call.data[0]);
    const auto* bias = static_cast<const float*>(call.data[1]);
    const float epsilon = *static_cast<const float*>(call.data[2]);
    const int64_t rows = call.items * s.rows;
    const int64_t last = share(rows, call.part + 1, call.parts);
    for (int64_t r = share(rows, call.part, call.parts); r < last; ++r) {
        const float* x = call.in[0] + r * s.size;
        float* y = call.out[0] + r * s.size;
        double sum = 0.0, squares = 0.0;
        for (int64_t i = 0; i < s.size; ++i) sum += static_cast<double>(x[i]);
        const double mean = sum / static_cast<double>(s.size);
        for (int64_t i = 0; i < s.size; ++i) {
            const double d = static_cast<double>(x[i]) - mean;
            squares += d * d;
        }
        const double variance =
            squares / static_cast<double>(s.size) + static_cast<double>(epsilon);
        const auto factor = static_cast<float>(1.0 / __builtin_sqrt(variance));
        const auto center = static_cast<float>(mean);
        for (int64_t i = 0; i < s.size; ++i) y[i] = (x[i] - center) * factor * scale[i] + bias[i];
    }
}

}  // namespace
}  // namespace gossamer
