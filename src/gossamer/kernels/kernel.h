// What a kernel is, and what it is called with.
//
// Every kernel of every instruction set is one row of one table. The planner, the tests
// and the benchmarks all walk that table; nothing else names a kernel.

#pragma once

#include <cstddef>
#include <cstdint>

namespace gossamer {

// The integers of a kernel's shape, by name here and in Python: `fields` are their declarators.
#define SHAPE(name, ...)                                    \
    struct name {                                           \
        int64_t __VA_ARGS__;                                \
        static constexpr const char* fields = #__VA_ARGS__; \
    }

// One operation of an epilogue: what becomes of every number that a kernel has computed, while it
// is still in a cache. Of two operands the other is an input of the call, or constant: that of
// number i of an item of `size` is its number i / repeat % count.
SHAPE(Link, binary,    // is it of two operands?
      kind, reversed,  // is the other operand the left one?
      input,           // of the call; -1: constant
      size, repeat, count);

// One call works on `items` consecutive examples. `part` of `parts` says which share of
// the outputs this thread computes; shares never overlap and no sum is split between
// them, so that the result does not depend on the number of threads.
struct Call {
    const float* const* in;
    float* const* out;
    const int64_t* in_size;  // floats from one item to the next
    const int64_t* out_size;
    const int64_t* shape;     // the kernel's own integers, see the structs below
    const void* const* data;  // packed weights and tables, 64-byte aligned
    float* scratch;           // private to the thread, 64-byte aligned
    int64_t items;
    int64_t part;
    int64_t parts;
    const Link* links = nullptr;  // the epilogue, see `finish` in elementwise.h
    const void* const* link_data = nullptr;
    int64_t link_count = 0;
};

using Function = void (*)(const Call&);

// What a kernel promises, bit by bit. Most work on whole vectors, past the ends of their slots.
constexpr int writes_within = 1;           // writes nothing past the end of an output
constexpr int within = 2 | writes_within;  // and reads nothing past the end of an input
constexpr int any_number = 4;  // leaves out no zero and rounds nothing: zero times infinity is NaN

struct Kernel {
    const char* operation;
    const char* layout;
    const char* tile;
    const char* isa;
    int width;           // floats in a vector register of this instruction set
    const char* fields;  // the names of the integers in `Call::shape`, see SHAPE
    int shape;           // how many those are
    int data;            // how many arrays `Call::data` must hold
    int promises;        // of those above
    bool epilogue;       // does it take one?
    Function run;
};

struct Table {
    const Kernel* rows;
    int size;
};

// Of every instruction set, such as portable_table.
#define INSTRUCTION_SET(name, ...) Table name##_table();
#define EXTENSION(name, ...) Table name##_table();
#include "instruction_sets.inc"

// A list of active inputs lies in a slot as: the count (int32) in the first of 16 words,
// then `capacity` indices (int32), then `capacity` values (float).
constexpr int64_t list_header = 16;

constexpr size_t most_inputs = 8;  // of a call

// Bytes: of the addresses that kernels read data from, and behind the data: a kernel may read one
// vector past its end, and half of one (planes) more.
constexpr size_t alignment = 64, slack = 256;

constexpr int64_t most_winograd_tiles = 96;  // at a time

SHAPE(GemmShape, rows, depth, outputs,  // per item
      run,                              // adjacent inputs of a row: depth in a plain matrix product
      out_pitch,                        // floats from one output row to the next
      out_offset);                      // where a group's outputs start

SHAPE(WinogradShape, channels, in_height, in_width, outputs, height, width, dilation_height,
      dilation_width, top, left,
      tiles,   // at a time, see most_winograd_tiles
      zeros);  // floats that padding reads

SHAPE(SparseGemmShape, rows, outputs, out_pitch, out_offset);  // as in GemmShape

SHAPE(PlanesShape, chunks, outputs, pitch, height, width,  // pitch of the input's rows
      out_plane);  // floats from one output's pixels to the next one's

SHAPE(DepthwisePlanesShape, channels, in_height, in_width, outputs, height, width,
      band,         // rows of the output that are computed together
      rows, pitch,  // of the input that they need, for each phase of the strides
      stride_height, stride_width, top, left,  // rows and columns of padding
      out_plane);                              // as in PlanesShape

SHAPE(ExamplesShape, chunks, outputs, pitch, height, width,  // before the pool
      pool);  // 1, or the side of the max-pool folded in

SHAPE(ColumnsShape, rows, depth, outputs);

SHAPE(LanesShape, channels, in_height, in_width, outputs, height, width,
      step,      // input columns from one lane to the next
      shifts,    // how many shifted copies of a row are kept
      row_step,  // input rows from one output row to the next
      pool);     // 1, or the side of the max-pool folded in

SHAPE(ActiveShape,
      capacity,                  // of the incoming list
      inner, multiplier, shift,  // index / inner = (index * multiplier) >> shift
      channel_first,             // is index / inner the channel, or the position?
      residues, rows,            // classes of positions modulo the strides; rows of taps
      outputs, padded, positions, pitch,
      origin,  // of the sums, with margins; where output (0, 0) lies
      out_width, out_height,
      tiles,   // slices of the outputs, each with its own weights
      pool,    // 1, or the side of the max-pool folded in
      inputs,  // channels times residues
      in_height, in_width,
      planes);  // is the output written channels first?

SHAPE(WinnersShape, size, k, groups, capacity, inner,
      outer,  // canonical index of i is (i % inner) * outer + i / inner
      boosted);

SHAPE(NonzerosShape, size, capacity);

SHAPE(IntegerGemmShape, rows, groups,
      outputs,                 // per item; groups of inputs that are multiplied together
      out_pitch, out_offset);  // as in GemmShape

SHAPE(CodesShape, size);

SHAPE(ScaleShape, outer, channels, inner,  // of an item
      out_plane);                          // as in PlanesShape

SHAPE(PoolShape, channels, in_height, in_width, height, width, kernel_height, kernel_width,
      stride_height, stride_width, top, left,
      kind,  // 0 the maximum, 1 the average of what lies inside, 2 with the padding, 3 the sum
      channels_last, below, right);

SHAPE(DepthwiseShape, channels, in_height, in_width, height, width, kernel_height, kernel_width,
      stride_height, stride_width, dilation_height, dilation_width, top,
      left);  // rows and columns of padding

SHAPE(CopyShape, sizes[5], in_strides[5], out_strides[5], in_offset, out_offset, clear_offset,
      clear,    // where floats of the output that are zero elsewhere begin; how many
      pixels);  // of a channel, where the input has one channel behind the other; else 0

SHAPE(UnaryShape, size, kind,
      capacity);  // of a list; 0 where all numbers are there

SHAPE(BinaryShape, kind, sizes[4], left[4], right[4]);  // strides, 0 where broadcast

SHAPE(EmbedShape, count, rows,
      width);  // numbers in an item; rows of the table, and floats of a row

SHAPE(RowsShape, rows, size, kind);

SHAPE(MatmulShape, count, rows, depth, columns);  // matrices of an item, and their sizes

#undef SHAPE

}  // namespace gossamer
