// The kernels' launch functions with C linkage, for tests and benchmarks that call them from Python.
#include "ms_deform_attn.h"
#include "window_attn.h"

#define CODETR_EXPORT extern "C" __attribute__((visibility("default")))

CODETR_EXPORT int codetr_ms_deform_attn(codetr::MsDeformAttn const* problem, cudaStream_t stream) {
    return static_cast<int>(codetr::ms_deform_attn(*problem, stream));
}

CODETR_EXPORT int codetr_window_attn(codetr::WindowAttn const* problem, cudaStream_t stream) {
    return static_cast<int>(codetr::window_attn(*problem, stream));
}
