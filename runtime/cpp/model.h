// What the parts of the program tell each other about a model.
//
// Letters, here and elsewhere: h, w a picture's size; B, H, W the model input's batch and size, all
// in pixels; N detections per picture.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace codetr {

// What an engine says of itself.
struct ModelSpec {
    int batch; // pictures per inference
    int height;
    int width;
    int detections;
    bool has_mask; // false: the picture fills the input, there is no padding
};

// What only the manifest beside an engine says.
struct Manifest {
    std::vector<std::string> classes;
    std::array<float, 3> mean; // RGB, of pixels in 0..255
    std::array<float, 3> std;
    std::string tensorrt_version; // that built the engine
    bool version_compatible;      // whether later releases of the same major version run it too
    std::string engine_sha256;
};

// Resized size / original size.
struct Scale {
    double x;
    double y;
};

// A model's outputs for one picture, before rescaling and NMS.
struct RawOutputs {
    std::span<float const> boxes; // (N, 4) x1 y1 x2 y2 in pixels of the input
    std::span<float const> scores;
    std::span<std::int64_t const> labels;
};

struct Detection {
    std::array<float, 4> box; // x1 y1 x2 y2 in pixels of the original picture
    float score;              // 0..1
    std::int64_t label;       // 0-based index into the manifest's classes
};

} // namespace codetr
