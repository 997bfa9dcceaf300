#if defined(__x86_64__)
#define GOSSAMER_ISA "avx2"
#define GOSSAMER_WIDTH 8
#include "kernels.inc"

gossamer::Table gossamer::avx2_table() { return {rows, sizeof(rows) / sizeof(rows[0])}; }
#endif
