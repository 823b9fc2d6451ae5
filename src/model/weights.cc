#include "model/weights.h"

#include <cstring>

#include "base/file.h"
#include "base/str.h"

namespace spanwise {
namespace {

std::vector<float> Widen(const TensorView& tensor) {
  std::vector<float> out(static_cast<size_t>(tensor.n_elements()));
  for (size_t i = 0; i < out.size(); ++i) {
    if (tensor.dtype == DType::kF32) {
      std::memcpy(&out[i], tensor.data + 4 * i, 4);
    } else {
      uint16_t half;
      std::memcpy(&half, tensor.data + 2 * i, 2);
      out[i] = tensor.dtype == DType::kBf16 ? Bf16ToFloat(half) : F16ToFloat(half);
    }
  }
  return out;
}

std::string ShapeText(const std::vector<int64_t>& shape) { return StrFormat("[{}]", fmt::join(shape, ", ")); }

}  // namespace

class ModelWeights::Loader {
 public:
  Loader(ModelWeights& model, std::string folder, std::optional<DType> dtype, ThreadPool& pool)
      : m_(model), folder_(std::move(folder)), dtype_(dtype), pool_(pool) {}

  Status Load() {
    const std::string config_path = folder_ + "/config.json", generation_path = folder_ + "/generation_config.json";
    SW_ASSIGN_OR_RETURN(const std::string config, ReadFile(config_path, kMaxConfigBytes));
    std::string generation;
    if (FileExists(generation_path)) {
      SW_ASSIGN_OR_RETURN(generation, ReadFile(generation_path, kMaxConfigBytes));
    }
    SW_ASSIGN_OR_RETURN(m_.config_, ParseModelConfig(config, generation, config_path));
    SW_ASSIGN_OR_RETURN(m_.files_, SafetensorsModel::Open(folder_));

    const ModelConfig& c = m_.config_;
    const int q_dim = c.n_heads * c.head_dim, kv_dim = c.n_kv_heads * c.head_dim;
    SW_RETURN_IF_ERROR(Matrix("model.embed_tokens.weight", c.vocab_size, c.hidden_dim, &m_.embedding_));
    if (c.tie_embeddings) {
      m_.head_ = m_.embedding_;
    } else {
      SW_RETURN_IF_ERROR(Matrix("lm_head.weight", c.vocab_size, c.hidden_dim, &m_.head_));
    }
    SW_RETURN_IF_ERROR(Vector("model.norm.weight", c.hidden_dim, &m_.final_norm_));
    m_.layers_.resize(static_cast<size_t>(c.n_layers));
    for (int i = 0; i < c.n_layers; ++i) {
      LayerWeights& w = m_.layers_[static_cast<size_t>(i)];
      const std::string at = StrFormat("model.layers.{}.", i);
      SW_RETURN_IF_ERROR(Vector(at + "input_layernorm.weight", c.hidden_dim, &w.attention_norm));
      SW_RETURN_IF_ERROR(Vector(at + "post_attention_layernorm.weight", c.hidden_dim, &w.ffn_norm));
      SW_RETURN_IF_ERROR(LinearLayer(at + "self_attn.q_proj", q_dim, c.hidden_dim, c.qkv_bias, &w.q));
      SW_RETURN_IF_ERROR(LinearLayer(at + "self_attn.k_proj", kv_dim, c.hidden_dim, c.qkv_bias, &w.k));
      SW_RETURN_IF_ERROR(LinearLayer(at + "self_attn.v_proj", kv_dim, c.hidden_dim, c.qkv_bias, &w.v));
      SW_RETURN_IF_ERROR(LinearLayer(at + "self_attn.o_proj", c.hidden_dim, q_dim, c.output_bias, &w.output));
      if (c.qk_norm) {
        SW_RETURN_IF_ERROR(Vector(at + "self_attn.q_norm.weight", c.head_dim, &w.q_norm));
        SW_RETURN_IF_ERROR(Vector(at + "self_attn.k_norm.weight", c.head_dim, &w.k_norm));
      }
      SW_RETURN_IF_ERROR(LinearLayer(at + "mlp.gate_proj", c.ffn_dim, c.hidden_dim, c.mlp_bias, &w.gate));
      SW_RETURN_IF_ERROR(LinearLayer(at + "mlp.up_proj", c.ffn_dim, c.hidden_dim, c.mlp_bias, &w.up));
      SW_RETURN_IF_ERROR(LinearLayer(at + "mlp.down_proj", c.hidden_dim, c.ffn_dim, c.mlp_bias, &w.down));
    }
    Digest(config);
    return Status::Ok();
  }

