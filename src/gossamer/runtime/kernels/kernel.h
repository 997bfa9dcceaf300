// What a kernel is, and what it is called with.
//
// Every kernel of every instruction set is one row of one table. The planner, the tests
// and the benchmarks all walk that table; nothing else names a kernel.

#pragma once

#include <cstdint>

namespace gossamer {

// One call works on `items` consecutive examples. `part` of `parts` says which share of
// the outputs this thread computes; shares never overlap and no sum is split between
// them, so that the result does not depend on the number of threads.
struct Call {
    const float* const* in;
    float* const* out;
    const int64_t* in_size;   // floats from one item to the next
    const int64_t* out_size;
    const int64_t* shape;     // the kernel's own integers, see the structs below
    const void* const* data;  // packed weights and tables, 64-byte aligned
    float* scratch;           // private to the thread, 64-byte aligned
    int64_t items;
    int64_t part;
    int64_t parts;
};

using Function = void (*)(const Call&);

struct Kernel {
    const char* operation;
    const char* layout;
    const char* tile;
    const char* isa;
    int width;  // floats in a vector register of this instruction set
    int shape;  // how many integers `Call::shape` must hold, 0 for any number
    int data;   // how many arrays `Call::data` must hold
    Function run;
};

struct Table {
    const Kernel* rows;
    int size;
};

Table portable_table();
#if defined(__x86_64__)
Table avx2_table();
Table avx512_table();
Table avx512_vnni_table();
#endif

// A list of active inputs lies in a slot as: the count (int32) in the first of 16 words,
// then `capacity` indices (int32), then `capacity` values (float).
constexpr int64_t list_header = 16;

struct GemmShape {
    int64_t rows, depth, outputs;  // per item
    int64_t contiguous;            // offsets are 0, 1, 2, ...: a plain matrix product
    int64_t out_pitch;             // floats from one output row to the next
    int64_t out_offset;            // where a group's outputs start
};

struct PlanesShape {
    int64_t chunks, outputs, pitch, height, width;  // pitch of the input's rows
};

struct ExamplesShape {
    int64_t chunks, outputs, pitch, height, width;  // before the pool
    int64_t pool;                                   // 1, or the side of the max-pool folded in
};

struct ColumnsShape {
    int64_t rows, depth, outputs;
};

struct LanesShape {
    int64_t channels, in_height, in_width, outputs, height, width;
    int64_t step;             // input columns from one lane to the next
    int64_t shifts;           // how many shifted copies of a row are kept
    int64_t row_step;         // input rows from one output row to the next
    int64_t pool;             // 1, or the side of the max-pool folded in
};

struct ActiveShape {
    int64_t capacity;                 // of the incoming list
    int64_t inner, multiplier, shift; // index / inner = (index * multiplier) >> shift
    int64_t channel_first;            // is index / inner the channel, or the position?
    int64_t residues, rows;           // classes of positions modulo the strides; rows of taps
    int64_t outputs, padded;
    int64_t positions, pitch, origin; // of the sums, with margins; where output (0, 0) lies
    int64_t out_width, out_height;
    int64_t tiles;                    // slices of the outputs, each with its own weights
    int64_t pool;                     // 1, or the side of the max-pool folded in
    int64_t inputs;                   // channels times residues
    int64_t in_height, in_width;
    int64_t planes;                   // is the output written channels first?
};

struct WinnersShape {
    int64_t size, k, groups, capacity;
    int64_t inner, outer;  // canonical index of i is (i % inner) * outer + i / inner
    int64_t boosted;
};

struct NonzerosShape {
    int64_t size, capacity;
};

struct IntegerGemmShape {
    int64_t rows, groups, outputs;  // per item; groups of inputs that are multiplied together
    int64_t out_pitch, out_offset;  // as in GemmShape
};

struct CodesShape {
    int64_t size;
};

struct ScaleShape {
    int64_t outer, channels, inner;  // of an item
};

struct PoolShape {
    int64_t channels, in_height, in_width, height, width;
    int64_t kernel_height, kernel_width, stride_height, stride_width, top, left;
    int64_t kind;  // 0 the maximum, 1 the average of what lies inside, 2 with the padding
    int64_t channels_last;
    int64_t below, right;
};

struct DepthwiseShape {
    int64_t channels, in_width, height, width, stride_height, stride_width, taps;
};

struct CopyShape {
    int64_t sizes[5], in_strides[5], out_strides[5];
    int64_t in_offset, out_offset, clear;  // clear: floats of the output zeroed first
};

struct UnaryShape {
    int64_t size, kind;
};

struct BinaryShape {
    int64_t kind, sizes[4], left[4], right[4];  // strides, 0 where broadcast
};

struct EmbedShape {
    int64_t count, rows, width;  // numbers in an item; rows of the table, and floats of a row
};

struct RowsShape {
    int64_t rows, size, kind;
};

struct MatmulShape {
    int64_t count, rows, depth, columns;  // matrices of an item, and their sizes
};

}  // namespace gossamer
