// Instead of cublaslt.cpp: a product ends the process unless its matrices fit and its algorithm was
// found for them; nothing is multiplied. For wide outputs there is no algorithm. What is added lies
// elsewhere than the output, and is read; where nothing is, the output must not be.
#include "cublaslt.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

constexpr uint64_t kMostOutputs = 1 << 20;

cublasLtMatmulAlgo_t algorithm_of(Product const& product, Layout const& weight, Layout const& x,
                                  Layout const& output) {
    return {weight.type, output.type, weight.columns, weight.rows, x.columns, product.epilogue};
}

bool same(cublasLtMatmulAlgo_t const& a, cublasLtMatmulAlgo_t const& b) {
    return a.type == b.type && a.output_type == b.output_type && a.outputs == b.outputs
           && a.inputs == b.inputs && a.rows == b.rows && a.epilogue == b.epilogue;
}

bool is_matrix(Layout const& layout) {
    constexpr uint64_t kMost = 0x7FFFFFFF;
    return layout.rows > 0 && layout.rows <= kMost && layout.columns > 0
           && layout.columns <= kMost && layout.stride == static_cast<int64_t>(layout.rows);
}

// Of float8 all but the sums; then there are scales, and the type of the bias is told.
bool types_fit(Product const& product, Layout const& weight, Layout const& x, Layout const& sum,
               Layout const& output) {
    bool const fp8 = weight.type == CUDA_R_8F_E4M3;
    cudaDataType_t const half = fp8 ? CUDA_R_16F : weight.type;
    bool const told = product.bias_type == half && product.fast == 1
                      && product.scales[0] != nullptr && product.scales[1] != nullptr;
    return x.type == weight.type && sum.type == half && (!fp8 || told)
           && (output.type == half
               || (fp8 && output.type == weight.type && product.scales[2] != nullptr));
}

bool fit(Product const& product, Layout const& weight, Layout const& x, Layout const& sum,
         Layout const& output) {
    return product.first == CUBLAS_OP_T && product.epilogue != CUBLASLT_EPILOGUE_DEFAULT
           && product.bias != nullptr && types_fit(product, weight, x, sum, output)
           && is_matrix(weight) && is_matrix(x) && is_matrix(output) && x.rows == weight.rows
           && output.rows == weight.columns && output.columns == x.columns
           && is_matrix(sum) && sum.rows == output.rows && sum.columns == output.columns;
}

void require(bool fits, Layout const& weight, Layout const& x) {
    if (!fits) {
        std::printf("cuBLASLt has no product of (%llu, %llu) and (%llu, %llu)\n",
                    static_cast<unsigned long long>(x.columns),
                    static_cast<unsigned long long>(x.rows),
                    static_cast<unsigned long long>(weight.rows),
                    static_cast<unsigned long long>(weight.columns));
        std::exit(1);
    }
}

template <typename Type> cublasStatus_t destroy(Type* object) {
    delete object;
    return CUBLAS_STATUS_SUCCESS;
}

