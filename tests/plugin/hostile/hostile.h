// Calls with counts, sizes, types and pointers that no right model has. Each has to be answered with
// yes, or with no and one line that says why; the sanitizers see to the rest.
#pragma once

#include "plugin_calls.h"

#include <array>
#include <cstdint>
#include <limits>
#include <set>

namespace hostile {

using namespace plugin_calls;

using Shapes = std::vector<Dims>; // inputs, then the outputs
using Values = std::array<int32_t, 3>;

constexpr int32_t kMin32 = std::numeric_limits<int32_t>::min();
constexpr int32_t kMax32 = std::numeric_limits<int32_t>::max();
constexpr int64_t kMin64 = std::numeric_limits<int64_t>::min();
constexpr int64_t kMax64 = std::numeric_limits<int64_t>::max();

struct Attribute {
    char const* name = nullptr; // none
    int32_t lowest = 0;
    int32_t value = 0; // that goes with the shapes
    int32_t highest = 0;
};

// What an operator takes, said once more.
struct Case {
    std::string op;
    std::array<Attribute, 3> attributes;
    Shapes shapes;
    std::vector<std::vector<std::array<int, 2>>> letters; // tensor and dimension where each stands
    // Of shapes whose ranks are right.
    bool (*shapes_fit)(Shapes const& shapes, Values const& values);
    Dims (*output)(Shapes const& shapes);
    bool (*type_fits)(int tensor, DataType own, DataType first);
    int first_types; // that the first tensor may have; the others may have one, given the first's
    int32_t other_rank = 0; // that the first tensor may have too
    // Whether shapes that fit are prepared for.
    bool (*can_run)(Shapes const& shapes) = [](Shapes const&) { return true; };
    size_t (*workspace)(Shapes const& shapes, Values const& values) =
        [](Shapes const&, Values const&) { return size_t{0}; };
    int32_t tactics = 0;
    DataType (*output_type)(DataType first) = [](DataType first) { return first; }; // of the first
    int32_t outputs = 1; // all of one shape

    int32_t tensors() const { return static_cast<int32_t>(shapes.size()); }
    int32_t inputs() const { return tensors() - outputs; }
    Values values() const { return {attributes[0].value, attributes[1].value, attributes[2].value}; }
    bool rank_fits(int32_t tensor, int32_t rank) const {
        // Of the first tensor, and those that are like it.
        bool const may_differ = other_rank != 0 && shapes[tensor].nbDims == shapes[0].nbDims;
        return (may_differ && rank == other_rank) || rank == shapes[tensor].nbDims;
    }
};

extern Case const kSampling;
extern Case const kWindows;
extern Case const kNorm;
extern Case const kRows;   // layer norms
extern Case const kMaps;   // linear layers of maps
extern Case const kTokens; // of tokens, with a residual
extern Case const kSums;   // layer norms of sums
extern Case const kMerged; // of merged neighbours
extern Case const kWindowsToFp8;
extern Case const kRowsToFp8;
extern Case const kMapsFp8;
extern Case const kTokensFp8;
extern Case const kMapsFp8ToFp8;
extern Case const kRowsAndFp8;

extern int64_t calls; // so far

// What plugins print; the sanitizers write past it. Made once, before the first call.
class Ear {
  public:
    Ear() { stderr = open_memstream(&text_, &length_); }
    void forget() { std::rewind(stderr); }
    std::string heard() {
        std::fflush(stderr);
        return {text_, length_};
    }

  private:
    char* text_ = nullptr;
    size_t length_ = 0;
};

extern Ear ear;

// Whether `call` returns true; if so it says nothing, otherwise one line that begins as it should.
template <typename Call> bool accepts(std::string const& begin, Call const& call) {
    ++calls;
    ear.forget();
    bool const accepted = call();
    std::string const said = ear.heard();
    bool const one_line = said.rfind(begin, 0) == 0 && said.find('\n') == said.size() - 1;
    CHECK(accepted ? said.empty() : one_line);
    return accepted;
}
template <typename Call> bool accepts(Case const& of, Call const& call) {
    return accepts(of.op + " 'node': ", call);
}

// The attributes, in order; they point to `values`.
std::vector<PluginField> fields(Case const& of, Values const& values);
std::unique_ptr<IPluginV3> make(IPluginCreatorV3One& creator, Case const& of, Values const& values);

// Each goes through one kind of calls.
void check_creation(IPluginCreatorV3One& creator, Case const& of);
void check_formats(IPluginCreatorV3One& creator, Case const& of);
void check_shapes(IPluginCreatorV3One& creator, Case const& of);
void check_outputs(IPluginCreatorV3One& creator, Case const& of);
void check_launches(IPluginCreatorV3One& creator, Case const& of);
void check_workspaces(IPluginCreatorV3One& creator, Case const& of);
void check_copies(IPluginCreatorV3One& creator, Case const& of);

// Numbers of tensors, right and wrong.
constexpr std::array<int32_t, 13> kCounts = {kMin32, -1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, kMax32};

// Calls `visit` with the right shapes of which any two sizes are replaced by any others.
template <typename Visit> void for_all_sizes(Case const& of, Visit const& visit) {
    constexpr int64_t kSizes[] = {kMin64,           -2, -1, 0, 1, 2, kMax32, int64_t{1} << 31,
                                  (int64_t{1} << 32) + 1, kMax64};
    Shapes shapes = of.shapes;
    std::vector<int64_t*> sizes;
    for (Dims& dims : shapes) {
        for (int i = 0; i < dims.nbDims; ++i) {
            sizes.push_back(&dims.d[i]);
        }
    }
    visit(shapes);
    for (size_t i = 0; i < sizes.size(); ++i) {
        for (size_t j = 0; j < i; ++j) {
            int64_t const first = *sizes[i], second = *sizes[j];
            for (int64_t const size : kSizes) {
                for (int64_t const other : kSizes) {
                    *sizes[i] = size, *sizes[j] = other;
                    visit(shapes);
                }
                *sizes[j] = second;
                visit(shapes);
            }
            *sizes[i] = first;
        }
    }
}

// Calls `visit` with plugins of attributes from the smallest to the largest.
template <typename Visit>
void for_all_values(IPluginCreatorV3One& creator, Case const& of, Visit const& visit) {
    std::set<Values> all{of.values()};
    for (int combination = 0; combination < 8; ++combination) {
        Values values{};
        for (size_t i = 0; i < values.size(); ++i) {
            Attribute const& attribute = of.attributes[i];
            values[i] = (combination >> i) % 2 == 0 ? attribute.lowest : attribute.highest;
        }
        all.insert(values);
    }
    for (Values const& values : all) {
        visit(*make(creator, of, values), values);
    }
}

} // namespace hostile
