// The kernels of one instruction set: compiled once for each, see instruction_sets.inc.

#if defined(GOSSAMER_EXTENSION)
#include "integer_gemm.h"

namespace gossamer {
namespace {

const Kernel rows[] = {GOSSAMER_INTEGER_KERNELS};

}  // namespace
}  // namespace gossamer
#else
#include "kernels.inc"
#endif

gossamer::Table gossamer::GOSSAMER_TABLE() { return {rows, sizeof(rows) / sizeof(rows[0])}; }
