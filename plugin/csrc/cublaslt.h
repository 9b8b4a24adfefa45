// The functions of cuBLASLt, of which nothing is linked.
#pragma once

#include <cublasLt.h>

#include <array>

namespace codetr {

struct CublasLt {
    decltype(&cublasLtCreate) create;
    decltype(&cublasLtGetStatusName) status_name;
    decltype(&cublasLtMatmulDescCreate) create_product;
    decltype(&cublasLtMatmulDescDestroy) destroy_product;
    decltype(&cublasLtMatmulDescSetAttribute) set_product;
    decltype(&cublasLtMatrixLayoutCreate) create_layout;
    decltype(&cublasLtMatrixLayoutDestroy) destroy_layout;
    decltype(&cublasLtMatmulPreferenceCreate) create_preference;
    decltype(&cublasLtMatmulPreferenceDestroy) destroy_preference;
    decltype(&cublasLtMatmulPreferenceSetAttribute) set_preference;
    decltype(&cublasLtMatmulAlgoGetHeuristic) find_algorithms;
    decltype(&cublasLtMatmul) multiply;
    std::array<char, 512> missing; // why it cannot be used; empty if it can
};

// Loads the library on the first call, in whichever thread.
CublasLt const& cublaslt() noexcept;

} // namespace codetr
