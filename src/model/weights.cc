#include "model/weights.h"

#include <algorithm>
#include <atomic>
#include <cmath>

#include "base/str.h"
#include "formats/convert.h"
#include "model/digest.h"
#include "model/rope_frequencies.h"

namespace spanwise {
namespace {

std::string ShapeText(const std::vector<int64_t>& shape) { return StrFormat("[{}]", fmt::join(shape, ", ")); }

}  // namespace

Result<WeightType> ParseWeights(const std::string& name) {
  for (const auto& [known, type] : {std::pair{"f32", WeightType::kF32},
                                    {"bf16", WeightType::kBf16},
                                    {"q8", WeightType::kQ8_0},
                                    {"q4", WeightType::kQ4_0}})
    if (name == known) return type;
  return InvalidArgument(StrFormat("dtype {} is not one of f32, bf16, q8, q4", Quoted(name)));
}

class ModelWeights::Loader {
 public:
  Loader(ModelWeights& model, std::string path, std::optional<WeightType> wanted, ThreadPool& pool)
      : m_(model), path_(std::move(path)), wanted_(wanted), pool_(pool) {}

  Status Load() {
    SW_ASSIGN_OR_RETURN(m_.source_, WeightSource::Open(path_));
    m_.config_ = m_.source_->config();

    const ModelConfig& c = m_.config_;
    SW_RETURN_IF_ERROR(Matrix("model.embed_tokens.weight", {c.vocab_size}, c.hidden_dim, &m_.embedding_));
    if (c.tie_embeddings) {
      m_.head_ = m_.embedding_;
    } else {
      SW_RETURN_IF_ERROR(Matrix("lm_head.weight", {c.vocab_size}, c.hidden_dim, &m_.head_));
    }
    SW_RETURN_IF_ERROR(Norm("model.norm", c.hidden_dim, &m_.final_norm_));
    if (c.rotary_dim < c.head_dim) head_order_ = HeadOrder(c.rotary_dim, c.head_dim);
    m_.layers_.resize(static_cast<size_t>(c.n_layers));
    for (size_t i = 0; i < m_.layers_.size(); ++i) {
      const std::string at = StrFormat("model.layers.{}.", i);
      LayerWeights& w = m_.layers_[i];
      SW_RETURN_IF_ERROR(Attention(at, &w));
      SW_RETURN_IF_ERROR(c.layer_experts[i] ? Experts(at, &w) : FeedForward(at, &w.ffn));
      for (const auto& [name, gain] : {std::pair{&c.names.attention_norm, &w.attention_norm},
                                       {&c.names.attention_post_norm, &w.attention_post_norm},
                                       {&c.names.ffn_norm, &w.ffn_norm},
                                       {&c.names.ffn_post_norm, &w.ffn_post_norm}}) {
        if (name->empty()) continue;
        SW_RETURN_IF_ERROR(Norm(at + *name, c.hidden_dim, gain));
      }
    }
    m_.digest_ = ModelDigest(m_, pool_);
    return Status::Ok();
  }

 private:
  // Some of a tensor's rows: all n of them, or a part where a file keeps several matrices one below the other. With
  // `heads`, the rows of each head are taken in head_order_.
  struct Rows {
    int n;
    int first = 0;
    int of = 0;  // rows of the whole tensor, 0 for n
    bool heads = false;
  };

  Status Attention(const std::string& at, LayerWeights* w) {
    const ModelConfig& c = m_.config_;
    const int q_dim = c.n_heads * c.head_dim, kv_dim = c.n_kv_heads * c.head_dim, all = q_dim + 2 * kv_dim;
    const bool turned = !head_order_.empty();
    if (!c.names.fused_qkv.empty()) {
      const std::string name = at + c.names.fused_qkv;
      SW_RETURN_IF_ERROR(LinearLayer(name, {q_dim, 0, all, turned}, c.hidden_dim, c.qkv_bias, &w->q));
      SW_RETURN_IF_ERROR(LinearLayer(name, {kv_dim, q_dim, all, turned}, c.hidden_dim, c.qkv_bias, &w->k));
      SW_RETURN_IF_ERROR(LinearLayer(name, {kv_dim, q_dim + kv_dim, all}, c.hidden_dim, c.qkv_bias, &w->v));
    } else {
      SW_RETURN_IF_ERROR(LinearLayer(at + "self_attn.q_proj", {q_dim, 0, 0, turned}, c.hidden_dim, c.qkv_bias, &w->q));
      SW_RETURN_IF_ERROR(LinearLayer(at + "self_attn.k_proj", {kv_dim, 0, 0, turned}, c.hidden_dim, c.qkv_bias, &w->k));
      SW_RETURN_IF_ERROR(LinearLayer(at + "self_attn.v_proj", {kv_dim}, c.hidden_dim, c.qkv_bias, &w->v));
    }
    SW_RETURN_IF_ERROR(LinearLayer(at + "self_attn.o_proj", {c.hidden_dim}, q_dim, c.output_bias, &w->output));
    if (c.qk_norm == QkNorm::kNone) return Status::Ok();
    if (turned) return Unimplemented(StrFormat("{}: QK-norm together with partly rotated heads is not done", path_));
    const bool width = c.qk_norm == QkNorm::kWidth;
    SW_RETURN_IF_ERROR(Norm(at + "self_attn.q_norm", width ? q_dim : c.head_dim, &w->q_norm));
    return Norm(at + "self_attn.k_norm", width ? kv_dim : c.head_dim, &w->k_norm);
  }

