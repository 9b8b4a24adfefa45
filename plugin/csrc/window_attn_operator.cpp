// Window attention as two plugins, one of which gives fp8: attributes, tensors and launch.
#include "operator.h"
#include "window_attn.h"

#include <algorithm>
#include <cstdio>

namespace codetr {

namespace trt = nvinfer1;

namespace {

// In the order of the ONNX node; then the scale, if the output is fp8, and the output.
enum Tensor { kQkv, kPadding, kBias, kScale };

// Letters as in window_attn.h; C = 32 M.
constexpr std::array<Wanted, kMaxTensors> kWanted = {{
    {"qkv", 4, "(B, H, W, 3C)", "float16 or bfloat16"},
    {"padding", 1, "(3C)", "the type of qkv"},
    {"bias", 3, "(M, N, N) with M = C / 32 and N the tokens of a window", "the type of qkv"},
    {"output", 4, "(B, H, W, C)", "the type of qkv"},
}};
constexpr std::array<Wanted, kMaxTensors> kWantedToFp8 = {{
    {"qkv", 4, "(B, H, W, 3C)", "float16"},
    kWanted[kPadding],
    kWanted[kBias],
    {"inverse_scale", 1, "(1)", "float32"},
    {"output", 4, "(B, H, W, C)", "fp8"},
}};

constexpr std::array<Attribute, kMaxAttributes> kAttributes = {
    {{"window_size", 1}, {"shift", 0}, {"add_bias", 0, 1}}};

class WindowAttnOperator final : public Operator {
  public:
    WindowAttnOperator() noexcept
        : Operator("CoDetrWindowAttention", kAttributes, kWanted, kScale), to_fp8_(false) {}

    // To fp8.
    explicit WindowAttnOperator(char const* op_type) noexcept
        : Operator(op_type, kAttributes, kWantedToFp8, kScale + 1), to_fp8_(true) {}

    int32_t find_wrong(Shapes const& shapes, Values const& values) const noexcept override {
        auto const& qkv = shapes[kQkv].d;
        auto const& bias = shapes[kBias].d;
        auto const& output = shapes[inputs].d;
        int64_t const tokens = int64_t{values[0]} * values[0];
        int64_t const heads = bias[0];
        bool const known = heads != -1;
        bool const output_fits = agree(output[0], qkv[0]) && agree(output[1], qkv[1])
                                 && agree(output[2], qkv[2])
                                 && (!known || agree(output[3], kHeadSize * heads));
        std::array<bool, kScale + 2> const fits = {
            qkv[3] == -1 || qkv[3] % (3 * kHeadSize) == 0,
            agree(shapes[kPadding].d[0], qkv[3]),
            (!known || agree(qkv[3], 3 * kHeadSize * heads)) && agree(bias[1], tokens)
                && agree(bias[2], tokens),
            to_fp8_ ? agree(shapes[kScale].d[0], 1) : output_fits,
            output_fits,
        };
        auto const wrong = std::find(fits.begin(), fits.begin() + inputs + 1, false);
        return static_cast<int32_t>(wrong - fits.begin());
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
        if (tensor == inputs) {
            return type == output_type(0, first);
        }
        switch (tensor) {
        case kQkv: return to_fp8_ ? type == trt::DataType::kHALF : is_half(type);
        case kScale: return type == trt::DataType::kFLOAT;
        default: return type == first;
        }
    }

    trt::DataType output_type(int32_t, trt::DataType first) const noexcept override {
        return to_fp8_ ? trt::DataType::kFP8 : first;
    }

    trt::DimsExprs output_shape(trt::DimsExprs const* in,
                                trt::IExprBuilder& builder) const noexcept override {
        trt::DimsExprs shape = in[kQkv];
        shape.d[3] = builder.operation(trt::DimensionOperation::kFLOOR_DIV, *shape.d[3],
                                       *builder.constant(3));
        return shape;
    }

    cudaError_t launch(trt::PluginTensorDesc const* in, void const* const* from, void* const* to,
                       void*, Values const& values, int32_t,
                       cudaStream_t stream) const noexcept override {
        auto const size = [in](Tensor tensor, int dimension) {
            return static_cast<int32_t>(in[tensor].dims.d[dimension]);
        };
        WindowAttn problem{};
        problem.qkv = from[kQkv];
        problem.padding = from[kPadding];
        problem.bias = from[kBias];
        if (to_fp8_) {
            problem.inverse_scale = static_cast<float const*>(from[kScale]);
            if (problem.inverse_scale == nullptr) {
                return cudaErrorInvalidValue; // otherwise the output would not be fp8
            }
        }
        problem.output = to[0];
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

  private:
    bool const to_fp8_;
};

} // namespace

Operator const& window_attn_operator() noexcept {
    static WindowAttnOperator const instance;
    return instance;
}

Operator const& window_attn_to_fp8_operator() noexcept {
    static WindowAttnOperator const instance("CoDetrWindowAttentionToFp8");
    return instance;
}

} // namespace codetr
