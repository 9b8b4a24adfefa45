// Pictures from and to files.
#pragma once

#include <opencv2/core.hpp>

#include <filesystem>
#include <vector>

namespace codetr {

// A picture file as given; of a folder the pictures in it, in order of their names, without those
// of its sub-folders. Throws UserError for a folder without pictures.
std::vector<std::filesystem::path> find_pictures(std::filesystem::path const& input);

// For each picture the PNG file in `folder` to write: none for two of them, and none that is an
// input.
std::vector<std::filesystem::path> choose_targets(
    std::vector<std::filesystem::path> const& pictures, std::filesystem::path const& folder);

// Decodes as runtime/images.py: 8-bit BGR, EXIF orientation applied. Throws UserError for a file
// that is missing, empty, cut short or no picture.
cv::Mat read_picture(std::filesystem::path const& path);

// PNG. Throws UserError if it cannot be written.
void write_picture(std::filesystem::path const& path, cv::Mat const& picture);

} // namespace codetr
