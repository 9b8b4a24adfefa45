// Plugins that are cloned, stored, loaded and attached in all orders, and memory that runs out.
#include "hostile.h"

#include <algorithm>
#include <new>

namespace {

bool out_of_memory = false;

} // namespace

// The plugin's too: this program exports it.
void* operator new(size_t size, std::nothrow_t const&) noexcept {
    return out_of_memory ? nullptr : ::operator new(size);
}

namespace hostile {

namespace {

using Owned = std::unique_ptr<IPluginV3>;

Owned stored_and_loaded(IPluginCreatorV3One& creator, IPluginV3& plugin) {
    PluginFieldCollection const& stored = *runtime(plugin).getFieldsToSerialize();
    return Owned(creator.createPlugin("node", &stored, TensorRTPhase::kRUNTIME));
}

bool has_values(IPluginV3& plugin, Case const& of, Values const& values) {
    std::vector<PluginField> const wanted = fields(of, values);
    PluginFieldCollection const& stored = *runtime(plugin).getFieldsToSerialize();
    auto const same = [](PluginField const& a, PluginField const& b) {
        return std::strcmp(a.name, b.name) == 0
               && std::memcmp(a.data, b.data, sizeof(int32_t)) == 0;
    };
    return std::equal(wanted.begin(), wanted.end(), stored.fields, stored.fields + stored.nbFields,
                      same);
}

} // namespace

void check_copies(IPluginCreatorV3One& creator, Case const& of) {
    for_all_values(creator, of, [&](IPluginV3& plugin, Values const& values) {
        for (int order = 0; order < 243; ++order) { // five copies, each of the one before
            Owned last(plugin.clone());
            for (int i = 0, rest = order; i < 5; ++i, rest /= 3, ++calls) {
                last = rest % 3 == 0   ? Owned(last->clone())
                       : rest % 3 == 1 ? Owned(runtime(*last).attachToContext(nullptr))
                                       : stored_and_loaded(creator, *last);
            }
            CHECK(has_values(*last, of, values));
        }
        out_of_memory = true;
        CHECK(plugin.clone() == nullptr);
        CHECK(runtime(plugin).attachToContext(nullptr) == nullptr);
        CHECK(stored_and_loaded(creator, plugin) == nullptr);
        out_of_memory = false;
        calls += 3;
        for (int const type : {kMin32, -1, 3, kMax32}) {
            CHECK(plugin.getCapabilityInterface(static_cast<PluginCapabilityType>(type)) == nullptr);
            ++calls;
        }
    });
}

} // namespace hostile
