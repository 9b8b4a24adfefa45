#include "files.h"

#include "error.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <string>

namespace codetr {

std::vector<char> read_file(std::filesystem::path const& path) {
    errno = 0;
    std::ifstream file(path, std::ios::binary | std::ios::ate);
    auto const size = file ? static_cast<std::streamoff>(file.tellg()) : -1;
    std::vector<char> content;
    // A folder can be opened too; it is the longest file there can be.
    if (size >= 0 && !std::filesystem::is_directory(path)) {
        content.resize(static_cast<std::size_t>(size));
        file.seekg(0).read(content.data(), size);
    }
    if (!file || std::filesystem::is_directory(path)) {
        auto const* reason = errno != 0 ? std::strerror(errno) : "it is no file";
        throw UserError("cannot read " + path.string() + ": " + reason);
    }
    return content;
}

void write_file(std::filesystem::path const& path, std::string_view content) {
    auto temporary = path;
    temporary += ".part";
    errno = 0;
    std::ofstream file(temporary, std::ios::binary);
    file.write(content.data(), static_cast<std::streamsize>(content.size()));
    file.close(); // what was still to be written may fail too
    std::error_code error;
    if (file) {
        std::filesystem::rename(temporary, path, error);
    } else {
        error = {errno, std::generic_category()};
    }
    if (error) {
        std::error_code ignored;
        std::filesystem::remove(temporary, ignored);
        throw UserError("cannot write " + path.string() + ": " + error.message() +
                        "; make room or choose another folder");
    }
}

} // namespace codetr
