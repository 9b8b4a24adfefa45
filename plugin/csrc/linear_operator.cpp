// Linear layers as a plugin: the attribute, tensors and launch.
#include "linear.h"
#include "operator.h"

#include <algorithm>
#include <cstdio>

namespace codetr {

namespace trt = nvinfer1;

namespace {

// In the order of the ONNX node.
enum Tensor { kX, kWeight, kBias, kOutput, kTensors };

constexpr std::array<Wanted, kMaxTensors> kWanted = {{
    {"x", 4, "(B, H, W, K) with B*H*W below 2^31 and K a multiple of 8", "float16 or bfloat16"},
    {"weight", 2, "(N, K) with N a multiple of 8", "the type of x"},
    {"bias", 1, "(N)", "the type of x"},
    {"output", 4, "(B, H, W, N)", "the type of x"},
}};

bool rows_fit(int64_t const* x) {
    constexpr int64_t kMost = (int64_t{1} << 31) - 1;
    // Sizes are below 2^31 each, so the product of two fits.
    int64_t const tokens = std::max<int64_t>(x[1], 1) * std::max<int64_t>(x[2], 1);
    return tokens <= kMost && tokens * std::max<int64_t>(x[0], 1) <= kMost;
}

Linear describe(trt::PluginTensorDesc const* in, Values const& values) {
    auto const size = [in](Tensor tensor, int dimension) {
        return static_cast<int32_t>(in[tensor].dims.d[dimension]);
    };
    Linear problem{};
    problem.type = type_of(in[kX].type);
    problem.rows = size(kX, 0) * size(kX, 1) * size(kX, 2);
    problem.inputs = size(kX, 3);
    problem.outputs = size(kWeight, 0);
    problem.gelu = values[0];
    return problem;
}

class LinearOperator final : public Operator {
  public:
    LinearOperator() noexcept
        : Operator("CoDetrLinear", {{{"gelu", 0, 1}}}, kWanted, kOutput) {}

    int32_t find_wrong(Shapes const& shapes, Values const&) const noexcept override {
        auto const& x = shapes[kX].d;
        auto const& weight = shapes[kWeight].d;
        auto const& output = shapes[kOutput].d;
        std::array<bool, kTensors> const fits = {
            rows_fit(x) && (x[3] == -1 || x[3] % 8 == 0),
            agree(weight[1], x[3]) && (weight[0] == -1 || weight[0] % 8 == 0),
            agree(shapes[kBias].d[0], weight[0]),
            std::equal(output, output + 3, x, agree) && agree(output[3], weight[0]),
        };
        return static_cast<int32_t>(std::find(fits.begin(), fits.end(), false) - fits.begin());
    }

    Letters letters(Shapes const& shapes, Values const&) const noexcept override {
        Letters text{};
        std::snprintf(text.data(), text.size(), "B=%lld H=%lld W=%lld K=%lld N=%lld",
                      static_cast<long long>(shapes[kX].d[0]),
                      static_cast<long long>(shapes[kX].d[1]),
                      static_cast<long long>(shapes[kX].d[2]),
                      static_cast<long long>(shapes[kX].d[3]),
                      static_cast<long long>(shapes[kWeight].d[0]));
        return text;
    }

    bool type_fits(int32_t tensor, trt::DataType type, trt::DataType first) const noexcept override {
        return tensor == kX ? is_half(type) : type == first;
    }

    trt::DimsExprs output_shape(trt::DimsExprs const* in,
                                trt::IExprBuilder&) const noexcept override {
        trt::DimsExprs shape = in[kX];
        shape.d[3] = in[kWeight].d[0];
        return shape;
    }

    size_t workspace_size(Shapes const&, Values const&) const noexcept override {
        return kLinearWorkspace;
    }

    char const* prepare(trt::PluginTensorDesc const* in,
                        Values const& values) const noexcept override {
        return prepare_linear(describe(in, values));
    }

    cudaError_t launch(trt::PluginTensorDesc const* in, void const* const* from, void* to,
                       void* workspace, Values const& values,
                       cudaStream_t stream) const noexcept override {
        Linear problem = describe(in, values);
        problem.x = from[kX];
        problem.weight = from[kWeight];
        problem.bias = from[kBias];
        problem.output = to;
        problem.workspace = workspace;
        return linear(problem, stream);
    }
};

} // namespace

Operator const& linear_operator() noexcept {
    static LinearOperator const instance;
    return instance;
}

} // namespace codetr
