// How much memory TensorRT is asked for, beside the tensors, while it builds.
#include "hostile.h"

#include <algorithm>

namespace hostile {

namespace {

using Tensors = std::vector<DynamicPluginTensorDesc>;

Tensors tensors(Shapes const& known, Shapes const& most) {
    Tensors all(known.size());
    for (size_t i = 0; i < all.size(); ++i) {
        all[i].desc.dims = known[i];
        all[i].max = most[i];
    }
    return all;
}

// What is refused gets none, and a line.
void check(IPluginV3& plugin, Case const& of, DynamicPluginTensorDesc const* in, int32_t inputs,
           DynamicPluginTensorDesc const* out, int32_t outputs, size_t wanted, bool fits) {
    size_t bytes = 0;
    accepts(of, [&] {
        bytes = build(plugin).getWorkspaceSize(in, inputs, out, outputs);
        return fits;
    });
    CHECK(bytes == (fits ? wanted : 0));
}

// Of sizes that are known, and of the bounds of sizes: the larger ones count.
void check_sizes(IPluginV3& plugin, Case const& of, Values const& values) {
    for_all_sizes(of, [&](Shapes const& shapes) {
        Shapes larger = shapes;
        for (size_t i = 0; i < shapes.size(); ++i) {
            std::transform(shapes[i].d, shapes[i].d + shapes[i].nbDims, of.shapes[i].d, larger[i].d,
                           [](int64_t a, int64_t b) { return std::max(a, b); });
        }
        size_t const wanted = of.workspace(larger, values);
        for (Tensors const& all : {tensors(shapes, of.shapes), tensors(of.shapes, shapes)}) {
            check(plugin, of, all.data(), of.inputs(), &all[of.inputs()], of.outputs, wanted, true);
        }
    });
}

void check_ranks(IPluginV3& plugin, Case const& of, size_t wanted) {
    for (int32_t tensor = 0; tensor < of.inputs(); ++tensor) {
        Tensors known = tensors(of.shapes, of.shapes);
        Tensors most = known;
        for (int32_t const rank : kCounts) {
            known[tensor].desc.dims.nbDims = rank;
            most[tensor].max.nbDims = rank; // nobody asks
            check(plugin, of, known.data(), of.inputs(), &known[of.inputs()], of.outputs, wanted,
                  of.rank_fits(tensor, rank));
            check(plugin, of, most.data(), of.inputs(), &most[of.inputs()], of.outputs, wanted,
                  true);
        }
    }
}

void check_counts(IPluginV3& plugin, Case const& of, size_t wanted) {
    Tensors const all = tensors(of.shapes, of.shapes);
    DynamicPluginTensorDesc const* const in = all.data();
    DynamicPluginTensorDesc const* const out = in + of.inputs();
    for (int32_t const inputs : kCounts) {
        for (int32_t const outputs : kCounts) {
            bool const right = inputs == of.inputs() && outputs == of.outputs;
            check(plugin, of, in, inputs, out, outputs, wanted, right);
            check(plugin, of, nullptr, inputs, out, outputs, 0, false);
            check(plugin, of, in, inputs, nullptr, outputs, 0, false);
        }
    }
}

} // namespace

void check_workspaces(IPluginCreatorV3One& creator, Case const& of) {
    for_all_values(creator, of, [&](IPluginV3& plugin, Values const& values) {
        check_sizes(plugin, of, values);
    });
    auto const plugin = make(creator, of, of.values());
    size_t const wanted = of.workspace(of.shapes, of.values());
    check_ranks(*plugin, of, wanted);
    check_counts(*plugin, of, wanted);
}

} // namespace hostile
