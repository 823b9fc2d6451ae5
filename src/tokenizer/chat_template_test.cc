#include "tokenizer/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "base/file.h"
#include "base/str.h"

namespace spanwise {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

Result<std::string> Render(std::string_view source, std::string_view input = "{}", size_t max_output = 1 << 20,
                           size_t max_steps = 1'000'000) {
  auto parsed = ChatTemplate::Parse(source);
  if (!parsed.ok()) return parsed.status();
  const json::value variables = ParseJson(input, "input").value();
  return (*parsed)->Render(variables.get_object(), max_output, max_steps);
}

TEST(ChatTemplate, RendersAsJinja2DoesByteForByte) {
  const std::string path = std::string(std::getenv("SPANWISE_SOURCE_DIR")) + "/tests/golden/template/vectors.jsonl";
  const std::string file = ReadFile(path).value();
  json::value shared;
  size_t compared = 0;
  for (const std::string_view line : Split(file, '\n')) {
    if (line.empty()) continue;
    const json::value record = ParseJson(line, path).value();
    const json::object& fields = record.get_object();
    const json::value& input = fields.at("input");
    if (!fields.contains("template")) {
      shared = input;
      continue;
    }
    const std::string name = GetString(fields, "name").value().value();
    const std::string source = GetString(fields, "template").value().value();
    const auto parsed = ChatTemplate::Parse(source);
    const auto output =
        parsed.ok() ? (*parsed)->Render((input.is_string() ? shared : input).get_object()) : parsed.status();
    if (const auto expected = GetString(fields, "output").value()) {
      ASSERT_TRUE(output.ok()) << name << ": " << source << ": " << output.status().message();
      EXPECT_EQ(*output, *expected) << name << ": " << source;
    } else {
      EXPECT_FALSE(output.ok()) << name << ": " << source;
    }
    ++compared;
  }
  EXPECT_GT(compared, 740u);
}

TEST(ChatTemplate, NamesThePlaceOfAnError) {
  EXPECT_THAT(Render("a\n{{ x.y }}").status().message(), StartsWith("line 2, column 6: \"x\" is undefined"));
  EXPECT_THAT(Render("{% if x %}").status().message(), HasSubstr("expected {% endif %}"));
  EXPECT_THAT(Render("\n\n  {{ 1 + }}").status().message(), StartsWith("line 3, column 10: expected a value at '}}'"));
  EXPECT_EQ(Render("{{ x | groupby('a') }}").status().code(), StatusCode::kUnimplemented);
  EXPECT_THAT(Render("{{ x | groupby('a') }}").status().message(), HasSubstr("'groupby'"));
  EXPECT_EQ(Render("{% include 'x' %}").status().code(), StatusCode::kUnimplemented);
  EXPECT_EQ(Render("{{ '\xff' }}").status().code(), StatusCode::kInvalidArgument);
}

TEST(ChatTemplate, RaiseExceptionGivesItsTextAlone) {
  const Status status = Render("{{ raise_exception('Roles must ' ~ 'alternate') }}").status();
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(), "Roles must alternate");
}

TEST(ChatTemplate, AnUnknownFunctionMayBeAskedFor) {
  EXPECT_EQ(Render("{% if strftime_now is defined %}{{ strftime_now('%d') }}{% else %}no date{% endif %}").value(),
            "no date");
}

TEST(ChatTemplate, TheDateComesOnlyWhereItIsCalledForUnasked) {
  const auto year = [](std::string_view format) {
    return Render(StrFormat("{{% set day = strftime_now('{}') %}}{{{{ day }}}}", format));
  };
  EXPECT_THAT(year("<%Y-%m-%d>").value(), testing::MatchesRegex("<20[0-9][0-9]-[0-9][0-9]-[0-9][0-9]>"));
  EXPECT_THAT(year("%-d %B").value(), testing::MatchesRegex("[1-9][0-9]? [A-Z][a-z]+"));
  EXPECT_EQ(year("").value(), "");
  EXPECT_EQ(year("%%").value(), "%");
  EXPECT_EQ(year("%").status().code(), StatusCode::kUnimplemented);
  EXPECT_EQ(year("%1000000d").status().code(), StatusCode::kUnimplemented);
  EXPECT_EQ(year(std::string(300, 'x')).status().code(), StatusCode::kResourceExhausted);
}

