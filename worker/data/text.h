// Texts of many authors, for the prediction of the next character.
//
// The directory holds roles.jsonl, plain or with .gz (plain wins): one JSON object per line,
//
//   {"client": "HAMLET::OPHELIA", "text": "My lord, I have remembrances of yours\n..."}
//
// with a unique name and a text; other members are ignored. The lines of a text are in the order of
// time: the last fifth of them, rounded up, are test data, the others training data, as McMahan et
// al. 2017 divide the roles of Shakespeare's plays. Texts of fewer than two lines are left out.
//
//   LabelledData data = text_directory("shakespeare-roles", {.window = 32, .num_classes = 71});
//   data.train->groups()->names[0];            // whose samples [cuts[0], cuts[1]) are
//
// Every byte is a sample: what comes before it, `window` numbers, and itself as the label. Bytes
// are numbered 1, 2, ... in ascending order of those that occur; 0 stands for what is before a text
// (or before its test part). Numbers are given as floats and mean nothing as such: a model begins
// with an Embedding (worker/layers.h), and the Normalization is none().
//
// Memory: one byte per byte of text. Everything wrong with a file is a DataError with its line.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "worker/data/dataset.h"

namespace superstep::worker {

struct TextOptions {
  std::int64_t window = 32;
  int num_classes = 0;  // must be that of the data: occurring bytes + 1
};

// Throws DataError for what is wrong with the file, InvalidArgument for a window below 1 and for
// another number of classes than the data have (the message says which).
LabelledData text_directory(const std::filesystem::path& directory, const TextOptions& options);

struct TextOfClient {
  std::string client;
  std::string text;
};
// The content of roles.jsonl; `file` is named in messages.
std::vector<TextOfClient> parse_texts(std::string_view content, const std::filesystem::path& file);

// Where the test part of a text begins; its size for a text of fewer than two lines.
std::size_t begin_of_test_part(std::string_view text);

}  // namespace superstep::worker
