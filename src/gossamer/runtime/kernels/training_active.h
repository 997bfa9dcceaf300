// What activation sparsity saves in training: k-winners themselves, and linear layers that
// visit only the inputs that are not zero. Included by training_kernels.h.
//
// Here each example is a list of its active inputs, and weights lie by input: one active
// input meets the weights of its column, in vectors along the outputs of their blocks. Columns
// are ranked by how many entries they have and lists are in that order: the loops over a column
// then take as many turns as the one before, which the processor foresees.

// The k winners of each row of n values: the values themselves, zeros elsewhere, a byte for
// each winner, how many winners of each place were above zero, and how many were zero. Where
// only the bytes are wanted, `out` and `counts` are null.
void pick_winners(const Training& t, int64_t part, int64_t parts) {
    const int64_t n = t.channels, first = share(t.examples, part, parts);
    const int64_t last = share(t.examples, part + 1, parts);
    // Keys, indices and ties of a selection; the list of winners.
    const int64_t room = 3 * (n + 2 * W), capacity = t.winners;
    float* scratch = new (std::align_val_t(64)) float[static_cast<size_t>(room + list_header + 2 * capacity)];
    float* list = scratch + room;
    const auto* index = reinterpret_cast<const int32_t*>(list) + list_header;
    float* counts = t.counts ? t.counts + part * (n + 1) : nullptr;
    const int64_t pick[] = {n, capacity, 1, capacity, t.inner, t.outer, 1}, place[] = {n, capacity};
    static_assert(sizeof pick == sizeof(WinnersShape) && sizeof place == sizeof(NonzerosShape));
    for (int64_t row = first; row < last; ++row) {
        const float* x = t.in + row * n;
        float* y = counts ? t.out + row * n : nullptr;
        uint8_t* mask = t.mask + row * n;
        bool nan = false;
        for (int64_t i = 0; i < n; ++i) nan |= x[i] * t.values[i] != x[i] * t.values[i];
        if (nan) {  // is never hidden: all win
            __builtin_memset(mask, 1, static_cast<size_t>(n));
            for (int64_t i = 0; counts && i < n; ++i) {
                y[i] = x[i];
                counts[i] += x[i] > 0.0f;
                counts[n] += x[i] == 0.0f;
            }
            continue;
        }
        const int64_t size = n, listed = list_header + 2 * capacity;
        const void* boost = t.values;
        winners({&x, &list, &size, &listed, pick, &boost, scratch, 1, 0, 1});
        __builtin_memset(mask, 0, static_cast<size_t>(n));
        for (int64_t i = 0; i < capacity; ++i) mask[index[i]] = 1;
        if (!counts) continue;
        const float* found = list;
        scatter({&found, &y, &listed, &size, place, nullptr, scratch, 1, 0, 1});
        for (int64_t i = 0; i < capacity; ++i) {
            counts[index[i]] += x[index[i]] > 0.0f;
            counts[n] += x[index[i]] == 0.0f;
        }
    }
    ::operator delete[](scratch, std::align_val_t(64));
}

// Zeros where a byte is 0; where it is 1, what was there.
void zero_masked(const Training& t, int64_t part, int64_t parts) {
    auto* bits = reinterpret_cast<uint32_t __attribute__((may_alias))*>(t.out);
    const int64_t last = share(t.examples, part + 1, parts);
    for (int64_t i = share(t.examples, part, parts); i < last; ++i) bits[i] &= -static_cast<uint32_t>(t.mask[i]);
}

