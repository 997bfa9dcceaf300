// What VNNI adds to AVX-512: further rows of the same instruction set's table.
#if defined(__x86_64__)
#define GOSSAMER_ISA "avx512"
#define GOSSAMER_WIDTH 16
#include "integer_gemm.h"

namespace gossamer {
namespace {

const Kernel rows[] = {GOSSAMER_INTEGER_KERNELS};

}  // namespace
}  // namespace gossamer

gossamer::Table gossamer::avx512_vnni_table() { return {rows, sizeof(rows) / sizeof(rows[0])}; }
#endif
