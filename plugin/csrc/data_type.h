#pragma once

#include <cstdint>

namespace codetr {

// Of what the kernels read and write.
enum class DataType : int32_t { kFloat32 = 0, kFloat16 = 1, kBfloat16 = 2, kFloat8 = 3 };

// kFloat8 is E4M3: what is above its largest value, 448, becomes that.

} // namespace codetr
