// Instead of linear.cpp where cuBLASLt's headers were not found.
#include "linear.h"

namespace codetr {

char const* prepare_linear(Linear const&) noexcept {
    return "this library was built without the headers of cuBLASLt; install nvidia-cublas or a CUDA "
           "toolkit and build again: python -m plugin build";
}

cudaError_t linear(Linear const&, cudaStream_t) noexcept { return cudaErrorNotSupported; }

} // namespace codetr
