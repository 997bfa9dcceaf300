// What VNNI adds to AVX-512: further rows of the same instruction set's table.
#if defined(__x86_64__)
#define GOSSAMER_ISA "avx512"
#define GOSSAMER_WIDTH 16
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include <immintrin.h>

#include "kernel.h"

namespace gossamer {
namespace {

#include "vec.h"

#include "row_tiles.h"

#include "integer_gemm.h"

#include "rows.h"

const Kernel rows[] = {GOSSAMER_INTEGER_KERNELS};

}  // namespace
}  // namespace gossamer

gossamer::Table gossamer::avx512_vnni_table() { return {rows, sizeof(rows) / sizeof(rows[0])}; }
#endif
