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
    return activation == Activation::kGelu ? CUBLASLT_EPILOGUE_GELU_BIAS : CUBLASLT_EPILOGUE_BIAS;
}

cublasStatus_t worse(cublasStatus_t a, cublasStatus_t b) {
    return a != CUBLAS_STATUS_SUCCESS ? a : b;
}

// A product as cuBLASLt wants it described. Not shared: it holds a pointer.
class Description {
  public:
    Description(CublasLt const& lt, Linear const& p, void const* bias) noexcept : lt_(lt) {
        cudaDataType_t const type = p.type == DataType::kFloat16 ? CUDA_R_16F : CUDA_R_16BF;
        cublasOperation_t const transposed = CUBLAS_OP_T;
        note(lt.create_product(&product, CUBLAS_COMPUTE_32F, CUDA_R_32F));
        set(CUBLASLT_MATMUL_DESC_TRANSA, transposed);
        set(CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue_of(p.activation));
        set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
        note(lt.create_layout(&weight, type, p.inputs, p.outputs, p.inputs));
        note(lt.create_layout(&x, type, p.inputs, p.rows, p.inputs));
        note(lt.create_layout(&output, type, p.outputs, p.rows, p.outputs));
    }
    ~Description() {
        for (cublasLtMatrixLayout_t const layout : {weight, x, output}) {
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
    DataType type;
    int32_t rows, inputs, outputs;
    Activation activation;

    bool operator==(Key const& other) const {
        return device == other.device && type == other.type && rows == other.rows
               && inputs == other.inputs && outputs == other.outputs && activation == other.activation;
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
    // A pointer that is as little aligned as any will be.
    Description const all(lt, p, reinterpret_cast<void const*>(uintptr_t{kAlignment}));
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
        status = lt.find_algorithms(handle, all.product, all.weight, all.x, all.output, all.output,
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

bool fits_together(Linear const& p) {
    return p.rows >= 0 && p.algorithm >= 0 && p.inputs > 0 && p.outputs > 0 && p.inputs % 8 == 0 && p.outputs % 8 == 0
           && (p.type == DataType::kFloat16 || p.type == DataType::kBfloat16);
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
    Key key{0, p.type, p.rows, p.inputs, p.outputs, p.activation};
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
    if (!fits_together(problem) || !all_aligned(problem)) {
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
    Description const all(lt, problem, problem.bias);
    if (all.status != CUBLAS_STATUS_SUCCESS) {
        return error_of(all.status);
    }
    bool const adds = problem.residual != nullptr;
    void const* const added = adds ? problem.residual : problem.output;
    float const one = 1.0F;
    float const scale = adds ? 1.0F : 0.0F; // 0: it is not read
    return error_of(lt.multiply(handle, all.product, &one, problem.weight, all.weight, problem.x,
                                all.x, &scale, added, all.output, problem.output, all.output,
                                &algorithm, problem.workspace, kLinearWorkspace, stream));
}

} // namespace codetr