// Each example's active inputs by rank, one list after the other.
void list_active(const Training& t, int64_t part, int64_t parts) {
    const int64_t n = t.channels, shape[] = {n, n}, listed = list_header + 2 * n;
    float* found = new (std::align_val_t(64)) float[static_cast<size_t>(listed)];
    auto* next = new int64_t[static_cast<size_t>(t.buckets) + 1];
    const auto* input = reinterpret_cast<const int32_t*>(found) + list_header;
    const float* value = found + list_header + n;
    for (int64_t example = share(t.examples, part, parts); example < share(t.examples, part + 1, parts); ++example) {
        const float* x = t.in + example * n;
        nonzeros({&x, &found, &n, &listed, shape, nullptr, nullptr, 1, 0, 1});
        const int32_t count = *reinterpret_cast<const int32_t*>(found);
        // Inputs with equally many entries go together, in the order of the inputs.
        for (int64_t b = 0; b <= t.buckets; ++b) next[b] = 0;
        for (int32_t i = 0; i < count; ++i) ++next[t.bucket[input[i]] + 1];
        for (int64_t b = 0; b < t.buckets; ++b) next[b + 1] += next[b];
        float* list = t.lists + example * listed;
        auto* rank = reinterpret_cast<int32_t*>(list) + list_header;
        *reinterpret_cast<int32_t*>(list) = count;
        for (int32_t i = 0; i < count; ++i) {
            const int64_t to = next[t.bucket[input[i]]]++;
            rank[to] = t.rank[input[i]];
            list[list_header + n + to] = value[i];
        }
    }
    ::operator delete[](found, std::align_val_t(64));
    delete[] next;
}

// One example's active inputs.
struct Active {
    int64_t count;
    const int32_t* rank;
    const float* value;
    Active(const Training& t, int64_t example) {
        const float* list = t.lists + example * (list_header + 2 * t.channels);
        count = *reinterpret_cast<const int32_t*>(list);
        rank = reinterpret_cast<const int32_t*>(list) + list_header;
        value = list + list_header + t.channels;
    }
};

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
        __builtin_memcpy(t.out + e * Block, t.values + int64_t{t.index[e]} * Block, Block * sizeof(float));
    }
}

// Adds x times some entries of a column to what lies at their offsets.
template <int Block>
inline void add_column(const float* values, const int32_t* offset, int64_t entries, float x, float* out) {
    using L = Lanes<Block>;
    int64_t e = 0;
    if constexpr (Block == 1) {  // the outputs of a column differ: four at a time
        for (; e + 4 <= entries; e += 4) {
            float sum[4];
#pragma GCC unroll 4
            for (int i = 0; i < 4; ++i) sum[i] = out[offset[e + i]] + x * values[e + i];
#pragma GCC unroll 4
            for (int i = 0; i < 4; ++i) out[offset[e + i]] = sum[i];
        }
    }
    const auto factor = splat<L::width>(x);
    for (; e < entries; ++e) {
#pragma GCC unroll 8
        for (int v = 0; v < L::count; ++v) {
            float* to = out + offset[e] + v * L::width;
            store<L::width>(to, load<L::width>(to) + factor * load<L::width>(values + e * Block + v * L::width));
        }
    }
}

template <int Block>
void active_forward(const Training& t, int64_t part, int64_t parts) {
    const int64_t outputs = t.outputs;
    for (int64_t example = share(t.examples, part, parts); example < share(t.examples, part + 1, parts); ++example) {
        float* out = t.out + example * outputs;
        if (t.bias) {
            __builtin_memcpy(out, t.bias, static_cast<size_t>(outputs) * sizeof(float));
        } else {
            __builtin_memset(out, 0, static_cast<size_t>(outputs) * sizeof(float));
        }
        const Active active(t, example);
        for (int64_t a = 0; a < active.count; ++a) {
            const int64_t begin = t.start[active.rank[a]], entries = t.start[active.rank[a] + 1] - begin;
            add_column<Block>(t.values + begin * Block, t.offset + begin, entries, active.value[a], out);
        }
    }
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
    for (int64_t example = share(t.examples, part, parts); example < share(t.examples, part + 1, parts); ++example) {
        const float* gradient = t.gradient + example * t.outputs;
        float* out = t.out + example * t.channels;
        __builtin_memset(out, 0, static_cast<size_t>(t.channels) * sizeof(float));
        const Active active(t, example);
        for (int64_t a = 0; a < active.count; ++a) {
            const int32_t begin = t.start[active.rank[a]], end = t.start[active.rank[a] + 1];
            typename Of<L::width>::V sum[sums] = {};
            const auto add = [&](int32_t e, int to) {
#pragma GCC unroll 8
                for (int v = 0; v < L::count; ++v) {
                    const int at = v * L::width;
                    sum[to] += load<L::width>(gradient + t.offset[e] + at) *
                               load<L::width>(t.values + int64_t{e} * Block + at);
                }
            };
            int32_t e = begin;
            for (; e + sums <= end; e += sums) {
#pragma GCC unroll 4
                for (int i = 0; i < sums; ++i) add(e + i, i);
            }
            for (; e < end; ++e) add(e, 0);
            out[t.input[active.rank[a]]] = lanes_added<L::width>((sum[0] + sum[1]) + (sum[2] + sum[3]));
        }
    }
}

