// ms_deform_attn.cu without nvcc: its kernels as sampling_emulation.cpp has them, never run.
#include "../sampling_emulation.cpp"
#include "launch_on_cpu.h"

#include "ms_deform_attn.cu"
