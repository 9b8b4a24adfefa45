// Linear layers as plugins: alone or with a residual added, of half precision or of fp8, to half
// precision or to fp8. The attribute, tensors and launch.
#include "linear.h"
#include "operator.h"

#include <algorithm>
#include <cstdio>

namespace codetr {

namespace trt = nvinfer1;

namespace {

// In the order of the ONNX node; then what the kind of layer needs, and the output.
enum Tensor { kX, kWeight, kBias, kOthers };

enum class Kind { kPlain, kAdding, kFp8, kAddingFp8, kFp8ToFp8 };

constexpr Wanted kWantedX = {
    "x", 4, "(B, H, W, K) or (B, S, K) with below 2^31 rows and K a multiple of 8",
    "float16 or bfloat16", 3};
constexpr Wanted kWantedWeight = {"weight", 2, "(N, K) with N a multiple of 8", "the type of x"};
constexpr Wanted kWantedBias = {"bias", 1, "(N)", "the type of x"};
constexpr Wanted kWantedResidual = {"residual", 4, "as x, with N for K", "the type of x", 3};
constexpr Wanted kWantedOutput = {"output", 4, "as x, with N for K", "the type of x", 3};

constexpr Wanted kFp8X = {
    "x", 4, "(B, H, W, K) or (B, S, K) with below 2^31 rows and K a multiple of 16", "fp8", 3};
constexpr Wanted kFp8Weight = {"weight", 2, "(N, K) with N a multiple of 16", "fp8"};
constexpr Wanted kFp8Bias = {"bias", 1, "(N)", "float16"};
constexpr Wanted kFp8Residual = {"residual", 4, "as x, with N for K", "float16", 3};
constexpr Wanted kXScale = {"x_scale", 1, "(1)", "float32"};
constexpr Wanted kWeightScale = {"weight_scale", 1, "(1)", "float32"};
constexpr Wanted kInverseScale = {"inverse_scale", 1, "(1)", "float32"};
constexpr Wanted kHalfOutput = {"output", 4, "as x, with N for K", "float16", 3};
constexpr Wanted kFp8Output = {"output", 4, "as x, with N for K", "fp8", 3};

constexpr std::array<Wanted, kMaxTensors> wanted_by(Kind kind) {
    switch (kind) {
    case Kind::kAdding:
        return {{kWantedX, kWantedWeight, kWantedBias, kWantedResidual, kWantedOutput}};
    case Kind::kFp8: return {{kFp8X, kFp8Weight, kFp8Bias, kXScale, kWeightScale, kHalfOutput}};
    case Kind::kAddingFp8:
        return {{kFp8X, kFp8Weight, kFp8Bias, kFp8Residual, kXScale, kWeightScale, kHalfOutput}};
    case Kind::kFp8ToFp8:
        return {{kFp8X, kFp8Weight, kFp8Bias, kXScale, kWeightScale, kInverseScale, kFp8Output}};
    default: return {{kWantedX, kWantedWeight, kWantedBias, kWantedOutput}};
    }
}

constexpr int32_t inputs_of(Kind kind) {
    switch (kind) {
    case Kind::kPlain: return kOthers;
    case Kind::kAdding: return kOthers + 1;
    case Kind::kFp8: return kOthers + 2;
    default: return kOthers + 3;
    }
}

constexpr Attribute kActivation = {"activation", 0, 2};

class LinearOperator final : public Operator {
  public:
    LinearOperator(char const* op_type, Kind kind) noexcept
        : Operator(op_type, {{kActivation}}, wanted_by(kind), inputs_of(kind)),
          adds_(kind == Kind::kAdding || kind == Kind::kAddingFp8),
          multiplies_fp8_(kind != Kind::kPlain && kind != Kind::kAdding),
          gives_fp8_(kind == Kind::kFp8ToFp8) {}

    int32_t find_wrong(Shapes const& shapes, Values const&) const noexcept override {
        trt::Dims const& x = shapes[kX];
        auto const& weight = shapes[kWeight].d;
        int32_t const last = x.nbDims - 1;
        int32_t const step = multiplies_fp8_ ? 16 : 8; // of 16 bytes
        auto const holds_sums = [&](trt::Dims const& shape) {
            return shape.nbDims == x.nbDims && std::equal(shape.d, shape.d + last, x.d, agree)
                   && agree(shape.d[last], weight[0]);
        };
        std::array<bool, kMaxTensors> fits = {
            rows_of(x) < int64_t{1} << 31 && (x.d[last] == -1 || x.d[last] % step == 0),
            agree(weight[1], x.d[last]) && (weight[0] == -1 || weight[0] % step == 0),
            agree(shapes[kBias].d[0], weight[0]),
        };
        for (int32_t i = kOthers; i < inputs; ++i) {
            fits[i] = i < first_scale() ? holds_sums(shapes[i]) : agree(shapes[i].d[0], 1);
        }
        fits[inputs] = holds_sums(shapes[inputs]);
        auto const wrong = std::find(fits.begin(), fits.begin() + inputs + 1, false);
        return static_cast<int32_t>(wrong - fits.begin());
    }

