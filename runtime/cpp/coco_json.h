// detections.json: COCO's layout, as runtime/coco_json.py writes it.
#pragma once

#include "model.h"

#include <string>
#include <vector>

namespace codetr {

// What was found in one picture.
struct Record {
    std::string file_name;
    int width;
    int height;
    std::vector<Detection> detections;
};

// Image, annotation and category ids count from 1; boxes are x, y, width, height to 0.01 pixels,
// scores to 0.00001.
std::string to_coco(std::vector<Record> const& records, std::vector<std::string> const& classes);

// The shortest decimal number that reads back as this one.
std::string json_number(double value);

} // namespace codetr
