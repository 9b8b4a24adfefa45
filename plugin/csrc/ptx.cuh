// PTX instructions that CUDA C++ has no functions for; all are of compute capability 8.0.
//
// Matrices are fragments: lane 4 g + t of a warp holds the elements (g, 2 t) and (g, 2 t + 1) of
// each 8x8 part. A 16x16 operand has the parts in the order upper left, lower left, upper right,
// lower right; a 16x8 sum is in the order (g, 2 t), (g, 2 t + 1), (g + 8, 2 t), (g + 8, 2 t + 1).
#ifndef CODETR_PTX // tests/plugin/window_emulation.cpp has these functions for the CPU
#define CODETR_PTX

#include <cuda_fp16.h>

#include <cstdint>
#include <type_traits>

namespace codetr {

__device__ inline uint32_t shared_address(void const* pointer) {
    return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

// threadIdx.x, which the compiler may not remember.
__device__ inline uint32_t thread_index() {
    uint32_t index;
    asm volatile("mov.u32 %0, %%tid.x;" : "=r"(index));
    return index;
}

// Copies 16 bytes from global to shared memory in the background. The neighbouring head's half of
// the 128 bytes is read by another block at about the same time.
__device__ inline void copy_16(uint32_t to, void const* from) {
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16;" ::"r"(to), "l"(from)
                 : "memory");
}

// The same, or 16 bytes of zeros without reading.
__device__ inline void copy_16_or_zeros(uint32_t to, void const* from, bool zeros) {
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(to), "l"(from),
                 "r"(zeros ? 0 : 16)
                 : "memory");
}

// Waits for all copies of this thread.
__device__ inline void wait_for_copies() { asm volatile("cp.async.wait_all;" ::: "memory"); }

// Reads four 8x8 matrices; lane i gives the address of row i % 8 of matrix i / 8.
__device__ inline void load_matrices(uint32_t address, uint32_t (&to)[4]) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(address)
                 : "memory");
}

// The same, each matrix transposed.
__device__ inline void load_transposed(uint32_t address, uint32_t (&to)[4]) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(address)
                 : "memory");
}

// Adds the product of a 16x16 and a 16x8 matrix. Lane 4 g + t holds of the latter the elements
// (2 t, g) and (2 t + 1, g) in `upper`, and 8 rows below them in `lower`.
template <typename T>
__device__ inline void multiply_add(float (&sum)[4], uint32_t const (&left)[4], uint32_t upper,
                                    uint32_t lower) {
    if constexpr (std::is_same_v<T, __half>) {
        asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
            "{%8, %9}, {%0, %1, %2, %3};"
            : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
            : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "r"(upper), "r"(lower));
    } else {
        asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, "
            "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
            : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
            : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "r"(upper), "r"(lower));
    }
}

// 2 to the power of x; 0 for -inf.
__device__ inline float power_of_2(float x) {
    float power;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x));
    return power;
}

__device__ inline float reciprocal(float x) {
    float inverse;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(inverse) : "f"(x));
    return inverse;
}

} // namespace codetr

#endif
