// What a model computes, in one hash: equal for models whose files say the same in other words.
#pragma once

#include "base/hash.h"
#include "base/thread_pool.h"
#include "model/weights.h"

namespace spanwise {

// SHA-256 over all that the forward pass reads: every matrix in panels as the kernels multiply it, norms and biases in
// float32, frequencies of rotations, and the numbers of the configuration. Not over names, files, types they were
// stored in, or what was said of the model besides. Equal digests: the same KV and logits of the same tokens, to the
// bit, by the same kernels.
Hash256 ModelDigest(const ModelWeights& weights, ThreadPool& pool);

}  // namespace spanwise
