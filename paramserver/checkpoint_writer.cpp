#include "paramserver/checkpoint_writer.h"

#include <algorithm>
#include <chrono>
#include <functional>
#include <optional>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "base/check.h"
#include "base/error.h"
#include "base/failpoint.h"
#include "paramserver/checkpoint_files.h"

namespace superstep::paramserver {

namespace fs = std::filesystem;

namespace {

// Keeps the memory of the checkpoint before.
void copy_into(AlignedBuffer<float>& copy, std::span<const float> values) {
  if (copy.size() != static_cast<std::int64_t>(values.size())) {
    copy = AlignedBuffer<float>(static_cast<std::int64_t>(values.size()), Fill::kTailOnly);
  }
  std::copy(values.begin(), values.end(), copy.span().begin());
}

// The place of `part` in `whole`; nullopt when it does not lie there.
std::optional<std::size_t> place_in(std::span<const float> whole, std::span<const float> part) {
  const auto before = std::less<const float*>();
  if (before(part.data(), whole.data()) ||
      before(whole.data() + whole.size(), part.data() + part.size())) {
    return std::nullopt;
  }
  return static_cast<std::size_t>(part.data() - whole.data());
}

}  // namespace

void CheckpointWriter::begin(Run run, const fs::path& root, Manifest manifest,
                             std::span<const ArrayPart> parts, std::function<void()> when_valid,
                             const PartnerOptions& partner, const PublishedParameters& published) {
  SUPERSTEP_CHECK(!is_in_work(), "a checkpoint is in work:", target_.native());
  run_ = run;
  when_valid_ = std::move(when_valid);
  manifest_ = std::move(manifest);
  target_ = root / step_directory_name(manifest_.position.superstep);
  temporary_ = target_;
  temporary_ += ".tmp";
  ranges_ = agree_on_parts(world_, manifest_.position, parts);
  parts_.assign(parts.begin(), parts.end());
  published_ = world_.rank() == 0 ? published : PublishedParameters{};
  if (run == Run::kInBackground) {
    copy_parts();
  }
  partner_.begin(partner, manifest_, parts_, ranges_);
  start(Stage::kHash, [this] { hash_parts(); });
}

void CheckpointWriter::reserve(std::span<const ArrayPart> parts,
                               const PublishedParameters& published) {
  SUPERSTEP_CHECK(!is_in_work(), "a checkpoint is in work:", target_.native());
  parts_.assign(parts.begin(), parts.end());
  published_ = world_.rank() == 0 ? published : PublishedParameters{};
  copy_parts();
}

void CheckpointWriter::copy_parts() {
  const std::span<const float> whole = published_.values;
  copy_into(published_copy_, whole);
  published_.values = published_copy_.span();
  copies_.resize(parts_.size());
  for (std::size_t i = 0; i < parts_.size(); ++i) {
    std::span<const float>& values = parts_[i].values;
    if (const std::optional<std::size_t> place = place_in(whole, values)) {
      values = published_copy_.span().subspan(*place, values.size());
      continue;
    }
    copy_into(copies_[i], values);
    values = copies_[i].span();
  }
}

void CheckpointWriter::hash_parts() {
  hashes_.clear();
  for (const ArrayPart& part : parts_) {
    hashes_.push_back(hash_blocks(part.values));
    if (part.check_hashes) {
      part.check_hashes(hashes_.back());
    }
  }
  if (published_.layout != nullptr) {
    published_hashes_ = hash_blocks(published_.values);
    manifest_.parameters_hash = published_.layout->parameters_hash(published_.values);
  }
}

// The hash of the parameters is of what this rank sees, their blocks are of what their owners have.
void CheckpointWriter::require_published() const {
  const auto parameters =
      std::find_if(manifest_.arrays.begin(), manifest_.arrays.end(),
                   [](const Manifest::Array& array) { return array.name == "parameters"; });
  if (published_.layout == nullptr || parameters == manifest_.arrays.end()) {
    return;
  }
  for (std::size_t block = 0; block < parameters->blocks.size(); ++block) {
    const Hash128 seen{.low = published_hashes_[2 * block],
                       .high = published_hashes_[2 * block + 1]};
    if (seen != parameters->blocks[block]) {
      throw DataError(
          kWriteCheckpoint, fmt::format("memory of {}", world_.host_of(world_.rank())), -1,
          fmt::format("sees other parameters than their owner has: block {} (from element {} on): "
                      "got {}, expected {}. Suspect the memory of this machine",
                      block, static_cast<std::int64_t>(block) * kBlockElements, to_text(seen),
                      to_text(parameters->blocks[block])),
          ExitCode::kCorruption);
    }
  }
}

void CheckpointWriter::start(Stage stage, std::function<void()> piece) {
  stage_ = stage;
  auto noted = [this, piece = std::move(piece)]() -> Note {
    SUPERSTEP_FAILPOINT_HERE(world_.rank(), manifest_.position.superstep);
    return note_of(piece);
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
  const std::optional<Note> problem = first_problem(world_, thread_.get());
  if (!problem.has_value()) {
    return;
  }
  stage_ = Stage::kNone;
  partner_.remove_unfinished();
  if (world_.rank() == 0) {
    std::error_code ignored;  // what could not be written can be hard to delete, too
    fs::remove_all(temporary_, ignored);
  }
  throw DataError(kWriteCheckpoint, target_.native(), -1,
                  fmt::format("not written: {}", problem->problem), problem->exit_code);
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
      after_write();
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
  partner_.take_hashes(hashes_, ranges_);
  start(Stage::kPrepare, [this] {
    if (world_.rank() == 0) {
      require_published();
      existing_ = prepare(temporary_, target_, manifest_);
    }
  });
}

std::optional<WrittenCheckpoint> CheckpointWriter::after_prepare() {
  std::int64_t settings[] = {static_cast<std::int64_t>(existing_), manifest_.file_elements};
  world_.broadcast<std::int64_t>(settings, 0);
  std::uint64_t hashes[] = {manifest_.state_hash.low, manifest_.state_hash.high,
                            manifest_.parameters_hash.low, manifest_.parameters_hash.high};
  world_.broadcast<std::uint64_t>(hashes, 0);
  manifest_.state_hash = {.low = hashes[0], .high = hashes[1]};
  manifest_.parameters_hash = {.low = hashes[2], .high = hashes[3]};
  manifest_.file_elements = settings[1];
  existing_ = static_cast<Existing>(settings[0]);
  if (existing_ == Existing::kSameState && !partner_.is_on()) {
    return close();
  }
  partner_.take_manifest(manifest_);
  start(Stage::kWrite, [this] {
    if (existing_ == Existing::kNothing) {
      write_parts(temporary_, parts_, manifest_.file_elements);
      reread_parts(temporary_, parts_, manifest_.file_elements);
    }
    partner_.write();
  });
  return std::nullopt;
}

// All partner copies are sealed by now.
void CheckpointWriter::after_write() {
  start(Stage::kSeal, [this] {
    if (world_.rank() == 0 && existing_ == Existing::kNothing) {
      seal(temporary_, target_, manifest_);
      if (when_valid_) {
        when_valid_();
      }
    }
    partner_.prune();
  });
}

WrittenCheckpoint CheckpointWriter::close() {
  stage_ = Stage::kNone;
  return {.directory = target_,
          .state_hash = manifest_.state_hash,
          .parameters_hash = manifest_.parameters_hash,
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
