// The JSON file beside an engine, `model.engine.json`; runtime/manifest.py says what is in it.
#pragma once

#include "model.h"

#include <filesystem>

namespace codetr {

// Throws UserError if it is missing, not one of this version, or incomplete. That it holds this
// very engine's SHA-256 is checked by the Python runtime only.
Manifest read_manifest(std::filesystem::path const& engine);

} // namespace codetr
