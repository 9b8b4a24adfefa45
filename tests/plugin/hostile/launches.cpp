// What TensorRT calls when an engine runs, up to the launch itself (launch_on_cpu.h).
#include "hostile.h"

#include <algorithm>

namespace hostile {

namespace {

constexpr std::array<DataType, 4> kReal = {DataType::kFLOAT, DataType::kHALF, DataType::kBF16,
                                           DataType::kFP8};

// The right shapes of which each letter is any of these, wherever it stands.
template <typename Visit> void for_all_letters(Case const& of, Visit const& visit) {
    constexpr std::array<int64_t, 8> kSizes = {-1, 0, 1, 5, 256, 1 << 16, 1 << 23, kMax32};
    size_t combinations = 1;
    for (size_t i = 0; i < of.letters.size(); ++i) {
        combinations *= kSizes.size();
    }
    Shapes shapes = of.shapes;
    for (size_t combination = 0; combination < combinations; ++combination) {
        size_t rest = combination;
        for (auto const& places : of.letters) {
            for (auto const& [tensor, dimension] : places) {
                shapes[tensor].d[dimension] = kSizes[rest % kSizes.size()];
            }
            rest /= kSizes.size();
        }
        visit(shapes);
    }
}

bool runs(IPluginV3& plugin, Case const& of, PluginTensorDesc const* in, void const* const* from,
          void* const* to, void* workspace) {
    std::vector<PluginTensorDesc> const out(of.outputs);
    return accepts(of, [&] {
        return runtime(plugin).enqueue(in, out.data(), from, to, workspace, nullptr) == 0;
    });
}

std::set<Values> all_values(Case const& of) {
    std::set<Values> all;
    for (Values values : {of.values(), Values{1 << 18, 4}, Values{kMax32, kMax32, kMax32},
                          Values{kMax32 - 1}, Values{0, kMax32}}) {
        for (size_t i = 0; i < values.size(); ++i) {
            values[i] = std::clamp(values[i], of.attributes[i].lowest, of.attributes[i].highest);
        }
        all.insert(values);
    }
    return all;
}

void* const kPlace = reinterpret_cast<void*>(4096);
void* const kOutput = reinterpret_cast<void*>(8192);

std::vector<PluginTensorDesc> tensors(Case const& of) {
    std::vector<PluginTensorDesc> in(of.inputs());
    for (int i = 0; i < of.inputs(); ++i) {
        in[i].dims = of.shapes[i];
        in[i].type = DataType::kHALF;
    }
    return in;
}

// Of the right tensors: arrays, a workspace, or ranks that are not.
void check_missing(IPluginCreatorV3One& creator, Case const& of) {
    auto const plugin = make(creator, of, of.values());
    std::vector<PluginTensorDesc> in = tensors(of);
    std::vector<void const*> const from(of.inputs(), kPlace);
    std::vector<void*> const to(of.outputs, kOutput);
    CHECK(runs(*plugin, of, in.data(), from.data(), to.data(), kPlace));
    CHECK(!runs(*plugin, of, nullptr, from.data(), to.data(), kPlace));
    CHECK(!runs(*plugin, of, in.data(), nullptr, to.data(), kPlace));
    CHECK(!runs(*plugin, of, in.data(), from.data(), nullptr, kPlace));
    CHECK(runs(*plugin, of, in.data(), from.data(), to.data(), nullptr)
          == (of.workspace(of.shapes, of.values()) == 0));
    for (int32_t tensor = 0; tensor < of.inputs(); ++tensor) {
        for (int32_t const rank : kCounts) {
            in[tensor].dims.nbDims = rank;
            CHECK(runs(*plugin, of, in.data(), from.data(), to.data(), kPlace)
                  == of.rank_fits(tensor, rank));
        }
        in[tensor].dims.nbDims = of.shapes[tensor].nbDims;
    }
}

// Numbers of tactics, and arrays for them; a plugin runs with every one that it takes.
void check_tactics(IPluginCreatorV3One& creator, Case const& of) {
    auto const plugin = make(creator, of, of.values());
    IPluginV3OneBuild& built = build(*plugin);
    CHECK(built.getNbTactics() == of.tactics);
    std::array<int32_t, 8> numbers{};
    for (int32_t const count : kCounts) {
        CHECK(accepts(of, [&] { return built.getValidTactics(numbers.data(), count) == 0; })
              == (count == of.tactics));
        // TensorRT asks even where there are none, and has no array then.
        CHECK(accepts(of, [&] { return built.getValidTactics(nullptr, count) == 0; })
              == (count == 0 && of.tactics == 0));
    }
    CHECK(std::count(numbers.begin(), numbers.end(), 0) == 8 - of.tactics);
    std::vector<PluginTensorDesc> const in = tensors(of);
    std::vector<void const*> const from(of.inputs(), kPlace);
    std::vector<void*> const to(of.outputs, kOutput);
    for (int32_t const tactic : {kMin32, -1, 0, 1, 2, 8, 9, kMax32}) {
        bool const known = tactic >= 0 && tactic <= of.tactics;
        CHECK(accepts(of, [&] { return runtime(*plugin).setTactic(tactic) == 0; }) == known);
        CHECK(runs(*plugin, of, in.data(), from.data(), to.data(), kPlace));
    }
}

} // namespace

void check_launches(IPluginCreatorV3One& creator, Case const& of) {
    std::vector<PluginTensorDesc> in(of.inputs());
    std::vector<void const*> const from(of.inputs(), kPlace);
    std::vector<void*> const to(of.outputs, kOutput);
    int64_t launches = 0;
    for (Values const& values : all_values(of)) {
        auto const plugin = make(creator, of, values);
        for_all_letters(of, [&](Shapes const& shapes) {
            for (int i = 0; i < of.inputs(); ++i) {
                in[i].dims = shapes[i];
            }
            for (DataType const type : kReal) {
                in[0].type = type;
                launches += runs(*plugin, of, in.data(), from.data(), to.data(), kPlace);
            }
        });
    }
    CHECK(launches > 0);
    check_missing(creator, of);
    check_tactics(creator, of);
}

} // namespace hostile
