#include "draw.h"

#include <opencv2/imgproc.hpp>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <ranges>

namespace codetr {
namespace {

constexpr int kFont = cv::FONT_HERSHEY_SIMPLEX;
constexpr double kGoldenRatio = 0.618034;

// Halves to even, as Python and numpy round.
int round_to_int(double value) { return static_cast<int>(std::nearbyint(value)); }

// BGR of a class: hues a golden ratio apart, so that neighbouring classes differ, in three shades,
// because 80 hues alone cannot be told apart.
cv::Scalar class_colour(std::int64_t label) {
    constexpr std::array<std::array<double, 2>, 3> shades{{{0.75, 1.0}, {0.95, 0.8}, {0.5, 1.0}}};
    auto const hue = std::fmod(static_cast<double>(label) * kGoldenRatio, 1.0);
    auto const [saturation, value] = shades[static_cast<std::size_t>(label % 3)];
    auto const sixth = static_cast<int>(hue * 6);
    auto const fraction = hue * 6 - sixth;
    auto const p = value * (1 - saturation);
    auto const q = value * (1 - saturation * fraction);
    auto const t = value * (1 - saturation * (1 - fraction));
    std::array<std::array<double, 3>, 6> const rgb{
        {{value, t, p}, {q, value, p}, {p, value, t}, {p, q, value}, {t, p, value}, {value, p, q}}};
    auto const [r, g, b] = rgb[static_cast<std::size_t>(sixth % 6)];
    auto const level = [](double share) { return std::nearbyint(share * 255); };
    return {level(b), level(g), level(r)};
}

// Black on bright colours, white on dark ones (luma of ITU-R BT.601).
cv::Scalar ink_on(cv::Scalar const& bgr) {
    auto const bright = 0.114 * bgr[0] + 0.587 * bgr[1] + 0.299 * bgr[2] > 140;
    return bright ? cv::Scalar(0, 0, 0) : cv::Scalar(255, 255, 255);
}

// Text on a filled background, above the box's top left corner, inside the picture.
void draw_label(cv::Mat& picture, std::string const& text, cv::Point corner,
                cv::Scalar const& colour, int line) {
    auto const scale = 0.25 + 0.2 * line;
    auto const thickness = std::max(1, round_to_int(line / 2.0));
    int descent = 0;
    auto const size = cv::getTextSize(text, kFont, scale, thickness, &descent);
    auto const margin = 1 + line;
    cv::Size const label(size.width + 2 * margin, size.height + descent + 2 * margin);
    cv::Point const at(std::max(0, std::min(corner.x - line / 2, picture.cols - label.width)),
                       std::max(0, corner.y - label.height));
    cv::rectangle(picture, at, at + cv::Point(label), colour, cv::FILLED);
    cv::putText(picture, text, at + cv::Point(margin, margin + size.height), kFont, scale,
                ink_on(colour), thickness, cv::LINE_AA);
}

} // namespace

void draw(cv::Mat& picture, std::vector<Detection> const& detections,
          std::vector<std::string> const& classes) {
    auto const line = std::max(1, round_to_int(std::min(picture.cols, picture.rows) / 350.0));
    auto const corner = [](float x, float y) {
        return cv::Point(round_to_int(x), round_to_int(y));
    };
    for (auto const& [box, score, label] : detections | std::views::reverse) {
        cv::rectangle(picture, corner(box[0], box[1]), corner(box[2], box[3]), class_colour(label),
                      line);
    }
    // After all boxes, so that no line crosses a text.
    for (auto const& [box, score, label] : detections | std::views::reverse) {
        std::array<char, 16> figure{};
        std::snprintf(figure.data(), figure.size(), " %.2f", score);
        draw_label(picture, classes[static_cast<std::size_t>(label)] + figure.data(),
                   corner(box[0], box[1]), class_colour(label), line);
    }
}

} // namespace codetr
