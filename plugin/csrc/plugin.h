// The TensorRT plugin (IPluginV3) around an operator, and its creator.
#pragma once

#include "operator.h"
#include "report.h"

#include <NvInferRuntime.h>

#include <array>

namespace codetr {

constexpr char const* kPluginVersion = "1";
// TensorRT 10.6 looks plugins up in the namespace that the node names, "" in our files.
constexpr char const* kPluginNamespace = "";

using FieldArray = std::array<nvinfer1::PluginField, kMaxAttributes>;

// The operator's attributes as fields, which point to the values if there are any.
FieldArray fields_of(Operator const& op, Values const* values) noexcept;

// The attributes as TensorRT passes them on and stores them in a plan.
class Fields {
  public:
    Fields(Operator const& op, Values const& given) noexcept;
    Fields(Fields const&) = delete;
    Fields& operator=(Fields const&) = delete;

    // Points into this object.
    nvinfer1::PluginFieldCollection const* collection() const noexcept { return &collection_; }

    Values const values;

  private:
    FieldArray const fields_;
    nvinfer1::PluginFieldCollection const collection_;
};

// Nothing in its methods can throw. What they refuse they report (report.h) and return a non-zero
// value, of which TensorRT makes an error.
class Plugin final : public nvinfer1::IPluginV3,
                     public nvinfer1::IPluginV3OneCore,
                     public nvinfer1::IPluginV3OneBuild,
                     public nvinfer1::IPluginV3OneRuntime {
  public:
    // The layer's name is for messages only; null if it has none.
    Plugin(Operator const& op, Values const& values, char const* layer) noexcept;

    // IPluginV3
    nvinfer1::IPluginCapability*
    getCapabilityInterface(nvinfer1::PluginCapabilityType type) noexcept override;
    nvinfer1::IPluginV3* clone() noexcept override;

    // IPluginV3OneCore
    char const* getPluginName() const noexcept override { return operator_.name; }
    char const* getPluginVersion() const noexcept override { return kPluginVersion; }
    char const* getPluginNamespace() const noexcept override { return kPluginNamespace; }

    // IPluginV3OneBuild
    int32_t getNbOutputs() const noexcept override { return operator_.outputs; }
    int32_t configurePlugin(nvinfer1::DynamicPluginTensorDesc const* in, int32_t inputs,
                            nvinfer1::DynamicPluginTensorDesc const* out,
                            int32_t outputs) noexcept override;
    int32_t getOutputDataTypes(nvinfer1::DataType* output_types, int32_t outputs,
                               nvinfer1::DataType const* input_types,
                               int32_t inputs) const noexcept override;
    int32_t getOutputShapes(nvinfer1::DimsExprs const* in, int32_t inputs,
                            nvinfer1::DimsExprs const* shape_in, int32_t shape_inputs,
                            nvinfer1::DimsExprs* out, int32_t outputs,
                            nvinfer1::IExprBuilder& builder) noexcept override;
    bool supportsFormatCombination(int32_t position, nvinfer1::DynamicPluginTensorDesc const* all,
                                   int32_t inputs, int32_t outputs) noexcept override;
    // 0 for what it refuses.
    size_t getWorkspaceSize(nvinfer1::DynamicPluginTensorDesc const* in, int32_t inputs,
                            nvinfer1::DynamicPluginTensorDesc const* out,
                            int32_t outputs) const noexcept override;
    int32_t getNbTactics() noexcept override { return operator_.tactics(); }
    int32_t getValidTactics(int32_t* tactics, int32_t count) noexcept override;
    char const* getTimingCacheID() noexcept override { return timing_cache_id_.data(); }

    // IPluginV3OneRuntime
    int32_t setTactic(int32_t tactic) noexcept override;
    int32_t onShapeChange(nvinfer1::PluginTensorDesc const* in, int32_t inputs,
                          nvinfer1::PluginTensorDesc const* out,
                          int32_t outputs) noexcept override;
    int32_t enqueue(nvinfer1::PluginTensorDesc const* in, nvinfer1::PluginTensorDesc const* out,
                    void const* const* inputs, void* const* outputs, void* workspace,
                    cudaStream_t stream) noexcept override;
    nvinfer1::IPluginV3*
    attachToContext(nvinfer1::IPluginResourceContext* context) noexcept override;
    nvinfer1::PluginFieldCollection const* getFieldsToSerialize() noexcept override;

  private:
    Label label() const noexcept { return {operator_.name, layer_.data()}; }

    Operator const& operator_;
    Fields const fields_;
    std::array<char, 128> layer_;          // cut off where it is longer
    std::array<char, 40> timing_cache_id_; // TensorRT adds shapes and types itself
    int32_t tactic_ = 0;
};

class Creator final : public nvinfer1::IPluginCreatorV3One {
  public:
    explicit Creator(Operator const& op) noexcept;

    // Null, and reported, unless the fields are exactly the operator's attributes.
    nvinfer1::IPluginV3* createPlugin(char const* layer,
                                      nvinfer1::PluginFieldCollection const* fields,
                                      nvinfer1::TensorRTPhase phase) noexcept override;
    nvinfer1::PluginFieldCollection const* getFieldNames() noexcept override;
    char const* getPluginName() const noexcept override { return operator_.name; }
    char const* getPluginVersion() const noexcept override { return kPluginVersion; }
    char const* getPluginNamespace() const noexcept override { return kPluginNamespace; }

  private:
    Operator const& operator_;
    FieldArray const names_;
    nvinfer1::PluginFieldCollection const collection_;
};

} // namespace codetr
