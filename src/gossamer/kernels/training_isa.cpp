// The kernels of training of one instruction set: compiled once for each, as isa.cpp.

#include "training_kernels.h"

gossamer::TrainingTable gossamer::GOSSAMER_TABLE() {
    return {rows, sizeof(rows) / sizeof(rows[0])};
}
