// group_norm.cu without nvcc: its kernels as norm_emulation.cpp has them, never run.
#include "../norm_emulation.cpp"
#include "launch_on_cpu.h"

#include "group_norm.cu"
