// Whether tensors are those that an operator takes, and how wrong ones are reported.
#pragma once

#include "operator.h"
#include "report.h"

namespace codetr {

// Of an array: one that is not there holds nothing.
inline int32_t count(void const* array, int32_t length) { return array != nullptr ? length : 0; }

// These report what does not fit.

bool counts_fit(Operator const& op, int32_t inputs, int32_t outputs, Label const& label) noexcept;

bool rank_fits(Operator const& op, int32_t tensor, int32_t rank, Label const& label) noexcept;

bool shapes_fit(Operator const& op, Shapes const& shapes, Values const& values,
                Label const& label) noexcept;

void report_types(Operator const& op, nvinfer1::DataType const* inputs,
                  Label const& label) noexcept;

} // namespace codetr
