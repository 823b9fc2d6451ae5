#include "retrieval/chunker.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <unordered_map>

#include "base/hash.h"
#include "base/str.h"
#include "retrieval/unicode.h"

namespace spanwise::retrieval {
namespace {

constexpr size_t kNone = std::numeric_limits<size_t>::max();
constexpr uint64_t kCutModulus = 3;  // one block in three may close a chunk

// What packing never divides: a block, or a part of one that is too long.
struct Piece {
  ByteRange range;
  BlockKind kind = BlockKind::kParagraph;
  int level = 0;
  size_t n_tokens = 0;
  size_t section = 0;  // pieces of different sections never share a chunk
  uint64_t hash = 0;   // of kind and text
};

class Chunker {
 public:
  Chunker(std::string_view text, DocumentFormat format, const ChunkOptions& options) : text_(text), options_(options) {
    for (const Block& block : ParseBlocks(text, format)) AddBlock(block);
  }

  const std::vector<Piece>& pieces() const { return pieces_; }

  // Packs pieces [begin, end), which may span sections, into chunks.
  void Pack(size_t begin, size_t end) {
    while (begin < end) {
      size_t run = begin;
      while (run < end && pieces_[run].section == pieces_[begin].section) ++run;
      PackRun(begin, run);
      begin = run;
    }
  }

  // Pieces [begin, end) as one chunk.
  void Emit(size_t begin, size_t end) {
    const ByteRange range{pieces_[begin].range.begin, pieces_[end - 1].range.end};
    chunks_.push_back({range, Count(range), {}});
  }

  std::vector<Chunk> Take() {
    std::vector<std::string> path;
    size_t piece = 0;
    for (Chunk& chunk : chunks_) {
      // A chunk stands under the headings it begins with.
      for (; piece < pieces_.size() && pieces_[piece].range.begin < chunk.range.end; ++piece) {
        const Piece& p = pieces_[piece];
        if (p.kind != BlockKind::kHeading) continue;
        const size_t depth = std::min(path.size(), static_cast<size_t>(p.level - 1));
        path.resize(depth);
        path.resize(static_cast<size_t>(p.level - 1));  // "### x" under "# y" leaves a hole
        path.push_back(HeadingText(Text(p.range)));
      }
      for (const std::string& heading : path) {
        if (heading.empty()) continue;
        if (!chunk.heading_path.empty()) chunk.heading_path += " > ";
        chunk.heading_path += heading;
      }
    }
    return std::move(chunks_);
  }

 private:
  std::string_view Text(ByteRange range) const { return text_.substr(range.begin, range.size()); }
  size_t Count(ByteRange range) const {
    return options_.count_tokens ? options_.count_tokens(Text(range)) : (range.size() + 3) / 4;
  }

  void AddBlock(const Block& block) {
    if (block.kind == BlockKind::kHeading && !pieces_.empty() && pieces_.back().kind != BlockKind::kHeading) ++section_;
    const size_t n_tokens = Count(block.range);
    if (n_tokens <= options_.max_tokens) return AddPiece(block, block.range, n_tokens);
    if (block.kind == BlockKind::kCode || block.kind == BlockKind::kTable) return AddLines(block, block.range);
    for (const ByteRange sentence : SplitSentences(Text(block.range))) {
      const ByteRange range{block.range.begin + sentence.begin, block.range.begin + sentence.end};
      if (const size_t n = Count(range); n <= options_.max_tokens) {
        AddPiece(block, range, n);
      } else {
        AddLines(block, range);
      }
    }
  }

  void AddPiece(const Block& block, ByteRange range, size_t n_tokens) {
    const std::string_view text = Text(range);
    // A part of a heading would not read as one; it is text.
    const BlockKind kind =
        range == block.range || block.kind != BlockKind::kHeading ? block.kind : BlockKind::kParagraph;
    pieces_.push_back({range, kind, block.level, n_tokens, section_, Xxh3(text) * 8 + static_cast<uint64_t>(kind)});
  }

  void AddLines(const Block& block, ByteRange range) {
    for (size_t begin = range.begin; begin < range.end;) {
      size_t end = std::min(text_.find('\n', begin), range.end);
      const size_t next = std::min(end + 1, range.end);
      if (end > begin && text_[end - 1] == '\r') --end;
      if (!Trim(Text({begin, end})).empty()) AddLine(block, {begin, end});
      begin = next;
    }
  }

  // A line, cut into the longest runs of words (or else characters) that fit.
  void AddLine(const Block& block, ByteRange line) {
    while (line.begin < line.end) {
      const size_t end = FittingEnd(line);
      size_t visible = end;
      while (visible > line.begin && IsBlank(text_[visible - 1])) --visible;
      if (visible > line.begin) AddPiece(block, {line.begin, visible}, Count({line.begin, visible}));
      line.begin = end;
      while (line.begin < line.end && IsBlank(text_[line.begin])) ++line.begin;
    }
  }

