// Writes checkpoints beside the training: what goes on in the meantime changes nothing in them.
//
//   CheckpointWriter writer(world);
//   writer.begin(CheckpointWriter::Run::kInBackground, run / "checkpoints", manifest,
//                server.parts());                                   // collective; copies the state
//   ... supersteps ...
//   if (writer.is_in_work() && nobody_is_busy) {                    // at each superstep
//     if (const auto written = writer.advance()) { ... }            // collective
//   }
//
// The work between two comparisons of the ranks' notes is done by a thread of each rank that makes
// no collective calls, four pieces in all: hash, make the directory, write and read again, seal. A
// rank that has is_busy() tells the others with its next superstep (a flag of apply_gradients() is
// enough), and all call advance() at the first superstep where none is.
//
// Where memory is guarded, the hashes of the copy's blocks are compared with those of the guard
// before anything is written (ArrayPart::check_hashes).
//
// With PartnerOptions a second copy of every part goes to another rank, which writes it in the same
// pieces (paramserver/partner_copy.h): the checkpoint counts as written when both are.
//
// Cost for the training: one copy of this rank's parts, on rank 0 also of the other ranks'
// parameters where it is told to hash them, a few small collectives, and the processor time of the
// thread; with partner copies as much again, and the parts sent once. Memory: the copies, kept for
// the next checkpoint.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <future>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/aligned.h"
#include "bsp/world.h"
#include "paramserver/checkpoint.h"
#include "paramserver/checkpoint_notes.h"
#include "paramserver/checkpoint_protocol.h"
#include "paramserver/partner_copy.h"

namespace superstep::paramserver {

// The whole parameters as every rank sees them. values.size() == layout->size().
struct PublishedParameters {
  const ParameterLayout* layout = nullptr;  // must outlive the writer
  std::span<const float> values = {};
};

class CheckpointWriter {
 public:
  // `world` must outlive the writer.
  explicit CheckpointWriter(bsp::World& world) : world_(world), partner_(world) {}
  CheckpointWriter(const CheckpointWriter&) = delete;
  CheckpointWriter& operator=(const CheckpointWriter&) = delete;
  // Waits for the thread. An unfinished checkpoint stays as step-N.tmp, which nobody takes for one.
  ~CheckpointWriter() = default;

  enum class Run : std::uint8_t {
    kInBackground,  // the state is copied; a thread of each rank does the pieces
    kHere,          // advance() does them: `parts` must stay as they are until the end
  };

  // Collective, with nothing in work. Parameters and errors as of write_checkpoint().
  // `when_valid`, if given, is called on rank 0 once the checkpoint is valid, before it counts as
  // written: for deleting older ones. Older partner copies are deleted here. With `published`,
  // manifest.parameters_hash is made here, of a copy as well; the values of a part may lie in it.
  void begin(Run run, const std::filesystem::path& root, Manifest manifest,
             std::span<const ArrayPart> parts, std::function<void()> when_valid = nullptr,
             const PartnerOptions& partner = {}, const PublishedParameters& published = {});
  // With nothing in work: makes the memory of the copies for such parts and writes to all of it, so
  // that the first checkpoint beside the training costs no more than the next.
  void reserve(std::span<const ArrayPart> parts, const PublishedParameters& published = {});
  // The same on every rank.
  bool is_in_work() const { return stage_ != Stage::kNone; }
  // Of this rank: its thread is still at work.
  bool is_busy() const;

  // Collective. Waits for this rank's thread, compares notes and starts the next piece. The
  // finished checkpoint, when this was the last one; the error of write_checkpoint() on every rank
  // when a piece failed anywhere: then nothing is in work any more.
  std::optional<WrittenCheckpoint> advance();
  // Collective, with a checkpoint in work. Waits until it is written.
  WrittenCheckpoint finish();

 private:
  enum class Stage : std::uint8_t { kNone, kHash, kPrepare, kWrite, kSeal };
  void copy_parts();
  void hash_parts();
  void require_published() const;
  void start(Stage stage, std::function<void()> piece);
  void compare_notes();
  void after_hash();
  std::optional<WrittenCheckpoint> after_prepare();
  void after_write();
  WrittenCheckpoint close();

  bsp::World& world_;
  Run run_ = Run::kInBackground;
  Stage stage_ = Stage::kNone;
  std::filesystem::path target_;
  std::filesystem::path temporary_;
  Manifest manifest_;
  AllRanges ranges_;
  std::vector<ArrayPart> parts_;
  std::vector<AlignedBuffer<float>> copies_;
  PublishedParameters published_;  // on rank 0
  std::vector<std::uint64_t> published_hashes_;
  AlignedBuffer<float> published_copy_;
  std::vector<std::vector<std::uint64_t>> hashes_;  // by part
  PartnerCopies partner_;
  std::function<void()> when_valid_;
  Existing existing_ = Existing::kNothing;
  std::future<Note> thread_;  // last: its destructor waits, and the thread uses the rest
};

}  // namespace superstep::paramserver