template <typename Type> cublasStatus_t copy(Type& to, void const* value, size_t bytes) {
    if (bytes != sizeof(to)) {
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    std::memcpy(&to, value, bytes);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t set_product(cublasLtMatmulDesc_t product, cublasLtMatmulDescAttributes_t attribute,
                           void const* value, size_t bytes) {
    switch (attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA: return copy(product->first, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE: return copy(product->epilogue, value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER: return copy(product->bias, value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE: return copy(product->bias_type, value, bytes);
    case CUBLASLT_MATMUL_DESC_FAST_ACCUM: return copy(product->fast, value, bytes);
    case CUBLASLT_MATMUL_DESC_A_SCALE_POINTER: return copy(product->scales[0], value, bytes);
    case CUBLASLT_MATMUL_DESC_B_SCALE_POINTER: return copy(product->scales[1], value, bytes);
    case CUBLASLT_MATMUL_DESC_D_SCALE_POINTER: return copy(product->scales[2], value, bytes);
    }
    return CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t find_algorithms(cublasLtHandle_t, cublasLtMatmulDesc_t product,
                               cublasLtMatrixLayout_t weight, cublasLtMatrixLayout_t x,
                               cublasLtMatrixLayout_t sum, cublasLtMatrixLayout_t output,
                               cublasLtMatmulPreference_t preference, int most,
                               cublasLtMatmulHeuristicResult_t* found, int* count) {
    require(fit(*product, *weight, *x, *sum, *output) && most > 1, *weight, *x);
    // Two, of which the first needs more than there is.
    *count = weight->columns <= kMostOutputs ? 2 : 0;
    for (int i = 0; i < *count; ++i) {
        found[i] = {algorithm_of(*product, *weight, *x, *output), preference->workspace + 1 - i,
                    CUBLAS_STATUS_SUCCESS};
    }
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t multiply(cublasLtHandle_t handle, cublasLtMatmulDesc_t product, void const* alpha,
                        void const* weight_from, cublasLtMatrixLayout_t weight, void const* x_from,
                        cublasLtMatrixLayout_t x, void const* beta, void const* sum_from,
                        cublasLtMatrixLayout_t sum, void* output_to,
                        cublasLtMatrixLayout_t output, cublasLtMatmulAlgo_t const* algorithm,
                        void* workspace, size_t, cudaStream_t) {
    bool const there = handle != nullptr && weight_from != nullptr && x_from != nullptr
                       && output_to != nullptr && workspace != nullptr;
    bool const adds = sum_from != output_to && sum_from != nullptr;
    float const wanted = adds ? 1.0F : 0.0F;
    bool const scaled = *static_cast<float const*>(alpha) == 1.0F
                        && *static_cast<float const*>(beta) == wanted;
    // In place only where the sums and the output are of one type.
    bool const in_place = sum_from == output_to && sum->type != output->type;
    require(there && scaled && !in_place && fit(*product, *weight, *x, *sum, *output)
                && same(*algorithm, algorithm_of(*product, *weight, *x, *output)),
            *weight, *x);
    return CUBLAS_STATUS_SUCCESS;
}

codetr::CublasLt all_functions() {
    codetr::CublasLt lt{};
    lt.create = [](cublasLtHandle_t* handle) {
        static int instance;
        *handle = &instance;
        return CUBLAS_STATUS_SUCCESS;
    };
    lt.status_name = [](cublasStatus_t) { return "CUBLAS_STATUS_NOT_SUPPORTED"; };
    lt.create_product = [](cublasLtMatmulDesc_t* product, cublasComputeType_t, cudaDataType_t) {
        *product = new Product{};
        return CUBLAS_STATUS_SUCCESS;
    };
    lt.destroy_product = destroy<Product>;
    lt.set_product = set_product;
    lt.create_layout = [](cublasLtMatrixLayout_t* layout, cudaDataType_t type, uint64_t rows,
                          uint64_t columns, int64_t stride) {
        *layout = new Layout{type, rows, columns, stride};
        return CUBLAS_STATUS_SUCCESS;
    };
    lt.destroy_layout = destroy<Layout>;
    lt.create_preference = [](cublasLtMatmulPreference_t* preference) {
        *preference = new Preference{};
        return CUBLAS_STATUS_SUCCESS;
    };
    lt.destroy_preference = destroy<Preference>;
    lt.set_preference = [](cublasLtMatmulPreference_t preference,
                           cublasLtMatmulPreferenceAttributes_t attribute, void const* value,
                           size_t bytes) {
        return attribute == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES
                   ? copy(preference->workspace, value, bytes)
                   : CUBLAS_STATUS_SUCCESS;
    };
    lt.find_algorithms = find_algorithms;
    lt.multiply = multiply;
    return lt;
}

} // namespace

codetr::CublasLt const& codetr::cublaslt() noexcept {
    static CublasLt const functions = all_functions();
    return functions;
}