// Floats of the weights' gradient that are summed at a time: they stay in the first cache.
constexpr int64_t gradient_piece = 4096;

// Adds x times the gradients of a column's outputs to the sums of its entries.
template <int Block>
inline void add_gradients(const float* gradient, const int32_t* offset, int64_t entries, float x, float* sums) {
    using L = Lanes<Block>;
    const auto factor = splat<L::width>(x);
#pragma GCC unroll 4
    for (int64_t e = 0; e < entries; ++e) {
#pragma GCC unroll 8
        for (int v = 0; v < L::count; ++v) {
            float* to = sums + e * Block + v * L::width;
            store<L::width>(to, load<L::width>(to) + factor * load<L::width>(gradient + offset[e] + v * L::width));
        }
    }
}

// The gradient at the non-zeros, summed example by example and written where each belongs.
template <int Block>
void active_gradient(const Training& t, int64_t part, int64_t parts) {
    if (t.bias_gradient) {
        const int64_t from = share(t.outputs, part, parts), to = share(t.outputs, part + 1, parts);
        for (int64_t o = from; o < to; ++o) t.bias_gradient[o] = 0.0f;
        for (int64_t example = 0; example < t.examples; ++example) {
            const float* gradient = t.gradient + example * t.outputs;
            for (int64_t o = from; o < to; ++o) t.bias_gradient[o] += gradient[o];
        }
    }
    if (!t.values_gradient) return;
    const int64_t first = shared_row(t.start, t.rows, part, parts), last = shared_row(t.start, t.rows, part + 1, parts);
    // How far each example's list has been read.
    auto* next = new int64_t[static_cast<size_t>(t.examples)];
    for (int64_t example = 0; example < t.examples; ++example) {
        const Active active(t, example);
        int64_t low = 0, high = active.count;
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
        for (until = rank + 1; until < last && (t.start[until + 1] - from) * Block <= longest;) ++until;
        const int64_t entries = t.start[until] - from;
        __builtin_memset(sums, 0, static_cast<size_t>(entries * Block) * sizeof(float));
        for (int64_t example = 0; example < t.examples; ++example) {
            const Active active(t, example);
            const float* gradient = t.gradient + example * t.outputs;
            int64_t a = next[example];
            for (; a < active.count && active.rank[a] < until; ++a) {
                const int64_t begin = t.start[active.rank[a]];
                add_gradients<Block>(gradient, t.offset + begin, t.start[active.rank[a] + 1] - begin, active.value[a],
                                     sums + (begin - from) * Block);
            }
            next[example] = a;
        }
        for (int64_t e = 0; e < entries; ++e) {
            __builtin_memcpy(t.values_gradient + int64_t{t.index[from + e]} * Block, sums + e * Block,
                             Block * sizeof(float));
        }
    }
    ::operator delete[](sums, std::align_val_t(64));
    delete[] next;
}
