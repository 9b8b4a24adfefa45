// Layer normalisation as plugins: of a tensor, also to fp8 or to both, of a sum, or of merged
// neighbours. Tensors and launch; they have no attributes. To fp8 alone, weight and bias are those of
// the norm by the scale of the output.
#include "layer_norm.h"
#include "operator.h"

#include <algorithm>
#include <cstdio>

namespace codetr {

namespace trt = nvinfer1;

namespace {

// In the order of the ONNX node; then the outputs. The fourth is of some kinds only.
enum Tensor { kX, kWeight, kBias, kFourth };

enum class Kind { kPlain, kToFp8, kAndFp8, kAdding, kMerging };

constexpr Wanted kWantedX = {
    "x", 4, "(B, H, W, C) or (B, S, C) with below 2^31 rows and C a multiple of 8, at most 4096",
    "float16 or bfloat16", 3};
constexpr Wanted kHalfX = {"x", kWantedX.rank, kWantedX.shape, "float16", kWantedX.other_rank};
constexpr Wanted kMap = {
    "x", 4, "(B, H, W, C) with even H and W, below 2^31 rows and C a multiple of 8, at most 1024",
    "float16 or bfloat16"};
constexpr Wanted kWantedWeight = {"weight", 1, "(C)", "float32"};
constexpr Wanted kWantedBias = {"bias", 1, "(C)", "float32"};
constexpr Wanted kWideWeight = {"weight", 1, "(4C)", "float32"};
constexpr Wanted kWideBias = {"bias", 1, "(4C)", "float32"};
constexpr Wanted kWantedAdded = {"added", 4, "as x", "the type of x", 3};
constexpr Wanted kSame = {"output", 4, "as x", "the type of x", 3};
constexpr Wanted kFp8 = {"output", 4, "as x", "fp8", 3};
constexpr Wanted kInverseScale = {"inverse_scale", 1, "(1)", "float32"};
constexpr Wanted kQuantised = {"quantised", 4, "as x", "fp8", 3};
constexpr Wanted kMerged = {"output", 4, "(B, H/2, W/2, 4C)", "the type of x"};

constexpr std::array<Wanted, kMaxTensors> wanted_by(Kind kind) {
    switch (kind) {
    case Kind::kToFp8: return {{kHalfX, kWantedWeight, kWantedBias, kFp8}};
    case Kind::kAndFp8:
        return {{kHalfX, kWantedWeight, kWantedBias, kInverseScale, kSame, kQuantised}};
    case Kind::kAdding: return {{kWantedX, kWantedWeight, kWantedBias, kWantedAdded, kSame}};
    case Kind::kMerging: return {{kMap, kWideWeight, kWideBias, kMerged}};
    default: return {{kWantedX, kWantedWeight, kWantedBias, kSame}};
    }
}

int64_t channels_of(trt::Dims const& x) { return x.d[x.nbDims - 1]; }

bool are_equal(trt::Dims const& a, trt::Dims const& b) {
    return a.nbDims == b.nbDims && std::equal(a.d, a.d + a.nbDims, b.d, agree);
}

constexpr int32_t inputs_of(Kind kind) {
    return kind == Kind::kAdding || kind == Kind::kAndFp8 ? kFourth + 1 : kFourth;
}

bool is_half_of(int64_t half, int64_t size) {
    return size == -1 || (size % 2 == 0 && agree(half, size / 2));
}

class LayerNormOperator final : public Operator {
  public:
    LayerNormOperator(char const* op_type, Kind kind) noexcept
        : Operator(op_type, {}, wanted_by(kind), inputs_of(kind), kind == Kind::kAndFp8 ? 2 : 1),
          kind_(kind) {}

