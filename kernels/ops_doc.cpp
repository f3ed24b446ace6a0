// Writes docs/ops.md from the op table, or checks that it is what the table says.
//
//   superstep_ops_doc docs/ops.md
//   superstep_ops_doc --check docs/ops.md     exit code 1 when the file is out of date
#include <cstdio>
#include <exception>
#include <string>
#include <string_view>

#include <fmt/format.h>

#include "base/atomic_file.h"
#include "base/file.h"
#include "kernels/op_table.h"

namespace superstep::kernels {
namespace {

constexpr std::int64_t kMaxDocumentBytes = 1 << 20;

constexpr std::string_view kIntroduction =
    "# Ops\n\n"
    "Written by `superstep_ops_doc docs/ops.md` from the table in `kernels/op_table.cpp`; not "
    "edited by hand.\n\n"
    "Each op is a pure function of its inputs and attributes. The example is the first of those "
    "that the\n"
    "tests run: every op is compared with a naive reference, and every gradient and second "
    "derivative with\n"
    "central differences. `kernels/ops.h` has the typed functions in front.\n\n"
    "| op | example | result | gradient |\n"
    "|---|---|---|---|\n";

std::string gradient_of(const OpInfo& op) {
  return op.gradient != nullptr ? "yes" : fmt::format("no: {}", op.why_not_differentiable);
}

std::string row_of(const OpInfo& op) {
  const ExampleCall call = op.examples()[0];
  const std::string attributes = call.attributes.to_string();
  return fmt::format("| `{}`{} | `{}`{} | `{}` | {} |\n", op.name, op.is_view ? " (a view)" : "",
                     to_string(call.inputs),
                     attributes.empty() ? "" : fmt::format("; `{}`", attributes),
                     to_string(op.infer({call.inputs, call.attributes})), gradient_of(op));
}

std::string document() {
  std::string text(kIntroduction);
  for (const OpInfo& op : op_table()) {
    text += row_of(op);
  }
  return text;
}

std::string contents_of(const std::string& path) {
  const std::vector<std::byte> bytes = read_file(path, kMaxDocumentBytes);
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

int run(int argc, char** argv) {
  if (argc == 2) {
    write_file_atomically(argv[1], document());
    return 0;
  }
  if (argc == 3 && std::string_view(argv[1]) == "--check") {
    if (contents_of(argv[2]) == document()) {
      return 0;
    }
    fmt::print(stderr, "{} is out of date: run superstep_ops_doc {}\n", argv[2], argv[2]);
    return 1;
  }
  fmt::print(stderr, "usage: superstep_ops_doc [--check] FILE\n");
  return 2;
}

}  // namespace
}  // namespace superstep::kernels

int main(int argc, char** argv) {
  try {
    return superstep::kernels::run(argc, argv);
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
}
