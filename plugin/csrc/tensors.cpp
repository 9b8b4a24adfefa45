#include "tensors.h"

#include "report.h"

#include <algorithm>
#include <cstdio>
#include <limits>

namespace codetr {

namespace trt = nvinfer1;

namespace {

struct Wanted {
    char const* name;
    int32_t rank;
    char const* shape;
    char const* type;
};

// Letters as in ms_deform_attn.h.
constexpr Wanted kWanted[kTensors] = {
    {"value", 3, "(B, S, C) with C a multiple of M", "float32, float16 or bfloat16"},
    {"sampling", 3, "(B, Q, M*L*P*3)", "the type of value"},
    {"reference", 3, "(B or 1, Q, 2 or 4)", "float32"},
    {"level_sizes", 2, "(L, 2)", "int32"},
    {"valid_sizes", 3, "(B or 1, L, 2)", "int32"},
    {"output", 3, "(B, Q, C)", "the type of value"},
};

using Text = std::array<char, 192>; // eight sizes of int64 at most

Text text_of(trt::Dims const& shape) {
    Text text{};
    int length = 0;
    for (int32_t i = 0; i < shape.nbDims; ++i) {
        length += std::snprintf(text.data() + length, text.size() - length, "%s%lld",
                                i == 0 ? "(" : ", ", static_cast<long long>(shape.d[i]));
    }
    std::snprintf(text.data() + length, text.size() - length, ")");
    return text;
}

char const* name_of(trt::DataType type) {
    switch (type) {
    case trt::DataType::kFLOAT: return "float32";
    case trt::DataType::kHALF: return "float16";
    case trt::DataType::kBF16: return "bfloat16";
    case trt::DataType::kINT8: return "int8";
    case trt::DataType::kINT32: return "int32";
    case trt::DataType::kINT64: return "int64";
    case trt::DataType::kUINT8: return "uint8";
    case trt::DataType::kBOOL: return "bool";
    default: return "of another type";
    }
}

bool agree(int64_t a, int64_t b) { return a == b || a == -1 || b == -1; }

bool agree_or_one(int64_t a, int64_t b) { return a == 1 || agree(a, b); }

bool sizes_fit_int32(Tensor tensor, trt::Dims const& shape, char const* layer) {
    for (int32_t i = 0; i < shape.nbDims; ++i) {
        if (shape.d[i] > std::numeric_limits<int32_t>::max()) {
            report(layer, "%s is %s; wanted sizes below 2^31", kWanted[tensor].name,
                   text_of(shape).data());
            return false;
        }
    }
    return true;
}

} // namespace

bool counts_fit(int32_t inputs, int32_t outputs, char const* layer) noexcept {
    bool const fit = inputs == kInputs && outputs == kOutputs;
    if (!fit) {
        report(layer, "got %d inputs and %d outputs; wanted %d and %d", inputs, outputs, kInputs,
               kOutputs);
    }
    return fit;
}

bool rank_fits(Tensor tensor, int32_t rank, char const* layer) noexcept {
    Wanted const& wanted = kWanted[tensor];
    if (rank != wanted.rank) {
        report(layer, "%s has rank %d; wanted %s", wanted.name, rank, wanted.shape);
    }
    return rank == wanted.rank;
}

bool shapes_fit(Shapes const& shapes, Attributes const& attributes, char const* layer) noexcept {
    for (int i = 0; i < kTensors; ++i) {
        auto const tensor = static_cast<Tensor>(i);
        if (!rank_fits(tensor, shapes[i].nbDims, layer)
            || !sizes_fit_int32(tensor, shapes[i], layer)) {
            return false;
        }
    }
    auto const& value = shapes[kValue].d;
    auto const& sampling = shapes[kSampling].d;
    auto const& reference = shapes[kReference].d;
    auto const& level_sizes = shapes[kLevelSizes].d;
    auto const& valid_sizes = shapes[kValidSizes].d;
    auto const& output = shapes[kOutput].d;
    int64_t const batch = value[0], channels = value[2], queries = sampling[1];
    int64_t const levels = level_sizes[0];
    int64_t const level_values = int64_t{3} * attributes.heads * attributes.points;
    std::array<bool, kTensors> const fits = {
        channels == -1 || channels % attributes.heads == 0,
        agree(sampling[0], batch) && (levels == -1 || agree(sampling[2], levels * level_values)),
        agree_or_one(reference[0], batch) && agree(reference[1], queries)
            && (agree(reference[2], 2) || agree(reference[2], 4)),
        agree(level_sizes[1], 2),
        agree_or_one(valid_sizes[0], batch) && agree(valid_sizes[1], levels)
            && agree(valid_sizes[2], 2),
        agree(output[0], batch) && agree(output[1], queries) && agree(output[2], channels),
    };
    auto const wrong = std::find(fits.begin(), fits.end(), false) - fits.begin();
    if (wrong == kTensors) {
        return true;
    }
    report(layer, "%s is %s; wanted %s, where B=%lld C=%lld Q=%lld M=%d L=%lld P=%d",
           kWanted[wrong].name, text_of(shapes[wrong]).data(), kWanted[wrong].shape,
           static_cast<long long>(batch), static_cast<long long>(channels),
           static_cast<long long>(queries), attributes.heads, static_cast<long long>(levels),
           attributes.points);
    return false;
}

bool type_fits(Tensor tensor, trt::DataType type, trt::DataType value_type) noexcept {
    switch (tensor) {
    case kValue:
        return type == trt::DataType::kFLOAT || type == trt::DataType::kHALF
               || type == trt::DataType::kBF16;
    case kReference: return type == trt::DataType::kFLOAT;
    case kLevelSizes:
    case kValidSizes: return type == trt::DataType::kINT32;
    default: return type == value_type; // sampling and output
    }
}

void report_types(trt::DataType const* inputs, char const* layer) noexcept {
    for (int i = 0; i < kInputs; ++i) {
        if (!type_fits(static_cast<Tensor>(i), inputs[i], inputs[kValue])) {
            report(layer, "%s is %s; wanted %s", kWanted[i].name, name_of(inputs[i]),
                   kWanted[i].type);
        }
    }
}

} // namespace codetr
