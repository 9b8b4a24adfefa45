// The kernels of plugin/csrc/group_norm.cuh on the CPU.
#include "cuda_on_cpu.h"

#define __shared__ static // one block at a time

namespace {

int32_t min(int32_t a, int32_t b) { return std::min(a, b); }

} // namespace

#include "group_norm.cuh"

namespace {

template <typename T, int kPart>
void emulate(codetr::GroupNorm const& p, int threads, int chunk_tokens, int blocks) {
    int const tokens = p.height * p.width;
    int const chunks = (tokens + chunk_tokens - 1) / chunk_tokens;
    run(dim3(chunks, p.batch), threads,
        [&] { codetr::describe_chunks<T, kPart>(p, chunk_tokens); });
    run(dim3(blocks, p.batch), threads,
        [&] { codetr::normalise<T, kPart>(p, chunk_tokens, chunks); });
}

template <typename T>
void emulate(codetr::GroupNorm const& p, int threads, int chunk_tokens, int blocks) {
    if (p.channels / p.groups == 4) {
        emulate<T, 4>(p, threads, chunk_tokens, blocks);
    } else {
        emulate<T, 8>(p, threads, chunk_tokens, blocks);
    }
}

} // namespace

// `chunk_tokens` are a chunk; `blocks` share out a picture's tokens in the end.
extern "C" void emulate_norm(codetr::GroupNorm const* problem, int threads, int chunk_tokens,
                             int blocks) {
    if (problem->type == codetr::DataType::kFloat16) {
        emulate<__half>(*problem, threads, chunk_tokens, blocks);
    } else {
        emulate<__nv_bfloat16>(*problem, threads, chunk_tokens, blocks);
    }
}
