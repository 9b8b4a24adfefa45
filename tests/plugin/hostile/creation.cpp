// Attributes of all names, types, lengths and values, alone, in pairs, thrice; none at all.
#include "hostile.h"

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
    auto const [first, second] = of.attributes;
    char const* const names[] = {first, second, "", "%s%n", kLong.c_str(), nullptr};
    for (char const* name : names) {
        int const attribute = name == first ? 0 : name == second ? 1 : -1;
        for (int type = -1; type < 16; ++type) {
            for (int32_t const length : {kMin32, -1, 0, 1, 2, kMax32}) {
                for (auto const& [data, value] : values) {
                    auto const kind = static_cast<PluginFieldType>(type);
                    bool const fits = attribute >= 0 && kind == PluginFieldType::kINT32
                                      && length == 1 && data != nullptr && value >= of.lowest[attribute];
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
    std::vector<PluginField> good;
    for (int i = 0; i < 2; ++i) {
        good.push_back({of.attributes[i], &of.values[i], PluginFieldType::kINT32, 1});
    }
    for (Given const& given : all_fields(of)) {
        CHECK(!created(creator, of, {given.field}));
        for (int i = 0; i < 2; ++i) {
            bool const fits = given.fits && given.attribute == 1 - i;
            CHECK(created(creator, of, {good[i], given.field}) == fits);
            CHECK(created(creator, of, {given.field, good[i]}) == fits);
        }
        CHECK(!created(creator, of, {good[0], given.field, good[1]}));
    }
}

void check_collections(IPluginCreatorV3One& creator, Case const& of) {
    std::vector<PluginField> good;
    for (int i = 0; i < 2; ++i) {
        good.push_back({of.attributes[i], &of.values[i], PluginFieldType::kINT32, 1});
    }
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
            CHECK(!made(nullptr, layer, phase));
            for (int32_t const count : kCounts) {
                PluginFieldCollection const nothing{count, nullptr};
                CHECK(!made(&nothing, layer, phase));
                PluginFieldCollection const some{std::min(count, 2), good.data()};
                CHECK(made(&some, layer, phase) == (count >= 2));
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
