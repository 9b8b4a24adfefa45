// Resizes, normalises and pads one picture into one row of the model's input: what
// runtime/preprocess.py does on the CPU, to the bit. Compiled by NVRTC (runtime/preprocess_gpu.py).

// One launch. runtime/preprocess_gpu.py has the same in ctypes.
struct Picture {
    unsigned char const* pixels; // (h, w, 3)
    float* input;                // (3, height, width)
    float* mask;                 // (height, width); null: the model has none
    double step_y, step_x;       // pixels of the picture for one of the input
    int h, w;
    int valid_h, valid_w; // what the picture takes of the input, from the top left
    int height, width;
    int reversed; // channels are stored as BGR
    float mean[3], std[3];
};

// The two pixels of one axis that are mixed, and 2048ths of each.
struct Taps {
    int first, second;
    int first_weight, second_weight;
};

// Half-pixel centres, clamped at the borders, weights in fixed point: as cv2 resizes.
__device__ Taps taps_of(int to, double step, int size) {
    float const at = static_cast<float>((to + 0.5) * step - 0.5);
    float const below = floorf(at);
    float const fraction = at - below;
    int const first = static_cast<int>(below);
    return {
        max(first, 0), min(first + 1, size - 1),
        static_cast<int>(rintf((1.0F - fraction) * 2048.0F)),
        static_cast<int>(rintf(fraction * 2048.0F)),
    };
}

// cv2 drops bits between the axes and so do we: a grey level is then the same, not just close.
__device__ int mixed(int top, int bottom, Taps const& rows) {
    int const quarters =
        (rows.first_weight * (top >> 4) >> 16) + (rows.second_weight * (bottom >> 4) >> 16);
    return (quarters + 2) >> 2;
}

extern "C" __global__ void preprocess(Picture picture) {
    int const x = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
    int const y = static_cast<int>(blockIdx.y * blockDim.y + threadIdx.y);
    if (x >= picture.width || y >= picture.height) {
        return;
    }
    bool const valid = x < picture.valid_w && y < picture.valid_h;
    size_t const plane = static_cast<size_t>(picture.height) * picture.width;
    size_t const to = static_cast<size_t>(y) * picture.width + x;
    if (picture.mask) {
        picture.mask[to] = valid ? 0.0F : 1.0F;
    }
    if (!valid) {
        for (int channel = 0; channel < 3; ++channel) {
            picture.input[channel * plane + to] = 0.0F;
        }
        return;
    }
    Taps const rows = taps_of(y, picture.step_y, picture.h);
    Taps const columns = taps_of(x, picture.step_x, picture.w);
    unsigned char const* const top = picture.pixels + 3 * static_cast<size_t>(picture.w) * rows.first;
    unsigned char const* const bottom =
        picture.pixels + 3 * static_cast<size_t>(picture.w) * rows.second;
    for (int channel = 0; channel < 3; ++channel) {
        int const stored = picture.reversed ? 2 - channel : channel;
        int const left = 3 * columns.first + stored, right = 3 * columns.second + stored;
        int const grey = mixed(
            columns.first_weight * top[left] + columns.second_weight * top[right],
            columns.first_weight * bottom[left] + columns.second_weight * bottom[right], rows);
        picture.input[channel * plane + to] = (grey - picture.mean[channel]) / picture.std[channel];
    }
}
