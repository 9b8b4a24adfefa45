// Linear layers as two plugins, one of which adds a residual: the attribute, tensors and launch.
#include "linear.h"
#include "operator.h"

#include <algorithm>
#include <cstdio>

namespace codetr {

namespace trt = nvinfer1;

namespace {

// In the order of the ONNX node; then the residual, if there is one, and the output.
enum Tensor { kX, kWeight, kBias, kResidual };

constexpr Wanted kWantedX = {
    "x", 4, "(B, H, W, K) or (B, S, K) with below 2^31 rows and K a multiple of 8",
    "float16 or bfloat16", 3};
constexpr Wanted kWantedWeight = {"weight", 2, "(N, K) with N a multiple of 8", "the type of x"};
constexpr Wanted kWantedBias = {"bias", 1, "(N)", "the type of x"};
constexpr Wanted kWantedResidual = {"residual", 4, "as x, with N for K", "the type of x", 3};
constexpr Wanted kWantedOutput = {"output", 4, "as x, with N for K", "the type of x", 3};

constexpr Attribute kActivation = {"activation", 0, 1};

Linear describe(trt::PluginTensorDesc const* in, Values const& values) {
    auto const size = [in](Tensor tensor, int dimension) {
        return static_cast<int32_t>(in[tensor].dims.d[dimension]);
    };
    Linear problem{};
    problem.type = type_of(in[kX].type);
    problem.rows = static_cast<int32_t>(rows_of(in[kX].dims));
    problem.inputs = size(kWeight, 1);
    problem.outputs = size(kWeight, 0);
    problem.activation = static_cast<Activation>(values[0]);
    return problem;
}

class LinearOperator final : public Operator {
  public:
    LinearOperator() noexcept
        : Operator("CoDetrLinear", {{kActivation}},
                   {{kWantedX, kWantedWeight, kWantedBias, kWantedOutput}}, kResidual) {}

    // Adds a residual.
    LinearOperator(char const* op_type) noexcept
        : Operator(op_type, {{kActivation}},
                   {{kWantedX, kWantedWeight, kWantedBias, kWantedResidual, kWantedOutput}},
                   kResidual + 1) {}

    int32_t find_wrong(Shapes const& shapes, Values const&) const noexcept override {
        trt::Dims const& x = shapes[kX];
        auto const& weight = shapes[kWeight].d;
        int32_t const last = x.nbDims - 1;
        auto const holds_sums = [&](trt::Dims const& shape) {
            return shape.nbDims == x.nbDims && std::equal(shape.d, shape.d + last, x.d, agree)
                   && agree(shape.d[last], weight[0]);
        };
        std::array<bool, kResidual + 2> const fits = {
            rows_of(x) < int64_t{1} << 31 && (x.d[last] == -1 || x.d[last] % 8 == 0),
            agree(weight[1], x.d[last]) && (weight[0] == -1 || weight[0] % 8 == 0),
            agree(shapes[kBias].d[0], weight[0]),
            holds_sums(shapes[kResidual]), // or the output, where there is none
            holds_sums(shapes[kResidual + 1]),
        };
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
        return tensor == kX ? is_half(type) : type == first;
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

    cudaError_t launch(trt::PluginTensorDesc const* in, void const* const* from, void* to,
                       void* workspace, Values const& values, int32_t tactic,
                       cudaStream_t stream) const noexcept override {
        Linear problem = describe(in, values);
        problem.x = from[kX];
        problem.weight = from[kWeight];
        problem.bias = from[kBias];
        if (inputs > kResidual) {
            problem.residual = from[kResidual];
            if (problem.residual == nullptr) {
                return cudaErrorInvalidValue; // otherwise there would be nothing to add
            }
        }
        problem.output = to;
        problem.workspace = workspace;
        problem.algorithm = std::max(tactic - 1, 0);
        return linear(problem, stream);
    }
};

} // namespace

Operator const& linear_operator() noexcept {
    static LinearOperator const instance;
    return instance;
}

Operator const& linear_add_operator() noexcept {
    static LinearOperator const instance("CoDetrLinearAdd");
    return instance;
}

} // namespace codetr
