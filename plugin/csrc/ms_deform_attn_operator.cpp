// Multi-scale deformable attention as a plugin: its attributes, tensors and launch.
#include "ms_deform_attn.h"
#include "operator.h"

#include <algorithm>
#include <cstdio>

namespace codetr {

namespace trt = nvinfer1;

namespace {

// In the order of the ONNX node.
enum Tensor { kValue, kSampling, kReference, kLevelSizes, kValidSizes, kOutput, kTensors };

// Letters as in ms_deform_attn.h.
constexpr std::array<Wanted, kMaxTensors> kWanted = {{
    {"value", 3, "(B, S, C) with C a multiple of M", "float32, float16 or bfloat16"},
    {"sampling", 3, "(B, Q, M*L*P*3)", "the type of value"},
    {"reference", 3, "(B or 1, Q, 2 or 4)", "float32"},
    {"level_sizes", 2, "(L, 2)", "int32"},
    {"valid_sizes", 3, "(B or 1, L, 2)", "int32"},
    {"output", 3, "(B, Q, C)", "the type of value"},
}};

bool agree_or_one(int64_t a, int64_t b) { return a == 1 || agree(a, b); }

class MsDeformAttnOperator final : public Operator {
  public:
    MsDeformAttnOperator() noexcept
        : Operator("CoDetrMSDeformAttn", {{{"num_heads", 1}, {"num_points", 1}}}, kWanted, kOutput) {
    }

    int32_t find_wrong(Shapes const& shapes, Values const& values) const noexcept override {
        auto const& value = shapes[kValue].d;
        auto const& sampling = shapes[kSampling].d;
        auto const& reference = shapes[kReference].d;
        auto const& level_sizes = shapes[kLevelSizes].d;
        auto const& valid_sizes = shapes[kValidSizes].d;
        auto const& output = shapes[kOutput].d;
        int64_t const heads = values[0], points = values[1];
        int64_t const batch = value[0], channels = value[2], queries = sampling[1];
        int64_t const levels = level_sizes[0];
        int64_t const level_values = times(times(3, heads), points);
        std::array<bool, kTensors> const fits = {
            channels == -1 || channels % heads == 0,
            agree(sampling[0], batch)
                && (levels == -1 || agree(sampling[2], times(levels, level_values))),
            agree_or_one(reference[0], batch) && agree(reference[1], queries)
                && (agree(reference[2], 2) || agree(reference[2], 4)),
            agree(level_sizes[1], 2),
            agree_or_one(valid_sizes[0], batch) && agree(valid_sizes[1], levels)
                && agree(valid_sizes[2], 2),
            agree(output[0], batch) && agree(output[1], queries) && agree(output[2], channels),
        };
        return static_cast<int32_t>(std::find(fits.begin(), fits.end(), false) - fits.begin());
    }

    Letters letters(Shapes const& shapes, Values const& values) const noexcept override {
        Letters text{};
        std::snprintf(text.data(), text.size(), "B=%lld C=%lld Q=%lld M=%d L=%lld P=%d",
                      static_cast<long long>(shapes[kValue].d[0]),
                      static_cast<long long>(shapes[kValue].d[2]),
                      static_cast<long long>(shapes[kSampling].d[1]), values[0],
                      static_cast<long long>(shapes[kLevelSizes].d[0]), values[1]);
        return text;
    }

    bool type_fits(int32_t tensor, trt::DataType type, trt::DataType first) const noexcept override {
        switch (tensor) {
        case kValue: return type == trt::DataType::kFLOAT || is_half(type);
        case kReference: return type == trt::DataType::kFLOAT;
        case kLevelSizes:
        case kValidSizes: return type == trt::DataType::kINT32;
        default: return type == first; // sampling and output
        }
    }

    trt::DimsExprs output_shape(trt::DimsExprs const* in,
                                trt::IExprBuilder&) const noexcept override {
        trt::DimsExprs shape{};
        shape.nbDims = 3;
        shape.d[0] = in[kValue].d[0];
        shape.d[1] = in[kSampling].d[1];
        shape.d[2] = in[kValue].d[2];
        return shape;
    }

    cudaError_t launch(trt::PluginTensorDesc const* in, void const* const* from, void* const* to,
                       void*, Values const& values, int32_t,
                       cudaStream_t stream) const noexcept override {
        auto const size = [in](Tensor tensor, int dimension) {
            return static_cast<int32_t>(in[tensor].dims.d[dimension]);
        };
        MsDeformAttn problem{};
        problem.value = from[kValue];
        problem.sampling = from[kSampling];
        problem.reference = static_cast<float const*>(from[kReference]);
        problem.level_sizes = static_cast<int32_t const*>(from[kLevelSizes]);
        problem.valid_sizes = static_cast<int32_t const*>(from[kValidSizes]);
        problem.output = to[0];
        problem.type = type_of(in[kValue].type);
        problem.batch = size(kValue, 0);
        problem.tokens = size(kValue, 1);
        problem.queries = size(kSampling, 1);
        problem.channels = size(kValue, 2);
        problem.heads = values[0];
        problem.levels = size(kLevelSizes, 0);
        problem.points = values[1];
        problem.reference_batch = size(kReference, 0);
        problem.reference_size = size(kReference, 2);
        problem.valid_batch = size(kValidSizes, 0);
        return ms_deform_attn(problem, stream);
    }
};

} // namespace

Operator const& ms_deform_attn_operator() noexcept {
    static MsDeformAttnOperator const instance;
    return instance;
}

} // namespace codetr
