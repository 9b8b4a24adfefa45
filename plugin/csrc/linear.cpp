// Linear layers by cuBLASLt: describes products, keeps their algorithms and runs them.
//
// cuBLASLt's matrices are column-major, so it sees everything transposed: y^T = W x^T, where what
// lies in memory as (N, K) is its K x N matrix.
#include "linear.h"

#include "cublaslt.h"

#include <algorithm>
#include <iterator>
#include <mutex>

namespace codetr {
namespace {

constexpr uint32_t kAlignment = 16; // of all pointers; cuBLASLt would take 256 for granted
constexpr int kMaxDevices = 64;
constexpr int kKept = 256; // algorithms; Swin has a dozen products of different size

cublasLtEpilogue_t epilogue_of(Activation activation) {
    switch (activation) {
    case Activation::kGelu: return CUBLASLT_EPILOGUE_GELU_BIAS;
    case Activation::kRelu: return CUBLASLT_EPILOGUE_RELU_BIAS;
    default: return CUBLASLT_EPILOGUE_BIAS;
    }
}

cudaDataType_t cuda_type(DataType type) {
    switch (type) {
    case DataType::kFloat8: return CUDA_R_8F_E4M3;
    case DataType::kBfloat16: return CUDA_R_16BF;
    default: return CUDA_R_16F;
    }
}

cublasStatus_t worse(cublasStatus_t a, cublasStatus_t b) {
    return a != CUBLAS_STATUS_SUCCESS ? a : b;
}

// A product as cuBLASLt wants it described. Not shared: it holds a pointer.
class Description {
  public:
    Description(CublasLt const& lt, Linear const& p) noexcept : lt_(lt) {
        cudaDataType_t const type = cuda_type(p.type);
        cudaDataType_t const factors = cuda_type(p.factors);
        cublasOperation_t const transposed = CUBLAS_OP_T;
        note(lt.create_product(&product, CUBLAS_COMPUTE_32F, CUDA_R_32F));
        set(CUBLASLT_MATMUL_DESC_TRANSA, transposed);
        set(CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue_of(p.activation));
        set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, p.bias);
        if (p.factors == DataType::kFloat8) {
            int8_t const fast = 1;
            set(CUBLASLT_MATMUL_DESC_FAST_ACCUM, fast);
            set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, type);
            set(CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, static_cast<void const*>(p.weight_scale));
            set(CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, static_cast<void const*>(p.x_scale));
        }
        if (p.output_type == DataType::kFloat8) {
            set(CUBLASLT_MATMUL_DESC_D_SCALE_POINTER, static_cast<void const*>(p.inverse_scale));
        }
        note(lt.create_layout(&weight, factors, p.inputs, p.outputs, p.inputs));
        note(lt.create_layout(&x, factors, p.inputs, p.rows, p.inputs));
        note(lt.create_layout(&added, type, p.outputs, p.rows, p.outputs));
        note(lt.create_layout(&output, cuda_type(p.output_type), p.outputs, p.rows, p.outputs));
    }
    ~Description() {
        for (cublasLtMatrixLayout_t const layout : {weight, x, added, output}) {
            if (layout != nullptr) {
                lt_.destroy_layout(layout);
            }
        }
        if (product != nullptr) {
            lt_.destroy_product(product);
        }
    }
    Description(Description const&) = delete;
    Description& operator=(Description const&) = delete;

    cublasStatus_t status = CUBLAS_STATUS_SUCCESS; // the first that was none
    cublasLtMatmulDesc_t product = nullptr;
    cublasLtMatrixLayout_t weight = nullptr;
    cublasLtMatrixLayout_t x = nullptr;
    cublasLtMatrixLayout_t added = nullptr;
    cublasLtMatrixLayout_t output = nullptr;

  private:
    void note(cublasStatus_t next) { status = worse(status, next); }
    template <typename T> void set(cublasLtMatmulDescAttributes_t attribute, T const& value) {
        if (status == CUBLAS_STATUS_SUCCESS) {
            note(lt_.set_product(product, attribute, &value, sizeof(value)));
        }
    }

    CublasLt const& lt_;
};

