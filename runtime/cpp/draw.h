// Detections drawn into a picture, as runtime/draw.py does it.
#pragma once

#include "model.h"

#include <opencv2/core.hpp>

namespace codetr {

// Draws boxes and labels into an 8-bit BGR picture, worst first, so that the best stays on top.
void draw(cv::Mat& picture, std::vector<Detection> const& detections,
          std::vector<std::string> const& classes);

} // namespace codetr
