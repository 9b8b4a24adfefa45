// Window attention as a plugin: its attributes, tensors and launch.
#include "operator.h"
#include "window_attn.h"

#include <algorithm>
#include <cstdio>

namespace codetr {

namespace trt = nvinfer1;

namespace {

// In the order of the ONNX node.
enum Tensor { kQkv, kPadding, kBias, kOutput, kTensors };

// Letters as in window_attn.h; C = 32 M.
constexpr std::array<Wanted, kMaxTensors> kWanted = {{
    {"qkv", 4, "(B, H, W, 3C)", "float16 or bfloat16"},
    {"padding", 1, "(3C)", "the type of qkv"},
    {"bias", 3, "(M, N, N) with M = C / 32 and N the tokens of a window", "the type of qkv"},
    {"output", 4, "(B, H, W, C)", "the type of qkv"},
}};

class WindowAttnOperator final : public Operator {
  public:
    WindowAttnOperator() noexcept
        : Operator("CoDetrWindowAttention",
                   {{{"window_size", 1}, {"shift", 0}, {"add_bias", 0, 1}}},
                   kWanted, kOutput) {}

    int32_t find_wrong(Shapes const& shapes, Values const& values) const noexcept override {
        auto const& qkv = shapes[kQkv].d;
        auto const& bias = shapes[kBias].d;
        auto const& output = shapes[kOutput].d;
        int64_t const tokens = int64_t{values[0]} * values[0];
        int64_t const heads = bias[0];
        bool const known = heads != -1;
        std::array<bool, kTensors> const fits = {
            qkv[3] == -1 || qkv[3] % (3 * kHeadSize) == 0,
            agree(shapes[kPadding].d[0], qkv[3]),
            (!known || agree(qkv[3], 3 * kHeadSize * heads)) && agree(bias[1], tokens)
                && agree(bias[2], tokens),
            agree(output[0], qkv[0]) && agree(output[1], qkv[1]) && agree(output[2], qkv[2])
                && (!known || agree(output[3], kHeadSize * heads)),
        };
        return static_cast<int32_t>(std::find(fits.begin(), fits.end(), false) - fits.begin());
    }

    Letters letters(Shapes const& shapes, Values const& values) const noexcept override {
        Letters text{};
        std::snprintf(text.data(), text.size(), "B=%lld H=%lld W=%lld M=%lld N=%lld",
                      static_cast<long long>(shapes[kQkv].d[0]),
                      static_cast<long long>(shapes[kQkv].d[1]),
                      static_cast<long long>(shapes[kQkv].d[2]),
                      static_cast<long long>(shapes[kBias].d[0]),
                      static_cast<long long>(values[0]) * values[0]);
        return text;
    }

    bool type_fits(int32_t tensor, trt::DataType type, trt::DataType first) const noexcept override {
        return tensor == kQkv ? is_half(type) : type == first;
    }

    trt::DimsExprs output_shape(trt::DimsExprs const* in,
                                trt::IExprBuilder& builder) const noexcept override {
        trt::DimsExprs shape = in[kQkv];
        shape.d[3] = builder.operation(trt::DimensionOperation::kFLOOR_DIV, *shape.d[3],
                                       *builder.constant(3));
        return shape;
    }

    cudaError_t launch(trt::PluginTensorDesc const* in, void const* const* from, void* to, void*,
                       Values const& values, int32_t, cudaStream_t stream) const noexcept override {
        auto const size = [in](Tensor tensor, int dimension) {
            return static_cast<int32_t>(in[tensor].dims.d[dimension]);
        };
        WindowAttn problem{};
        problem.qkv = from[kQkv];
        problem.padding = from[kPadding];
        problem.bias = from[kBias];
        problem.output = to;
        problem.type = type_of(in[kQkv].type);
        problem.batch = size(kQkv, 0);
        problem.height = size(kQkv, 1);
        problem.width = size(kQkv, 2);
        problem.heads = size(kBias, 0);
        problem.window = values[0];
        problem.shift = values[1];
        problem.add_bias = values[2];
        return window_attn(problem, stream);
    }
};

} // namespace

Operator const& window_attn_operator() noexcept {
    static WindowAttnOperator const instance;
    return instance;
}

} // namespace codetr
