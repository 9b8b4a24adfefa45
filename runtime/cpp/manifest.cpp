#include "manifest.h"

#include "error.h"
#include "files.h"
#include "sha256.h"

#include <opencv2/core.hpp>

#include <string>

namespace codetr {
namespace {

constexpr int kManifestVersion = 1;

// An entry of an object, which has to be there.
cv::FileNode entry(cv::FileNode const& node, char const* name) {
    auto const found = node.isMap() ? node[name] : cv::FileNode();
    if (found.empty() || found.isNone()) {
        throw UserError(std::string("has no entry ") + name);
    }
    return found;
}

std::array<float, 3> rgb(cv::FileNode const& node) {
    if (!node.isSeq() || node.size() != 3) {
        throw UserError("has other than three values for mean or std");
    }
    std::array<float, 3> values{};
    for (int channel = 0; channel < 3; ++channel) {
        values[channel] = static_cast<float>(static_cast<double>(node[channel]));
    }
    return values;
}

Manifest parse(cv::FileNode const& root) {
    if (auto const version = static_cast<int>(entry(root, "manifest_version"));
        version != kManifestVersion) {
        throw UserError("has version " + std::to_string(version) + ", this program reads " +
                        std::to_string(kManifestVersion));
    }
    auto const recipe = entry(root, "recipe");
    auto const backend = static_cast<std::string>(entry(recipe, "backend"));
    if (backend != "tensorrt") {
        throw UserError("is of an engine of " + backend + ", and this program runs TensorRT");
    }
    auto const model = entry(root, "model");
    auto const preprocess = entry(model, "preprocess");
    Manifest manifest{};
    for (auto const& name : entry(model, "classes")) {
        manifest.classes.push_back(static_cast<std::string>(name));
    }
    manifest.mean = rgb(entry(preprocess, "mean"));
    manifest.std = rgb(entry(preprocess, "std"));
    manifest.engine_sha256 = static_cast<std::string>(entry(entry(root, "engine"), "sha256"));
    manifest.tensorrt_version = static_cast<std::string>(entry(recipe, "backend_version"));
    // Of OpenCV's integers: JSON's false is 0. Absent in older manifests.
    manifest.version_compatible =
        static_cast<int>(entry(recipe, "options")["version_compatible"]) != 0;
    return manifest;
}

} // namespace

Manifest read_manifest(std::filesystem::path const& engine) {
    if (!std::filesystem::exists(engine)) {
        throw UserError("no model file " + engine.string() + "; give an engine");
    }
    auto const path = engine.string() + ".json";
    if (!std::filesystem::exists(path)) {
        throw UserError("found no " + path + ", the manifest of " + engine.string() +
                        "; keep the two files together, or build the engine again");
    }
    auto const content = read_file(path);
    try {
        cv::FileStorage const file(std::string(content.begin(), content.end()),
                                   cv::FileStorage::READ | cv::FileStorage::MEMORY |
                                       cv::FileStorage::FORMAT_JSON);
        return parse(file.root());
    } catch (UserError const& error) {
        throw UserError(path + " " + error.what() + "; build the engine again");
    } catch (cv::Exception const&) { // its words are of C++
        throw UserError(path + " is not a manifest of ours; build the engine again");
    }
}

void require_engine_of(Manifest const& manifest, std::filesystem::path const& engine,
                       std::span<char const> plan) {
    constexpr std::size_t kShown = 12;
    auto const found = sha256(plan);
    if (found != manifest.engine_sha256) {
        throw UserError(engine.string() + " is not the engine that its manifest describes: its "
                        "SHA-256 is " + found.substr(0, kShown) + "…, not " +
                        manifest.engine_sha256.substr(0, kShown) + "…; build it again");
    }
}

} // namespace codetr
