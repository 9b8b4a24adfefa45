// Layer normalisation as two plugins, one of which gives fp8: tensors and launch; they have no
// attributes. For fp8, weight and bias are those of the norm by the scale of the output.
#include "layer_norm.h"
#include "operator.h"

#include <algorithm>
#include <cstdio>

namespace codetr {

namespace trt = nvinfer1;

namespace {

// In the order of the ONNX node.
enum Tensor { kX, kWeight, kBias, kOutput, kTensors };

// Letters as in layer_norm.h, with the rows as the sizes of a map or a list.
constexpr std::array<Wanted, kMaxTensors> kWanted = {{
    {"x", 4, "(B, H, W, C) or (B, S, C) with below 2^31 rows and C a multiple of 8, at most 4096",
     "float16 or bfloat16", 3},
    {"weight", 1, "(C)", "float32"},
    {"bias", 1, "(C)", "float32"},
    {"output", 4, "as x", "the type of x", 3},
}};
constexpr std::array<Wanted, kMaxTensors> kWantedToFp8 = {{
    {kWanted[kX].name, 4, kWanted[kX].shape, "float16", 3},
    kWanted[kWeight],
    kWanted[kBias],
    {"output", 4, "as x", "fp8", 3},
}};

int64_t channels_of(trt::Dims const& x) { return x.d[x.nbDims - 1]; }

class LayerNormOperator final : public Operator {
  public:
    LayerNormOperator() noexcept
        : Operator("CoDetrLayerNorm", {}, kWanted, kOutput), to_fp8_(false) {}

    // To fp8.
    explicit LayerNormOperator(char const* op_type) noexcept
        : Operator(op_type, {}, kWantedToFp8, kOutput), to_fp8_(true) {}

    int32_t find_wrong(Shapes const& shapes, Values const&) const noexcept override {
        trt::Dims const& x = shapes[kX];
        trt::Dims const& output = shapes[kOutput];
        int64_t const channels = channels_of(x);
        std::array<bool, kTensors> const fits = {
            rows_of(x) < int64_t{1} << 31 && channels <= kMaxLayerNormChannels
                && (channels == -1 || channels % 8 == 0),
            agree(shapes[kWeight].d[0], channels),
            agree(shapes[kBias].d[0], channels),
            output.nbDims == x.nbDims && std::equal(output.d, output.d + x.nbDims, x.d, agree),
        };
        return static_cast<int32_t>(std::find(fits.begin(), fits.end(), false) - fits.begin());
    }

    Letters letters(Shapes const& shapes, Values const&) const noexcept override {
        Letters text{};
        std::snprintf(text.data(), text.size(), "%lld rows, C=%lld",
                      static_cast<long long>(rows_of(shapes[kX])),
                      static_cast<long long>(channels_of(shapes[kX])));
        return text;
    }

    bool type_fits(int32_t tensor, trt::DataType type, trt::DataType first) const noexcept override {
        switch (tensor) {
        case kX: return to_fp8_ ? type == trt::DataType::kHALF : is_half(type);
        case kOutput: return type == output_type(first);
        default: return type == trt::DataType::kFLOAT;
        }
    }

    trt::DataType output_type(trt::DataType first) const noexcept override {
        return to_fp8_ ? trt::DataType::kFP8 : first;
    }

    trt::DimsExprs output_shape(trt::DimsExprs const* in,
                                trt::IExprBuilder&) const noexcept override {
        return in[kX];
    }

    cudaError_t launch(trt::PluginTensorDesc const* in, void const* const* from, void* to, void*,
                       Values const&, int32_t, cudaStream_t stream) const noexcept override {
        LayerNorm problem{};
        problem.x = from[kX];
        problem.weight = static_cast<float const*>(from[kWeight]);
        problem.bias = static_cast<float const*>(from[kBias]);
        problem.output = to;
        problem.type = type_of(in[kX].type);
        problem.output_type = type_of(output_type(in[kX].type));
        problem.rows = static_cast<int32_t>(rows_of(in[kX].dims));
        problem.channels = static_cast<int32_t>(channels_of(in[kX].dims));
        return layer_norm(problem, stream);
    }

  private:
    bool const to_fp8_;
};

} // namespace

Operator const& layer_norm_operator() noexcept {
    static LayerNormOperator const instance;
    return instance;
}

Operator const& layer_norm_to_fp8_operator() noexcept {
    static LayerNormOperator const instance("CoDetrLayerNormToFp8");
    return instance;
}

} // namespace codetr
