
#include <algorithm>
#include <filesystem>

#include "base/str.h"
#include "base/thread_pool.h"
#include "cli/common.h"
#include "formats/convert.h"

namespace spanwise::cli {
namespace {

struct Options {
  CommonOptions common;
  std::string in, out, type = "q8";
};

Status Quantize(const Options& o) {
  const WeightType type = o.type == "bf16" ? WeightType::kBf16 : o.type == "q8" ? WeightType::kQ8_0 : WeightType::kQ4_0;
  if (o.common.threads < 0 || o.common.threads > 1024)
    return InvalidArgument(StrFormat("--threads {} is not between 0 and 1024", o.common.threads));
  ThreadPool pool(o.common.threads);
  Progress progress("converting", o.common.quiet);
  SW_RETURN_IF_ERROR(ConvertModel(o.in, o.out, type, pool, [&](size_t done, size_t total) {
    progress.Update(static_cast<double>(done), static_cast<double>(total));
  }));
  std::error_code error;
  const auto size = std::filesystem::file_size(o.out + "/model.safetensors", error);
  if (error) return Unavailable(StrFormat("{}/model.safetensors: {}", o.out, error.message()));
  if (o.common.json) {
    PrintJson(json::object{{"model", o.out}, {"type", o.type}, {"weight_bytes", size}});
  } else {
    Print("{}: {} MB of {} weights\n", o.out, size / 1'000'000, o.type);
  }
  return Status::Ok();
}

}  // namespace

Verb QuantizeVerb(CLI::App& app) {
  auto o = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand("quantize", "Rewrite a model with smaller weights");
  verb->add_option("model", o->in, "Model folder")->required();
  verb->add_option("out", o->out, "Folder to write; it must not exist")->required();
  verb->add_option("--type", o->type, "What matrices become")
      ->check(CLI::IsMember({"bf16", "q8", "q4"}))
      ->capture_default_str();
  verb->add_option("--threads", o->common.threads, "Threads (0: as many as there are CPUs for this process)")
      ->capture_default_str();
  AddOutputOptions(verb, &o->common);
  return {verb, [o] {
            const Status status = Quantize(*o);
            return status.ok() ? kDone : Fail(status);
          }};
}

}  // namespace spanwise::cli
