// Kernels that serve training: the forward pass, the gradient of the input and the gradient
// at the non-zeros of a layer whose weight is sparse. A linear layer is a convolution with
// one position.
//
// Lanes are examples: activations are packed as [tiles][channels][height][width][lanes], so
// that one weight meets `lanes` examples with one broadcast, whatever the pattern. Padding
// lies in the packed planes, hence no kernel knows of it.

#pragma once

#include <cstdint>

namespace gossamer {

// One call. Shares of outputs never overlap and no sum is split between them, so that the
// result does not depend on the number of threads. Only the fields of the operation are set.
struct Training {
    // The geometry of a packed plane, and of the examples on the other side.
    int64_t examples, vectors;  // lanes of a tile = vectors x width of the set
    int64_t channels;           // of the packed planes
    int64_t plane_height, plane_width;
    int64_t height, width;   // of the unpacked planes (pack), of the outputs (others)
    int64_t top, left;       // where the first element lies in the packed plane
    int64_t step_y, step_x;  // packed rows and columns from one element to the next
    // The non-zeros: rows of entries; an entry holds `block` weights, one per output.
    int64_t rows, block;
    const int32_t* start;   // [rows + 1]
    const int32_t* offset;  // of each entry: packed positions from the plane's first
    const int32_t* index;   // where each entry's weight lies; null: at the entry itself
    const float* values;
    const float* bias;  // one per output, or null
    const float* in;    // pack: unpacked; others: packed inputs
    float* out;         // pack: packed; apply: unpacked outputs
    // Of the weight gradient: the packed gradients of the outputs, and where its elements lie.
    const float* gradient;
    int64_t gradient_height, gradient_width, gradient_top, gradient_left;
    int64_t gradient_step_y, gradient_step_x;
    float* values_gradient;  // as `values`, or null
    float* bias_gradient;    // as `bias`, or null
    // Of active inputs and winners, see training_active.h.
    int64_t outputs;
    int64_t positions;  // of a channel of the inputs
    // Of convolutions (else null), by position: where the outputs that it meets begin, and the rows
    // of taps that meet some. Entries of a channel are in order of their rows: `taps` says by
    // channel and row where each begins.
    const int32_t *base, *first_tap, *last_tap, *taps;
    int64_t tap_rows;
    float* lists;                   // of active inputs, by example
    int64_t buckets;                // columns of equally many entries
    const int32_t *bucket, *rank;   // by channel
    const int32_t* channel;         // by rank, as rows, start, offset and index are
    int64_t winners, inner, outer;  // per row; the order among ties, as in WinnersShape
    uint8_t* mask;
    float* counts;  // [parts][channels + 1]
};

using TrainingFunction = void (*)(const Training&, int64_t part, int64_t parts);

struct TrainingKernel {
    const char* operation;
    const char* layout;  // any, unstructured, block, block8, block16
    const char* isa;
    int width;  // floats in a vector register of this instruction set
    TrainingFunction run;
};

struct TrainingTable {
    const TrainingKernel* rows;
    int size;
};

// Of every instruction set, such as portable_training.
#define INSTRUCTION_SET(name, ...) TrainingTable name##_training();
#define EXTENSION(...)
#include "instruction_sets.inc"

constexpr int64_t most_vectors = 8;  // of a tile of a linear layer

}  // namespace gossamer