  Status FeedForward(const std::string& at, FeedForwardWeights* w) {
    const ModelConfig& c = m_.config_;
    if (!c.names.fused_gate_up.empty()) {
      const std::string name = at + c.names.fused_gate_up;
      SW_RETURN_IF_ERROR(LinearLayer(name, {c.ffn_dim, 0, 2 * c.ffn_dim}, c.hidden_dim, c.mlp_bias, &w->gate));
      SW_RETURN_IF_ERROR(LinearLayer(name, {c.ffn_dim, c.ffn_dim, 2 * c.ffn_dim}, c.hidden_dim, c.mlp_bias, &w->up));
    } else {
      SW_RETURN_IF_ERROR(LinearLayer(at + "mlp.gate_proj", {c.ffn_dim}, c.hidden_dim, c.mlp_bias, &w->gate));
      SW_RETURN_IF_ERROR(LinearLayer(at + "mlp.up_proj", {c.ffn_dim}, c.hidden_dim, c.mlp_bias, &w->up));
    }
    return LinearLayer(at + "mlp.down_proj", {c.hidden_dim}, c.ffn_dim, c.mlp_bias, &w->down);
  }

  Status Experts(const std::string& at, LayerWeights* w) {
    const ModelConfig& c = m_.config_;
    const ExpertConfig& e = c.experts;
    SW_RETURN_IF_ERROR(LinearLayer(at + c.names.router, {e.n_experts}, c.hidden_dim, false, &w->router));
    for (int i = 0; i < e.n_experts; ++i) {
      FeedForwardWeights& expert = w->experts.emplace_back();
      const auto name = [&](const std::string& pattern) { return at + fmt::format(fmt::runtime(pattern), i); };
      SW_RETURN_IF_ERROR(LinearLayer(name(c.names.expert_gate), {e.ffn_dim}, c.hidden_dim, false, &expert.gate));
      SW_RETURN_IF_ERROR(LinearLayer(name(c.names.expert_up), {e.ffn_dim}, c.hidden_dim, false, &expert.up));
      SW_RETURN_IF_ERROR(LinearLayer(name(c.names.expert_down), {c.hidden_dim}, e.ffn_dim, false, &expert.down));
    }
    return Status::Ok();
  }

  Result<StoredTensor> Find(const std::string& name, const Rows& rows, std::vector<int64_t> row_shape) {
    auto tensor = m_.source_->Find(m_.config_.tensor_prefix + name);
    if (!tensor.ok()) return tensor.status().WithContext(path_);
    std::vector<int64_t> shape = {rows.of > 0 ? rows.of : rows.n};
    shape.insert(shape.end(), row_shape.begin(), row_shape.end());
    if (tensor->shape != shape)
      return Corruption(StrFormat("{}: tensor {} has shape {}, the configuration asks for {}", path_, tensor->name,
                                  ShapeText(tensor->shape), ShapeText(shape)));
    m_.n_parameters_ += tensor->n_elements() / static_cast<size_t>(shape[0]) * static_cast<size_t>(rows.n);
    return tensor;
  }

  // Where row `row` of the matrix stands in the file.
  size_t StoredRow(const StoredTensor& tensor, const Rows& rows, size_t row) const {
    if (rows.heads) {
      const size_t dim = head_order_.size();
      row = row / dim * dim + static_cast<size_t>(head_order_[row % dim]);
    }
    return tensor.StoredRow(static_cast<size_t>(rows.first) + row);
  }

