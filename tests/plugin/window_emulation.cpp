// The kernel of plugin/csrc/window_attn.cuh on the CPU, with the functions of ptx.cuh written from
// the PTX ISA's description of the instructions. Copies in the background happen as late as they
// may, and shared memory is full of NaN at first, so that a missing wait shows.
#include "cuda_on_cpu.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>

#include <array>
#include <cstdio>
#include <cstdlib>

#define __shared__
#define CODETR_PTX // instead of ptx.cuh

namespace codetr {

constexpr uint32_t kFirstAddress = 1024; // of shared memory
alignas(128) char shared_memory[100480]; // of the largest window

} // namespace codetr

namespace {

struct Copy {
    uint32_t to;
    void const* from; // null: zeros
};
std::vector<std::vector<Copy>> copies; // by thread

// What the lanes of this warp passed to an instruction that all of them execute.
struct Operands {
    uint32_t address;
    uint32_t* loaded;
    float* sum;
    uint32_t left[4];
    uint32_t right[2];
};
std::vector<std::array<Operands, 32>> operands; // by warp
Operands& own_operands() { return operands[threadIdx.x / 32][threadIdx.x % 32]; }

long conflicts; // of 8 addresses that are read at once

template <typename T> float element(uint32_t pair, int which) {
    T values[2];
    std::memcpy(values, &pair, sizeof(values));
    return static_cast<float>(values[which]);
}

char* at(uint32_t address) {
    uint32_t const offset = address - codetr::kFirstAddress;
    if (address < codetr::kFirstAddress || offset + 16 > sizeof(codetr::shared_memory)
        || address % 16 != 0) {
        std::fprintf(stderr, "no 16 bytes of shared memory are at address %u\n", address);
        std::abort();
    }
    return codetr::shared_memory + offset;
}

} // namespace

namespace codetr {
namespace {

uint32_t shared_address(void const* pointer) {
    auto const offset = static_cast<char const*>(pointer) - shared_memory;
    return kFirstAddress + static_cast<uint32_t>(offset);
}

uint32_t thread_index() { return threadIdx.x; }

void copy_16(uint32_t to, void const* from) { copies[threadIdx.x].push_back({to, from}); }

void copy_16_or_zeros(uint32_t to, void const* from, bool zeros) {
    copy_16(to, zeros ? nullptr : from);
}

void wait_for_copies() {
    constexpr char kZeros[16]{};
    for (Copy const& copy : copies[threadIdx.x]) {
        std::memcpy(at(copy.to), copy.from != nullptr ? copy.from : kZeros, 16);
    }
    copies[threadIdx.x].clear();
}

// Rows of eight elements, the addresses of which eight lanes pass.
void load_matrix(std::array<Operands, 32>& lanes, int matrix, bool transposed) {
    uint16_t elements[8][8];
    unsigned banks = 0;
    for (int row = 0; row < 8; ++row) {
        uint32_t const address = lanes[8 * matrix + row].address;
        std::memcpy(elements[row], at(address), 16);
        banks |= 1U << (address / 16 % 8);
    }
    conflicts += banks != 0xFF;
    for (int lane = 0; lane < 32; ++lane) {
        int const row = lane / 4;
        int const column = lane % 4 * 2;
        uint32_t const first = transposed ? elements[column][row] : elements[row][column];
        uint32_t const second = transposed ? elements[column + 1][row] : elements[row][column + 1];
        lanes[lane].loaded[matrix] = first | second << 16;
    }
}

void load(uint32_t address, uint32_t (&to)[4], bool transposed) {
    own_operands().address = address;
    own_operands().loaded = to;
    meet(warp().meeting, [&] {
        for (int matrix = 0; matrix < 4; ++matrix) {
            load_matrix(operands[threadIdx.x / 32], matrix, transposed);
        }
    });
}
void load_matrices(uint32_t address, uint32_t (&to)[4]) { load(address, to, false); }
void load_transposed(uint32_t address, uint32_t (&to)[4]) { load(address, to, true); }

template <typename T> void multiply_add(std::array<Operands, 32>& lanes) {
    float left[16][16];
    float right[16][8];
    for (int lane = 0; lane < 32; ++lane) {
        int const group = lane / 4;
        for (int which = 0; which < 2; ++which) {
            int const pair = lane % 4 * 2 + which;
            for (int part = 0; part < 4; ++part) {
                left[group + part % 2 * 8][pair + part / 2 * 8] =
                    element<T>(lanes[lane].left[part], which);
            }
            for (int part = 0; part < 2; ++part) {
                right[pair + part * 8][group] = element<T>(lanes[lane].right[part], which);
            }
        }
    }
    for (int lane = 0; lane < 32; ++lane) {
        for (int part = 0; part < 4; ++part) {
            int const row = lane / 4 + part / 2 * 8;
            int const column = lane % 4 * 2 + part % 2;
            double sum = lanes[lane].sum[part];
            for (int i = 0; i < 16; ++i) {
                sum += double{left[row][i]} * right[i][column];
            }
            lanes[lane].sum[part] = static_cast<float>(sum);
        }
    }
}

template <typename T>
void multiply_add(float (&sum)[4], uint32_t const (&left)[4], uint32_t upper, uint32_t lower) {
    Operands& own = own_operands();
    own.sum = sum;
    std::copy(left, left + 4, own.left);
    own.right[0] = upper;
    own.right[1] = lower;
    meet(warp().meeting, [] { multiply_add<T>(operands[threadIdx.x / 32]); });
}

float power_of_2(float x) { return std::exp2(x); }
float reciprocal(float x) { return 1.0F / x; }

} // namespace
} // namespace codetr

#include "window_attn.cuh"

namespace {

template <typename P, typename T, typename Output>
void attend(codetr::WindowAttn const& problem, int blocks) {
    static_assert(P::kSharedBytes <= sizeof(codetr::shared_memory));
    operands.resize(P::kThreads / 32);
    copies.assign(P::kThreads, {});
    auto* const kernel = problem.add_bias != 0 ? codetr::attend_windows<P, T, Output, true>
                                               : codetr::attend_windows<P, T, Output, false>;
    run(dim3(problem.heads, blocks), P::kThreads, [&problem, kernel] {
        if (threadIdx.x == 0) {
            std::memset(codetr::shared_memory, 0xFF, sizeof(codetr::shared_memory));
        }
        __syncthreads();
        kernel(problem);
    });
}

template <typename T, typename Output = T>
void emulate(codetr::WindowAttn const& problem, int blocks) {
    switch (problem.window) {
    case 7: return attend<codetr::Plan<7, 1>, T, Output>(problem, blocks);
    case 8: return attend<codetr::Plan<8, 1>, T, Output>(problem, blocks);
    case 12: return attend<codetr::Plan<12, 1>, T, Output>(problem, blocks);
    }
}

} // namespace

// `blocks` share out a head's windows. Returns how often eight addresses met in a bank.
extern "C" long emulate_windows(codetr::WindowAttn const* problem, int blocks) {
    conflicts = 0;
    if (problem->inverse_scale != nullptr) {
        emulate<__half, __nv_fp8_e4m3>(*problem, blocks);
    } else if (problem->type == codetr::DataType::kFloat16) {
        emulate<__half>(*problem, blocks);
    } else {
        emulate<__nv_bfloat16>(*problem, blocks);
    }
    return conflicts;
}
