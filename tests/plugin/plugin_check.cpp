// Calls the plugin as TensorRT does, without TensorRT and without a GPU:
//     codetr_plugin_check path/to/libcodetr_plugin.so
// prints what is wrong; the exit code is the number of wrong things.
#include <NvInferRuntime.h>

#include <cstdio>
#include <cstring>
#include <dlfcn.h>
#include <initializer_list>
#include <memory>
#include <vector>

using namespace nvinfer1;

namespace {

int failures = 0;

#define CHECK(condition)                                                                           \
    if (!(condition)) {                                                                            \
        std::printf("line %d: %s\n", __LINE__, #condition);                                        \
        ++failures;                                                                                \
    }

constexpr int kTensors = 6;
int32_t const kEight = 8;
int32_t const kFour = 4;
PluginField const kHeads{"num_heads", &kEight, PluginFieldType::kINT32, 1};
PluginField const kPoints{"num_points", &kFour, PluginFieldType::kINT32, 1};

std::unique_ptr<IPluginV3> create(IPluginCreatorV3One& creator, std::vector<PluginField> fields,
                                  TensorRTPhase phase = TensorRTPhase::kBUILD) {
    PluginFieldCollection const collection{static_cast<int32_t>(fields.size()), fields.data()};
    return std::unique_ptr<IPluginV3>(creator.createPlugin("node", &collection, phase));
}

template <typename Capability> Capability& capability(IPluginV3& plugin, PluginCapabilityType type) {
    return *static_cast<Capability*>(plugin.getCapabilityInterface(type));
}
IPluginV3OneBuild& build(IPluginV3& plugin) {
    return capability<IPluginV3OneBuild>(plugin, PluginCapabilityType::kBUILD);
}
IPluginV3OneRuntime& runtime(IPluginV3& plugin) {
    return capability<IPluginV3OneRuntime>(plugin, PluginCapabilityType::kRUNTIME);
}

void check_creation(IPluginCreatorV3One& creator) {
    CHECK(std::strcmp(creator.getPluginName(), "CoDetrMSDeformAttn") == 0);
    CHECK(std::strcmp(creator.getPluginVersion(), "1") == 0);
    CHECK(std::strcmp(creator.getPluginNamespace(), "") == 0);
    CHECK(creator.getFieldNames()->nbFields == 2);
    CHECK(create(creator, {kHeads, kPoints}) != nullptr);
    CHECK(create(creator, {kPoints, kHeads}) != nullptr);

    int32_t const zero = 0;
    int32_t const negative = -8;
    float const real = 8.0F;
    CHECK(creator.createPlugin("node", nullptr, TensorRTPhase::kBUILD) == nullptr);
    CHECK(create(creator, {}) == nullptr);
    CHECK(create(creator, {kHeads}) == nullptr);
    CHECK(create(creator, {kHeads, kHeads}) == nullptr);
    CHECK(create(creator, {kHeads, kPoints, kPoints}) == nullptr);
    for (PluginField const& wrong : std::initializer_list<PluginField>{
             {"num_head", &kEight, PluginFieldType::kINT32, 1},
             {nullptr, &kEight, PluginFieldType::kINT32, 1},
             {"num_heads", &real, PluginFieldType::kFLOAT32, 1},
             {"num_heads", &kEight, PluginFieldType::kINT32, 2},
             {"num_heads", &kEight, PluginFieldType::kINT32, 0},
             {"num_heads", nullptr, PluginFieldType::kINT32, 1},
             {"num_heads", &zero, PluginFieldType::kINT32, 1},
             {"num_heads", &negative, PluginFieldType::kINT32, 1}}) {
        CHECK(create(creator, {wrong, kPoints}) == nullptr);
    }
}

bool same_fields(PluginFieldCollection const& a, PluginFieldCollection const& b) {
    if (a.nbFields != b.nbFields) {
        return false;
    }
    for (int i = 0; i < a.nbFields; ++i) {
        PluginField const &x = a.fields[i], &y = b.fields[i];
        if (std::strcmp(x.name, y.name) != 0 || x.type != y.type || x.length != y.length
            || x.data == y.data || std::memcmp(x.data, y.data, sizeof(int32_t)) != 0) {
            return false; // each plugin owns its fields
        }
    }
    return true;
}

void check_serialization(IPluginCreatorV3One& creator) {
    auto plugin = create(creator, {kPoints, kHeads});
    PluginFieldCollection const& fields = *runtime(*plugin).getFieldsToSerialize();
    std::vector<PluginField> const stored(fields.fields, fields.fields + fields.nbFields);
    auto loaded = create(creator, stored, TensorRTPhase::kRUNTIME);
    auto clone = std::unique_ptr<IPluginV3>(loaded->clone());
    auto attached = std::unique_ptr<IPluginV3>(runtime(*clone).attachToContext(nullptr));
    loaded.reset();
    clone.reset();
    CHECK(same_fields(*runtime(*attached).getFieldsToSerialize(), fields));
    CHECK(*static_cast<int32_t const*>(fields.fields[0].data) == 8);
    CHECK(*static_cast<int32_t const*>(fields.fields[1].data) == 4);

    auto other = create(creator, {kHeads, {"num_points", &kEight, PluginFieldType::kINT32, 1}});
    CHECK(std::strcmp(build(*plugin).getTimingCacheID(), build(*attached).getTimingCacheID()) == 0);
    CHECK(std::strcmp(build(*plugin).getTimingCacheID(), build(*other).getTimingCacheID()) != 0);
}

bool supported(IPluginV3OneBuild& plugin, DynamicPluginTensorDesc const* all) {
    for (int position = 0; position < kTensors; ++position) {
        if (!plugin.supportsFormatCombination(position, all, 5, 1)) {
            return false;
        }
    }
    return true;
}

void check_formats(IPluginV3OneBuild& plugin) {
    constexpr int kTypes = 10; // of nvinfer1::DataType, from 0
    int count = 0;
    for (int combination = 0; combination < 1000000; ++combination) {
        DynamicPluginTensorDesc all[kTensors]{};
        for (int i = 0, rest = combination; i < kTensors; ++i, rest /= kTypes) {
            all[i].desc.type = static_cast<DataType>(rest % kTypes);
            all[i].desc.format = TensorFormat::kLINEAR;
        }
        if (!supported(plugin, all)) {
            continue;
        }
        ++count;
        DataType const type = all[0].desc.type;
        CHECK(type == DataType::kFLOAT || type == DataType::kHALF || type == DataType::kBF16);
        CHECK(all[1].desc.type == type && all[5].desc.type == type);
        CHECK(all[2].desc.type == DataType::kFLOAT);
        CHECK(all[3].desc.type == DataType::kINT32 && all[4].desc.type == DataType::kINT32);
        for (auto& tensor : all) {
            tensor.desc.format = TensorFormat::kHWC8;
            CHECK(!supported(plugin, all));
            tensor.desc.format = TensorFormat::kLINEAR;
        }
        CHECK(!plugin.supportsFormatCombination(0, all, 4, 1));
        CHECK(!plugin.supportsFormatCombination(6, all, 5, 1));
        CHECK(!plugin.supportsFormatCombination(-1, all, 5, 1));
    }
    CHECK(count == 3);
}

using Shapes = std::vector<Dims>;

// Inputs, then the output: batch 2, 85 tokens of 3 levels, 7 queries.
Shapes const kGood{
    {3, {2, 85, 256}}, {3, {2, 7, 288}}, {3, {2, 7, 4}}, {2, {3, 2}}, {3, {2, 3, 2}}, {3, {2, 7, 256}}};

Shapes with(int tensor, Dims dims) {
    Shapes shapes = kGood;
    shapes[tensor] = dims;
    return shapes;
}

bool accepted_at_run(IPluginV3& plugin, Shapes const& shapes) {
    PluginTensorDesc all[kTensors]{};
    for (int i = 0; i < kTensors; ++i) {
        all[i].dims = shapes[i];
    }
    return runtime(plugin).onShapeChange(all, 5, all + 5, 1) == 0;
}

bool accepted_at_build(IPluginV3& plugin, Shapes const& shapes) {
    DynamicPluginTensorDesc all[kTensors]{};
    for (int i = 0; i < kTensors; ++i) {
        all[i].desc.dims = shapes[i];
    }
    return build(plugin).configurePlugin(all, 5, all + 5, 1) == 0;
}

void check_shapes(IPluginV3& plugin) {
    for (Shapes const& shapes :
         {kGood, with(2, {3, {1, 7, 4}}), with(2, {3, {2, 7, 2}}), with(4, {3, {1, 3, 2}})}) {
        CHECK(accepted_at_run(plugin, shapes));
        CHECK(accepted_at_build(plugin, shapes));
    }
    for (Shapes const& shapes :
         {with(0, {4, {2, 85, 8, 32}}), with(0, {3, {1, 85, 256}}), with(0, {3, {2, 85, 252}}),
          with(0, {3, {2, int64_t{1} << 31, 256}}), with(1, {3, {1, 7, 288}}),
          with(1, {3, {2, 8, 288}}), with(1, {3, {2, 7, 287}}), with(2, {3, {3, 7, 4}}),
          with(2, {3, {2, 8, 4}}), with(2, {3, {2, 7, 3}}), with(3, {2, {4, 2}}),
          with(3, {2, {3, 3}}), with(3, {1, {3}}), with(4, {3, {3, 3, 2}}), with(4, {3, {2, 4, 2}}),
          with(4, {3, {2, 3, 1}}), with(5, {3, {2, 7, 128}}), with(5, {3, {2, 8, 256}}),
          with(5, {3, {1, 7, 256}})}) {
        CHECK(!accepted_at_run(plugin, shapes));
        CHECK(!accepted_at_build(plugin, shapes));
    }
    Shapes unknown = kGood;
    for (Dims& dims : unknown) {
        dims.d[0] = dims.d[1] = -1;
    }
    CHECK(accepted_at_build(plugin, unknown));
    PluginTensorDesc none[kTensors]{};
    CHECK(runtime(plugin).onShapeChange(none, 4, none, 1) != 0);
    CHECK(runtime(plugin).onShapeChange(none, 5, none, 2) != 0);
}

} // namespace

int main(int count, char** arguments) {
    void* library = count == 2 ? dlopen(arguments[1], RTLD_NOW | RTLD_LOCAL) : nullptr;
    if (library == nullptr) {
        std::printf("%s\n", count == 2 ? dlerror() : "give one library");
        return 1;
    }
    using GetCreators = IPluginCreatorInterface* const*(int32_t&);
    auto* get_creators = reinterpret_cast<GetCreators*>(dlsym(library, "getCreators"));
    int32_t creators = 0;
    auto& creator = *static_cast<IPluginCreatorV3One*>(get_creators(creators)[0]);
    CHECK(creators == 1);
    CHECK(std::strcmp(creator.getInterfaceInfo().kind, "PLUGIN CREATOR_V3ONE") == 0);
    check_creation(creator);
    check_serialization(creator);
    auto plugin = create(creator, {kHeads, kPoints});
    check_formats(build(*plugin));
    check_shapes(*plugin);
    return failures;
}
