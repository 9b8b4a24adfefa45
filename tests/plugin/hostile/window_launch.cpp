// window_attn.cu without nvcc: its kernel as window_emulation.cpp has it, never run.
#include "../window_emulation.cpp"
#include "launch_on_cpu.h"

#include "window_attn.cu"

// What count_resident() and messages ask for.
cudaError_t cudaGetDevice(int* device) {
    *device = 0;
    return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr, int) {
    *value = 132; // multiprocessors
    return cudaSuccess;
}
cudaError_t cudaFuncSetAttribute(void const*, cudaFuncAttribute, int) { return cudaSuccess; }
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, void const*, int, size_t) {
    *blocks = 2;
    return cudaSuccess;
}
char const* cudaGetErrorName(cudaError_t error) {
    return error == cudaErrorInvalidValue ? "cudaErrorInvalidValue" : "another";
}
char const* cudaGetErrorString(cudaError_t error) {
    return error == cudaErrorInvalidValue ? "invalid argument" : "another error";
}
