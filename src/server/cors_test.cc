#include "server/cors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace spanwise::server {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Key;
using ::testing::Not;
using ::testing::Pair;

CorsPolicy Policy(const std::vector<std::string>& origins) {
  auto policy = CorsPolicy::Parse(origins);
  EXPECT_TRUE(policy.ok()) << policy.status().message();
  return policy.ok() ? *policy : CorsPolicy();
}

TEST(Cors, ReadsOriginsAsPeopleWriteThem) {
  struct Row {
    const char *given, *origin;
  };
  for (const Row& row : std::initializer_list<Row>{{"http://localhost:5173", "http://localhost:5173"},
                                                   {"http://localhost:5173/", "http://localhost:5173"},
                                                   {" https://App.Example ", "https://app.example"},
                                                   {"https://app.example:443", "https://app.example"},
                                                   {"http://app.example:80/", "http://app.example"},
                                                   {"https://app.example:80", "https://app.example:80"},
                                                   {"http://a.example,http://b.example", "http://a.example"},
                                                   {"http://a.example, http://b.example/", "http://b.example"},
                                                   {"http://[::1]:3000", "http://[::1]:3000"},
                                                   {"http://[::1]", "http://[::1]"},
                                                   {"tauri://localhost", "tauri://localhost"},
                                                   {"chrome-extension://abcdefgh", "chrome-extension://abcdefgh"},
                                                   {"null", "null"},
                                                   {"*", "https://anything.example"},
                                                   {"*", "null"}}) {
    const CorsPolicy policy = Policy({row.given});
    EXPECT_TRUE(policy.Allows(row.origin)) << row.given;
    EXPECT_FALSE(policy.empty());
    EXPECT_EQ(policy.Allows("https://evil.example"), std::string(row.given) == "*") << row.given;
  }
  const CorsPolicy two = Policy({"http://a.example", "http://b.example"});
  EXPECT_TRUE(two.Allows("http://a.example") && two.Allows("http://b.example"));
  EXPECT_FALSE(two.Allows("http://a.example.evil") || two.Allows("http://a.example:81") || two.Allows("a.example") ||
               two.Allows(""));
}

TEST(Cors, RefusesWhatIsNoOrigin) {
  for (const char* bad : {"",
                          "localhost:5173",
                          "app.example",
                          "//app.example",
                          "://x",
                          "http://",
                          "http:///",
                          "https://app.example/path",
                          "https://app.example//",
                          "https://app.example?x",
                          "https://*.example",
                          "https://user@app.example",
                          "https://app.example:0",
                          "https://app.example:99999",
                          "https://app.example:",
                          "https://app.example:x",
                          "https://app example",
                          "http://a.example,",
                          "http://a.example,,http://b.example",
                          "ht*tp://x",
                          "http://\xc3\xa9",
                          "http://[::1",
                          "http://x\r\ny"}) {
    const auto policy = CorsPolicy::Parse({bad});
    EXPECT_EQ(policy.status().code(), StatusCode::kInvalidArgument) << bad;
    EXPECT_THAT(policy.status().message(), AllOf(HasSubstr("--cors-origin"), HasSubstr("https://app.example.org")));
  }
}

TEST(Cors, TellsBrowsersWhatTheyMay) {
  EXPECT_THAT(CorsPolicy().AnswerHeaders("http://a.example"), IsEmpty());
  EXPECT_FALSE(CorsPolicy().Allows("http://a.example"));
  const CorsPolicy one = Policy({"http://a.example"});
  EXPECT_THAT(one.AnswerHeaders("http://a.example"),
              AllOf(Contains(Pair("Access-Control-Allow-Origin", "http://a.example")), Contains(Pair("Vary", "Origin")),
                    Contains(Pair("Access-Control-Expose-Headers", HasSubstr("X-Request-Id")))));
  for (const char* other : {"", "http://b.example"})
    EXPECT_THAT(one.AnswerHeaders(other),
                AllOf(Not(Contains(Key("Access-Control-Allow-Origin"))), Contains(Pair("Vary", "Origin"))));
  EXPECT_THAT(Policy({"*"}).AnswerHeaders("http://b.example"),
              AllOf(Contains(Pair("Access-Control-Allow-Origin", "*")), Not(Contains(Key("Vary")))));
}

TEST(Cors, EchoesWhatAPreflightAsksFor) {
  const CorsPolicy policy = Policy({"*"});
  const std::string asked = "authorization,content-type,x-stainless-os,x-stainless-lang";
  EXPECT_THAT(policy.PreflightHeaders({"POST", asked}),
              AllOf(Contains(Pair("Access-Control-Allow-Headers", asked)), Contains(Key("Access-Control-Max-Age")),
                    Contains(Pair("Access-Control-Allow-Methods", HasSubstr("POST"))),
                    Contains(Pair("Vary", HasSubstr("Access-Control-Request-Headers"))),
                    Not(Contains(Key("Access-Control-Allow-Private-Network")))));
  EXPECT_THAT(policy.PreflightHeaders({"POST", "", true}),
              AllOf(Contains(Pair("Access-Control-Allow-Private-Network", "true")),
                    Not(Contains(Key("Access-Control-Allow-Headers")))));
}

}  // namespace
}  // namespace spanwise::server
