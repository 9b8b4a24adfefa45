#include "preprocess.h"

#include <opencv2/imgproc.hpp>

#include <algorithm>

namespace codetr {

Preprocessor::Preprocessor(ModelSpec const& spec, Manifest const& manifest) : spec_(spec) {
    for (int channel = 0; channel < 3; ++channel) {
        for (int value = 0; value < 256; ++value) {
            normalised_[channel][value] =
                (static_cast<float>(value) - manifest.mean[channel]) / manifest.std[channel];
        }
    }
}

Scale Preprocessor::operator()(cv::Mat const& picture, float* batch_input, float* img_mask) const {
    auto const size = spec_.has_mask ? fitted(picture.size()) : cv::Size(spec_.width, spec_.height);
    cv::Mat resized;
    cv::resize(picture, resized, size, 0, 0, cv::INTER_LINEAR);
    auto const width = static_cast<std::size_t>(spec_.width);
    auto const plane = width * static_cast<std::size_t>(spec_.height);
    auto const write_row = [&](int y) {
        auto const valid = y < size.height ? size.width : 0;
        auto* const row = batch_input + static_cast<std::size_t>(y) * width;
        auto const* const pixels = valid > 0 ? resized.ptr<cv::Vec3b>(y) : nullptr;
        for (std::size_t channel = 0; channel < 3; ++channel) {
            auto* const out = row + channel * plane;
            for (int x = 0; x < valid; ++x) {
                out[x] = normalised_[channel][pixels[x][2 - static_cast<int>(channel)]];
            }
            std::fill(out + valid, out + width, 0.0F);
        }
        if (img_mask != nullptr) {
            auto* const mask = img_mask + static_cast<std::size_t>(y) * width;
            std::fill(mask, mask + valid, 0.0F);
            std::fill(mask + valid, mask + width, 1.0F);
        }
    };
    cv::parallel_for_(cv::Range(0, spec_.height), [&](cv::Range const& rows) {
        for (int y = rows.start; y < rows.end; ++y) {
            write_row(y);
        }
    });
    return {static_cast<double>(size.width) / picture.cols,
            static_cast<double>(size.height) / picture.rows};
}

// Largest size of the same aspect ratio within H x W, rounded as mmcv does it, at least 1 pixel.
cv::Size Preprocessor::fitted(cv::Size picture) const {
    auto const scale = std::min(static_cast<double>(spec_.height) / picture.height,
                                static_cast<double>(spec_.width) / picture.width);
    auto const scaled = [scale](int side) {
        return std::max(1, static_cast<int>(side * scale + 0.5));
    };
    return {scaled(picture.width), scaled(picture.height)};
}

} // namespace codetr
