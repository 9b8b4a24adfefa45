// Reads and writes of 2 and 8 neighbouring elements, float32 in registers whatever the memory holds.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>

#include <cstdint>
#include <cstring>
#include <type_traits>

namespace codetr {

__device__ inline float widen(float value) { return value; }
__device__ inline float2 widen(float2 value) { return value; }
__device__ inline float widen(__half value) { return __half2float(value); }
__device__ inline float widen(__nv_bfloat16 value) { return __bfloat162float(value); }
__device__ inline float2 widen(__half2 value) { return __half22float2(value); }
__device__ inline float2 widen(__nv_bfloat162 value) { return __bfloat1622float2(value); }

__device__ inline void narrow(float value, float& to) { to = value; }
__device__ inline void narrow(float value, __half& to) { to = __float2half_rn(value); }
__device__ inline void narrow(float value, __nv_bfloat16& to) { to = __float2bfloat16_rn(value); }
__device__ inline void narrow(float x, float y, __half2& to) { to = __floats2half2_rn(x, y); }
__device__ inline void narrow(float x, float y, __nv_bfloat162& to) {
    to = __floats2bfloat162_rn(x, y);
}

// The type of two neighbours.
template <typename T> struct Two;
template <> struct Two<float> { using Type = float2; };
template <> struct Two<__half> { using Type = __half2; };
template <> struct Two<__nv_bfloat16> { using Type = __nv_bfloat162; };

// Two neighbours in a register.
template <typename Pair> __device__ inline uint32_t to_bits(Pair pair) {
    uint32_t bits;
    memcpy(&bits, &pair, sizeof(bits));
    return bits;
}
template <typename T> __device__ inline typename Two<T>::Type from_bits(uint32_t bits) {
    typename Two<T>::Type pair;
    memcpy(&pair, &bits, sizeof(bits));
    return pair;
}
template <typename T> __device__ inline uint32_t narrow_to_bits(float x, float y) {
    typename Two<T>::Type pair;
    narrow(x, y, pair);
    return to_bits(pair);
}
// The same of fp8, in half a register.
__device__ inline uint16_t narrow_to_fp8(float x, float y) {
    return __nv_cvt_float2_to_fp8x2(make_float2(x, y), __NV_SATFINITE, __NV_E4M3);
}
template <typename T> __device__ inline float2 widen_bits(uint32_t bits) {
    if constexpr (std::is_same_v<T, __nv_bfloat16>) { // CUDA's function takes an instruction more
        return make_float2(__uint_as_float(bits << 16), __uint_as_float(bits & 0xFFFF0000));
    } else {
        return widen(from_bits<T>(bits));
    }
}

// Through the read-only path (ld.global.nc), 16 bytes at a time.
__device__ inline void load_8(float const* from, float (&to)[8]) {
    auto const* quads = reinterpret_cast<float4 const*>(from);
    float4 const a = __ldg(quads);
    float4 const b = __ldg(quads + 1);
    to[0] = a.x, to[1] = a.y, to[2] = a.z, to[3] = a.w;
    to[4] = b.x, to[5] = b.y, to[6] = b.z, to[7] = b.w;
}
template <typename T> __device__ inline void load_8(T const* from, float (&to)[8]) {
    using Pair = typename Two<T>::Type;
    uint4 const bits = __ldg(reinterpret_cast<uint4 const*>(from));
    Pair pairs[4];
    memcpy(pairs, &bits, sizeof(bits));
    for (int i = 0; i < 4; ++i) {
        float2 const pair = widen(pairs[i]);
        to[2 * i] = pair.x;
        to[2 * i + 1] = pair.y;
    }
}

__device__ inline void store_8(float const (&from)[8], float* to) {
    auto* quads = reinterpret_cast<float4*>(to);
    __stcs(quads, make_float4(from[0], from[1], from[2], from[3]));
    __stcs(quads + 1, make_float4(from[4], from[5], from[6], from[7]));
}
template <typename T> __device__ inline void store_8(float const (&from)[8], T* to) {
    using Pair = typename Two<T>::Type;
    Pair pairs[4];
    for (int i = 0; i < 4; ++i) {
        narrow(from[2 * i], from[2 * i + 1], pairs[i]);
    }
    uint4 bits;
    memcpy(&bits, pairs, sizeof(bits));
    __stcs(reinterpret_cast<uint4*>(to), bits);
}

__device__ inline void store_8(float const (&from)[8], __nv_fp8_e4m3* to) {
    uint16_t pairs[4];
    for (int i = 0; i < 4; ++i) {
        pairs[i] = narrow_to_fp8(from[2 * i], from[2 * i + 1]);
    }
    uint2 bits;
    memcpy(&bits, pairs, sizeof(bits));
    __stcs(reinterpret_cast<uint2*>(to), bits);
}

} // namespace codetr