TEST(ChatTemplate, AFilterOrTestThatIsNotDoneFailsWhereItRuns) {
  EXPECT_EQ(Render("{% if x %}{{ x | urlize }}{% endif %}ok").value(), "ok");
  EXPECT_EQ(Render("{{ 1 | urlize }}").status().message(), "line 1, column 8: the filter 'urlize' is not done");
  EXPECT_EQ(Render("\n{{ 1 is sameas 1 }}").status().message(), "line 2, column 9: the test 'sameas' is not done");
}

TEST(ChatTemplate, BoundsWorkOutputAndNesting) {
  const auto exhausted = [](std::string_view source) {
    const Status status = Render(source).status();
    EXPECT_EQ(status.code(), StatusCode::kResourceExhausted) << source << ": " << status.message();
  };
  exhausted("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}");
  exhausted("{% for a in range(100000) %}{{ 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx' }}{% endfor %}");
  exhausted("{% set ns = namespace(s='x') %}{% for a in range(64) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}");
  exhausted("{% set ns = namespace(s=[1]) %}{% for a in range(64) %}{% set ns.s = ns.s + ns.s %}{% endfor %}");
  exhausted(
      "{% set ns = namespace(s=[1]) %}{% for a in range(64) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ ns.s }}");
  exhausted(
      "{% set ns = namespace(s=[1]) %}{% for a in range(64) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ ns.s == "
      "[ns.s] or ns.s | tojson }}");
  exhausted("{% set ns = namespace(s=[1]) %}{% for a in range(1000) %}{% set ns.s = [ns.s] %}{% endfor %}");
  exhausted("{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}");
  exhausted("{{ 'ab' * 9000000000000000000 }}");
  exhausted("{{ [1] * 9000000000000000000 }}");
  exhausted(
      "{% set ns = namespace(s='x' * 1000000) %}{% for a in range(100000) %}{% set ns.t = ns.s | upper %}{% endfor %}");
  exhausted("{{ ('a' * 100000).replace('', 'bbbbbbbbbbbbbbbbbbbbbbbb') }}");
  exhausted("{{ range(0, 9000000000000000000) }}");
  exhausted(
      "{% set ns = namespace(l=1) %}{% for i in range(9999) %}{% for x in [ns.l] %}{% set ns.l = loop %}{% endfor %}{% "
      "endfor %}");
  exhausted("{% set t = 'a ' * 400000 %}{{ t.split() | length }}");
  exhausted("{{ 'a'.center(9000000000000000000) }}");
  exhausted("{{ 'a'.ljust(900000000, '\u00e9') }}");
  exhausted("{{ 'a'.zfill(100000000) }}");
  exhausted("{{ ('x' * 500000).join(['a', 'b', 'c', 'd']) }}");
  exhausted("{{ (['a'] * 100) | join('x' * 500000) }}");
  exhausted("{{ ('\n' * 500000) | indent(1000, blank=true) }}");
  exhausted("{{ [1] | tojson(indent=1000000000) }}");
  exhausted("{{ ([[[[1]]]] * 5000) | tojson(indent=1000) }}");
  exhausted("{{ [1] | tojson(separators=['x' * 5000, '']) }}");
  exhausted(
      "{% set ns = namespace(s='<') %}{% for a in range(64) %}{% set ns.s = (ns.s ~ ns.s) | e | string %}{% endfor %}");
  exhausted("{% set x = 'ab' * 400000 %}{% for i in range(99999) %}{{ x.rpartition('a') | length }}{% endfor %}");
  exhausted("{% set x = 'ab' * 400000 %}{% for i in range(99999) %}{% if 'abc' in x %}{% endif %}{% endfor %}");
  exhausted("{% set x = range(99999) | list %}{% for i in x %}{% if -1 in x %}{% endif %}{% endfor %}");
  exhausted("{{ range(99999) | unique | list | length }}");
  exhausted("{% for i in range(99999) %}{% set x = range(99999) | sort %}{% endfor %}");
  exhausted(
      "{% macro m() %}{% set ns.f = caller %}{% endmacro %}{% set ns = namespace(f=1) %}{% for i in range(99999) %}{% "
      "set f = ns.f %}{% call m() %}{{ f }}{% endcall %}{% endfor %}");
  exhausted("{% macro m() %}{% call m() %}{% endcall %}{% endmacro %}{{ m() }}");
  exhausted("{% macro m() %}{{ m(*[]) }}{% endmacro %}{% filter upper %}{{ m() }}{% endfilter %}");
  exhausted("{% for i in range(99999) %}{{ dict(**{'a': 1}) | length }}{% endfor %}");
  EXPECT_THAT(Render("{{ 9 ** 9000000000000000000 }}").status().message(), HasSubstr("exceeds 64 bits"));
  EXPECT_EQ(Render("{{ 1 ** 9000000000000000000 }}{{ (-1) ** 9000000000000000001 }}").value(), "1-1");
  EXPECT_FALSE(Render("{{ '%1000000000d' | format(1) }}").ok());
  EXPECT_FALSE(Render("{{ '%1000000000d' % 1 }}").ok());
  EXPECT_FALSE(Render("{{ '{:1000000000}'.format(1) }}").ok());
  for (const std::string& deep : {"{{ " + std::string(5000, '(') + "1" + std::string(5000, ')') + " }}",
                                  "{{ " + std::string(5000, '-') + "1 }}", "{{ " + std::string(5000, '[') + " }}"}) {
    EXPECT_FALSE(Render(deep).ok());
  }
  std::string chain = "{{ 1", blocks, nots = "{{ ";
  for (int i = 0; i < 5000; ++i) chain += " + 1", blocks += "{% if 1 %}", nots += "not ";
  EXPECT_FALSE(Render(chain + " }}").ok());
  EXPECT_FALSE(Render(blocks).ok());
  EXPECT_FALSE(Render(nots + "1 }}").ok());
}

