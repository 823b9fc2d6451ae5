#include "eval/plot.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string_view>

#include "base/str.h"

namespace spanwise::eval {
namespace {

constexpr double kWidth = 800, kHeight = 440, kLeft = 80, kRight = 270, kTop = 40, kBottom = 60;
constexpr int kMostTicks = 8;
// Told apart by readers who see colours differently (Okabe and Ito), and on white.
constexpr std::array<std::string_view, 7> kColours = {"#0072b2", "#d55e00", "#009e73", "#cc79a7",
                                                      "#e69f00", "#56b4e9", "#000000"};

std::string Escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        // XML has no control characters.
        if (static_cast<unsigned char>(c) >= 0x20) out += c;
    }
  }
  return out;
}

// One direction: values to pixels.
struct Axis {
  std::vector<double> ticks;
  double from, to;  // pixels of the first and last tick

  double At(double value) const {
    return from + (to - from) * (value - ticks.front()) / (ticks.back() - ticks.front());
  }
};

std::string Text(double x, double y, std::string_view anchor, std::string_view text, std::string_view more = "") {
  return StrFormat("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\"{}>{}</text>\n", x, y, anchor, more,
                   Escaped(text));
}

std::string Line(double x1, double y1, double x2, double y2, std::string_view colour) {
  return StrFormat("<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"{}\"/>\n", x1, y1, x2, y2,
                   colour);
}

}  // namespace

std::vector<double> Ticks(double low, double high) {
  if (low > high) std::swap(low, high);
  // Closer together than steps of a double can tell apart: around one value.
  const double size = std::max(std::abs(low), std::abs(high));
  if (high - low <= 1e-9 * size || size < 1e-300) {
    const double margin = size < 1e-300 ? 1 : size / 2;
    low -= margin;
    high += margin;
  }
  const double power = std::pow(10, std::floor(std::log10((high - low) / kMostTicks)));
  for (const double factor : {1, 2, 5, 10, 20, 50}) {
    const double step = factor * power, first = std::floor(low / step + 1e-9), last = std::ceil(high / step - 1e-9);
    if (last - first + 1 > kMostTicks) continue;
    std::vector<double> ticks;
    for (double i = first; i <= last; ++i) ticks.push_back(i * step);
    return ticks;
  }
  return {low, high};
}

std::string ToSvg(const Plot& plot) {
  double x_low = 0, x_high = 0, y_low = 0, y_high = 0;
  bool any = false;
  for (const Series& s : plot.series)
    for (const auto& [x, y] : s.points) {
      x_low = any ? std::min(x_low, x) : x;
      x_high = any ? std::max(x_high, x) : x;
      y_low = std::min(y_low, y);
      y_high = std::max(y_high, y);
      any = true;
    }
  const Axis x{Ticks(x_low, x_high), kLeft, kWidth - kRight}, y{Ticks(y_low, y_high), kHeight - kBottom, kTop};

  std::string out = StrFormat(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" font-family=\"sans-serif\" font-size=\"12\">\n"
      "<rect width=\"{}\" height=\"{}\" fill=\"#ffffff\"/>\n",
      kWidth, kHeight, kWidth, kHeight);
  const double middle = (x.from + x.to) / 2;
  out += Text(middle, kTop - 16, "middle", plot.title, " font-size=\"15\"");
  for (const double tick : x.ticks) {
    out += Line(x.At(tick), y.from, x.At(tick), y.from + 5, "#000000");
    out += Text(x.At(tick), y.from + 20, "middle", StrFormat("{:.6g}", tick));
  }
  for (const double tick : y.ticks) {
    out += Line(x.from, y.At(tick), x.to, y.At(tick), "#dddddd");
    out += Text(x.from - 8, y.At(tick) + 4, "end", StrFormat("{:.6g}", tick));
  }
  out += Line(x.from, y.from, x.to, y.from, "#000000") + Line(x.from, y.from, x.from, y.to, "#000000");
  out += Text(middle, kHeight - 16, "middle", plot.x_label);
  const double centre = (y.from + y.to) / 2;
  out += Text(20, centre, "middle", plot.y_label, StrFormat(" transform=\"rotate(-90 20 {:.1f})\"", centre));

  for (size_t i = 0; i < plot.series.size(); ++i) {
    const std::string_view colour = kColours[i % kColours.size()];
    auto points = plot.series[i].points;
    std::ranges::sort(points);
    std::string path;
    for (const auto& [px, py] : points)
      path += StrFormat("{}{:.1f},{:.1f}", path.empty() ? "" : " ", x.At(px), y.At(py));
    out += StrFormat("<polyline fill=\"none\" stroke=\"{}\" stroke-width=\"2\" points=\"{}\"/>\n", colour, path);
    for (const auto& [px, py] : points)
      out += StrFormat("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3\" fill=\"{}\"/>\n", x.At(px), y.At(py), colour);
    const double row = kTop + 20 * static_cast<double>(i);
    out += Line(x.to + 14, row, x.to + 38, row, colour) + Text(x.to + 44, row + 4, "start", plot.series[i].name);
  }
  return out + "</svg>\n";
}

}  // namespace spanwise::eval
