// The JSON file beside an engine, `model.engine.json`; runtime/manifest.py says what is in it.
#pragma once

#include "model.h"

#include <filesystem>
#include <span>

namespace codetr {

// Throws UserError if it is missing, not one of this version, or incomplete.
Manifest read_manifest(std::filesystem::path const& engine);

// Throws UserError if the manifest is of another engine than the one whose file holds `plan`.
void require_engine_of(Manifest const& manifest, std::filesystem::path const& engine,
                       std::span<char const> plan);

} // namespace codetr
