// Sizes, ranks and numbers of tensors when an engine is built and before it runs.
#include "hostile.h"

namespace hostile {

namespace {

void set_dims(PluginTensorDesc& tensor, Dims const& dims) { tensor.dims = dims; }
void set_dims(DynamicPluginTensorDesc& tensor, Dims const& dims) { tensor.desc.dims = dims; }
void set_type(PluginTensorDesc& tensor, DataType type) { tensor.type = type; }
void set_type(DynamicPluginTensorDesc& tensor, DataType type) { tensor.desc.type = type; }

int32_t call(IPluginV3& plugin, PluginTensorDesc const* in, int32_t inputs,
             PluginTensorDesc const* out, int32_t outputs) {
    return runtime(plugin).onShapeChange(in, inputs, out, outputs);
}
int32_t call(IPluginV3& plugin, DynamicPluginTensorDesc const* in, int32_t inputs,
             DynamicPluginTensorDesc const* out, int32_t outputs) {
    return build(plugin).configurePlugin(in, inputs, out, outputs);
}

template <typename Description>
bool takes(IPluginV3& plugin, Case const& of, Shapes const& shapes) {
    std::vector<Description> in(of.inputs());
    for (int i = 0; i < of.inputs(); ++i) {
        set_dims(in[i], shapes[i]);
    }
    set_type(in[0], DataType::kHALF); // which all of them take
    std::vector<Description> out(of.outputs);
    for (int i = 0; i < of.outputs; ++i) {
        set_dims(out[i], shapes[of.inputs() + i]);
    }
    return accepts(of, [&] {
        return call(plugin, in.data(), of.inputs(), out.data(), of.outputs) == 0;
    });
}

template <typename Description> void check_ranks(IPluginV3& plugin, Case const& of) {
    for (size_t tensor = 0; tensor < of.shapes.size(); ++tensor) {
        Shapes shapes = of.shapes;
        for (int32_t const rank : kCounts) {
            shapes[tensor].nbDims = rank;
            CHECK(takes<Description>(plugin, of, shapes) == (rank == of.shapes[tensor].nbDims));
        }
    }
}

template <typename Description> void check_counts(IPluginV3& plugin, Case const& of) {
    std::vector<Description> tensors(of.shapes.size());
    for (size_t i = 0; i < tensors.size(); ++i) {
        set_dims(tensors[i], of.shapes[i]);
        set_type(tensors[i], DataType::kHALF);
    }
    Description const* const in = tensors.data();
    Description const* const out = in + of.inputs();
    for (int32_t const inputs : kCounts) {
        for (int32_t const outputs : kCounts) {
            CHECK(accepts(of, [&] { return call(plugin, in, inputs, out, outputs) == 0; })
                  == (inputs == of.inputs() && outputs == of.outputs));
            CHECK(!accepts(of, [&] { return call(plugin, nullptr, inputs, out, outputs) == 0; }));
            CHECK(!accepts(of, [&] { return call(plugin, in, inputs, nullptr, outputs) == 0; }));
        }
    }
}

} // namespace

void check_shapes(IPluginCreatorV3One& creator, Case const& of) {
    for_all_values(creator, of, [&](IPluginV3& plugin, Values const& values) {
        for_all_sizes(of, [&](Shapes const& shapes) {
            bool const fits = of.shapes_fit(shapes, values);
            CHECK(takes<PluginTensorDesc>(plugin, of, shapes) == (fits && of.can_run(shapes)));
            CHECK(takes<DynamicPluginTensorDesc>(plugin, of, shapes) == fits);
        });
    });
    auto const plugin = make(creator, of, of.values());
    check_ranks<PluginTensorDesc>(*plugin, of);
    check_ranks<DynamicPluginTensorDesc>(*plugin, of);
    check_counts<PluginTensorDesc>(*plugin, of);
    check_counts<DynamicPluginTensorDesc>(*plugin, of);
}

} // namespace hostile
