#include "coco_json.h"

#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>

namespace codetr {
namespace {

std::string json_string(std::string const& text) {
    std::string quoted = "\"";
    for (char const c : text) {
        if (c == '"' || c == '\\') {
            quoted += {'\\', c};
        } else if (static_cast<unsigned char>(c) < 0x20) {
            std::array<char, 8> escaped{};
            std::snprintf(escaped.data(), escaped.size(), "\\u%04x", c);
            quoted += escaped.data();
        } else { // UTF-8 as it is
            quoted += c;
        }
    }
    return quoted + '"';
}

// To a number of decimals as numpy does it: halves to even, of the scaled value.
std::string rounded(double value, double scale) {
    return json_number(std::nearbyint(value * scale) / scale);
}

std::string bbox(std::array<float, 4> const& box) {
    // In double, so that the differences round to short decimals.
    double const x1 = box[0], y1 = box[1], x2 = box[2], y2 = box[3];
    std::string text = "[";
    for (double const value : {x1, y1, x2 - x1}) {
        text += rounded(value, 100) + ", ";
    }
    return text + rounded(y2 - y1, 100) + "]";
}

std::string image(Record const& record, std::size_t id) {
    return "{\"id\": " + std::to_string(id) + ", \"file_name\": " + json_string(record.file_name) +
           ", \"width\": " + std::to_string(record.width) +
           ", \"height\": " + std::to_string(record.height) + "}";
}

std::string annotation(Detection const& detection, std::size_t id, std::size_t image_id) {
    return "{\"id\": " + std::to_string(id) + ", \"image_id\": " + std::to_string(image_id) +
           ", \"category_id\": " + std::to_string(detection.label + 1) +
           ", \"bbox\": " + bbox(detection.box) +
           ", \"score\": " + rounded(detection.score, 100000) + "}";
}

std::string joined(std::vector<std::string> const& parts) {
    std::string text = "[";
    for (auto const& part : parts) {
        text += (text.size() > 1 ? ", " : "") + part;
    }
    return text + "]";
}

} // namespace

std::string json_number(double value) {
    std::array<char, 32> text{};
    auto const end = std::to_chars(text.data(), text.data() + text.size(), value).ptr;
    return {text.data(), end};
}

std::string to_coco(std::vector<Record> const& records, std::vector<std::string> const& classes) {
    std::vector<std::string> images, categories, annotations;
    for (auto const& record : records) {
        images.push_back(image(record, images.size() + 1));
        for (auto const& detection : record.detections) {
            annotations.push_back(annotation(detection, annotations.size() + 1, images.size()));
        }
    }
    for (auto const& name : classes) {
        categories.push_back("{\"id\": " + std::to_string(categories.size() + 1) +
                             ", \"name\": " + json_string(name) + "}");
    }
    return "{\"images\": " + joined(images) + ", \"categories\": " + joined(categories) +
           ", \"annotations\": " + joined(annotations) + "}";
}

} // namespace codetr
