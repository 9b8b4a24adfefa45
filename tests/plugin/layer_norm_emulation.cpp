// The kernels of plugin/csrc/layer_norm.cuh on the CPU.
#include "cuda_on_cpu.h"

#include "layer_norm.cuh"

namespace {

template <typename T, typename Output, typename Rows> void emulate(codetr::LayerNorm const& p) {
    codetr::RowKernel const kernel = codetr::row_kernel_of<T, Output, Rows>(p.channels);
    unsigned const blocks = (p.rows + kernel.rows - 1) / kernel.rows;
    run(dim3(blocks), codetr::kLayerNormThreads, [&] { kernel.run(p); });
}

template <typename T> void emulate_any(codetr::LayerNorm const& p) {
    if (p.merged_width != 0) {
        emulate<T, codetr::As<T>, codetr::MergedRows>(p);
    } else if (p.added != nullptr) {
        emulate<T, codetr::As<T>, codetr::AddedRows>(p);
    } else {
        emulate<T, codetr::As<T>, codetr::GivenRows>(p);
    }
}

} // namespace

extern "C" void emulate_layer_norm(codetr::LayerNorm const* problem) {
    if (problem->output_type == codetr::DataType::kFloat8) {
        emulate<__half, codetr::As<__nv_fp8_e4m3>, codetr::GivenRows>(*problem);
    } else if (problem->quantised != nullptr) {
        emulate<__half, codetr::AsHalfAndFp8, codetr::GivenRows>(*problem);
    } else if (problem->type == codetr::DataType::kFloat16) {
        emulate_any<__half>(*problem);
    } else {
        emulate_any<__nv_bfloat16>(*problem);
    }
}
