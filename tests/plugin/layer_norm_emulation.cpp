// The kernels of plugin/csrc/layer_norm.cuh on the CPU.
#include "cuda_on_cpu.h"

#include "layer_norm.cuh"

namespace {

template <typename T, typename Output = T> void emulate(codetr::LayerNorm const& p) {
    codetr::RowKernel const kernel = codetr::row_kernel_of<T, Output>(p.channels);
    unsigned const blocks = (p.rows + kernel.rows - 1) / kernel.rows;
    run(dim3(blocks), codetr::kLayerNormThreads, [&] { kernel.run(p); });
}

} // namespace

extern "C" void emulate_layer_norm(codetr::LayerNorm const* problem) {
    if (problem->output_type == codetr::DataType::kFloat8) {
        emulate<__half, __nv_fp8_e4m3>(*problem);
    } else if (problem->type == codetr::DataType::kFloat16) {
        emulate<__half>(*problem);
    } else {
        emulate<__nv_bfloat16>(*problem);
    }
}
