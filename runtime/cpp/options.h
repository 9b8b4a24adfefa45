// The command line.
#pragma once

#include <filesystem>
#include <optional>
#include <span>

namespace codetr {

struct Options {
    std::filesystem::path model;
    std::filesystem::path input;
    std::filesystem::path output; // empty: measure only
    std::optional<int> target_height;
    std::optional<int> target_width;
    float score_threshold = 0.3F;
    int benchmark_iterations = 0;
    std::filesystem::path json; // empty: none
    bool help = false;
};

extern char const* const kUsage;

// Throws UserError for an option that is not there, has no sense, or is missing.
Options parse_options(std::span<char const* const> arguments);

} // namespace codetr
