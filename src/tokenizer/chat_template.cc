#include "tokenizer/chat_template.h"

#include "base/str.h"
#include "tokenizer/jinja/lexer.h"
#include "tokenizer/jinja/parser.h"
#include "tokenizer/jinja/renderer.h"

namespace spanwise {
namespace {

constexpr size_t kMaxSourceBytes = size_t{1} << 20;

class JinjaTemplate final : public ChatTemplate {
 public:
  JinjaTemplate(std::string source, jinja::Block block) : source_(std::move(source)), block_(std::move(block)) {}

  Result<std::string> Render(const json::object& variables, size_t max_output_bytes, size_t max_steps) const override {
    return jinja::Renderer(source_, variables, max_output_bytes, max_steps).Run(block_);
  }

 private:
  const std::string source_;
  const jinja::Block block_;
};

}  // namespace

Result<std::shared_ptr<const ChatTemplate>> ChatTemplate::Parse(std::string_view source) {
  if (source.size() > kMaxSourceBytes)
    return ResourceExhausted(StrFormat("a template of {} bytes, at most {} are read", source.size(), kMaxSourceBytes));
  size_t bad = 0;
  if (!IsValidUtf8(source, &bad)) return InvalidArgument(StrFormat("the template is not valid UTF-8 at byte {}", bad));
  std::string text = jinja::NormalizeSource(source);
  SW_ASSIGN_OR_RETURN(jinja::Block block, jinja::Parse(text));
  return std::shared_ptr<const ChatTemplate>(std::make_shared<JinjaTemplate>(std::move(text), std::move(block)));
}

}  // namespace spanwise
