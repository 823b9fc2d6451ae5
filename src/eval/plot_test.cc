// Plots: ticks, and what stands in the document.
#include "eval/plot.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/property_tree/ptree.hpp>
#include <boost/property_tree/xml_parser.hpp>
#include <sstream>

namespace spanwise::eval {
namespace {

using ::testing::HasSubstr;

TEST(Plot, TicksAreRoundAndCoverTheRange) {
  EXPECT_THAT(Ticks(0, 10), ::testing::Pointwise(::testing::DoubleEq(), {0.0, 2.0, 4.0, 6.0, 8.0, 10.0}));
  EXPECT_THAT(Ticks(1, 16), ::testing::Pointwise(::testing::DoubleEq(), {0.0, 5.0, 10.0, 15.0, 20.0}));
  EXPECT_EQ(Ticks(0, 0.0033).front(), 0);
  EXPECT_DOUBLE_EQ(Ticks(0, 0.0033).back(), 0.0035);
  for (const auto& [low, high] : {std::pair{0.0, 1e-9},
                                  {-3.0, 1e6},
                                  {5.0, 5.0},
                                  {0.0, 0.0},
                                  {2.0, 1.0},
                                  {1e6, 1e6 + 1e-9},
                                  {0.0, 1e-310},
                                  {-1e300, 1e300}}) {
    const std::vector<double> ticks = Ticks(low, high);
    EXPECT_GE(ticks.size(), 2u);
    EXPECT_LE(ticks.size(), 8u);
    EXPECT_LE(ticks.front(), std::min(low, high));
    EXPECT_GE(ticks.back(), std::max(low, high) * (1 - 1e-9));
    EXPECT_LT(ticks.front(), ticks.back());
  }
}

size_t Count(const std::string& text, const std::string& part) {
  size_t n = 0;
  for (size_t at = 0; (at = text.find(part, at)) != std::string::npos; at += part.size()) ++n;
  return n;
}

TEST(Plot, DrawsALineAndALegendEntryASeries) {
  const std::string svg = ToSvg({.title = "KL",
                                 .x_label = "documents",
                                 .y_label = "nats",
                                 .series = {{"set", {{8, 2}, {4, 1}}}, {"repair", {{4, 0.5}, {8, 0}}}}});
  EXPECT_EQ(Count(svg, "<polyline"), 2u);
  EXPECT_EQ(Count(svg, "<circle"), 4u);
  EXPECT_EQ(Count(svg, ">set</text>"), 1u);
  // x from 4 to 8 spans the plot; points are drawn from left to right, and larger values higher.
  EXPECT_THAT(svg, HasSubstr("points=\"80.0,210.0 530.0,40.0\""));
  EXPECT_THAT(svg, HasSubstr("530.0,380.0\""));
}

TEST(Plot, EscapesTextAndIsXml) {
  const std::string svg = ToSvg(
      {.title = "a < b & \"c\"\x01", .x_label = "</svg>", .y_label = "", .series = {{"<&>", {{1, 1}}}, {"", {}}}});
  EXPECT_THAT(svg, HasSubstr("a &lt; b &amp; &quot;c&quot;<"));
  EXPECT_THAT(svg, HasSubstr("&lt;/svg&gt;"));
  std::istringstream in(svg);
  boost::property_tree::ptree tree;
  boost::property_tree::read_xml(in, tree);
  EXPECT_EQ(tree.count("svg"), 1u);
}

}  // namespace
}  // namespace spanwise::eval
