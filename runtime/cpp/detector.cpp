#include "detector.h"

#include "error.h"
#include "manifest.h"
#include "postprocess.h"

#include <algorithm>

namespace codetr {
namespace {

// A label without a name: the manifest is not this engine's.
void check_labels(std::span<std::int64_t const> labels, std::size_t classes) {
    auto const known = static_cast<std::int64_t>(classes);
    auto const wrong = std::ranges::find_if(
        labels, [known](std::int64_t label) { return label < 0 || label >= known; });
    if (wrong != labels.end()) {
        throw UserError("the engine finds class " + std::to_string(*wrong) +
                        " and its manifest names " + std::to_string(known) +
                        " classes; keep the files that belong together");
    }
}

} // namespace

Detector::Detector(std::filesystem::path const& model)
    : manifest_(read_manifest(model)), engine_(model, manifest_),
      preprocess_(engine_.spec(), manifest_) {}

std::vector<std::vector<Detection>> Detector::operator()(std::span<cv::Mat const> pictures) {
    auto const scales = prepare(pictures);
    infer();
    return finish(scales);
}

std::vector<Scale> Detector::prepare(std::span<cv::Mat const> pictures) {
    auto const pixels = static_cast<std::size_t>(spec().height) * spec().width;
    auto* inputs = engine_.batch_inputs();
    auto* masks = engine_.img_masks();
    auto const rows = static_cast<std::size_t>(spec().batch);
    std::vector<Scale> scales;
    for (std::size_t row = 0; row < pictures.size(); ++row) {
        auto* const mask = masks == nullptr ? nullptr : masks + row * pixels;
        scales.push_back(preprocess_(pictures[row], inputs + row * 3 * pixels, mask));
    }
    // A larger fixed batch is filled up with mean-coloured pictures.
    std::fill(inputs + pictures.size() * 3 * pixels, inputs + rows * 3 * pixels, 0.0F);
    if (masks != nullptr) {
        std::fill(masks + pictures.size() * pixels, masks + rows * pixels, 0.0F);
    }
    return scales;
}

std::vector<std::vector<Detection>> Detector::finish(std::span<Scale const> scales) const {
    std::vector<std::vector<Detection>> found;
    for (std::size_t row = 0; row < scales.size(); ++row) {
        auto const outputs = engine_.outputs(static_cast<int>(row));
        check_labels(outputs.labels, classes().size());
        found.push_back(postprocess(outputs, scales[row]));
    }
    return found;
}

} // namespace codetr
