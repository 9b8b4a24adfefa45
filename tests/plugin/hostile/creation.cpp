// Attributes of all names, types, lengths and values, alone, in pairs, thrice; none at all.
#include "hostile.h"

#include <algorithm>

namespace hostile {

namespace {

struct Given {
    PluginField field;
    int attribute; // -1: none
    bool fits;
};

std::string const kLong(5000, 'x');

// A value of four bytes in a place of its own, so that reads past it show; `offset` bytes away from
// where an int32 should lie.
void const* place(int32_t value, size_t offset) {
    static std::vector<std::unique_ptr<char[]>> places;
    places.push_back(std::make_unique<char[]>(offset + sizeof(value)));
    return std::memcpy(places.back().get() + offset, &value, sizeof(value));
}

std::vector<Given> all_fields(Case const& of) {
    std::vector<std::pair<void const*, int32_t>> values{{nullptr, kMin32}};
    for (int32_t const value : {kMin32, -1, 0, 1, 8, kMax32}) {
        for (size_t const offset : {0, 1}) {
            values.emplace_back(place(value, offset), value);
        }
    }
    std::vector<Given> all;
    auto const& attributes = of.attributes;
    std::set<char const*> names{"", "%s%n", kLong.c_str(), nullptr};
    for (Attribute const& attribute : attributes) {
        names.insert(attribute.name);
    }
    for (char const* name : names) {
        auto const found = std::find_if(attributes.begin(), attributes.end(),
                                        [&](Attribute const& each) { return each.name == name; });
        bool const known = name != nullptr && found != attributes.end();
        int const attribute = known ? static_cast<int>(found - attributes.begin()) : -1;
        for (int type = -1; type < 16; ++type) {
            for (int32_t const length : {kMin32, -1, 0, 1, 2, kMax32}) {
                for (auto const& [data, value] : values) {
                    auto const kind = static_cast<PluginFieldType>(type);
                    bool const fits = known && kind == PluginFieldType::kINT32 && length == 1
                                      && data != nullptr && value >= found->lowest
                                      && value <= found->highest;
                    all.push_back({{name, data, kind, length}, attribute, fits});
                }
            }
        }
    }
    return all;
}

bool created(IPluginCreatorV3One& creator, Case const& of, std::vector<PluginField> fields) {
    return accepts(of, [&] { return create(creator, fields) != nullptr; });
}

void check_fields(IPluginCreatorV3One& creator, Case const& of) {
    Values const values = of.values();
    std::vector<PluginField> const good = fields(of, values);
    int const count = static_cast<int>(good.size());
    for (Given const& given : all_fields(of)) {
        CHECK(created(creator, of, {given.field}) == (given.fits && count == 1));
        for (int i = 0; i < count; ++i) {
            std::vector<PluginField> some = good;
            some[i] = given.field;
            bool const fits = given.fits && given.attribute == i;
            CHECK(created(creator, of, some) == fits);
            std::reverse(some.begin(), some.end());
            CHECK(created(creator, of, some) == fits);
        }
        std::vector<PluginField> more = good;
        more.insert(more.begin() + std::min(count, 1), given.field);
        CHECK(!created(creator, of, more));
    }
}

void check_collections(IPluginCreatorV3One& creator, Case const& of) {
    Values const values = of.values();
    std::vector<PluginField> const good = fields(of, values);
    int32_t const needed = static_cast<int32_t>(good.size());
    auto const made = [&](PluginFieldCollection const* collection, char const* layer, int phase) {
        std::string const begin = layer == nullptr || *layer == '\0' ? ": " : " '";
        return accepts(of.op + begin, [&] {
            std::unique_ptr<IPluginV3> const plugin(
                creator.createPlugin(layer, collection, static_cast<TensorRTPhase>(phase)));
            return plugin != nullptr;
        });
    };
    for (char const* layer : {static_cast<char const*>(nullptr), "", "%s%n", kLong.c_str()}) {
        for (int const phase : {kMin32, -1, 0, 1, 2, kMax32}) {
            CHECK(made(nullptr, layer, phase) == (needed == 0));
            for (int32_t const count : kCounts) {
                PluginFieldCollection const nothing{count, nullptr};
                CHECK(made(&nothing, layer, phase) == (needed == 0));
                PluginFieldCollection const some{std::min(count, needed), good.data()};
                CHECK(made(&some, layer, phase) == (needed == 0 || count >= needed));
            }
        }
    }
}

} // namespace

void check_creation(IPluginCreatorV3One& creator, Case const& of) {
    check_fields(creator, of);
    check_collections(creator, of);
}

} // namespace hostile
