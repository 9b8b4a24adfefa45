// Measures a detector as `python -m runtime bench` does.
#pragma once

#include "detector.h"

#include <map>
#include <string>
#include <vector>

namespace codetr {

// Milliseconds of each run, by what was timed: "gpu" the kernels alone by CUDA events; then a
// decoded picture by wall time, "preprocess", "infer" (copies included), "postprocess", and
// "end_to_end", all three.
using Times = std::map<std::string, std::vector<double>>;

// 20 runs come before those that count.
Times measure(Detector& detector, cv::Mat const& picture, int iterations);

// A table for people, JSON for machines: percentiles (interpolated), extremes, mean.
std::string times_as_table(Times const& times);
std::string times_as_json(Times const& times);

} // namespace codetr
