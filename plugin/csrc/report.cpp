#include "report.h"

#include "plugin.h"

#include <cstdarg>
#include <cstdio>

namespace codetr {

void report(char const* layer, char const* format, ...) noexcept {
    char message[1024];
    va_list values;
    va_start(values, format);
    std::vsnprintf(message, sizeof(message), format, values);
    va_end(values);
    // In one call, so that lines of several threads stay whole.
    if (layer == nullptr || *layer == '\0') {
        std::fprintf(stderr, "%s: %s\n", kPluginName, message);
    } else {
        std::fprintf(stderr, "%s '%s': %s\n", kPluginName, layer, message);
    }
}

} // namespace codetr
