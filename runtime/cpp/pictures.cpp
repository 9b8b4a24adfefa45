#include "pictures.h"

#include "error.h"
#include "files.h"

#include <opencv2/imgcodecs.hpp>

#include <algorithm>
#include <cctype>
#include <set>
#include <string>

namespace codetr {
namespace {

namespace fs = std::filesystem;

std::set<std::string> const kSuffixes{".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"};

bool is_picture(fs::path const& path) {
    auto suffix = path.extension().string();
    std::ranges::transform(suffix, suffix.begin(),
                           [](unsigned char c) { return std::tolower(c); });
    return kSuffixes.contains(suffix) && !path.filename().string().starts_with('.');
}

} // namespace

std::vector<fs::path> find_pictures(fs::path const& input) {
    if (!fs::is_directory(input)) {
        return {input}; // that it is there and a picture is seen when it is read
    }
    std::error_code error;
    std::vector<fs::path> found;
    for (auto const& file : fs::directory_iterator(input, error)) {
        if (is_picture(file.path())) {
            found.push_back(file.path());
        }
    }
    if (error) {
        throw UserError("cannot read folder " + input.string() + ": " + error.message());
    }
    if (found.empty()) {
        std::string listed;
        for (auto const& suffix : kSuffixes) {
            listed += " " + suffix;
        }
        throw UserError("no pictures in folder " + input.string() + "; looked for files named" +
                        listed);
    }
    std::ranges::sort(found);
    return found;
}

std::vector<fs::path> choose_targets(std::vector<fs::path> const& pictures,
                                     fs::path const& folder) {
    std::set<fs::path> taken;
    for (auto const& picture : pictures) {
        taken.insert(fs::weakly_canonical(picture));
    }
    std::vector<fs::path> targets;
    for (auto const& picture : pictures) {
        auto const stem = picture.stem().string();
        auto target = folder / (stem + ".png");
        for (int n = 2; !taken.insert(fs::weakly_canonical(target)).second; ++n) {
            target = folder / (stem + "-" + std::to_string(n) + ".png");
        }
        targets.push_back(target);
    }
    return targets;
}

cv::Mat read_picture(fs::path const& path) {
    // Not cv::imread: it fills the missing part of a cut JPEG with grey.
    auto const encoded = read_file(path);
    if (encoded.empty()) {
        throw UserError("cannot read " + path.string() + ": the file is empty");
    }
    try {
        auto picture = cv::imdecode(encoded, cv::IMREAD_COLOR);
        if (!picture.empty()) {
            return picture;
        }
    } catch (cv::Exception const& error) { // e.g. more pixels than OpenCV's limit
        throw UserError("cannot decode picture " + path.string() + ": " + error.err);
    }
    throw UserError("cannot decode picture " + path.string() +
                    ": not a picture in a format OpenCV reads, or cut short");
}

void write_picture(fs::path const& path, cv::Mat const& picture) {
    std::vector<unsigned char> encoded;
    cv::imencode(".png", picture, encoded);
    write_file(path, {reinterpret_cast<char const*>(encoded.data()), encoded.size()});
}

} // namespace codetr
