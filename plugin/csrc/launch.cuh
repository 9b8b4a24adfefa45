// What the launching of the kernels has in common.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

namespace codetr {

inline bool aligned(void const* pointer, size_t bytes) {
    return reinterpret_cast<uintptr_t>(pointer) % bytes == 0;
}

struct Grid {
    dim3 blocks;
    unsigned threads;     // of a block
    size_t shared_memory; // bytes of a block, beside those that its kernel declares
};

template <typename... Parameters>
cudaError_t launch(void (*kernel)(Parameters...), Grid const& grid, cudaStream_t stream,
                   Parameters... parameters) {
    cudaLaunchConfig_t config{};
    config.gridDim = grid.blocks;
    config.blockDim = dim3(grid.threads);
    config.dynamicSmemBytes = grid.shared_memory;
    config.stream = stream;
    // Unlike <<<>>> it returns the error of this very launch.
    return cudaLaunchKernelEx(&config, kernel, parameters...);
}

} // namespace codetr
