// Model outputs -> detections of the original picture, as runtime/postprocess.py does it.
#pragma once

#include "model.h"

#include <vector>

namespace codetr {

// Rescales the boxes, then class-aware linear soft-NMS (IoU 0.8, scores from 0.001): bit for bit
// what mmcv's batched_nms does on the CPU. Best first.
std::vector<Detection> postprocess(RawOutputs const& outputs, Scale scale);

// Those with a score of the threshold or more.
std::vector<Detection> above(std::vector<Detection> detections, float threshold);

} // namespace codetr
