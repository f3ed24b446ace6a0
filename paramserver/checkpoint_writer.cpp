#include "paramserver/checkpoint_writer.h"

#include <algorithm>
#include <chrono>
#include <exception>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "base/check.h"
#include "base/error_detail.h"
#include "base/failpoint.h"
#include "paramserver/checkpoint_files.h"

namespace superstep::paramserver {

namespace fs = std::filesystem;

void CheckpointWriter::begin(Run run, const fs::path& root, Manifest manifest,
                             std::span<const ArrayPart> parts, std::function<void()> when_valid) {
  SUPERSTEP_CHECK(!is_in_work(), "a checkpoint is in work:", target_.native());
  run_ = run;
  when_valid_ = std::move(when_valid);
  manifest_ = std::move(manifest);
  target_ = root / step_directory_name(manifest_.position.superstep);
  temporary_ = target_;
  temporary_ += ".tmp";
  ranges_ = agree_on_parts(world_, manifest_.position, parts);
  parts_.assign(parts.begin(), parts.end());
  if (run == Run::kInBackground) {
    copy(parts);
  }
  start(Stage::kHash, [this] {
    hashes_.clear();
    for (const ArrayPart& part : parts_) {
      hashes_.push_back(hash_blocks(part.values));
    }
  });
}

void CheckpointWriter::copy(std::span<const ArrayPart> parts) {
  copies_.resize(parts.size());
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const std::span<const float> values = parts[i].values;
    if (copies_[i].size() != static_cast<std::int64_t>(values.size())) {
      copies_[i] = AlignedBuffer<float>(static_cast<std::int64_t>(values.size()), Fill::kTailOnly);
    }
    std::copy(values.begin(), values.end(), copies_[i].span().begin());
    parts_[i].values = copies_[i].span();
  }
}

void CheckpointWriter::start(Stage stage, std::function<void()> piece) {
  stage_ = stage;
  auto noted = [this, piece = std::move(piece)]() -> Note {
    SUPERSTEP_FAILPOINT_HERE(world_.rank(), manifest_.position.superstep);
    try {
      piece();
    } catch (const Error& error) {
      return {.problem = std::string(detail_of(error)), .exit_code = error.exit_code()};
    } catch (const std::exception& error) {
      return {.problem = fmt::format("unexpected error: {}", error.what()),
              .exit_code = ExitCode::kFailure};
    }
    return {};
  };
  thread_ =
      std::async(run_ == Run::kHere ? std::launch::deferred : std::launch::async, std::move(noted));
}

bool CheckpointWriter::is_busy() const {
  return thread_.valid() &&
         thread_.wait_for(std::chrono::seconds(0)) == std::future_status::timeout;
}

// Throws on every rank what the first rank with a problem reports, after removing what was made.
void CheckpointWriter::compare_notes() {
  const Note note = thread_.get();
  const std::vector<std::string> problems = world_.allgather_string(note.problem);
  const auto failed = [](const std::string& text) { return !text.empty(); };
  const auto first = std::find_if(problems.begin(), problems.end(), failed);
  if (first == problems.end()) {
    return;
  }
  stage_ = Stage::kNone;
  if (world_.rank() == 0) {
    std::error_code ignored;  // what could not be written can be hard to delete, too
    fs::remove_all(temporary_, ignored);
  }
  const std::vector<int> exit_codes = world_.allgather(static_cast<int>(note.exit_code));
  const auto rank = first - problems.begin();
  const auto others = std::count_if(first + 1, problems.end(), failed);
  throw DataError(kWriteCheckpoint, target_.native(), -1,
                  fmt::format("not written: rank {}: {}{}", rank, *first,
                              others > 0 ? fmt::format(" (and {} more ranks)", others) : ""),
                  static_cast<ExitCode>(exit_codes[static_cast<std::size_t>(rank)]));
}

std::optional<WrittenCheckpoint> CheckpointWriter::advance() {
  SUPERSTEP_CHECK(is_in_work(), "no checkpoint is in work");
  compare_notes();
  switch (stage_) {
    case Stage::kHash:
      after_hash();
      return std::nullopt;
    case Stage::kPrepare:
      return after_prepare();
    case Stage::kWrite:
      start(Stage::kSeal, [this] {
        if (world_.rank() == 0) {
          seal(temporary_, target_, manifest_);
          if (when_valid_) {
            when_valid_();
          }
        }
      });
      return std::nullopt;
    case Stage::kSeal:
    case Stage::kNone:
      break;
  }
  return close();
}

void CheckpointWriter::after_hash() {
  manifest_.arrays.clear();
  for (std::size_t a = 0; a < parts_.size(); ++a) {
    manifest_.arrays.push_back(gather_hashes(world_, parts_[a], hashes_[a], ranges_[a]));
  }
  start(Stage::kPrepare, [this] {
    if (world_.rank() == 0) {
      existing_ = prepare(temporary_, target_, manifest_);
    }
  });
}

std::optional<WrittenCheckpoint> CheckpointWriter::after_prepare() {
  std::int64_t settings[] = {static_cast<std::int64_t>(existing_), manifest_.file_elements};
  world_.broadcast<std::int64_t>(settings, 0);
  std::uint64_t hash[] = {manifest_.state_hash.low, manifest_.state_hash.high};
  world_.broadcast<std::uint64_t>(hash, 0);
  manifest_.state_hash = {.low = hash[0], .high = hash[1]};
  if (static_cast<Existing>(settings[0]) == Existing::kSameState) {
    return close();
  }
  start(Stage::kWrite, [this, file_elements = settings[1]] {
    write_parts(temporary_, parts_, file_elements);
    reread_parts(temporary_, parts_, file_elements);
  });
  return std::nullopt;
}

WrittenCheckpoint CheckpointWriter::close() {
  stage_ = Stage::kNone;
  return {.directory = target_,
          .state_hash = manifest_.state_hash,
          .superstep = manifest_.position.superstep};
}

WrittenCheckpoint CheckpointWriter::finish() {
  std::optional<WrittenCheckpoint> written;
  while (!written.has_value()) {
    written = advance();
  }
  return *written;
}

WrittenCheckpoint write_checkpoint(bsp::World& world, const fs::path& root, Manifest manifest,
                                   std::span<const ArrayPart> parts) {
  CheckpointWriter writer(world);
  writer.begin(CheckpointWriter::Run::kHere, root, std::move(manifest), parts);
  return writer.finish();
}

}  // namespace superstep::paramserver
