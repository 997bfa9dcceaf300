// How a kernel becomes a row of the table of its instruction set.

#define KERNEL(operation, layout, tile, shape, data, ...) \
    {operation, layout, tile, GOSSAMER_ISA, W, sizeof(shape) / sizeof(int64_t), data, &__VA_ARGS__}

// More rows where there are more registers; sums, weights and one input must fit.
constexpr bool roomy = W == 16;
