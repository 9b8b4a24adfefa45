#include "report.h"

#include <cstdarg>
#include <cstdio>

namespace codetr {

void report(Label const& label, char const* format, ...) noexcept {
    char message[1024];
    va_list values;
    va_start(values, format);
    std::vsnprintf(message, sizeof(message), format, values);
    va_end(values);
    // In one call, so that lines of several threads stay whole.
    if (label.layer == nullptr || *label.layer == '\0') {
        std::fprintf(stderr, "%s: %s\n", label.plugin, message);
    } else {
        std::fprintf(stderr, "%s '%s': %s\n", label.plugin, label.layer, message);
    }
}

} // namespace codetr
