// What activation sparsity saves in training: k-winners themselves, and layers that visit only
// the inputs that are not zero. Included by training_kernels.h.
//
// Here each example is a list of its active inputs, and weights lie by input channel: one active
// input meets the weights of its column, in vectors along the outputs of their blocks. Columns
// are ranked by how many entries they have and lists are in that order: the loops over a column
// then take as many turns as the one before, which the processor foresees.
//
// A convolution's outputs and their gradients are spread with the channels last, in planes
// [height][width][outputs]: where an input stands says where in the plane the outputs that it
// meets begin, the weight says how far from there. Entries are in order of the rows of their
// taps, so that those that would lead above or below the plane are left out at its ends; to the
// sides it has margins, so that planes stay small and loops need no borders. A stride leaves
// rows and columns in between that are computed in vain. A linear layer is a convolution with
// one position, and its rows are such planes already.

#pragma once

#include <cstdint>
#include <new>

#include "kwinners.h"
#include "training.h"
#include "vec.h"

namespace gossamer {
namespace {

// First row of a share of the rows, every share with about as many entries.
inline int64_t shared_row(const int32_t* start, int64_t rows, int64_t part, int64_t parts) {
    if (part == parts) return rows;
    const int64_t entry = share(start[rows] + rows, part, parts);
    int64_t low = 0, high = rows;
    while (low < high) {
        const int64_t middle = (low + high) / 2;
        if (start[middle] + middle < entry) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

// The k winners of each row of n values: the values themselves, zeros elsewhere, a byte for
// each winner, how many winners of each place were above zero, how many were zero, and how many
// rows hold a NaN. Where only the bytes are wanted, `out` and `counts` are null.
void pick_winners(const Training& t, int64_t part, int64_t parts) {
    const int64_t n = t.channels, first = share(t.examples, part, parts);
    const int64_t last = share(t.examples, part + 1, parts);
    // Keys, indices and ties of a selection; the list of winners.
    const int64_t room = 3 * (n + 2 * W), capacity = t.winners;
    float* scratch =
        new (std::align_val_t(64)) float[static_cast<size_t>(room + list_header + 2 * capacity)];
    float* list = scratch + room;
    const auto* index = reinterpret_cast<const int32_t*>(list) + list_header;
    float* counts = t.counts ? t.counts + part * (n + 2) : nullptr;
    const int64_t pick[] = {n, capacity, 1, capacity, t.inner, t.outer, 1}, place[] = {n, capacity};
    static_assert(sizeof pick == sizeof(WinnersShape) && sizeof place == sizeof(NonzerosShape));
    for (int64_t row = first; row < last; ++row) {
        const float* x = t.in + row * n;
        float* y = counts ? t.out + row * n : nullptr;
        uint8_t* mask = t.mask + row * n;
        const int64_t size = n, listed = list_header + 2 * capacity;
        const void* boost = t.values;
        winners({&x, &list, &size, &listed, pick, &boost, scratch, 1, 0, 1});
        __builtin_memset(mask, 0, static_cast<size_t>(n));
        for (int64_t i = 0; i < capacity; ++i) mask[index[i]] = 1;
        if (!counts) continue;
        const float* nonzero = list;
        scatter({&nonzero, &y, &listed, &size, place, nullptr, scratch, 1, 0, 1});
        for (int64_t i = 0; i < capacity; ++i) {
            counts[index[i]] += x[index[i]] > 0.0f;
            counts[n] += x[index[i]] == 0.0f;
        }
        bool nan = false;
        for (int64_t i = 0; i < n; ++i) nan |= x[i] != x[i];
        counts[n + 1] += nan;
    }
    ::operator delete[](scratch, std::align_val_t(64));
}

// Zeros where a byte is 0; where it is 1, what was there.
void zero_masked(const Training& t, int64_t part, int64_t parts) {
    auto* bits = reinterpret_cast<uint32_t __attribute__((may_alias))*>(t.out);
    const int64_t last = share(t.examples, part + 1, parts);
    for (int64_t i = share(t.examples, part, parts); i < last; ++i)
        bits[i] &= -static_cast<uint32_t>(t.mask[i]);
}

inline int64_t plane_floats(const Training& t) {
    return t.plane_height * t.plane_width * t.outputs;
}

// One example's active inputs: ranks of their channels, values, and, of convolutions, positions.
struct Active {
    int32_t* count;
    int32_t* rank;
    float* value;
    int32_t* position;
    Active(const Training& t, int64_t example) {
        const int64_t n = t.channels * t.positions;
        float* list = t.lists + example * (list_header + (t.base ? 3 : 2) * n);
        count = reinterpret_cast<int32_t*>(list);
        rank = count + list_header;
        value = list + list_header + n;
        position = t.base ? rank + 2 * n : nullptr;
    }
    // Where the outputs that an input meets begin in their plane.
    int64_t base(const Training& t, int64_t a) const { return position ? t.base[position[a]] : 0; }
    // The first entry that it meets, and the one after the last.
    int64_t begin(const Training& t, int64_t a) const {
        return position ? t.taps[rank[a] * t.tap_rows + t.first_tap[position[a]]]
                        : t.start[rank[a]];
    }
    int64_t end(const Training& t, int64_t a) const {
        return position ? t.taps[rank[a] * t.tap_rows + t.last_tap[position[a]]]
                        : t.start[rank[a] + 1];
    }
    int64_t input(const Training& t, int64_t a) const {
        const int64_t channel = t.channel[rank[a]];
        return position ? channel * t.positions + position[a] : channel;
    }
};

// Each example's active inputs by rank, one list after the other.
void list_active(const Training& t, int64_t part, int64_t parts) {
    const int64_t n = t.channels * t.positions, shape[] = {n, n}, listed = list_header + 2 * n;
    float* nonzero = new (std::align_val_t(64)) float[static_cast<size_t>(listed)];
    auto* next = new int64_t[static_cast<size_t>(t.buckets) + 1];
    const auto* input = reinterpret_cast<const int32_t*>(nonzero) + list_header;
    const float* value = nonzero + list_header + n;
    for (int64_t example = share(t.examples, part, parts);
         example < share(t.examples, part + 1, parts); ++example) {
        const float* x = t.in + example * n;
        nonzeros({&x, &nonzero, &n, &listed, shape, nullptr, nullptr, 1, 0, 1});
        const int32_t count = *reinterpret_cast<const int32_t*>(nonzero);
        // Calls f(channel, its first input, from, to) for the inputs of each channel, which rise.
        const auto each = [&](auto&& f) {
            if (t.positions == 1) {
                for (int32_t i = 0; i < count; ++i) f(int64_t{input[i]}, input[i], i, i + 1);
                return;
            }
            int32_t i = 0, first = 0, size = static_cast<int32_t>(t.positions);
            for (int64_t channel = 0; i < count; ++channel, first += size) {
                const int32_t from = i;
                while (i < count && input[i] - first < size) ++i;
                f(channel, first, from, i);
            }
        };
        // Inputs with equally many entries go together, in the order of the inputs.
        for (int64_t b = 0; b <= t.buckets; ++b) next[b] = 0;
        each([&](int64_t channel, int32_t, int32_t from, int32_t to) {
            next[t.bucket[channel] + 1] += to - from;
        });
        for (int64_t b = 0; b < t.buckets; ++b) next[b + 1] += next[b];
        const Active active(t, example);
        *active.count = count;
        each([&](int64_t channel, int32_t first, int32_t from, int32_t to) {
            int64_t& at = next[t.bucket[channel]];
            for (int32_t i = from; i < to; ++i, ++at) {
                active.rank[at] = t.rank[channel];
                active.value[at] = value[i];
                if (active.position) active.position[at] = input[i] - first;
            }
        });
    }
    ::operator delete[](nonzero, std::align_val_t(64));
    delete[] next;
}

// The gradients of a convolution's outputs, in planes with the channels last and zeros between.
void spread_gradient(const Training& t, int64_t part, int64_t parts) {
    const int64_t plane = plane_floats(t), size = t.height * t.width;
    for (int64_t example = share(t.examples, part, parts);
         example < share(t.examples, part + 1, parts); ++example) {
        float* out = t.out + example * plane;
        __builtin_memset(out, 0, static_cast<size_t>(plane) * sizeof(float));
        for (int64_t y = 0; y < t.height; ++y) {
            transpose(t.in + example * t.outputs * size + y * t.width, size, t.outputs, t.width,
                      out + ((t.top + y * t.step_y) * t.plane_width + t.left) * t.outputs,
                      t.step_x * t.outputs);
        }
    }
}

// Lanes of a vector along a block's outputs, and how many make a block.
template <int Block>
struct Lanes {
    static constexpr int width = Block < W ? Block : W, count = Block / width;
};

// The weights by input: entry `e` is the one at `index[e]`.
template <int Block>
void gather_columns(const Training& t, int64_t part, int64_t parts) {
    const int64_t entries = t.start[t.rows];
    for (int64_t e = share(entries, part, parts); e < share(entries, part + 1, parts); ++e) {
        __builtin_memcpy(t.out + e * Block, t.values + int64_t{t.index[e]} * Block,
                         Block * sizeof(float));
    }
}

// Adds x times some entries of a column to what lies at their offsets from `base`.
template <int Block>
inline void add_column(const float* values, const int32_t* offset, int64_t entries, float x,
                       float* out, int64_t base) {
    using L = Lanes<Block>;
    int64_t e = 0;
    if constexpr (Block == 1) {  // the outputs of a column differ: four at a time
        for (; e + 4 <= entries; e += 4) {
            float sum[4];
#pragma GCC unroll 4
            for (int i = 0; i < 4; ++i) sum[i] = out[base + offset[e + i]] + x * values[e + i];
#pragma GCC unroll 4
            for (int i = 0; i < 4; ++i) out[base + offset[e + i]] = sum[i];
        }
    }
    const auto factor = splat<L::width>(x);
    for (; e < entries; ++e) {
#pragma GCC unroll 8
        for (int v = 0; v < L::count; ++v) {
            float* to = out + (base + offset[e]) + v * L::width;
            store<L::width>(to, load<L::width>(to) +
                                    factor * load<L::width>(values + e * Block + v * L::width));
        }
    }
}

template <int Block>
void active_forward(const Training& t, int64_t part, int64_t parts) {
    const int64_t outputs = t.outputs, plane = plane_floats(t), size = t.height * t.width;
    const bool spread = plane > outputs;
    float* sums = spread ? new (std::align_val_t(64)) float[static_cast<size_t>(plane)] : nullptr;
    for (int64_t example = share(t.examples, part, parts);
         example < share(t.examples, part + 1, parts); ++example) {
        float* out = spread ? sums : t.out + example * outputs;
        if (t.bias) {
            for (int64_t i = 0; i < plane; i += outputs) {
                __builtin_memcpy(out + i, t.bias, static_cast<size_t>(outputs) * sizeof(float));
            }
        } else {
            __builtin_memset(out, 0, static_cast<size_t>(plane) * sizeof(float));
        }
        const Active active(t, example);
        for (int64_t a = 0; a < *active.count; ++a) {
            const int64_t begin = active.begin(t, a);
            add_column<Block>(t.values + begin * Block, t.offset + begin, active.end(t, a) - begin,
                              active.value[a], out, active.base(t, a));
        }
        for (int64_t y = 0; spread && y < t.height; ++y) {
            transpose(sums + ((t.top + y * t.step_y) * t.plane_width + t.left) * outputs,
                      t.step_x * outputs, t.width, outputs,
                      t.out + example * outputs * size + y * t.width, size);
        }
    }
    ::operator delete[](sums, std::align_val_t(64));
}

template <int N>
inline float lanes_added(typename Of<N>::V v) {
    if constexpr (N == 1) {
        return v[0];
    } else if constexpr (N == 4) {
        return (v[0] + v[1]) + (v[2] + v[3]);
    } else {
        typename Of<N / 2>::V half[2];
        __builtin_memcpy(half, &v, sizeof v);
        return lanes_added<N / 2>(half[0] + half[1]);
    }
}

// The gradient of the inputs that are active; the others' is zero.
template <int Block>
void active_input(const Training& t, int64_t part, int64_t parts) {
    using L = Lanes<Block>;
    constexpr int sums = 4;
    const int64_t inputs = t.channels * t.positions, plane = plane_floats(t);
    for (int64_t example = share(t.examples, part, parts);
         example < share(t.examples, part + 1, parts); ++example) {
        float* out = t.out + example * inputs;
        __builtin_memset(out, 0, static_cast<size_t>(inputs) * sizeof(float));
        const Active active(t, example);
        for (int64_t a = 0; a < *active.count; ++a) {
            const int64_t begin = active.begin(t, a), end = active.end(t, a);
            const int64_t base = example * plane + active.base(t, a);
            typename Of<L::width>::V sum[sums] = {};
            const auto add = [&](int64_t e, int to) {
#pragma GCC unroll 8
                for (int v = 0; v < L::count; ++v) {
                    const int at = v * L::width;
                    sum[to] += load<L::width>(t.gradient + (base + t.offset[e]) + at) *
                               load<L::width>(t.values + e * Block + at);
                }
            };
            int64_t e = begin;
            for (; e + sums <= end; e += sums) {
#pragma GCC unroll 4
                for (int i = 0; i < sums; ++i) add(e + i, i);
            }
            for (; e < end; ++e) add(e, 0);
            out[active.input(t, a)] = lanes_added<L::width>((sum[0] + sum[1]) + (sum[2] + sum[3]));
        }
    }
}

// Floats of the weights' gradient that are summed at a time: they stay in the first cache.
constexpr int64_t gradient_piece = 4096;

// Adds x times the gradients of a column's outputs to the sums of its entries.
template <int Block>
inline void add_gradients(const float* gradient, int64_t base, const int32_t* offset,
                          int64_t entries, float x, float* sums) {
    using L = Lanes<Block>;
    const auto factor = splat<L::width>(x);
#pragma GCC unroll 4
    for (int64_t e = 0; e < entries; ++e) {
#pragma GCC unroll 8
        for (int v = 0; v < L::count; ++v) {
            float* to = sums + e * Block + v * L::width;
            store<L::width>(
                to, load<L::width>(to) +
                        factor * load<L::width>(gradient + (base + offset[e]) + v * L::width));
        }
    }
}

// The gradient at the non-zeros, summed example by example and written where each belongs.
template <int Block>
void active_gradient(const Training& t, int64_t part, int64_t parts) {
    const int64_t plane = plane_floats(t);
    if (t.bias_gradient) {
        const int64_t from = share(t.outputs, part, parts), to = share(t.outputs, part + 1, parts);
        for (int64_t o = from; o < to; ++o) t.bias_gradient[o] = 0.0f;
        for (int64_t row = 0; row < t.examples * plane; row += t.outputs) {
            const float* gradient = t.gradient + row;
            for (int64_t o = from; o < to; ++o) t.bias_gradient[o] += gradient[o];
        }
    }
    if (!t.values_gradient) return;
    const int64_t first = shared_row(t.start, t.rows, part, parts),
                  last = shared_row(t.start, t.rows, part + 1, parts);
    // How far each example's list has been read.
    auto* next = new int64_t[static_cast<size_t>(t.examples)];
    for (int64_t example = 0; example < t.examples; ++example) {
        const Active active(t, example);
        int64_t low = 0, high = *active.count;
        while (low < high) {
            const int64_t middle = (low + high) / 2;
            if (active.rank[middle] < first) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        next[example] = low;
    }
    int64_t longest = gradient_piece;
    for (int64_t rank = first; rank < last; ++rank) {
        const int64_t size = int64_t{t.start[rank + 1] - t.start[rank]} * Block;
        longest = size > longest ? size : longest;
    }
    float* sums = new (std::align_val_t(64)) float[static_cast<size_t>(longest)];
    for (int64_t rank = first, until; rank < last; rank = until) {
        const int64_t from = t.start[rank];
        for (until = rank + 1; until < last && (t.start[until + 1] - from) * Block <= longest;)
            ++until;
        const int64_t entries = t.start[until] - from;
        __builtin_memset(sums, 0, static_cast<size_t>(entries * Block) * sizeof(float));
        for (int64_t example = 0; example < t.examples; ++example) {
            const Active active(t, example);
            int64_t a = next[example];
            for (; a < *active.count && active.rank[a] < until; ++a) {
                const int64_t begin = active.begin(t, a);
                add_gradients<Block>(t.gradient, example * plane + active.base(t, a),
                                     t.offset + begin, active.end(t, a) - begin, active.value[a],
                                     sums + (begin - from) * Block);
            }
            next[example] = a;
        }
        for (int64_t e = 0; e < entries; ++e) {
            __builtin_memcpy(t.values_gradient + int64_t{t.index[from + e]} * Block,
                             sums + e * Block, Block * sizeof(float));
        }
    }
    ::operator delete[](sums, std::align_val_t(64));
    delete[] next;
}

}  // namespace
}  // namespace gossamer