  Status Matrix(const std::string& name, const Rows& rows, int n_in, WeightMatrix* out) {
    SW_ASSIGN_OR_RETURN(const StoredTensor tensor, Find(name, rows, {n_in}));
    const WeightType type = TypeOf(name, tensor.type, n_in);
    SW_ASSIGN_OR_RETURN(const std::byte* const data, Pack(tensor, rows, type));
    *out = {data, type, rows.n, n_in};
    m_.n_bytes_ += out->bytes();
    return Status::Ok();
  }

  // What a matrix becomes in memory.
  WeightType TypeOf(const std::string& name, WeightType stored, int n_in) const {
    const bool plain = PlainDType(stored).has_value();
    if (!wanted_) return stored;
    if (wanted_ == WeightType::kF32) return WeightType::kF32;
    if (wanted_ == WeightType::kBf16) return plain && stored != WeightType::kF32 ? stored : WeightType::kBf16;
    return plain ? QuantisedType(name, m_.config_, stored, static_cast<size_t>(n_in), *wanted_) : stored;
  }

  // Panels of the rows in the order of the model, converted where the file has another type.
  Result<const std::byte*> Pack(const StoredTensor& tensor, const Rows& rows, WeightType type) {
    const auto n_rows = static_cast<size_t>(rows.n), n_in = static_cast<size_t>(tensor.shape[1]);
    const size_t stored_bytes = WeightBytes(tensor.type, n_in), row_bytes = WeightBytes(type, n_in);
    const Pages& panels = m_.panels_.emplace_back(PanelBytes(type, n_rows, n_in));
    const bool quantise = !PlainDType(type);
    std::atomic<bool> finite = true;
    pool_.ParallelFor((n_rows + kPanelRows - 1) / kPanelRows, [&](size_t panel) {
      const std::byte* from[kPanelRows] = {};
      std::vector<std::byte> made(type == tensor.type ? 0 : kPanelRows * row_bytes);
      std::vector<float> wide(type == tensor.type ? 0 : n_in);
      for (size_t i = 0; i < kPanelRows && panel * kPanelRows + i < n_rows; ++i) {
        from[i] = tensor.data + stored_bytes * StoredRow(tensor, rows, panel * kPanelRows + i);
        if (type == tensor.type) continue;
        Widen(tensor.type, from[i], n_in, wide.data());
        if (quantise && !std::ranges::all_of(wide, [](float value) { return std::isfinite(value); })) finite = false;
        if (!finite) return;
        from[i] = made.data() + i * row_bytes;
        Narrow(type, wide.data(), n_in, made.data() + i * row_bytes);
      }
      PackPanel(type, from, n_in, panels.data() + PanelBytes(type, panel * kPanelRows, n_in));
    });
    ReleaseFilePages(tensor.data, tensor.n_bytes());
    if (!finite) return Corruption(StrFormat("{}: tensor {} holds a value that is not finite", path_, tensor.name));
    return panels.data();
  }

  Status Vector(const std::string& name, const Rows& rows, std::vector<float>* out) {
    SW_ASSIGN_OR_RETURN(const StoredTensor tensor, Find(name, rows, {}));
    std::vector<float> wide(tensor.n_elements());
    Widen(tensor.type, tensor.data, wide.size(), wide.data());
    out->resize(static_cast<size_t>(rows.n));
    for (size_t i = 0; i < out->size(); ++i) (*out)[i] = wide[StoredRow(tensor, rows, i)];
    m_.n_bytes_ += out->size() * sizeof(float);
    return Status::Ok();
  }

  Status Norm(const std::string& name, int n, std::vector<float>* gain) {
    SW_RETURN_IF_ERROR(Vector(name + ".weight", {n}, gain));
    if (m_.config_.norm_adds_one)
      for (float& value : *gain) value += 1;
    return Status::Ok();
  }

  Status LinearLayer(const std::string& name, const Rows& rows, int n_in, bool bias, Linear* out) {
    SW_RETURN_IF_ERROR(Matrix(name + ".weight", rows, n_in, &out->weight));
    return bias ? Vector(name + ".bias", rows, &out->bias) : Status::Ok();
  }

  ModelWeights& m_;
  std::string path_;
  std::optional<WeightType> wanted_;
  ThreadPool& pool_;
  std::vector<int> head_order_;  // of a head's dimensions, empty when they stay as stored
};

Result<std::shared_ptr<const ModelWeights>> ModelWeights::Load(const std::string& path, std::optional<WeightType> type,
                                                               ThreadPool& pool) {
  auto model = std::make_shared<ModelWeights>();
  SW_RETURN_IF_ERROR(Loader(*model, path, type, pool).Load());
  return std::shared_ptr<const ModelWeights>(std::move(model));
}

}  // namespace spanwise