  static bool IsBlank(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

  // The end of the longest prefix of `line` with at most max_tokens tokens, preferably between words; at least a
  // character.
  size_t FittingEnd(ByteRange line) const {
    // No tokenizer of ours has tokens this long on average; a bound keeps counting linear for a line of many megabytes.
    constexpr size_t kMaxBytesPerToken = 16;
    const size_t window = std::min(line.size(), options_.max_tokens * kMaxBytesPerToken);
    if (window == line.size() && Count(line) <= options_.max_tokens) return line.end;
    size_t fits = 0, fails = window + 1;  // in bytes after line.begin
    while (fails - fits > 1) {
      const size_t middle = fits + (fails - fits) / 2;
      (Count({line.begin, CharacterBoundary(line, middle)}) <= options_.max_tokens ? fits : fails) = middle;
    }
    const size_t end = CharacterBoundary(line, fits);
    if (end == line.begin) return line.begin + DecodeAt(text_, line.begin).bytes;
    for (size_t word = end; word > line.begin; --word)
      if (IsBlank(text_[word - 1]) || (word < line.end && IsBlank(text_[word]))) return word;
    return end;
  }

  // The last character boundary at most `bytes` after line.begin.
  size_t CharacterBoundary(ByteRange line, size_t bytes) const {
    size_t end = line.begin + bytes;
    while (end > line.begin && end < text_.size() && (static_cast<unsigned char>(text_[end]) & 0xC0) == 0x80) --end;
    return end;
  }

  // Pieces of one section.
  void PackRun(size_t begin, size_t end) {
    size_t total = 0;
    for (size_t i = begin; i < end; ++i) total += pieces_[i].n_tokens;
    if (total <= options_.max_tokens && Fits(begin, end)) return Emit(begin, end);
    while (begin < end) {
      size_t n = pieces_[begin].n_tokens, next = begin + 1;
      while (next < end && n + pieces_[next].n_tokens <= options_.max_tokens &&
             !(n >= options_.cut_tokens && pieces_[next].hash / 8 % kCutModulus == 0))
        n += pieces_[next++].n_tokens;
      // The sum leaves out what lies between the pieces.
      while (next > begin + 1 && !Fits(begin, next)) --next;
      Emit(begin, next);
      begin = next;
    }
  }

  bool Fits(size_t begin, size_t end) const {
    return Count({pieces_[begin].range.begin, pieces_[end - 1].range.end}) <= options_.max_tokens;
  }

  std::string_view text_;
  const ChunkOptions& options_;
  std::vector<Piece> pieces_;
  std::vector<Chunk> chunks_;
  size_t section_ = 0;
};

// For every new piece, the old piece it is taken to be, or kNone; ascending. Patience: hashes that occur once on each
// side anchor the match, their longest ascending run is kept, and it is extended over equal neighbours.
std::vector<size_t> MatchPieces(const std::vector<Piece>& before, const std::vector<Piece>& after) {
  std::vector<size_t> match(after.size(), kNone);
  const size_t common = std::min(before.size(), after.size());
  size_t head = 0, tail = 0;
  while (head < common && before[head].hash == after[head].hash) match[head] = head, ++head;
  while (tail < common - head && before[before.size() - 1 - tail].hash == after[after.size() - 1 - tail].hash) {
    match[after.size() - 1 - tail] = before.size() - 1 - tail;
    ++tail;
  }
  const size_t before_end = before.size() - tail, after_end = after.size() - tail;

  struct Seen {
    size_t before = 0, n_before = 0, n_after = 0;
  };
  std::unordered_map<uint64_t, Seen> seen;
  for (size_t i = head; i < before_end; ++i) seen[before[i].hash].before = i, ++seen[before[i].hash].n_before;
  for (size_t i = head; i < after_end; ++i) ++seen[after[i].hash].n_after;

  std::vector<size_t> anchors, best, parent(after.size(), kNone);  // `best`: the new piece that ends each run length
  const auto old_of = [&](size_t i) { return seen.find(after[i].hash)->second.before; };
  for (size_t i = head; i < after_end; ++i) {
    const Seen& s = seen.find(after[i].hash)->second;
    if (s.n_before != 1 || s.n_after != 1) continue;
    const auto at =
        std::lower_bound(best.begin(), best.end(), s.before, [&](size_t j, size_t b) { return old_of(j) < b; });
    parent[i] = at == best.begin() ? kNone : *(at - 1);
    if (at == best.end()) {
      best.push_back(i);
    } else {
      *at = i;
    }
  }
  for (size_t i = best.empty() ? kNone : best.back(); i != kNone; i = parent[i]) match[i] = old_of(i);

  for (size_t i = head + 1; i < after_end; ++i) {  // forwards, then backwards, as far as the texts agree
    if (match[i] != kNone || match[i - 1] == kNone) continue;
    const size_t old = match[i - 1] + 1;
    if (old < before_end && before[old].hash == after[i].hash) match[i] = old;
  }
  size_t limit = before_end;  // the next matched old piece
  for (size_t i = after_end; i-- > head;) {
    if (match[i] == kNone && limit > head && limit < before.size() && i + 1 < after.size() && match[i + 1] == limit &&
        before[limit - 1].hash == after[i].hash)
      match[i] = limit - 1;
    if (match[i] != kNone) limit = match[i];
  }
  // Both extensions may have claimed one old piece; the earlier keeps it.
  size_t last = kNone;
  for (size_t& m : match) {
    if (m == kNone) continue;
    if (last != kNone && m <= last) {
      m = kNone;
    } else {
      last = m;
    }
  }
  return match;
}

struct Run {
  size_t begin = 0, end = 0;  // new pieces
  ByteRange previous;         // the old chunk they were
};

// The previous chunks whose pieces all stand unchanged and together in the new text.
std::vector<Run> KeptRuns(const std::vector<Piece>& before, std::span<const ByteRange> previous,
                          const std::vector<Piece>& after) {
  const std::vector<size_t> match = MatchPieces(before, after);
  std::vector<size_t> now(before.size(), kNone);
  for (size_t i = 0; i < after.size(); ++i)
    if (match[i] != kNone) now[match[i]] = i;
  std::vector<Run> kept;
  size_t piece = 0;
  for (const ByteRange& chunk : previous) {
    while (piece < before.size() && before[piece].range.begin < chunk.begin) ++piece;
    const size_t first = piece;
    while (piece < before.size() && before[piece].range.end <= chunk.end) ++piece;
    if (piece == first || before[first].range.begin != chunk.begin || before[piece - 1].range.end != chunk.end)
      continue;
    bool together = now[first] != kNone;
    for (size_t i = first + 1; i < piece && together; ++i) together = now[i] == now[first] + (i - first);
    if (together) kept.push_back({now[first], now[first] + (piece - first), chunk});
  }
  return kept;
}

}  // namespace

std::string ChunkOptions::Describe() const {
  return StrFormat("v{} max {} cut {} {}", kChunkerVersion, max_tokens, cut_tokens, counter_name);
}

std::vector<Chunk> ChunkText(std::string_view text, DocumentFormat format, const ChunkOptions& options) {
  Chunker chunker(text, format, options);
  chunker.Pack(0, chunker.pieces().size());
  return chunker.Take();
}

std::vector<Chunk> RechunkText(std::string_view text, DocumentFormat format, const ChunkOptions& options,
                               std::string_view previous_text, std::span<const ByteRange> previous) {
  Chunker chunker(text, format, options);
  const Chunker old(previous_text, format, options);
  const std::vector<Piece>& pieces = chunker.pieces();

  std::vector<Run> kept;
  for (const Run& run : KeptRuns(old.pieces(), previous, pieces)) {
    // Equal hashes are not yet equal bytes, and the white space between two pieces is part of the chunk.
    const size_t begin = pieces[run.begin].range.begin;
    const std::string_view now = text.substr(begin, pieces[run.end - 1].range.end - begin);
    if (now == previous_text.substr(run.previous.begin, run.previous.size())) kept.push_back(run);
  }

  // A leftover too small to stand alone takes a neighbour of its section with it: headings the text they head, others
  // the text before.
  std::vector<bool> drop(kept.size(), false);
  size_t gap_begin = 0;
  for (size_t k = 0; k <= kept.size(); ++k) {
    const size_t gap_end = k < kept.size() ? kept[k].begin : pieces.size();
    for (size_t i = gap_begin; i < gap_end;) {
      const size_t run = i;
      size_t n_tokens = 0;
      bool headings = true;
      for (; i < gap_end && pieces[i].section == pieces[run].section; ++i) {
        n_tokens += pieces[i].n_tokens;
        headings = headings && pieces[i].kind == BlockKind::kHeading;
      }
      if (n_tokens >= options.min_tokens && !headings) continue;
      const bool can_follow = i == gap_end && k < kept.size() && pieces[kept[k].begin].section == pieces[run].section;
      const bool can_precede = run == gap_begin && k > 0 && pieces[kept[k - 1].end - 1].section == pieces[run].section;
      if (can_follow && (headings || !can_precede)) {
        drop[k] = true;
      } else if (can_precede) {
        drop[k - 1] = true;
      }
    }
    if (k < kept.size()) gap_begin = kept[k].end;
  }

  size_t done = 0;
  for (size_t k = 0; k < kept.size(); ++k) {
    if (drop[k]) continue;
    chunker.Pack(done, kept[k].begin);
    chunker.Emit(kept[k].begin, kept[k].end);
    done = kept[k].end;
  }
  chunker.Pack(done, pieces.size());
  return chunker.Take();
}

}  // namespace spanwise::retrieval