    int32_t find_wrong(Shapes const& shapes, Values const&) const noexcept override {
        trt::Dims const& x = shapes[kX];
        trt::Dims const& output = shapes[inputs];
        int64_t const own = channels_of(x);
        bool const merges = kind_ == Kind::kMerging;
        int64_t const channels = merges && own != -1 ? 4 * own : own;
        bool const sizes_fit = rows_of(x) < int64_t{1} << 31 && channels <= kMaxLayerNormChannels
                               && (own == -1 || own % 8 == 0);
        bool const is_even = x.d[1] % 2 != 1 && x.d[2] % 2 != 1; // what is not known is -1
        bool const merged = agree(output.d[0], x.d[0]) && is_half_of(output.d[1], x.d[1])
                            && is_half_of(output.d[2], x.d[2])
                            && agree(channels_of(output), channels);
        bool const is_one = agree(shapes[kFourth].d[0], 1);
        std::array<bool, kFourth + 3> const fits = {
            sizes_fit && (!merges || is_even),
            agree(shapes[kWeight].d[0], channels),
            agree(shapes[kBias].d[0], channels),
            // What is added, or the output.
            kind_ == Kind::kAndFp8 ? is_one : merges ? merged : are_equal(shapes[kFourth], x),
            are_equal(output, x),
            are_equal(shapes[inputs + outputs - 1], x),
        };
        auto const wrong = std::find(fits.begin(), fits.begin() + inputs + outputs, false);
        return static_cast<int32_t>(wrong - fits.begin());
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
        case kX: return gives_fp8() ? type == trt::DataType::kHALF : is_half(type);
        case kWeight:
        case kBias: return type == trt::DataType::kFLOAT;
        default: break;
        }
        if (tensor >= inputs) {
            return type == output_type(tensor - inputs, first);
        }
        return type == (kind_ == Kind::kAndFp8 ? trt::DataType::kFLOAT : first);
    }

    trt::DataType output_type(int32_t output, trt::DataType first) const noexcept override {
        return gives_fp8() && output == outputs - 1 ? trt::DataType::kFP8 : first;
    }

    trt::DimsExprs output_shape(trt::DimsExprs const* in,
                                trt::IExprBuilder& builder) const noexcept override {
        trt::DimsExprs shape = in[kX];
        if (kind_ == Kind::kMerging) {
            for (int32_t axis : {1, 2}) {
                shape.d[axis] = builder.operation(trt::DimensionOperation::kFLOOR_DIV,
                                                  *shape.d[axis], *builder.constant(2));
            }
            shape.d[3] = in[kWeight].d[0];
        }
        return shape;
    }

    cudaError_t launch(trt::PluginTensorDesc const* in, void const* const* from, void* const* to,
                       void*, Values const&, int32_t, cudaStream_t stream) const noexcept override {
        trt::Dims const& x = in[kX].dims;
        LayerNorm problem{};
        problem.x = from[kX];
        problem.weight = static_cast<float const*>(from[kWeight]);
        problem.bias = static_cast<float const*>(from[kBias]);
        problem.output = to[0];
        problem.type = type_of(in[kX].type);
        problem.output_type = type_of(output_type(0, in[kX].type));
        problem.rows = static_cast<int32_t>(rows_of(x));
        problem.channels = static_cast<int32_t>(channels_of(x));
        if (kind_ == Kind::kAdding) {
            problem.added = from[kFourth];
            if (problem.added == nullptr) {
                return cudaErrorInvalidValue; // otherwise x alone would be normalised
            }
        }
        if (kind_ == Kind::kAndFp8) {
            problem.quantised = to[1];
            problem.inverse_scale = static_cast<float const*>(from[kFourth]);
            if (problem.quantised == nullptr) {
                return cudaErrorInvalidValue; // otherwise nothing would be quantised
            }
        }
        if (kind_ == Kind::kMerging) {
            problem.rows /= 4;
            problem.channels = static_cast<int32_t>(in[kWeight].dims.d[0]);
            problem.merged_width = static_cast<int32_t>(x.d[2] / 2);
            if (problem.merged_width == 0) {
                return problem.rows == 0 ? cudaSuccess : cudaErrorInvalidValue;
            }
        }
        return layer_norm(problem, stream);
    }

  private:
    bool gives_fp8() const noexcept { return kind_ == Kind::kToFp8 || kind_ == Kind::kAndFp8; }

    Kind const kind_;
};

} // namespace

Operator const& layer_norm_operator() noexcept {
    static LayerNormOperator const instance("CoDetrLayerNorm", Kind::kPlain);
    return instance;
}

Operator const& layer_norm_to_fp8_operator() noexcept {
    static LayerNormOperator const instance("CoDetrLayerNormToFp8", Kind::kToFp8);
    return instance;
}

Operator const& layer_norm_and_fp8_operator() noexcept {
    static LayerNormOperator const instance("CoDetrLayerNormAndFp8", Kind::kAndFp8);
    return instance;
}

Operator const& add_layer_norm_operator() noexcept {
    static LayerNormOperator const instance("CoDetrAddLayerNorm", Kind::kAdding);
    return instance;
}

Operator const& merge_layer_norm_operator() noexcept {
    static LayerNormOperator const instance("CoDetrMergeLayerNorm", Kind::kMerging);
    return instance;
}

} // namespace codetr