// What an algorithm was chosen for: it is the same with and without a residual.
struct Key {
    int device;
    DataType type, factors, output_type;
    int32_t rows, inputs, outputs;
    Activation activation;

    bool operator==(Key const& other) const {
        return device == other.device && type == other.type && factors == other.factors
               && output_type == other.output_type && rows == other.rows && inputs == other.inputs
               && outputs == other.outputs && activation == other.activation;
    }
};

struct Choice {
    Key key;
    std::array<cublasLtMatmulAlgo_t, kLinearAlgorithms> algorithms;
    int count; // of these
};

// All plugins' choices. A handle is of a device and serves any number of threads.
struct Choices {
    std::mutex mutex;
    std::array<cublasLtHandle_t, kMaxDevices> handles;
    std::array<Choice, kKept> kept;
    size_t count; // of all that were ever kept: the oldest are overwritten

    Choice const* find(Key const& key) const {
        auto const end = kept.begin() + std::min(count, kept.size());
        auto const found = std::find_if(kept.begin(), end,
                                        [&key](Choice const& each) { return each.key == key; });
        return found != end ? found : nullptr;
    }
};

// Never destroyed: contexts may outlive the static objects of this library.
Choices& choices() {
    static auto& instance = *new Choices{};
    return instance;
}

cublasStatus_t find_algorithms(CublasLt const& lt, cublasLtHandle_t handle, Linear const& p,
                               Choice& choice) {
    Linear described = p;
    // Pointers that are as little aligned as any will be.
    described.bias = reinterpret_cast<void const*>(uintptr_t{kAlignment});
    described.x_scale = described.weight_scale = described.inverse_scale =
        reinterpret_cast<float const*>(uintptr_t{alignof(float)});
    Description const all(lt, described);
    cublasLtMatmulPreference_t preference = nullptr;
    cublasStatus_t status = worse(all.status, lt.create_preference(&preference));
    auto const prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, auto value) {
        if (status == CUBLAS_STATUS_SUCCESS) {
            status = lt.set_preference(preference, attribute, &value, sizeof(value));
        }
    };
    prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t{kLinearWorkspace});
    prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, uint32_t{CUBLASLT_REDUCTION_SCHEME_NONE});
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, kAlignment);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, kAlignment);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, kAlignment);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, kAlignment);
    std::array<cublasLtMatmulHeuristicResult_t, kLinearAlgorithms> found{};
    int count = 0;
    if (status == CUBLAS_STATUS_SUCCESS) {
        status = lt.find_algorithms(handle, all.product, all.weight, all.x, all.added, all.output,
                                    preference, kLinearAlgorithms, found.data(), &count);
    }
    if (preference != nullptr) {
        lt.destroy_preference(preference);
    }
    for (auto each = found.begin(); each != found.begin() + count; ++each) {
        if (each->state == CUBLAS_STATUS_SUCCESS && each->workspaceSize <= kLinearWorkspace) {
            choice.algorithms[choice.count++] = each->algo;
        }
    }
    return worse(status, choice.count > 0 ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED);
}

cudaError_t error_of(cublasStatus_t status) {
    switch (status) {
    case CUBLAS_STATUS_SUCCESS: return cudaSuccess;
    case CUBLAS_STATUS_INVALID_VALUE: return cudaErrorInvalidValue;
    case CUBLAS_STATUS_NOT_SUPPORTED: return cudaErrorNotSupported;
    case CUBLAS_STATUS_EXECUTION_FAILED: return cudaErrorLaunchFailure;
    default: return cudaErrorUnknown;
    }
}

bool types_fit(Linear const& p) {
    bool const is_fp8 = p.factors == DataType::kFloat8;
    return (p.type == DataType::kFloat16 || (p.type == DataType::kBfloat16 && !is_fp8))
           && (is_fp8 || p.factors == p.type)
           && (p.output_type == p.type || (is_fp8 && p.output_type == DataType::kFloat8));
}

bool fits_together(Linear const& p) {
    int32_t const step = p.factors == DataType::kFloat8 ? 16 : 8; // of 16 bytes
    return types_fit(p) && p.rows >= 0 && p.algorithm >= 0 && p.inputs > 0 && p.outputs > 0
           && p.inputs % step == 0 && p.outputs % step == 0;
}

