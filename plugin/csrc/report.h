// What went wrong, as text.
#pragma once

namespace codetr {

// Who reports: the plugin and, if it has a name, the layer.
struct Label {
    char const* plugin;
    char const* layer;
};

// Prints one line to stderr: the plugin's name, the layer's if there is one, and a message written
// as by printf. TensorRT itself only says that something failed, and its loggers cannot be called
// from here: their vtable differs between TensorRT 10 and 11.
__attribute__((format(printf, 2, 3))) void report(Label const& label, char const* format,
                                                  ...) noexcept;

} // namespace codetr