TEST(ChatTemplate, DeepInputIsRefusedByName) {
  json::value deep = 1;
  for (int i = 0; i < 200; ++i) deep = json::array{std::move(deep)};
  const Status status = ChatTemplate::Parse("{{ 1 }}").value()->Render({{"tools", deep}}).status();
  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(status.message(), "variable \"tools\": an input nested deeper than 100");
}

TEST(ChatTemplate, LargeDocumentsPass) {
  json::object input;
  std::string text;
  for (int i = 0; i < 100'000; ++i) text += "A line of a long document, \u00fc and more.\n";
  input["text"] = text;
  const auto parsed = ChatTemplate::Parse(
                          "{{ '<' ~ text | trim ~ '>' }}{{ text[:10] }}{{ text.replace('line', 'row') | length }}{{ "
                          "text | tojson | length }}")
                          .value();
  const auto output = parsed->Render(input);
  ASSERT_TRUE(output.ok()) << output.status().message();
  EXPECT_THAT(*output, HasSubstr(">A line of 3800000"));
}

TEST(ChatTemplate, NamespacesThatHoldEachOtherAreReleased) {
  EXPECT_EQ(
      Render("{% set a = namespace() %}{% set b = namespace(a=a) %}{% set a.b = b %}{% set a.a = [a] %}ok").value(),
      "ok");
}

TEST(ChatTemplate, IntegersDoNotWrap) {
  EXPECT_FALSE(Render("{{ 9223372036854775807 + 1 }}").ok());
  EXPECT_FALSE(Render("{{ -9223372036854775807 - 2 }}").ok());
  EXPECT_FALSE(Render("{{ 9223372036854775807 * 2 }}").ok());
  EXPECT_FALSE(Render("{{ 9999999999999999999 }}").ok());
  EXPECT_FALSE(Render("{{ 10 ** 30 }}").ok());
  EXPECT_FALSE(Render("{{ (-9223372036854775807 - 1) // -1 }}").ok());
  EXPECT_FALSE(Render("{{ (-9223372036854775807 - 1) | abs }}").ok());
  EXPECT_EQ(Render("{{ (-9223372036854775807 - 1) % -1 }}").value(), "0");
  EXPECT_EQ(Render("{{ [1, 2, 3][-9223372036854775807:9223372036854775807:9223372036854775807] }}").value(), "[1]");
}

}  // namespace
}  // namespace spanwise
