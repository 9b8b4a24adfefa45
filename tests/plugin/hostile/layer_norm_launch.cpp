// layer_norm.cu without nvcc: its kernels as layer_norm_emulation.cpp has them, never run.
#include "../layer_norm_emulation.cpp"
#include "launch_on_cpu.h"

#include "layer_norm.cu"
