#define GOSSAMER_ISA "portable"
#define GOSSAMER_WIDTH 4
#include "training_kernels.h"

gossamer::TrainingTable gossamer::portable_training() {
    return {rows, sizeof(rows) / sizeof(rows[0])};
}
