// The forward pass of a decoder model, written once over kernels/ops.h: the only entry to the model.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "kernels/kv_view.h"
#include "kernels/rope.h"
#include "model/weights.h"

namespace spanwise {

// New rows of one sequence: tokens of its last run.
struct ForwardSequence {
  std::span<const int32_t> tokens;          // at least one; ids below vocab_size
  std::span<const KvRun> runs;              // what the rows may read; the last is the run they belong to, with n_tokens
                                            // counting them
  std::span<std::byte* const> tail_blocks;  // that run's blocks, for writing
  std::span<const int> logit_rows;          // which of the rows need logits, ascending
  std::span<const int32_t> at = {};         // where in the run each row stands, ascending; empty: they are its end
  std::span<const RunGroup> groups = {};    // of `runs`, as AttentionSequence has them
  // The attention that all rows pay to some keys, summed over layers from mass_layer on and heads in units of 2^-40 and
  // added to mass[i]; whole numbers, so that the sum is the same however the rows are split over calls.
  std::span<const KeyRange> ranges = {};
  std::span<int64_t> mass = {};  // as many as ranges
  int mass_layer = 0;            // the first layer that counts
};

// Thread-compatible: holds the activations' memory. Results of a sequence depend on that sequence alone, to the bit,
// whatever else is in the call and however its tokens are split over calls.
class Transformer {
 public:
  Transformer(std::shared_ptr<const ModelWeights> weights, DType kv_dtype, ThreadPool& pool);

  // Runs all layers over the rows of all sequences, stores their keys and values, and returns the logits asked for:
  // [number of logit rows over all sequences in order, vocab_size] float32, valid until the next call.
  std::span<const float> Forward(std::span<const ForwardSequence> sequences);

  // How far the values of each row at layer 1, read with all of its runs, are from the ones kept in the last run's
  // blocks: the sum of squared differences, for all rows in order. Keeps nothing. REQUIRES: at least two layers; all
  // rows' KV are there; the sequences' own keys at layer 0, which depend on the tokens alone, are the right ones.
  std::vector<float> ValueDeviation(std::span<const ForwardSequence> sequences);

  // How much of each row's attention goes to each of the sequence's ranges, mean over the heads of the first n_layers
  // layers: [rows, ranges]. Keeps nothing. REQUIRES: as for ValueDeviation, and n_layers is 1 to all.
  std::vector<float> RowAttention(const ForwardSequence& sequence, int n_layers);

  const ModelConfig& config() const { return weights_->config(); }
  const ModelWeights& weights() const { return *weights_; }
  const KvGeometry& kv_geometry() const { return kv_; }

 private:
  struct Rows;  // where each sequence's rows stand, and their rotations
  // Gathers the rows and begins the residual stream with their embeddings.
  Rows Begin(std::span<const ForwardSequence> sequences);
  // hidden_ after a norm, if the gain is one.
  const float* Normed(const std::vector<float>& gain, int n_rows);
  void Layer(int layer, const Rows& rows, bool store);
  // Each leaves what its block makes of the rows `in` in made_. With `store` the rows' own KV are kept first.
  void Attention(int layer, const LayerWeights& w, const float* in, const Rows& rows, bool store);
  void Experts(const LayerWeights& w, const float* in, int n_rows);
  void FeedForward(const FeedForwardWeights& w, const float* in, int n_rows, float* out);
  // hidden_ += residual_scale * made_, normed before if the model has a norm there.
  void AddToResidual(const std::vector<float>& post_norm, int n_rows);

  std::shared_ptr<const ModelWeights> weights_;
  KvGeometry kv_;
  std::vector<Rotation>
      rotations_;  // the different ones of the layers; the last one, if any layer needs it, never turns
  std::vector<int> layer_rotation_;  // [n_layers] index into rotations_
  ThreadPool& pool_;
  // Activations, grown as needed: residual stream, normalised rows, what a block made of them, q|k|v, attention output,
  // feed-forward, logits; rows of one expert, and what it made of them.
  std::vector<float> hidden_, normed_, made_, qkv_, attended_, gate_, up_, logits_;
  std::vector<float> routed_, expert_in_, expert_out_, mass_;
};

}  // namespace spanwise
