// What the launching of the kernels asks of CUDA, answered as an H200 would, so that it runs where
// there is no GPU: a launch ends the process unless it is within CUDA's limits, and does nothing
// else. Before a kernel's .cu, and of one translation unit.
#pragma once

#include <cuda_runtime.h>

#include <cstdio>
#include <cstdlib>

template <typename... Parameters>
cudaError_t cudaLaunchKernelEx(cudaLaunchConfig_t const* config, void (*)(Parameters...),
                               Parameters...) {
    dim3 const grid = config->gridDim;
    dim3 const block = config->blockDim;
    bool const fits = grid.x > 0 && grid.x <= 0x7FFFFFFF && grid.y > 0 && grid.y <= 65535
                      && grid.z > 0 && grid.z <= 65535 && block.x > 0 && block.x <= 1024
                      && block.y == 1 && block.z == 1 && config->dynamicSmemBytes <= 227 * 1024;
    if (!fits) {
        std::printf("CUDA launches no grid of %u x %u x %u\n", grid.x, grid.y, grid.z);
        std::exit(1);
    }
    return cudaSuccess;
}
