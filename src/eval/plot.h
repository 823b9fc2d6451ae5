// A line plot as a self-contained SVG document.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace spanwise::eval {

struct Series {
  std::string name;
  std::vector<std::pair<double, double>> points;  // (x, y), finite; drawn in order of x
};

struct Plot {
  std::string title, x_label, y_label;
  std::vector<Series> series;  // one line each
};

// Round numbers (1, 2 or 5 times a power of ten apart), at most 8, that cover [low, high]. REQUIRES: finite.
std::vector<double> Ticks(double low, double high);

// Axes with ticks over all points and the zero of y, a line with a mark at each point and a legend entry a series. Text
// is escaped.
std::string ToSvg(const Plot& plot);

}  // namespace spanwise::eval
