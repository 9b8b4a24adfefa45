// Group normalisation as a plugin: its attribute, tensors and launch.
#include "group_norm.h"
#include "operator.h"

#include <algorithm>
#include <cstdio>

namespace codetr {

namespace trt = nvinfer1;

namespace {

// In the order of the ONNX node.
enum Tensor { kX, kWeight, kBias, kOutput, kTensors };

// Letters as in group_norm.h.
constexpr std::array<Wanted, kMaxTensors> kWanted = {{
    {"x", 4, "(B, H, W, C) with C / G of 4 or a multiple of 8, at most 2048",
     "float16 or bfloat16"},
    {"weight", 1, "(C)", "float32"},
    {"bias", 1, "(C)", "float32"},
    {"output", 4, "(B, H, W, C)", "the type of x"},
}};

bool channels_fit(int64_t channels, int64_t groups) {
    return channels == -1
           || (channels <= kMaxNormChannels && channels % 8 == 0
               && (channels == 4 * groups || channels % (8 * groups) == 0));
}

class GroupNormOperator final : public Operator {
  public:
    GroupNormOperator() noexcept
        : Operator("CoDetrGroupNorm", {{{"num_groups", 1}}}, kWanted, kOutput) {}

    int32_t find_wrong(Shapes const& shapes, Values const& values) const noexcept override {
        auto const& x = shapes[kX].d;
        auto const& output = shapes[kOutput].d;
        std::array<bool, kTensors> const fits = {
            channels_fit(x[3], values[0]),
            agree(shapes[kWeight].d[0], x[3]),
            agree(shapes[kBias].d[0], x[3]),
            std::equal(output, output + 4, x, agree),
        };
        return static_cast<int32_t>(std::find(fits.begin(), fits.end(), false) - fits.begin());
    }

    Letters letters(Shapes const& shapes, Values const& values) const noexcept override {
        Letters text{};
        std::snprintf(text.data(), text.size(), "B=%lld H=%lld W=%lld C=%lld G=%d",
                      static_cast<long long>(shapes[kX].d[0]),
                      static_cast<long long>(shapes[kX].d[1]),
                      static_cast<long long>(shapes[kX].d[2]),
                      static_cast<long long>(shapes[kX].d[3]), values[0]);
        return text;
    }

    bool type_fits(int32_t tensor, trt::DataType type, trt::DataType first) const noexcept override {
        switch (tensor) {
        case kX: return is_half(type);
        case kOutput: return type == first;
        default: return type == trt::DataType::kFLOAT;
        }
    }

    trt::DimsExprs output_shape(trt::DimsExprs const* in,
                                trt::IExprBuilder&) const noexcept override {
        return in[kX];
    }

    size_t workspace_size(Shapes const& largest, Values const& values) const noexcept override {
        auto const batch = std::clamp(largest[kX].d[0], int64_t{0}, int64_t{kMaxNormBatch});
        return group_norm_workspace(static_cast<int32_t>(batch), values[0]);
    }

    cudaError_t launch(trt::PluginTensorDesc const* in, void const* const* from, void* const* to,
                       void* workspace, Values const& values, int32_t,
                       cudaStream_t stream) const noexcept override {
        auto const size = [in](int dimension) {
            return static_cast<int32_t>(in[kX].dims.d[dimension]);
        };
        GroupNorm problem{};
        problem.x = from[kX];
        problem.weight = static_cast<float const*>(from[kWeight]);
        problem.bias = static_cast<float const*>(from[kBias]);
        problem.output = to[0];
        problem.workspace = workspace;
        problem.type = type_of(in[kX].type);
        problem.batch = size(0);
        problem.height = size(1);
        problem.width = size(2);
        problem.channels = size(3);
        problem.groups = values[0];
        return group_norm(problem, stream);
    }
};

} // namespace

Operator const& group_norm_operator() noexcept {
    static GroupNormOperator const instance;
    return instance;
}

} // namespace codetr
