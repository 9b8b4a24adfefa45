// A picture -> model input, as runtime/preprocess.py does it.
#pragma once

#include "model.h"

#include <opencv2/core.hpp>

namespace codetr {

// Resizes, normalises, then pads: a padded value is 0, the mean colour. The picture keeps its
// aspect ratio, unless the model has no mask: then it is stretched to H x W.
//
// Runs on the CPU, on all cores, and leaves 12 bytes per pixel to be copied to the GPU. A kernel
// that takes the uint8 picture there and writes the engine's input in place could follow.
class Preprocessor {
  public:
    Preprocessor(ModelSpec const& spec, Manifest const& manifest);

    // picture: 8-bit BGR; batch_input: one picture's (3, H, W) RGB; img_mask: (H, W), 0 picture,
    // 1 padding, null if the model has none. All of both is written.
    Scale operator()(cv::Mat const& picture, float* batch_input, float* img_mask) const;

  private:
    cv::Size fitted(cv::Size picture) const;

    ModelSpec spec_;
    std::array<std::array<float, 256>, 3> normalised_; // by channel (RGB) and 8-bit value
};

} // namespace codetr