 private:
  static constexpr size_t kMaxConfigBytes = size_t{16} << 20;

  Result<TensorView> Find(const std::string& name, std::vector<int64_t> shape) {
    auto tensor = m_.files_->Find(name);
    if (!tensor.ok()) return tensor.status().WithContext(folder_);
    if (tensor->shape != shape)
      return Corruption(StrFormat("{}: tensor {} has shape {}, config.json asks for {}", folder_, name,
                                  ShapeText(tensor->shape), ShapeText(shape)));
    m_.n_parameters_ += static_cast<size_t>(tensor->n_elements());
    m_.n_bytes_ += tensor->n_bytes();
    return tensor;
  }

  Status Matrix(const std::string& name, int n_out, int n_in, WeightMatrix* out) {
    SW_ASSIGN_OR_RETURN(const TensorView tensor, Find(name, {n_out, n_in}));
    *out = {tensor.data, tensor.dtype, n_out, n_in};
    if (tensor.dtype == DType::kF32 && dtype_ == DType::kBf16) {
      std::vector<uint16_t>& rounded = m_.converted_.emplace_back(static_cast<size_t>(tensor.n_elements()));
      pool_.ParallelFor(static_cast<size_t>(n_out), [&](size_t row) {
        for (size_t i = row * static_cast<size_t>(n_in); i < (row + 1) * static_cast<size_t>(n_in); ++i) {
          float value;
          std::memcpy(&value, tensor.data + 4 * i, 4);
          rounded[i] = FloatToBf16(value);
        }
      });
      *out = {reinterpret_cast<const std::byte*>(rounded.data()), DType::kBf16, n_out, n_in};
    }
    return Status::Ok();
  }

  Status Vector(const std::string& name, int n, std::vector<float>* out) {
    SW_ASSIGN_OR_RETURN(const TensorView tensor, Find(name, {n}));
    *out = Widen(tensor);
    return Status::Ok();
  }

  Status LinearLayer(const std::string& name, int n_out, int n_in, bool bias, Linear* out) {
    SW_RETURN_IF_ERROR(Matrix(name + ".weight", n_out, n_in, &out->weight));
    return bias ? Vector(name + ".bias", n_out, &out->bias) : Status::Ok();
  }

  void Digest(std::string_view config) {
    const auto& tensors = m_.files_->tensors();
    std::vector<std::pair<std::string, TensorView>> list(tensors.begin(), tensors.end());
    std::vector<Hash256> hashes(list.size());
    pool_.ParallelFor(list.size(), [&](size_t i) {
      const TensorView& t = list[i].second;
      Hasher hasher;
      hasher.Field(list[i].first).Field(DTypeName(t.dtype)).Field(ShapeText(t.shape));
      hashes[i] = hasher.Field(std::string_view(reinterpret_cast<const char*>(t.data), t.n_bytes())).Finish();
    });
    Hasher all;
    all.Field(config).Field(m_.embedding_.dtype == DType::kBf16 && dtype_ == DType::kBf16 ? "bf16" : "stored");
    for (const Hash256& hash : hashes) all.Field(hash);
    m_.digest_ = all.Finish();
  }

  ModelWeights& m_;
  std::string folder_;
  std::optional<DType> dtype_;
  ThreadPool& pool_;
};

Result<std::shared_ptr<const ModelWeights>> ModelWeights::Load(const std::string& folder, std::optional<DType> dtype,
                                                               ThreadPool& pool) {
  auto model = std::make_shared<ModelWeights>();
  SW_RETURN_IF_ERROR(Loader(*model, folder, dtype, pool).Load());
  return std::shared_ptr<const ModelWeights>(std::move(model));
}

}  // namespace spanwise
