#if defined(__x86_64__)
#define GOSSAMER_ISA "avx512"
#define GOSSAMER_WIDTH 16
#include "kernels.inc"

gossamer::Table gossamer::avx512_table() { return {rows, sizeof(rows) / sizeof(rows[0])}; }
#endif
