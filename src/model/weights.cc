#include "model/weights.h"

#include <algorithm>
#include <cstring>
#include <functional>

#include "base/str.h"

namespace spanwise {
namespace {

std::string ShapeText(const std::vector<int64_t>& shape) { return StrFormat("[{}]", fmt::join(shape, ", ")); }

}  // namespace

class ModelWeights::Loader {
 public:
  Loader(ModelWeights& model, std::string path, std::optional<DType> dtype, ThreadPool& pool)
      : m_(model), path_(std::move(path)), dtype_(dtype), pool_(pool) {}

  Status Load() {
    SW_ASSIGN_OR_RETURN(m_.source_, WeightSource::Open(path_));
    m_.config_ = m_.source_->config();

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
    Digest();
    return Status::Ok();
  }

 private:
  Result<StoredTensor> Find(const std::string& name, std::vector<int64_t> shape) {
    auto tensor = m_.source_->Find(name);
    if (!tensor.ok()) return tensor.status().WithContext(path_);
    if (tensor->shape != shape)
      return Corruption(StrFormat("{}: tensor {} has shape {}, the configuration asks for {}", path_, tensor->name,
                                  ShapeText(tensor->shape), ShapeText(shape)));
    m_.n_parameters_ += tensor->n_elements();
    return tensor;
  }

  Status Matrix(const std::string& name, int n_out, int n_in, WeightMatrix* out) {
    SW_ASSIGN_OR_RETURN(const StoredTensor tensor, Find(name, {n_out, n_in}));
    const std::optional<DType> plain = PlainDType(tensor.type);
    const bool round = plain == DType::kF32 && dtype_ == DType::kBf16;
    if (plain && !round && tensor.interleaved_heads == 0) {
      *out = {tensor.data, *plain, n_out, n_in};
    } else if (plain && !round && *plain != DType::kF32) {
      *out = {Reorder(tensor), *plain, n_out, n_in};
    } else if (plain ? round : dtype_ != DType::kF32) {
      *out = {Convert(tensor, m_.converted_, FloatToBf16), DType::kBf16, n_out, n_in};
    } else {
      *out = {Convert(tensor, m_.widened_, std::identity()), DType::kF32, n_out, n_in};
    }
    m_.n_bytes_ += tensor.n_elements() * DTypeBytes(out->dtype);
    widened_blocks_ |= !plain && out->dtype == DType::kF32;
    return Status::Ok();
  }

  // A copy of 16-bit rows in the order of the model.
  const std::byte* Reorder(const StoredTensor& tensor) {
    std::vector<uint16_t>& copy = m_.converted_.emplace_back(tensor.n_elements());
    const size_t n_in = static_cast<size_t>(tensor.shape[1]);
    pool_.ParallelFor(static_cast<size_t>(tensor.shape[0]), [&](size_t row) {
      std::memcpy(&copy[row * n_in], tensor.data + 2 * n_in * tensor.StoredRow(row), 2 * n_in);
    });
    return reinterpret_cast<const std::byte*>(copy.data());
  }

  // A copy, added to `copies`, of the rows in the order of the model: widened to float32 and passed through `element`.
  template <typename Element, typename Function>
  const std::byte* Convert(const StoredTensor& tensor, std::deque<std::vector<Element>>& copies, Function element) {
    std::vector<Element>& copy = copies.emplace_back(tensor.n_elements());
    const size_t n_in = static_cast<size_t>(tensor.shape[1]), row_bytes = WeightBytes(tensor.type, n_in);
    pool_.ParallelFor(static_cast<size_t>(tensor.shape[0]), [&](size_t row) {
      std::vector<float> wide(n_in);
      Widen(tensor.type, tensor.data + row_bytes * tensor.StoredRow(row), n_in, wide.data());
      std::transform(wide.begin(), wide.end(), copy.begin() + static_cast<ptrdiff_t>(row * n_in), element);
    });
    return reinterpret_cast<const std::byte*>(copy.data());
  }

  Status Vector(const std::string& name, int n, std::vector<float>* out) {
    SW_ASSIGN_OR_RETURN(const StoredTensor tensor, Find(name, {n}));
    std::vector<float> wide(static_cast<size_t>(n));
    Widen(tensor.type, tensor.data, wide.size(), wide.data());
    out->resize(wide.size());
    for (size_t i = 0; i < wide.size(); ++i) (*out)[i] = wide[tensor.StoredRow(i)];
    m_.n_bytes_ += wide.size() * sizeof(float);
    return Status::Ok();
  }

  Status LinearLayer(const std::string& name, int n_out, int n_in, bool bias, Linear* out) {
    SW_RETURN_IF_ERROR(Matrix(name + ".weight", n_out, n_in, &out->weight));
    return bias ? Vector(name + ".bias", n_out, &out->bias) : Status::Ok();
  }

  void Digest() {
    const std::vector<StoredTensor> tensors = m_.source_->Tensors();
    std::vector<Hash256> hashes(tensors.size());
    pool_.ParallelFor(tensors.size(), [&](size_t i) {
      const StoredTensor& t = tensors[i];
      Hasher hasher;
      hasher.Field(t.name).Field(WeightTypeName(t.type)).Field(ShapeText(t.shape));
      hashes[i] = hasher.Field(std::string_view(reinterpret_cast<const char*>(t.data), t.n_bytes())).Finish();
    });
    Hasher all;
    all.Field(m_.source_->ConfigBytes());
    all.Field(m_.embedding_.dtype == DType::kBf16 && dtype_ == DType::kBf16 ? "bf16"
              : widened_blocks_                                             ? "f32"
                                                                            : "stored");
    for (const Hash256& hash : hashes) all.Field(hash);
    m_.digest_ = all.Finish();
  }

  ModelWeights& m_;
  std::string path_;
  std::optional<DType> dtype_;
  ThreadPool& pool_;
  bool widened_blocks_ = false;
};

Result<std::shared_ptr<const ModelWeights>> ModelWeights::Load(const std::string& path, std::optional<DType> dtype,
                                                               ThreadPool& pool) {
  auto model = std::make_shared<ModelWeights>();
  SW_RETURN_IF_ERROR(Loader(*model, path, dtype, pool).Load());
  return std::shared_ptr<const ModelWeights>(std::move(model));
}

}  // namespace spanwise
