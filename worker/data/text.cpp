#include "worker/data/text.h"

#include <algorithm>
#include <array>
#include <memory>
#include <set>
#include <span>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/as_size.h"
#include "base/check.h"
#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "worker/data/byte_stream.h"

namespace superstep::worker {

namespace {

namespace fs = std::filesystem;

constexpr std::string_view kTextFile = "roles.jsonl";
constexpr std::size_t kTextPieceBytes = std::size_t{1} << 20;

[[noreturn]] void fail_at_line(const fs::path& file, std::int64_t line, const std::string& what) {
  throw DataError("text_directory", file.string(), -1, fmt::format("line {}: {}", line, what));
}

// One byte per character, and whose they are.
struct CodedText {
  std::vector<std::uint8_t> codes;
  SampleGroups groups{.cuts = {0}, .names = {}};

  void add(std::string_view text, const std::array<std::uint8_t, 256>& code_of,
           const std::string& client) {
    for (const char c : text) {
      codes.push_back(code_of[static_cast<unsigned char>(c)]);
    }
    groups.cuts.push_back(static_cast<std::int64_t>(codes.size()));
    groups.names.push_back(client);
  }
};

class TextDataset final : public Dataset {
 public:
  TextDataset(CodedText text, std::string_view part, const TextOptions& options)
      : text_(std::move(text)), options_(options) {
    Hasher hasher;
    hasher.update(std::as_bytes(std::span<const std::uint8_t>(text_.codes)));
    hasher.update(std::as_bytes(std::span<const std::int64_t>(text_.groups.cuts)));
    for (const std::string& name : text_.groups.names) {
      hasher.update_integer(static_cast<std::int64_t>(name.size()));
      hasher.update(std::string_view(name));
    }
    fingerprint_ =
        fmt::format("{} part of texts, {} characters of {} clients, window {}, {}", part, size(),
                    text_.groups.names.size(), options_.window, to_text(hasher.digest()));
  }

  std::int64_t size() const override { return static_cast<std::int64_t>(text_.codes.size()); }
  kernels::Shape sample_shape() const override { return {options_.window}; }
  int num_classes() const override { return options_.num_classes; }
  std::string fingerprint() const override { return fingerprint_; }
  const SampleGroups* groups() const override { return &text_.groups; }
  std::vector<std::int64_t> labels() const override {
    return {text_.codes.begin(), text_.codes.end()};
  }

  void read(std::span<const std::int64_t> indices, const Normalization& normalization,
            std::span<float> out, std::span<std::int64_t> labels) const override {
    SUPERSTEP_CHECK(labels.size() == indices.size(), "labels of a read", labels.size());
    const std::size_t window = as_size(options_.window);
    for (std::size_t i = 0; i < indices.size(); ++i) {
      const std::int64_t at = indices[i];
      if (at < 0 || at >= size()) {
        throw InvalidArgument("TextDataset::read",
                              fmt::format("index: got {}, expected 0 to {}", at, size() - 1));
      }
      const auto& cuts = text_.groups.cuts;
      const std::int64_t begin = *std::prev(std::upper_bound(cuts.begin(), cuts.end(), at));
      const std::span<float> sample = out.subspan(i * window, window);
      for (std::int64_t j = 0; j < options_.window; ++j) {
        const std::int64_t from = at - options_.window + j;
        const int code = from < begin ? 0 : text_.codes[as_size(from)];
        sample[as_size(j)] = normalization.apply(static_cast<float>(code));
      }
      labels[i] = text_.codes[as_size(at)];
    }
  }

