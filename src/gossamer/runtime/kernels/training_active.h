// What activation sparsity saves in training: k-winners themselves, and linear layers that
// visit only the inputs that are not zero. Included by training_kernels.h.
//
// Here each example is a list of its active inputs, and weights lie by input: one active
// input meets the weights of its column, in vectors along the outputs of their blocks.

// The k winners of each row of n values: the values themselves, zeros elsewhere, a byte for
// each winner, and how many winners of each place were above zero.
void pick_winners(const Training& t, int64_t part, int64_t parts) {
    const int64_t n = t.channels, first = share(t.examples, part, parts);
    const int64_t last = share(t.examples, part + 1, parts);
    // Keys, indices and ties of a selection; the list of winners.
    const int64_t room = 3 * (n + 2 * W), capacity = t.winners;
    float* scratch = new (std::align_val_t(64)) float[static_cast<size_t>(room + list_header + 2 * capacity)];
    float* list = scratch + room;
    const auto* index = reinterpret_cast<const int32_t*>(list) + list_header;
    float* counts = t.counts + part * n;
    const int64_t pick[] = {n, capacity, 1, capacity, t.inner, t.outer, 1}, place[] = {n, capacity};
    static_assert(sizeof pick == sizeof(WinnersShape) && sizeof place == sizeof(NonzerosShape));
    for (int64_t row = first; row < last; ++row) {
        const float* x = t.in + row * n;
        float* y = t.out + row * n;
        uint8_t* mask = t.mask + row * n;
        bool nan = false;
        for (int64_t i = 0; i < n; ++i) nan |= x[i] * t.values[i] != x[i] * t.values[i];
        if (nan) {  // is never hidden: all win
            __builtin_memset(mask, 1, static_cast<size_t>(n));
            for (int64_t i = 0; i < n; ++i) {
                y[i] = x[i];
                counts[i] += x[i] > 0.0f;
            }
            continue;
        }
        const int64_t size = n, listed = list_header + 2 * capacity;
        const void* boost = t.values;
        winners({&x, &list, &size, &listed, pick, &boost, scratch, 1, 0, 1});
        const float* found = list;
        scatter({&found, &y, &listed, &size, place, nullptr, scratch, 1, 0, 1});
        __builtin_memset(mask, 0, static_cast<size_t>(n));
        for (int64_t i = 0; i < capacity; ++i) {
            mask[index[i]] = 1;
            counts[index[i]] += x[index[i]] > 0.0f;
        }
    }
    ::operator delete[](scratch, std::align_val_t(64));
}

// Each example's active inputs, one list after the other.
void list_active(const Training& t, int64_t part, int64_t parts) {
    const int64_t n = t.channels, first = share(t.examples, part, parts);
    const int64_t shape[] = {n, n}, listed = list_header + 2 * n;
    const float* x = t.in + first * n;
    float* list = t.lists + first * listed;
    nonzeros({&x, &list, &n, &listed, shape, nullptr, nullptr, share(t.examples, part + 1, parts) - first, 0, 1});
}

// One example's active inputs.
struct Active {
    int64_t count;
    const int32_t* input;
    const float* value;
    Active(const Training& t, int64_t example) {
        const float* list = t.lists + example * (list_header + 2 * t.channels);
        count = *reinterpret_cast<const int32_t*>(list);
        input = reinterpret_cast<const int32_t*>(list) + list_header;
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

template <int Block>
void active_forward(const Training& t, int64_t part, int64_t parts) {
    using L = Lanes<Block>;
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
            const int32_t end = t.start[active.input[a] + 1];
            const auto x = splat<L::width>(active.value[a]);
            for (int32_t e = t.start[active.input[a]]; e < end; ++e) {
                float* to = out + t.offset[e];
#pragma GCC unroll 8
                for (int v = 0; v < L::count; ++v) {
                    const int at = v * L::width;
                    store<L::width>(to + at, load<L::width>(to + at) + x * load<L::width>(t.values + e * Block + at));
                }
            }
        }
    }
}

// The gradient of the inputs that are active; the others' is zero.
template <int Block>
void active_input(const Training& t, int64_t part, int64_t parts) {
    using L = Lanes<Block>;
    for (int64_t example = share(t.examples, part, parts); example < share(t.examples, part + 1, parts); ++example) {
        const float* gradient = t.gradient + example * t.outputs;
        float* out = t.out + example * t.channels;
        __builtin_memset(out, 0, static_cast<size_t>(t.channels) * sizeof(float));
        const Active active(t, example);
        for (int64_t a = 0; a < active.count; ++a) {
            const int32_t end = t.start[active.input[a] + 1];
            typename Of<L::width>::V sum[2] = {};
            for (int32_t e = t.start[active.input[a]]; e < end; ++e) {
#pragma GCC unroll 8
                for (int v = 0; v < L::count; ++v) {
                    const int at = v * L::width;
                    sum[e & 1] += load<L::width>(gradient + t.offset[e] + at) * load<L::width>(t.values + e * Block + at);
                }
            }
            sum[0] += sum[1];
            float total = 0.0f;
            for (int i = 0; i < L::width; ++i) total += sum[0][i];
            out[active.input[a]] = total;
        }
    }
}

// Floats of the weights' gradient that are summed at a time: they stay in the first cache.
constexpr int64_t gradient_piece = 4096;

// The gradient at the non-zeros, summed example by example and written where each belongs.
template <int Block>
void active_gradient(const Training& t, int64_t part, int64_t parts) {
    using L = Lanes<Block>;
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
    auto* next = new int32_t[static_cast<size_t>(t.examples)];
    for (int64_t example = 0; example < t.examples; ++example) {
        const Active active(t, example);
        int64_t low = 0, high = active.count;
        while (low < high) {
            const int64_t middle = (low + high) / 2;
            (active.input[middle] < first ? low : high) = active.input[middle] < first ? middle + 1 : middle;
        }
        next[example] = static_cast<int32_t>(low);
    }
    int64_t longest = gradient_piece;
    for (int64_t input = first; input < last; ++input) {
        const int64_t size = int64_t{t.start[input + 1] - t.start[input]} * Block;
        longest = size > longest ? size : longest;
    }
    float* sums = new (std::align_val_t(64)) float[static_cast<size_t>(longest)];
    for (int64_t input = first, until; input < last; input = until) {
        const int64_t begin = t.start[input];
        for (until = input + 1; until < last && (t.start[until + 1] - begin) * Block <= longest;) ++until;
        const int64_t entries = t.start[until] - begin;
        __builtin_memset(sums, 0, static_cast<size_t>(entries * Block) * sizeof(float));
        for (int64_t example = 0; example < t.examples; ++example) {
            const Active active(t, example);
            const float* gradient = t.gradient + example * t.outputs;
            int32_t a = next[example];
            for (; a < active.count && active.input[a] < until; ++a) {
                const int32_t end = t.start[active.input[a] + 1];
                const auto x = splat<L::width>(active.value[a]);
                for (int32_t e = t.start[active.input[a]]; e < end; ++e) {
                    float* to = sums + (e - begin) * Block;
#pragma GCC unroll 8
                    for (int v = 0; v < L::count; ++v) {
                        const int at = v * L::width;
                        store<L::width>(to + at, load<L::width>(to + at) + x * load<L::width>(gradient + t.offset[e] + at));
                    }
                }
            }
            next[example] = a;
        }
        for (int64_t e = 0; e < entries; ++e) {
            __builtin_memcpy(t.values_gradient + int64_t{t.index[begin + e]} * Block, sums + e * Block, Block * sizeof(float));
        }
    }
    ::operator delete[](sums, std::align_val_t(64));
    delete[] next;
}
