#include "tensors.h"

#include <array>
#include <cstdio>
#include <limits>

namespace codetr {

namespace trt = nvinfer1;

namespace {

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
    case trt::DataType::kFP8: return "fp8";
    case trt::DataType::kINT8: return "int8";
    case trt::DataType::kINT32: return "int32";
    case trt::DataType::kINT64: return "int64";
    case trt::DataType::kUINT8: return "uint8";
    case trt::DataType::kBOOL: return "bool";
    default: return "of another type";
    }
}

bool sizes_fit_int32(Operator const& op, int32_t tensor, trt::Dims const& shape,
                     Label const& label) {
    for (int32_t i = 0; i < shape.nbDims; ++i) {
        if (shape.d[i] < -1 || shape.d[i] > std::numeric_limits<int32_t>::max()) {
            report(label, "%s is %s; wanted sizes from 0 to 2^31 - 1", op.tensors[tensor].name,
                   text_of(shape).data());
            return false;
        }
    }
    return true;
}

} // namespace

bool is_half(trt::DataType type) noexcept {
    return type == trt::DataType::kHALF || type == trt::DataType::kBF16;
}

DataType type_of(trt::DataType type) noexcept {
    switch (type) {
    case trt::DataType::kHALF: return DataType::kFloat16;
    case trt::DataType::kBF16: return DataType::kBfloat16;
    case trt::DataType::kFP8: return DataType::kFloat8;
    default: return DataType::kFloat32;
    }
}

bool counts_fit(Operator const& op, int32_t inputs, int32_t outputs, Label const& label) noexcept {
    bool const fit = inputs == op.inputs && outputs == op.outputs;
    if (!fit) {
        report(label, "got %d inputs and %d outputs; wanted %d and %d", inputs, outputs, op.inputs,
               op.outputs);
    }
    return fit;
}

bool rank_fits(Operator const& op, int32_t tensor, int32_t rank, Label const& label) noexcept {
    Wanted const& wanted = op.tensors[tensor];
    bool const fits = rank == wanted.rank || (wanted.other_rank != 0 && rank == wanted.other_rank);
    if (!fits) {
        report(label, "%s has rank %d; wanted %s", wanted.name, rank, wanted.shape);
    }
    return fits;
}

bool shapes_fit(Operator const& op, Shapes const& shapes, Values const& values,
                Label const& label) noexcept {
    int32_t const tensors = op.inputs + op.outputs;
    for (int32_t i = 0; i < tensors; ++i) {
        if (!rank_fits(op, i, shapes[i].nbDims, label)
            || !sizes_fit_int32(op, i, shapes[i], label)) {
            return false;
        }
    }
    int32_t const wrong = op.find_wrong(shapes, values);
    if (wrong >= tensors) {
        return true;
    }
    report(label, "%s is %s; wanted %s, where %s", op.tensors[wrong].name,
           text_of(shapes[wrong]).data(), op.tensors[wrong].shape,
           op.letters(shapes, values).data());
    return false;
}

void report_types(Operator const& op, trt::DataType const* inputs, Label const& label) noexcept {
    for (int32_t i = 0; i < op.inputs; ++i) {
        if (!op.type_fits(i, inputs[i], inputs[0])) {
            report(label, "%s is %s; wanted %s", op.tensors[i].name, name_of(inputs[i]),
                   op.tensors[i].type);
        }
    }
}

} // namespace codetr
