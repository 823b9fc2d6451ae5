#include "eval/storage.h"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <optional>
#include <utility>

#include "base/str.h"
#include "kv/tiers/lmdb.h"
#include "kv/tiers/record.h"
#include "kv/tiers/span_tables.h"

namespace spanwise::eval {
namespace {

using Clock = std::chrono::steady_clock;

class TemporaryFolder {
 public:
  static Result<TemporaryFolder> Make() {
    std::string path = (std::filesystem::temp_directory_path() / "spanwise-storage.XXXXXX").string();
    if (!mkdtemp(path.data())) return Unavailable(path + ": cannot be made");
    return TemporaryFolder(std::move(path));
  }
  TemporaryFolder(TemporaryFolder&& other) noexcept : path_(std::exchange(other.path_, {})) {}
  TemporaryFolder& operator=(TemporaryFolder&&) = delete;
  ~TemporaryFolder() {
    std::error_code ignored;
    if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
  }
  const std::string& path() const { return path_; }

 private:
  explicit TemporaryFolder(std::string path) : path_(std::move(path)) {}
  std::string path_;
};

struct OneAnswer {
  Answer answer;
  Reading reference;  // of the record's own answer
};

Result<OneAnswer> Answered(Engine& engine, const QaRecord& record, const ComposeOptions& compose, bool use_cache) {
  Request request = QuestionOf(record, compose);
  request.compose.force = true;
  request.use_cache = use_cache;
  OneAnswer out;
  SW_ASSIGN_OR_RETURN(out.answer, engine.Run(request));
  SW_ASSIGN_OR_RETURN(request.forced_tokens, ReferenceTokens(engine, record));
  SW_ASSIGN_OR_RETURN(out.reference, Read(engine, std::move(request)));
  return out;
}

// Reads a record's documents for another question.
Status KeepDocuments(Engine& engine, const QaRecord& record, const ComposeOptions& compose) {
  Request earlier = QuestionOf(record, compose);
  earlier.compose.force = true;
  earlier.messages.back().content = record.question.starts_with("What") ? "Who is named?" : "What is said?";
  earlier.sampling.max_tokens = 0;
  return engine.Run(std::move(earlier)).status();
}

// Calls `each` with every whole span of a folder.
Status ForEachBlock(const std::string& folder,
                    const std::function<void(const SpanFormat&, const TableKey&, std::span<const std::byte>)>& each) {
  SW_ASSIGN_OR_RETURN(const auto env, lmdb::Env::Open(folder, /*read_only=*/true, 0));
  SW_ASSIGN_OR_RETURN(const auto txn, lmdb::Txn::Begin(env, /*read_only=*/true));
  lmdb::Cursor at(*txn, env->spans);
  for (bool any = at.Go(MDB_FIRST); any; any = at.Go(MDB_NEXT)) {
    const auto record = std::as_bytes(std::span(at.value().data(), at.value().size()));
    SW_ASSIGN_OR_RETURN(const TableKey key, DecodeKey(at.key()));
    SW_ASSIGN_OR_RETURN(const SpanFormat format, RecordFormat(record));
    if (key.tokens.size() == kKvBlockTokens) each(format, key, record);
  }
  return at.status();
}

// What can be told from a folder alone.
Status MeasureRecords(const std::string& folder, StorageScore* score) {
  std::optional<Status> failed;
  double n_blocks = 0, bytes = 0, best_s = 0;
  for (int round = 0; round < 3; ++round) {
    double seconds = 0;
    n_blocks = bytes = 0;
    std::vector<std::byte> block;
    SW_RETURN_IF_ERROR(ForEachBlock(folder, [&](const auto& format, const auto& key, auto record) {
      block.resize(format.geometry.BlockBytes());
      const auto start = Clock::now();
      const auto rows = ReadRecord(format, key.parent, key.tokens, record);
      if (!rows.ok()) {
        failed = rows.status();
        return;
      }
      UnpackRows(format, *rows, kKvBlockTokens, block.data());
      seconds += std::chrono::duration<double>(Clock::now() - start).count();
      ++n_blocks;
      bytes += static_cast<double>(rows->size());
    }));
    if (failed) return *failed;
    best_s = round == 0 ? seconds : std::min(best_s, seconds);
  }
  if (n_blocks == 0) return InvalidArgument("no document is as long as a block of KV");
  score->bytes_per_token = bytes / (n_blocks * kKvBlockTokens);
  score->decode_ms = 1e6 * best_s / (n_blocks * kKvBlockTokens);
  return Status::Ok();
}

// What a codec does to what a folder of the exact one holds.
Status MeasureError(const std::string& exact_folder, StorageScore* score) {
  SW_ASSIGN_OR_RETURN(const SpanCodec* codec, FindSpanCodec(score->codec));
  RoundingError error;
  std::vector<std::byte> block, rows;
  double seconds = 0, n_blocks = 0;
  SW_RETURN_IF_ERROR(ForEachBlock(exact_folder, [&](const auto& format, const auto&, auto record) {
    block.resize(format.geometry.BlockBytes());
    rows.resize(codec->rows_bytes(format.geometry, kKvBlockTokens));
    UnpackRows(format, record.subspan(sizeof(RecordHeader)), kKvBlockTokens, block.data());
    const auto start = Clock::now();
    codec->encode(format.geometry, block.data(), kKvBlockTokens, rows.data());
    seconds += std::chrono::duration<double>(Clock::now() - start).count();
    ++n_blocks;
    AddRoundingError(*codec, format.geometry, block.data(), kKvBlockTokens, &error);
  }));
  score->encode_ms = 1e6 * seconds / (n_blocks * kKvBlockTokens);
  score->keys = error.relative_keys();
  score->values = error.relative_values();
  return Status::Ok();
}

Status Keep(EngineOptions options, const std::vector<QaRecord>& records, const ComposeOptions& compose,
            const std::function<void()>& one_done) {
  options.cache_dir_waits = true;
  SW_ASSIGN_OR_RETURN(const auto engine, Engine::Open(options));
  for (const QaRecord& record : records) {
    SW_RETURN_IF_ERROR(KeepDocuments(*engine, record, compose));
    one_done();
  }
  return Status::Ok();
}

}  // namespace

Result<std::vector<StorageScore>> MeasureStorage(const EngineOptions& engine_options,
                                                 const std::vector<QaRecord>& records, const StorageOptions& options,
                                                 const std::function<void(double done)>& progress) {
  EngineOptions plain = engine_options;
  plain.cache_dir.clear();
  plain.baked_dirs.clear();
  plain.cache_remote = {};
  plain.cache_codec.clear();
  const double n_all = static_cast<double>(records.size() * (2 * options.codecs.size() + 2));
  double n_done = 0;
  const auto one_done = [&] {
    if (progress) progress(++n_done / n_all);
  };
  EngineOptions keeping = plain;
  SW_ASSIGN_OR_RETURN(const TemporaryFolder exact_folder, TemporaryFolder::Make());
  keeping.cache_dir = exact_folder.path();
  SW_RETURN_IF_ERROR(Keep(keeping, records, options.compose, one_done));

  std::vector<OneAnswer> exact;
  {
    SW_ASSIGN_OR_RETURN(const auto engine, Engine::Open(plain));
    for (const QaRecord& record : records) {
      SW_ASSIGN_OR_RETURN(OneAnswer answer, Answered(*engine, record, options.compose, /*use_cache=*/false));
      exact.push_back(std::move(answer));
      one_done();
    }
  }
  std::vector<StorageScore> scores;
  for (const std::string& codec : options.codecs) {
    StorageScore score{.codec = codec, .n = records.size(), .divergence = {}};
    SW_ASSIGN_OR_RETURN(const TemporaryFolder folder, TemporaryFolder::Make());
    keeping.cache_codec = codec;
    keeping.cache_dir = folder.path();
    SW_RETURN_IF_ERROR(Keep(keeping, records, options.compose, one_done));
    SW_RETURN_IF_ERROR(MeasureRecords(folder.path(), &score));
    SW_RETURN_IF_ERROR(MeasureError(exact_folder.path(), &score));
    EngineOptions reading = keeping;
    reading.plan_loads = false;
    SW_ASSIGN_OR_RETURN(const auto engine, Engine::Open(reading));
    std::vector<TokenDivergence> tokens;
    std::vector<double> ttft;
    double n_prompt = 0;
    for (size_t i = 0; i < records.size(); ++i) {
      SW_ASSIGN_OR_RETURN(const OneAnswer answer, Answered(*engine, records[i], options.compose, /*use_cache=*/true));
      SW_ASSIGN_OR_RETURN(const auto of_record, CompareReadings(exact[i].reference, answer.reference));
      tokens.insert(tokens.end(), of_record.begin(), of_record.end());
      ttft.push_back(answer.answer.timings.ttft_ms);
      n_prompt += answer.answer.usage.prompt_tokens;
      score.accuracy += IsRight(records[i], answer.answer);
      score.as_exact += answer.answer.text == exact[i].answer.text;
      one_done();
    }
    const auto n = static_cast<double>(records.size());
    score.accuracy /= n;
    score.as_exact /= n;
    score.divergence = Summarise(tokens);
    score.from_disk = static_cast<double>(engine->stats().kv_disk_tokens) / n_prompt;
    std::ranges::sort(ttft);
    score.ttft_ms = (ttft[(ttft.size() - 1) / 2] + ttft[ttft.size() / 2]) / 2;
    scores.push_back(std::move(score));
  }
  return scores;
}

}  // namespace spanwise::eval
