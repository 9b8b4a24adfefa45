#include "postprocess.h"

#include <algorithm>
#include <limits>

// Every result is rounded to float32, as in the original: the build forbids the compiler to
// contract a product and a sum into one rounding (-ffp-contract=off).
namespace codetr {
namespace {

using Box = std::array<float, 4>;

constexpr float kIouThreshold = 0.8F;
constexpr float kMinScore = 1e-3F;

struct Candidate {
    Detection detection;
    Box separated; // moved far from those of other classes
};

float area(Box const& box) { return (box[2] - box[0]) * (box[3] - box[1]); }

// NaN where both are empty.
float iou(Box const& a, Box const& b) {
    auto const width = std::max(std::min(a[2], b[2]) - std::max(a[0], b[0]), 0.0F);
    auto const height = std::max(std::min(a[3], b[3]) - std::max(a[1], b[1]), 0.0F);
    auto const intersection = width * height;
    return intersection / (area(a) + area(b) - intersection);
}

std::vector<Candidate> candidates(RawOutputs const& outputs, Scale scale) {
    auto const x = static_cast<float>(scale.x);
    auto const y = static_cast<float>(scale.y);
    std::vector<Candidate> all(outputs.scores.size());
    auto largest = -std::numeric_limits<float>::infinity();
    for (std::size_t i = 0; i < all.size(); ++i) {
        auto const* const box = &outputs.boxes[4 * i];
        all[i].detection = {{box[0] / x, box[1] / y, box[2] / x, box[3] / y},
                            outputs.scores[i],
                            outputs.labels[i]};
        largest = std::max(largest, *std::ranges::max_element(all[i].detection.box));
    }
    for (auto& [detection, separated] : all) {
        // float32 on purpose: at label 79 this rounds coordinates to about 0.004 px, and the
        // original's IoUs are those of the rounded boxes.
        auto const offset = static_cast<float>(detection.label) * (largest + 1);
        std::ranges::transform(detection.box, separated.begin(),
                               [offset](float side) { return side + offset; });
    }
    return all;
}

} // namespace

std::vector<Detection> postprocess(RawOutputs const& outputs, Scale scale) {
    auto all = candidates(outputs, scale);
    std::vector<Detection> kept;
    auto const score = [](Candidate const& candidate) { return candidate.detection.score; };
    // In place, because the original's swaps decide between equal scores.
    auto end = all.end();
    for (auto best = all.begin(); best != end; ++best) {
        std::iter_swap(best, std::ranges::max_element(best, end, {}, score));
        kept.push_back(best->detection);
        for (auto other = best + 1; other != end;) {
            auto const overlap = iou(best->separated, other->separated);
            if (overlap >= kIouThreshold) {
                other->detection.score *= 1 - overlap;
            }
            if (other->detection.score >= kMinScore) {
                ++other;
            } else { // the last one takes its place, and its turn
                *other = *--end;
            }
        }
    }
    return kept;
}

std::vector<Detection> above(std::vector<Detection> detections, float threshold) {
    std::erase_if(detections, [threshold](Detection const& d) { return d.score < threshold; });
    return detections;
}

} // namespace codetr
