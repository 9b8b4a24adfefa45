// Files: read whole; written whole or not at all.
#pragma once

#include <filesystem>
#include <string_view>
#include <vector>

namespace codetr {

// Throws UserError if it cannot be read.
std::vector<char> read_file(std::filesystem::path const& path);

// A file beside it becomes `path` once all is written. Throws UserError if it cannot be written.
void write_file(std::filesystem::path const& path, std::string_view content);

} // namespace codetr
