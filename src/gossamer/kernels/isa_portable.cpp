#define GOSSAMER_ISA "portable"
#define GOSSAMER_WIDTH 4
#include "kernels.inc"

gossamer::Table gossamer::portable_table() { return {rows, sizeof(rows) / sizeof(rows[0])}; }