bool has_scales(Linear const& p) {
    return (p.factors != DataType::kFloat8 || (p.x_scale != nullptr && p.weight_scale != nullptr))
           && (p.output_type != DataType::kFloat8
               || (p.inverse_scale != nullptr && p.residual == nullptr));
}

bool all_aligned(Linear const& p) {
    void const* const needed[] = {p.x, p.weight, p.bias, p.output, p.workspace};
    auto const aligned = [](void const* pointer) {
        return reinterpret_cast<uintptr_t>(pointer) % kAlignment == 0;
    };
    return aligned(p.residual) && std::all_of(std::begin(needed), std::end(needed), aligned)
           && std::find(std::begin(needed), std::end(needed), nullptr) == std::end(needed);
}

// Finds the handle and the algorithm of a product that fits, or makes them. Null if that is done.
char const* choose(Linear const& p, cublasLtHandle_t& handle, cublasLtMatmulAlgo_t& algorithm) {
    CublasLt const& lt = cublaslt();
    if (lt.missing[0] != '\0') {
        return lt.missing.data();
    }
    Key key{0, p.type, p.factors, p.output_type, p.rows, p.inputs, p.outputs, p.activation};
    if (cudaGetDevice(&key.device) != cudaSuccess || key.device >= kMaxDevices) {
        return "found no GPU to multiply on";
    }
    Choices& all = choices();
    std::lock_guard<std::mutex> const lock(all.mutex);
    cublasStatus_t status = CUBLAS_STATUS_SUCCESS;
    if (all.handles[key.device] == nullptr) {
        status = lt.create(&all.handles[key.device]);
    }
    handle = all.handles[key.device];
    Choice const* kept = all.find(key);
    if (kept == nullptr && status == CUBLAS_STATUS_SUCCESS) {
        Choice found{key, {}, 0};
        status = find_algorithms(lt, handle, p, found);
        if (status == CUBLAS_STATUS_SUCCESS) {
            Choice& place = all.kept[all.count++ % kKept];
            place = found;
            kept = &place;
        }
    }
    if (kept == nullptr) {
        return lt.status_name(status);
    }
    algorithm = kept->algorithms[std::min(p.algorithm, kept->count - 1)];
    return nullptr;
}

// What cuBLASLt takes for the matrix to add; where there is none it is not read, and may be the
// output if that is of the same type.
void const* added_by(Linear const& p) {
    bool const may_be_output = p.residual == nullptr && p.output_type == p.type;
    return may_be_output ? p.output : p.residual;
}

} // namespace

char const* prepare_linear(Linear const& problem) noexcept {
    if (!fits_together(problem)) {
        return "there is no product of such a type and size";
    }
    cublasLtHandle_t handle = nullptr;
    cublasLtMatmulAlgo_t algorithm{};
    return problem.rows == 0 ? nullptr : choose(problem, handle, algorithm);
}

cudaError_t linear(Linear const& problem, cudaStream_t stream) noexcept {
    if (!fits_together(problem) || !all_aligned(problem) || !has_scales(problem)) {
        return cudaErrorInvalidValue;
    }
    if (problem.rows == 0) {
        return cudaSuccess;
    }
    cublasLtHandle_t handle = nullptr;
    cublasLtMatmulAlgo_t algorithm{};
    if (choose(problem, handle, algorithm) != nullptr) {
        return cudaErrorNotSupported; // it was not prepared
    }
    CublasLt const& lt = cublaslt();
    Description const all(lt, problem);
    if (all.status != CUBLAS_STATUS_SUCCESS) {
        return error_of(all.status);
    }
    float const one = 1.0F;
    float const scale = problem.residual != nullptr ? 1.0F : 0.0F; // 0: nothing is added
    return error_of(lt.multiply(handle, all.product, &one, problem.weight, all.weight, problem.x,
                                all.x, &scale, added_by(problem), all.added, problem.output,
                                all.output, &algorithm, problem.workspace, kLinearWorkspace,
                                stream));
}

} // namespace codetr
