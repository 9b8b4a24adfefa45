// CUDA's objects, each freed by its owner.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <memory>
#include <stdexcept>
#include <string>
#include <type_traits>

namespace codetr {

inline void check(cudaError_t error) {
    if (error != cudaSuccess) {
        throw std::runtime_error(std::string("CUDA: ") + cudaGetErrorString(error) + " (" +
                                 cudaGetErrorName(error) + ")");
    }
}

// A unique_ptr's deleter; an error of freeing is one of the work before, and told there.
template <auto Free> struct Freed {
    template <typename T> void operator()(T* object) const noexcept { (void)Free(object); }
};

template <typename Handle, auto Free>
using Owner = std::unique_ptr<std::remove_pointer_t<Handle>, Freed<Free>>;

using Stream = Owner<cudaStream_t, cudaStreamDestroy>;
using Event = Owner<cudaEvent_t, cudaEventDestroy>;
using Graph = Owner<cudaGraph_t, cudaGraphDestroy>;
using GraphExec = Owner<cudaGraphExec_t, cudaGraphExecDestroy>;
using DeviceMemory = Owner<void*, cudaFree>;
using PinnedMemory = Owner<void*, cudaFreeHost>;

inline Stream make_stream() {
    cudaStream_t stream = nullptr;
    check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    return Stream(stream);
}

inline Event make_event() {
    cudaEvent_t event = nullptr;
    check(cudaEventCreate(&event));
    return Event(event);
}

inline DeviceMemory make_device_memory(std::size_t bytes) {
    void* memory = nullptr;
    check(cudaMalloc(&memory, bytes));
    return DeviceMemory(memory);
}

inline PinnedMemory make_pinned_memory(std::size_t bytes) {
    void* memory = nullptr;
    check(cudaMallocHost(&memory, bytes));
    return PinnedMemory(memory);
}

} // namespace codetr
