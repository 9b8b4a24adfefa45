// Runs the kernel of runtime/preprocess.cu on the CPU, a thread of the GPU after the other. Shows on
// a machine without a GPU that what it computes is right; not how fast it is.
#include <algorithm>
#include <cmath>
#include <cstddef>

#define __device__
#define __global__

namespace {

struct Index {
    unsigned x, y;
};
Index blockIdx, blockDim, threadIdx;

using std::max;
using std::min;

} // namespace

#include "preprocess.cu"

extern "C" void emulate(Picture const* picture) {
    // Not a divisor of most sizes, so that blocks stand out at the right and bottom.
    blockDim = {32, 8};
    Index const grid{(picture->width + 31) / 32u, (picture->height + 7) / 8u};
    for (blockIdx.y = 0; blockIdx.y < grid.y; ++blockIdx.y) {
        for (blockIdx.x = 0; blockIdx.x < grid.x; ++blockIdx.x) {
            for (threadIdx.y = 0; threadIdx.y < blockDim.y; ++threadIdx.y) {
                for (threadIdx.x = 0; threadIdx.x < blockDim.x; ++threadIdx.x) {
                    preprocess(*picture);
                }
            }
        }
    }
}

extern "C" size_t picture_size() { return sizeof(Picture); }
