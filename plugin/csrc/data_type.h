#pragma once

#include <cstdint>

namespace codetr {

// Of what the kernels read and write.
enum class DataType : int32_t { kFloat32 = 0, kFloat16 = 1, kBfloat16 = 2 };

} // namespace codetr
