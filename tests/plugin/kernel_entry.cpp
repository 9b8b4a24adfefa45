// The kernels' launch functions with C linkage, for tests and benchmarks that call them from Python.
#include "group_norm.h"
#include "layer_norm.h"
#include "linear.h"
#include "ms_deform_attn.h"
#include "window_attn.h"

#define CODETR_EXPORT extern "C" __attribute__((visibility("default")))

CODETR_EXPORT int codetr_ms_deform_attn(codetr::MsDeformAttn const* problem, cudaStream_t stream) {
    return static_cast<int>(codetr::ms_deform_attn(*problem, stream));
}

CODETR_EXPORT int codetr_window_attn(codetr::WindowAttn const* problem, cudaStream_t stream) {
    return static_cast<int>(codetr::window_attn(*problem, stream));
}

CODETR_EXPORT size_t codetr_group_norm_workspace(int32_t batch, int32_t groups) {
    return codetr::group_norm_workspace(batch, groups);
}

CODETR_EXPORT int codetr_group_norm(codetr::GroupNorm const* problem, cudaStream_t stream) {
    return static_cast<int>(codetr::group_norm(*problem, stream));
}

CODETR_EXPORT int codetr_layer_norm(codetr::LayerNorm const* problem, cudaStream_t stream) {
    return static_cast<int>(codetr::layer_norm(*problem, stream));
}

CODETR_EXPORT char const* codetr_prepare_linear(codetr::Linear const* problem) {
    return codetr::prepare_linear(*problem);
}

CODETR_EXPORT int codetr_linear(codetr::Linear const* problem, cudaStream_t stream) {
    return static_cast<int>(codetr::linear(*problem, stream));
}
