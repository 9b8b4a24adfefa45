// The kernel's launch function with C linkage, for tests and benchmarks that call it from Python.
#include "ms_deform_attn.h"

extern "C" __attribute__((visibility("default"))) int
codetr_ms_deform_attn(codetr::MsDeformAttn const* problem, cudaStream_t stream) {
    return static_cast<int>(codetr::ms_deform_attn(*problem, stream));
}
