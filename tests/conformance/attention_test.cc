#include <algorithm>
#include <numeric>

#include "kernel_fixture.h"
#include "kernels/ref/masked_dense_attention.h"
#include "kernels/ref/ref.h"

namespace spanwise {
namespace {

using AttentionTest = KernelTest;
INSTANTIATE_TEST_SUITE_P(Isa, AttentionTest, kAllIsas, kIsaName);

std::vector<int32_t> Count(int first, int n) {
  std::vector<int32_t> positions(static_cast<size_t>(n));
  std::iota(positions.begin(), positions.end(), first);
  return positions;
}

AttentionShape MakeShape(int n_heads, int n_kv_heads, int head_dim, DType dtype, int window = 0) {
  AttentionShape shape;
  shape.n_heads = n_heads;
  shape.kv = {.n_layers = 2, .n_kv_heads = n_kv_heads, .head_dim = head_dim, .dtype = dtype};
  shape.layer = 1;
  shape.scale = 1 / std::sqrt(static_cast<float>(head_dim));
  shape.window = window;
  return shape;
}

// Tokens with their queries, keys and values, not rotated.
struct Tokens {
  Tokens(const AttentionShape& shape, int n_tokens, uint32_t seed)
      : n(n_tokens),
        q_width(shape.n_heads * shape.kv.head_dim),
        kv_width(shape.kv.n_kv_heads * shape.kv.head_dim),
        q(RandomFloats(static_cast<size_t>(n * q_width), seed, 1.5f)),
        k(RandomFloats(static_cast<size_t>(n * kv_width), seed + 1)),
        v(RandomFloats(static_cast<size_t>(n * kv_width), seed + 2)) {}
  int n, q_width, kv_width;
  std::vector<float> q, k, v;
};

// Appends rows [first, first + n) of `tokens` to a run as its tokens from index `at`.
void Store(ThreadPool& pool, const AttentionShape& shape, const Tokens& tokens, int first, int n, int at, OwnedKv* kv) {
  const OwnedTable table(PlainRotation(shape.kv.head_dim), Count(at, n));
  ops::StoreKv(pool, shape.kv, shape.layer, tokens.k.data() + first * tokens.kv_width,
               tokens.v.data() + first * tokens.kv_width, tokens.kv_width, table.table(), kv->blocks(), Count(at, n));
}

// What tests of plain attention leave out.
struct Extras {
  std::span<const RunGroup> groups = {};
  std::span<const KeyRange> ranges = {};
  std::vector<float>* mass = nullptr;  // [n, n_heads, ranges]
};

// Attention of rows [first, first + n) of `tokens` at the given positions over the runs, with all that ops.h asks for.
template <typename Attend>
std::vector<float> Attention(ThreadPool& pool, const AttentionShape& shape, const Tokens& tokens, int first, int n,
                             int first_position, std::span<const KvRun> runs, const Attend& attend,
                             const Extras& extras = {}) {
  const std::vector<int32_t> positions = Count(first_position, n);
  std::vector<OwnedTable> tables;
  std::vector<RotationTable> rotations;
  for (const KvRun& run : runs) {
    tables.emplace_back(PlainRotation(shape.kv.head_dim), Count(first_position - run.base, n));
  }
  for (size_t j = 0; j < runs.size(); ++j) {  // runs with equal base share a table
    size_t same = 0;
    while (runs[same].base != runs[j].base) ++same;
    rotations.push_back(tables[same].table());
  }
  std::vector<float> out(static_cast<size_t>(n * tokens.q_width), -42.0f);
  AttentionSequence sequence;
  sequence.q = tokens.q.data() + first * tokens.q_width;
  sequence.q_stride = tokens.q_width;
  sequence.out = out.data();
  sequence.n_rows = n;
  sequence.positions = positions.data();
  sequence.runs = runs;
  sequence.rotations = rotations;
  sequence.groups = extras.groups;
  if (extras.mass != nullptr) {
    extras.mass->assign(static_cast<size_t>(n * shape.n_heads) * extras.ranges.size(), -42.0f);
    sequence.mass = {extras.ranges, extras.mass->data()};
  }
  attend(pool, shape, std::span(&sequence, 1));
  return out;
}

// Some runs placed like a composed prompt, [prefix 70][set {5, 130} at the same base][tail], and the tail's attention.
TEST_P(AttentionTest, AgreesWithReference) {
  if (GetParam() == "ref") GTEST_SKIP() << "is the reference";
  ThreadPool pool(2);
  uint32_t seed = 0;
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    for (const int head_dim : {2, 6, 16, 40, 64, 80, 96, 128, 256}) {
      for (const int group : {1, 3, 8}) {
        const int window = std::vector<int>{0, 0, 5, 64, 100}[++seed % 5];
        SCOPED_TRACE(::testing::Message()
                     << DTypeName(dtype) << " " << head_dim << " group " << group << " window " << window);
        AttentionShape shape = MakeShape(2 * group, 2, head_dim, dtype, window);
        shape.softcap = seed % 2 == 0 ? 0.0f : 1.5f;
        std::vector<OwnedKv> kept;
        std::vector<KvRun> runs;
        const auto add_run = [&](int n_tokens, int base) {
          kept.emplace_back(shape.kv, n_tokens);
          Store(pool, shape, Tokens(shape, n_tokens, ++seed), 0, n_tokens, 0, &kept.back());
          runs.push_back(kept.back().Run(n_tokens, base));
        };
        add_run(70, 0);
        add_run(5, 70);
        add_run(130, 70);
        const int n_tail = static_cast<int>(seed % 20) + 1;
        const Tokens tail(shape, n_tail, ++seed);
        kept.emplace_back(shape.kv, n_tail);
        Store(pool, shape, tail, 0, n_tail, 0, &kept.back());
        runs.push_back(kept.back().Run(n_tail, 200));

        const auto out = Attention(pool, shape, tail, 0, n_tail, 200, runs, ops::SpanAttention);
        const auto expected = Attention(pool, shape, tail, 0, n_tail, 200, runs, ref::SpanAttention);
        // Matrix tiles take queries and weights rounded to bf16.
        const double tolerance = GetParam() == "amx" && dtype == DType::kBf16 && head_dim % 32 == 0 ? 3e-2 : 1e-5;
        ASSERT_TRUE(Close(out, expected, tolerance));

        // The set as a group of its own, and what each range gets: all keys of the set, cut within blocks and at their
        // ends, and some of the rest.
        const RunGroup groups[] = {{.n_runs = 1}, {2, 1.25f, 0.8f}, {.n_runs = 1}};
        const KeyRange ranges[] = {{0, 3, 70},   {1, 0, 1},     {1, 1, 5}, {2, 0, 64},
                                   {2, 64, 100}, {2, 100, 130}, {3, 0, 1}};
        std::vector<float> mass, expected_mass;
        const auto grouped =
            Attention(pool, shape, tail, 0, n_tail, 200, runs, ops::SpanAttention, {groups, ranges, &mass});
        const auto expected_grouped =
            Attention(pool, shape, tail, 0, n_tail, 200, runs, ref::SpanAttention, {groups, ranges, &expected_mass});
        ASSERT_TRUE(Close(grouped, expected_grouped, tolerance));
        for (size_t i = 0; i < mass.size(); ++i) ASSERT_NEAR(mass[i], expected_mass[i], tolerance) << i;
        std::vector<float> plain_mass;
        const auto again =
            Attention(pool, shape, tail, 0, n_tail, 200, runs, ops::SpanAttention, {{}, ranges, &plain_mass});
        ASSERT_TRUE(SameBits(again, out)) << "asking for the mass changed the attention";
      }
    }
  }
}

// A run's end in memory of exactly the size that a cut block has gives what it gives in a whole block.
TEST_P(AttentionTest, CutBlocksAreReadAsWholeOnes) {
  ThreadPool pool(2);
  for (const DType dtype : {DType::kF32, DType::kBf16})
    for (const int head_dim : {6, 64})
      for (const int n_tokens : {1, 16, 17, 63, 64, 64 + 5, 128 + 33, 128 + 48}) {
        const AttentionShape shape = MakeShape(4, 2, head_dim, dtype);
        const KvGeometry& kv = shape.kv;
        OwnedKv kept(kv, n_tokens);
        Store(pool, shape, Tokens(shape, n_tokens, 1), 0, n_tokens, 0, &kept);
        const KvRun whole = kept.Run(n_tokens, 0);
        const int rows = KvGeometry::CutRows((n_tokens - 1) % kKvBlockTokens + 1);
        const auto end = std::make_unique<std::byte[]>(kv.BlockBytes(rows));
        for (int layer = 0; layer < kv.n_layers; ++layer)
          for (int head = 0; head < 2 * kv.n_kv_heads; ++head)
            std::memcpy(end.get() + kv.KeyOffset(layer, head, rows), whole.blocks.back() + kv.KeyOffset(layer, head),
                        kv.HeadBytes(rows));
        std::vector<const std::byte*> blocks(whole.blocks.begin(), whole.blocks.end());
        blocks.back() = end.get();
        for (const int n : {1, 40}) {  // taken from memory as they are, or widened first
          const Tokens tail(shape, n, 2);
          OwnedKv own(kv, n);
          Store(pool, shape, tail, 0, n, 0, &own);
          KvRun runs[] = {whole, own.Run(n, n_tokens)};
          const auto expected = Attention(pool, shape, tail, 0, n, n_tokens, runs, ops::SpanAttention);
          runs[0] = {blocks, n_tokens, 0, rows};
          ASSERT_TRUE(SameBits(Attention(pool, shape, tail, 0, n, n_tokens, runs, ops::SpanAttention), expected))
              << DTypeName(dtype) << " " << head_dim << " " << n_tokens << " tokens, " << n << " rows";
        }
      }
}

// A row's result is the same computed alone, as decoding does, or in any chunk of a prefill, whatever the threads and
// whatever lies in rows not stored yet (poison here).
TEST_P(AttentionTest, RowsDoNotDependOnTheirChunk) {
  std::mt19937 random(5);
  for (const auto& [group, head_dim, window] : {std::tuple{1, 40, 0}, {4, 64, 0}, {3, 80, 50}, {8, 16, 7}}) {
    SCOPED_TRACE(::testing::Message() << "group " << group << " head_dim " << head_dim << " window " << window);
    const AttentionShape shape = MakeShape(2 * group, 2, head_dim, DType::kBf16, window);
    ThreadPool one(1), two(2);
    const int n_doc = 77, n = 200, base = 77;
    OwnedKv doc(shape.kv, n_doc);
    Store(one, shape, Tokens(shape, n_doc, 1), 0, n_doc, 0, &doc);
    const Tokens tokens(shape, n, 4);

    // Chunks of the given sizes, each stored and then attended before the next is.
    const auto prefill = [&](ThreadPool& pool, const std::vector<int>& chunks) {
      OwnedKv tail(shape.kv, n);
      std::vector<float> out;
      int first = 0;
      for (const int chunk : chunks) {
        Store(pool, shape, tokens, first, chunk, first, &tail);
        const KvRun runs[] = {doc.Run(n_doc, 0), tail.Run(first + chunk, base)};
        const auto part = Attention(pool, shape, tokens, first, chunk, base + first, runs, ops::SpanAttention);
        out.insert(out.end(), part.begin(), part.end());
        first += chunk;
      }
      return out;
    };
    const auto alone = prefill(one, std::vector<int>(n, 1));
    ASSERT_TRUE(SameBits(prefill(one, {n}), alone));
    ASSERT_TRUE(SameBits(prefill(two, {n}), alone));
    for (int trial = 0; trial < 6; ++trial) {
      std::vector<int> chunks;
      for (int left = n; left > 0; left -= chunks.back()) {
        chunks.push_back(std::min(left, std::uniform_int_distribution<int>(1, trial < 3 ? 20 : 110)(random)));
      }
      ASSERT_TRUE(SameBits(prefill(trial % 2 == 0 ? one : two, chunks), alone)) << "trial " << trial;
    }
  }
}

// Many sequences in one call give what each gives alone.
TEST_P(AttentionTest, SequencesAreIndependent) {
  ThreadPool pool(2);
  const AttentionShape shape = MakeShape(4, 2, 32, DType::kBf16);
  const Rotation rotation = PlainRotation(32);
  const std::vector<int> lengths = {1, 65, 3, 128, 40};
  std::vector<Tokens> tokens;
  std::vector<OwnedKv> kept;
  std::vector<KvRun> runs;
  std::vector<std::vector<float>> outs, expected;
  std::vector<std::vector<int32_t>> positions;
  std::vector<OwnedTable> tables;
  std::vector<RotationTable> rotations;
  for (size_t i = 0; i < lengths.size(); ++i) {
    const int n = lengths[i];
    tokens.emplace_back(shape, n, static_cast<uint32_t>(10 * i));
    kept.emplace_back(shape.kv, n);
    Store(pool, shape, tokens[i], 0, n, 0, &kept[i]);
    runs.push_back(kept[i].Run(n, 0));
    positions.push_back(Count(0, n));
    tables.emplace_back(rotation, positions[i]);
    rotations.push_back(tables[i].table());
    outs.emplace_back(tokens[i].q.size());
    expected.push_back(Attention(pool, shape, tokens[i], 0, n, 0, std::span(&runs[i], 1), ops::SpanAttention));
  }
  std::vector<AttentionSequence> sequences(lengths.size());
  for (size_t i = 0; i < lengths.size(); ++i) {
    sequences[i].q = tokens[i].q.data();
    sequences[i].q_stride = tokens[i].q_width;
    sequences[i].out = outs[i].data();
    sequences[i].n_rows = lengths[i];
    sequences[i].positions = positions[i].data();
    sequences[i].runs = std::span(&runs[i], 1);
    sequences[i].rotations = std::span(&rotations[i], 1);
  }
  ops::SpanAttention(pool, shape, sequences);
  for (size_t i = 0; i < lengths.size(); ++i) ASSERT_TRUE(SameBits(outs[i], expected[i])) << "sequence " << i;
}

// The oracle of absolute positions: the tokens of all runs in one list, as MaskedDenseAttention wants them.
std::vector<double> Dense(const AttentionShape& shape, const Tokens& rows, int first_position,
                          const std::vector<std::pair<const Tokens*, int>>& runs) {
  std::vector<float> k, v;
  std::vector<int64_t> k_positions, q_positions;
  for (const auto& [tokens, base] : runs) {
    k.insert(k.end(), tokens->k.begin(), tokens->k.end());
    v.insert(v.end(), tokens->v.begin(), tokens->v.end());
    for (int i = 0; i < tokens->n; ++i) k_positions.push_back(base + i);
  }
  for (int i = 0; i < rows.n; ++i) q_positions.push_back(first_position + i);
  ref::MaskedDenseProblem problem;
  problem.n_queries = rows.n;
  problem.n_keys = static_cast<int>(k_positions.size());
  problem.n_heads = shape.n_heads;
  problem.n_kv_heads = shape.kv.n_kv_heads;
  problem.head_dim = shape.kv.head_dim;
  problem.scale = static_cast<double>(shape.scale);
  problem.softcap = static_cast<double>(shape.softcap);
  const Rotation rotation = PlainRotation(shape.kv.head_dim);
  problem.inverse_frequencies = rotation.inverse_frequencies();
  problem.q = rows.q;
  problem.k = k;
  problem.v = v;
  problem.q_positions = q_positions;
  problem.k_positions = k_positions;
  for (const int64_t p : q_positions) {
    for (const int64_t j : k_positions) {
      problem.mask.push_back(j <= p && (shape.window == 0 || j > p - shape.window));
    }
  }
  return ref::MaskedDenseAttention(problem);
}

// A run keeps its bytes wherever it is placed; what its placement means is what rotating at absolute positions means.
TEST_P(AttentionTest, RebasedRunsEqualAbsolutePositions) {
  ThreadPool pool(2);
  for (const int base : {0, 1, 64, 1000, 99'873}) {
    for (const int window : {0, 90}) {
      SCOPED_TRACE(::testing::Message() << "base " << base << " window " << window);
      AttentionShape shape = MakeShape(4, 2, 64, DType::kF32, window);
      shape.softcap = window == 0 ? 0.0f : 2.0f;
      const Tokens prefix(shape, 30, 1), doc(shape, 150, 4), tail(shape, 17, 7);
      OwnedKv kept[] = {{shape.kv, prefix.n}, {shape.kv, doc.n}, {shape.kv, tail.n}};
      Store(pool, shape, prefix, 0, prefix.n, 0, &kept[0]);
      Store(pool, shape, doc, 0, doc.n, 0, &kept[1]);
      Store(pool, shape, tail, 0, tail.n, 0, &kept[2]);
      const int doc_base = prefix.n + base, tail_base = doc_base + doc.n;
      const KvRun runs[] = {kept[0].Run(prefix.n, 0), kept[1].Run(doc.n, doc_base), kept[2].Run(tail.n, tail_base)};
      const auto out = Attention(pool, shape, tail, 0, tail.n, tail_base, runs, ops::SpanAttention);
      const auto expected = Dense(shape, tail, tail_base, {{&prefix, 0}, {&doc, doc_base}, {&tail, tail_base}});
      ASSERT_TRUE(Close(out, expected, 1e-5));
    }
  }
}

TEST_P(AttentionTest, SplittingTokensIntoRunsChangesNothing) {
  ThreadPool pool(2);
  const AttentionShape shape = MakeShape(6, 2, 48, DType::kF32);
  const int n = 300;
  const Tokens tokens(shape, n, 1);
  OwnedKv whole(shape.kv, n);
  Store(pool, shape, tokens, 0, n, 0, &whole);
  const KvRun one[] = {whole.Run(n, 0)};
  const int n_rows = 20;
  const auto expected = Attention(pool, shape, tokens, n - n_rows, n_rows, n - n_rows, one, ops::SpanAttention);
  for (const std::vector<int>& cuts : {std::vector<int>{0, 128}, {0, 1, 2, 3}, {0, 63, 130, 131, 280}}) {
    std::vector<OwnedKv> kept;
    std::vector<KvRun> runs;
    for (size_t i = 0; i < cuts.size(); ++i) {
      const int end = i + 1 < cuts.size() ? cuts[i + 1] : n;
      kept.emplace_back(shape.kv, end - cuts[i]);
      Store(pool, shape, tokens, cuts[i], end - cuts[i], 0, &kept.back());
      runs.push_back(kept.back().Run(end - cuts[i], cuts[i]));
    }
    const auto out = Attention(pool, shape, tokens, n - n_rows, n_rows, n - n_rows, runs, ops::SpanAttention);
    ASSERT_TRUE(Close(out, expected, 1e-5));
  }
}

// Values far apart in size, scores that overflow exp unless shifted.
TEST_P(AttentionTest, LargeScoresStayFinite) {
  ThreadPool pool(1);
  const AttentionShape shape = MakeShape(2, 1, 16, DType::kF32);
  Tokens tokens(shape, 130, 3);
  for (float& q : tokens.q) q *= 200;
  OwnedKv kv(shape.kv, tokens.n);
  Store(pool, shape, tokens, 0, tokens.n, 0, &kv);
  const KvRun runs[] = {kv.Run(tokens.n, 0)};
  const auto out = Attention(pool, shape, tokens, 0, tokens.n, 0, runs, ops::SpanAttention);
  const auto expected = Attention(pool, shape, tokens, 0, tokens.n, 0, runs, ref::SpanAttention);
  ASSERT_TRUE(Close(out, expected, 2e-3));
}

// Twelve keys in six runs, of which the middle ones are a group: against the formula of APE in double (two softmaxes,
// the group's weight a logistic function of S a_C - a_O), and the masses against the softmax's own terms.
TEST_P(AttentionTest, GroupsFollowTheirFormula) {
  ThreadPool pool(1);
  const AttentionShape shape = MakeShape(1, 1, 16, DType::kF32);
  const Tokens keys(shape, 12, 1);
  const double kTemperature = 0.7, kScale = 0.6;
  std::vector<OwnedKv> kept;
  std::vector<KvRun> runs;
  std::vector<KeyRange> ranges;
  for (int i = 0; i < 6; ++i) {
    kept.emplace_back(shape.kv, 2);
    Store(pool, shape, keys, 2 * i, 2, 0, &kept.back());
    runs.push_back(kept.back().Run(2, 2 * i));
    ranges.push_back({i, 0, 1});
    ranges.push_back({i, 1, 2});
  }
  // The last key's row: with rotations undone, its dot products are those of absolute positions.
  const std::vector<double> dense_scores = [&] {
    std::vector<double> scores;
    const Rotation rotation = PlainRotation(16);
    for (int j = 0; j < 12; ++j) {
      double score = 0;
      for (size_t i = 0; i < 8; ++i) {
        const double angle = (11 - j) * rotation.inverse_frequencies()[i];
        const auto at = [&](const std::vector<float>& v, int token, size_t e) {
          return static_cast<double>(v[static_cast<size_t>(token) * 16 + e]);
        };
        const double a = at(keys.q, 11, i), b = at(keys.q, 11, i + 8), c = at(keys.k, j, i), d = at(keys.k, j, i + 8);
        score += (a * std::cos(angle) - b * std::sin(angle)) * c + (b * std::cos(angle) + a * std::sin(angle)) * d;
      }
      scores.push_back(score / 4);
    }
    return scores;
  }();
  const auto in_group = [](int key) { return key >= 2 && key < 10; };
  double sum_group = 0, sum_rest = 0;
  for (int j = 0; j < 12; ++j)
    (in_group(j) ? sum_group : sum_rest) +=
        std::exp(dense_scores[static_cast<size_t>(j)] / (in_group(j) ? kTemperature : 1));
  const double share = 1 / (1 + std::exp(std::log(sum_rest) - kScale * std::log(sum_group)));
  std::vector<double> expected_mass, expected(16, 0.0);
  for (int j = 0; j < 12; ++j) {
    const double score = dense_scores[static_cast<size_t>(j)];
    expected_mass.push_back(in_group(j) ? share * std::exp(score / kTemperature) / sum_group
                                        : (1 - share) * std::exp(score) / sum_rest);
    for (size_t e = 0; e < 16; ++e)
      expected[e] += expected_mass.back() * static_cast<double>(keys.v[static_cast<size_t>(j) * 16 + e]);
  }

  const RunGroup groups[] = {
      {.n_runs = 1}, {4, static_cast<float>(1 / kTemperature), static_cast<float>(kScale)}, {.n_runs = 1}};
  std::vector<float> mass;
  const auto out = Attention(pool, shape, keys, 11, 1, 11, runs, ops::SpanAttention, {groups, ranges, &mass});
  EXPECT_TRUE(Close(out, expected, 1e-5));
  for (size_t j = 0; j < 12; ++j) EXPECT_NEAR(mass[j], expected_mass[j], 1e-5) << j;
  // A group that scales nothing is no group to speak of: the same numbers but for the order of additions.
  const RunGroup idle[] = {{.n_runs = 1}, {.n_runs = 4}, {.n_runs = 1}};
  EXPECT_TRUE(Close(Attention(pool, shape, keys, 11, 1, 11, runs, ops::SpanAttention, {idle, {}, nullptr}),
                    Attention(pool, shape, keys, 11, 1, 11, runs, ops::SpanAttention), 1e-6));
}

// States of runs are a commutative monoid up to rounding: any order, any bracketing (by groups that weigh nothing), and
// any number of runs that the rows do not see give the same attention.
TEST_P(AttentionTest, RunsMergeInAnyOrderAndBracketing) {
  ThreadPool pool(2);
  std::mt19937 random(11);
  const AttentionShape shape = MakeShape(4, 2, 32, DType::kF32);
  for (int trial = 0; trial < 20; ++trial) {
    const int n_runs = 2 + static_cast<int>(random() % 9);
    std::vector<OwnedKv> kept;
    std::vector<KvRun> runs;
    for (int i = 0; i < n_runs; ++i) {
      const int n = 1 + static_cast<int>(random() % 90);
      kept.emplace_back(shape.kv, n);
      Store(pool, shape, Tokens(shape, n, random()), 0, n, 0, &kept.back());
      runs.push_back(kept.back().Run(n, 7));
    }
    const Tokens rows(shape, 3, random());
    const auto attend = [&](std::span<const KvRun> placed, std::span<const RunGroup> groups) {
      return Attention(pool, shape, rows, 0, rows.n, 200, placed, ops::SpanAttention, {groups, {}, nullptr});
    };
    const std::vector<float> reference = attend(runs, {});
    std::vector<RunGroup> groups;
    for (int left = n_runs; left > 0; left -= groups.back().n_runs)
      groups.push_back({.n_runs = 1 + static_cast<int>(random() % static_cast<uint32_t>(left))});
    ASSERT_TRUE(Close(attend(runs, groups), reference, 2e-6)) << "bracketed otherwise";
    std::vector<KvRun> more = runs;
    std::ranges::shuffle(more, random);
    ASSERT_TRUE(Close(attend(more, {}), reference, 2e-6)) << "in another order";
    KvRun unseen = runs[0];
    unseen.base = 5000;
    for (int i = 0; i < 3; ++i) more.insert(more.begin() + static_cast<ptrdiff_t>(random() % more.size()), unseen);
    ASSERT_TRUE(Close(attend(more, {}), reference, 2e-6)) << "with runs that nobody sees";
  }
}

// The masses of a row and head sum to 1, whatever else the task's rows see.
TEST_P(AttentionTest, MassesSumToOne) {
  ThreadPool pool(2);
  for (const int window : {0, 40}) {
    const AttentionShape shape = MakeShape(6, 2, 32, DType::kBf16, window);
    const int n = 150;
    const Tokens tokens(shape, n, 9);
    OwnedKv kv(shape.kv, n);
    Store(pool, shape, tokens, 0, n, 0, &kv);
    const KvRun runs[] = {kv.Run(n, 0)};
    std::vector<KeyRange> ranges;
    for (int i = 0; i < n; i += 7) ranges.push_back({0, i, std::min(n, i + 7)});
    std::vector<float> mass;
    Attention(pool, shape, tokens, 0, n, 0, runs, ops::SpanAttention, {{}, ranges, &mass});
    for (size_t i = 0; i < mass.size(); i += ranges.size()) {
      double sum = 0;
      for (size_t k = 0; k < ranges.size(); ++k) sum += static_cast<double>(mass[i + k]);
      ASSERT_NEAR(sum, 1, 1e-5) << "row " << i / ranges.size() / 6;
    }
  }
}

// Rows stored and attended out of their order, some at a time, as a repair of kept tokens does.
TEST_P(AttentionTest, RowsMayStandAnywhereInTheirRun) {
  ThreadPool pool(2);
  const AttentionShape shape = MakeShape(4, 2, 32, DType::kBf16);
  const int n = 140;
  const Tokens tokens(shape, n, 2), stale(shape, n, 7);
  OwnedKv fresh(shape.kv, n), repaired(shape.kv, n);
  Store(pool, shape, tokens, 0, n, 0, &fresh);
  Store(pool, shape, stale, 0, n, 0, &repaired);
  std::vector<int32_t> at(static_cast<size_t>(n));
  std::iota(at.begin(), at.end(), 0);
  std::ranges::shuffle(at, std::mt19937(3));
  const OwnedTable table(PlainRotation(32), at);
  std::vector<float> k, v;
  for (const int32_t i : at) {
    k.insert(k.end(), tokens.k.begin() + i * tokens.kv_width, tokens.k.begin() + (i + 1) * tokens.kv_width);
    v.insert(v.end(), tokens.v.begin() + i * tokens.kv_width, tokens.v.begin() + (i + 1) * tokens.kv_width);
  }
  ops::StoreKv(pool, shape.kv, shape.layer, k.data(), v.data(), tokens.kv_width, table.table(), repaired.blocks(), at);
  const KvRun run[] = {fresh.Run(n, 0)}, repaired_run[] = {repaired.Run(n, 0)};
  EXPECT_TRUE(SameBits(Attention(pool, shape, tokens, 0, n, 0, repaired_run, ops::SpanAttention),
                       Attention(pool, shape, tokens, 0, n, 0, run, ops::SpanAttention)));
}

// What a row may not see may be anything, even NaN stored on purpose in a later row of the same run. Who sees it has
// it.
TEST_P(AttentionTest, UnseenKeysAndValuesLeaveNoTrace) {
  ThreadPool pool(2);
  for (const auto& [dtype, window, keys_too] :
       {std::tuple{DType::kF32, 0, true}, {DType::kF32, 9, false}, {DType::kBf16, 0, true}, {DType::kBf16, 9, false}}) {
    SCOPED_TRACE(::testing::Message() << DTypeName(dtype) << " window " << window);
    AttentionShape shape = MakeShape(4, 2, 32, dtype, window);
    shape.softcap = window == 0 ? 0.0f : 2.0f;
    const int n = 100;
    Tokens tokens(shape, n, 3);
    OwnedKv clean(shape.kv, n), spoilt(shape.kv, n);
    Store(pool, shape, tokens, 0, n, 0, &clean);
    for (int i = 80 * tokens.kv_width; i < n * tokens.kv_width; ++i) {
      tokens.v[static_cast<size_t>(i)] = std::numeric_limits<float>::quiet_NaN();
      if (keys_too) tokens.k[static_cast<size_t>(i)] = std::numeric_limits<float>::quiet_NaN();
    }
    Store(pool, shape, tokens, 0, n, 0, &spoilt);
    const KvRun clean_run[] = {clean.Run(n, 0)}, spoilt_run[] = {spoilt.Run(n, 0)};
    const auto expected = Attention(pool, shape, tokens, 0, n, 0, clean_run, ops::SpanAttention);
    const auto out = Attention(pool, shape, tokens, 0, n, 0, spoilt_run, ops::SpanAttention);
    const size_t seen = 80 * static_cast<size_t>(tokens.q_width);
    ASSERT_TRUE(SameBits(std::span(out).first(seen), std::span(expected).first(seen)));
    if (keys_too) continue;
    for (const float value : std::span(out).subspan(seen)) ASSERT_TRUE(std::isnan(value));
  }
}

}  // namespace
}  // namespace spanwise