    Letters letters(Shapes const& shapes, Values const&) const noexcept override {
        Letters text{};
        std::snprintf(text.data(), text.size(), "%lld rows, K=%lld N=%lld",
                      static_cast<long long>(rows_of(shapes[kX])),
                      static_cast<long long>(shapes[kWeight].d[1]),
                      static_cast<long long>(shapes[kWeight].d[0]));
        return text;
    }

    bool type_fits(int32_t tensor, trt::DataType type, trt::DataType first) const noexcept override {
        if (!multiplies_fp8_) {
            return tensor == kX ? is_half(type) : type == first;
        }
        if (tensor == kX || tensor == kWeight) {
            return type == trt::DataType::kFP8;
        }
        if (tensor == inputs) {
            return type == output_type(0, first);
        }
        bool const is_scale = tensor >= first_scale();
        return type == (is_scale ? trt::DataType::kFLOAT : trt::DataType::kHALF);
    }

    trt::DataType output_type(int32_t, trt::DataType first) const noexcept override {
        if (!multiplies_fp8_) {
            return first;
        }
        return gives_fp8_ ? trt::DataType::kFP8 : trt::DataType::kHALF;
    }

    trt::DimsExprs output_shape(trt::DimsExprs const* in,
                                trt::IExprBuilder&) const noexcept override {
        trt::DimsExprs shape = in[kX];
        shape.d[shape.nbDims - 1] = in[kWeight].d[0];
        return shape;
    }

    size_t workspace_size(Shapes const&, Values const&) const noexcept override {
        return kLinearWorkspace;
    }

    char const* prepare(trt::PluginTensorDesc const* in,
                        Values const& values) const noexcept override {
        return prepare_linear(describe(in, values));
    }

    int32_t tactics() const noexcept override { return kLinearAlgorithms; }

    cudaError_t launch(trt::PluginTensorDesc const* in, void const* const* from, void* const* to,
                       void* workspace, Values const& values, int32_t tactic,
                       cudaStream_t stream) const noexcept override {
        if (std::find(from, from + inputs, nullptr) != from + inputs) {
            return cudaErrorInvalidValue; // without a residual, it would be taken for another kind
        }
        Linear problem = describe(in, values);
        problem.x = from[kX];
        problem.weight = from[kWeight];
        problem.bias = from[kBias];
        problem.residual = adds_ ? from[kOthers] : nullptr;
        auto const scale = [&](int32_t number) {
            return static_cast<float const*>(from[first_scale() + number]);
        };
        if (multiplies_fp8_) {
            problem.x_scale = scale(0);
            problem.weight_scale = scale(1);
        }
        if (gives_fp8_) {
            problem.inverse_scale = scale(2);
        }
        problem.output = to[0];
        problem.workspace = workspace;
        problem.algorithm = std::max(tactic - 1, 0);
        return linear(problem, stream);
    }

  private:
    // After the residual, if there is one.
    int32_t first_scale() const { return adds_ ? kOthers + 1 : kOthers; }

    Linear describe(trt::PluginTensorDesc const* in, Values const& values) const {
        auto const size = [in](Tensor tensor, int dimension) {
            return static_cast<int32_t>(in[tensor].dims.d[dimension]);
        };
        Linear problem{};
        problem.type = multiplies_fp8_ ? DataType::kFloat16 : type_of(in[kX].type);
        problem.factors = multiplies_fp8_ ? DataType::kFloat8 : problem.type;
        problem.output_type = gives_fp8_ ? DataType::kFloat8 : problem.type;
        problem.rows = static_cast<int32_t>(rows_of(in[kX].dims));
        problem.inputs = size(kWeight, 1);
        problem.outputs = size(kWeight, 0);
        problem.activation = static_cast<Activation>(values[0]);
        return problem;
    }

    bool const adds_;
    bool const multiplies_fp8_;
    bool const gives_fp8_;
};

} // namespace

Operator const& linear_operator() noexcept {
    static LinearOperator const instance("CoDetrLinear", Kind::kPlain);
    return instance;
}

Operator const& linear_add_operator() noexcept {
    static LinearOperator const instance("CoDetrLinearAdd", Kind::kAdding);
    return instance;
}

Operator const& linear_fp8_operator() noexcept {
    static LinearOperator const instance("CoDetrLinearFp8", Kind::kFp8);
    return instance;
}

Operator const& linear_add_fp8_operator() noexcept {
    static LinearOperator const instance("CoDetrLinearAddFp8", Kind::kAddingFp8);
    return instance;
}

Operator const& linear_fp8_to_fp8_operator() noexcept {
    static LinearOperator const instance("CoDetrLinearFp8ToFp8", Kind::kFp8ToFp8);
    return instance;
}

} // namespace codetr
