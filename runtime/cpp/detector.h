// Pictures in, detections out.
#pragma once

#include "engine.h"
#include "preprocess.h"

#include <opencv2/core.hpp>

#include <span>
#include <vector>

namespace codetr {

class Detector {
  public:
    // Throws UserError, see read_manifest and Engine.
    explicit Detector(std::filesystem::path const& model);

    Engine& engine() { return engine_; }
    ModelSpec const& spec() const { return engine_.spec(); }
    std::vector<std::string> const& classes() const { return manifest_.classes; }

    // Of at most `spec().batch` pictures (8-bit BGR) in their order, best first.
    std::vector<std::vector<Detection>> operator()(std::span<cv::Mat const> pictures);

    // Its three parts, one after the other.
    std::vector<Scale> prepare(std::span<cv::Mat const> pictures);
    void infer() { engine_.infer(); }
    std::vector<std::vector<Detection>> finish(std::span<Scale const> scales) const;

  private:
    Manifest manifest_;
    Engine engine_;
    Preprocessor preprocess_;
};

} // namespace codetr