 private:
  CodedText text_;
  TextOptions options_;
  std::string fingerprint_;
};

std::string read_content(const fs::path& file) {
  ByteStream stream(file);
  std::string content;
  std::vector<std::byte> piece(kTextPieceBytes);
  while (!stream.at_end()) {
    const std::int64_t count = stream.read(piece);
    content.append(reinterpret_cast<const char*>(piece.data()), as_size(count));
  }
  return content;
}

fs::path find_text_file(const fs::path& directory) {
  const fs::path plain = directory / kTextFile;
  fs::path packed = plain;
  packed += ".gz";
  for (const fs::path& file : {plain, packed}) {
    if (look_at(file).kind == PathKind::kFile) {
      return file;
    }
  }
  throw DataError("text_directory", directory.string(), -1,
                  fmt::format("no texts: expected the file {0} or {0}.gz", kTextFile));
}

TextOfClient parse_line(std::string_view line, const fs::path& file, std::int64_t number) {
  const nlohmann::json object = nlohmann::json::parse(line, nullptr, false);
  if (!object.is_object()) {
    fail_at_line(file, number, "no JSON object");
  }
  TextOfClient client;
  for (const auto& [name, target] :
       {std::pair("client", &client.client), std::pair("text", &client.text)}) {
    const auto member = object.find(name);
    if (member == object.end() || !member->is_string()) {
      fail_at_line(file, number,
                   fmt::format("\"{}\": got {}, expected a text", name,
                               member == object.end() ? "nothing" : member->type_name()));
    }
    *target = member->get<std::string>();
  }
  if (client.client.empty()) {
    fail_at_line(file, number, "\"client\" is empty");
  }
  return client;
}

}  // namespace

std::vector<TextOfClient> parse_texts(std::string_view content, const fs::path& file) {
  std::vector<TextOfClient> texts;
  std::set<std::string> names;
  for (std::int64_t number = 1; !content.empty(); ++number) {
    const std::size_t end = std::min(content.find('\n'), content.size());
    const std::string_view line = content.substr(0, end);
    content.remove_prefix(std::min(end + 1, content.size()));
    if (line.empty()) {
      continue;
    }
    texts.push_back(parse_line(line, file, number));
    if (!names.insert(texts.back().client).second) {
      fail_at_line(file, number, fmt::format("client \"{}\" is there twice", texts.back().client));
    }
  }
  return texts;
}

std::size_t begin_of_test_part(std::string_view text) {
  std::vector<std::size_t> begins;  // of lines
  for (std::size_t at = 0; at < text.size();) {
    begins.push_back(at);
    at = std::min(text.find('\n', at), text.size() - 1) + 1;
  }
  const std::size_t tests = (begins.size() + 4) / 5;
  return begins.size() < 2 ? text.size() : begins[begins.size() - tests];
}

LabelledData text_directory(const fs::path& directory, const TextOptions& options) {
  if (options.window < 1) {
    throw InvalidArgument("text_directory",
                          fmt::format("window: got {}, expected at least 1", options.window));
  }
  const fs::path file = find_text_file(directory);
  const std::vector<TextOfClient> texts = parse_texts(read_content(file), file);
  std::array<bool, 256> occurs{};
  for (const TextOfClient& client : texts) {
    if (begin_of_test_part(client.text) < client.text.size()) {
      for (const char c : client.text) {
        occurs[static_cast<unsigned char>(c)] = true;
      }
    }
  }
  // At most 255 of them, since JSON is UTF-8, in which 0xFF never occurs.
  std::array<std::uint8_t, 256> code_of{};
  int num_classes = 1;
  for (std::size_t byte = 0; byte < occurs.size(); ++byte) {
    if (occurs[byte]) {
      code_of[byte] = static_cast<std::uint8_t>(num_classes++);
    }
  }
  if (num_classes == 1) {
    throw DataError("text_directory", file.string(), -1,
                    "no text has two lines: expected at least one that does");
  }
  if (num_classes != options.num_classes) {
    throw InvalidArgument(
        "text_directory",
        fmt::format("num_classes: got {}, expected {}: {} different bytes occur in {}, and 0 is "
                    "what is before a text",
                    options.num_classes, num_classes, num_classes - 1, file.string()));
  }
  CodedText train;
  CodedText test;
  for (const TextOfClient& client : texts) {
    const std::string_view text = client.text;
    const std::size_t cut = begin_of_test_part(text);
    if (cut < text.size()) {
      train.add(text.substr(0, cut), code_of, client.client);
      test.add(text.substr(cut), code_of, client.client);
    }
  }
  return {.train = std::make_shared<TextDataset>(std::move(train), "training", options),
          .test = std::make_shared<TextDataset>(std::move(test), "test", options)};
}

}  // namespace superstep::worker
