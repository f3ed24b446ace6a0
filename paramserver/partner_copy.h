// Second copies of checkpoints, each part on another node than the rank that it came from.
//
// A checkpoint lies in one directory; when that loses files, or is lost with its storage, the run
// is. With a partner directory, normally on each node's own disk, every rank also sends its parts
// to its partner, and the partner writes them there (paramserver/partner_piece.h) with the
// guarantees of the first copy: temporary name, space reserved, synced, read again, manifest last,
// rename. paramserver/partner_restore.h puts a checkpoint together again from them.
//
// The partner is the rank at the same place of the next node, so that the loss of one node takes at
// most one copy of anything; on one node it is the next rank, and a rank alone keeps its own.
//
// A copy that cannot be written fails like the first one: the checkpoint is not written, on any
// rank, and the message names host and path. The alternative, a warning, would leave a run without
// the copies it was told to have, and nobody reads warnings until the copies are needed. Because
// the first checkpoint of a run is waited for, a directory without space or permission is refused
// at superstep 0.
//
// Cost for n elements of state on p ranks: n/p elements sent and received per rank when a
// checkpoint begins, and as many kept in memory until the next one; the writing happens in the
// thread that writes the first copy.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "base/aligned.h"
#include "bsp/world.h"
#include "paramserver/checkpoint.h"
#include "paramserver/checkpoint_protocol.h"

namespace superstep::paramserver {

struct PartnerOptions {
  std::filesystem::path directory = {};  // empty: no partner copies. Made when missing
  int keep = 3;                          // supersteps whose copies are kept, as of checkpoints
  std::vector<std::filesystem::path> pinned = {};  // these checkpoints' copies, too
};

// The rank that keeps the parts of each rank, by the ranks' nodes (0, 1, ...; each has a rank).
std::vector<int> partners_of(std::span<const int> node_of_rank);

// The second copy of one checkpoint after another; CheckpointWriter calls the members in this
// order. Those that communicate are collective and for the thread of the training.
class PartnerCopies {
 public:
  // `world` must outlive this.
  explicit PartnerCopies(bsp::World& world) : world_(world) {}

  // Collective. Sends this rank's parts and takes those that it keeps. InvalidArgument when the
  // run's name cannot be a directory's.
  void begin(const PartnerOptions& options, const Manifest& manifest,
             std::span<const ArrayPart> parts, const AllRanges& ranges);
  bool is_on() const { return !options_.directory.empty(); }
  // Collective. `hashes`: of the blocks of this rank's parts, as of hash_blocks().
  void take_hashes(std::span<const std::vector<std::uint64_t>> hashes, const AllRanges& ranges);
  // Collective. The checkpoint's manifest, complete on rank 0; elsewhere state_hash and
  // file_elements are right.
  void take_manifest(const Manifest& manifest);
  // Writes, reads again and seals what this rank keeps. Calls nothing collective.
  void write() const;
  // When all ranks have written: deletes older copies, on one rank of each node. Calls nothing
  // collective.
  void prune() const;
  // After a failure; what cannot be deleted stays, and nobody takes it for a copy.
  void remove_unfinished() const;

 private:
  struct KeptPart {
    std::size_t array = 0;  // index among all parts of a rank
    ArrayPart part;         // of the owner
    AlignedBuffer<float> values;
    std::vector<std::uint64_t> hashes;
  };
  struct Kept {
    int owner = 0;
    std::vector<KeptPart> parts;  // those with elements
  };

  void make_room(std::span<const ArrayPart> parts, const AllRanges& ranges);
  bool has_manifest(const Kept& kept) const;  // of the checkpoint
  void write_piece(const Kept& kept) const;
  Manifest manifest_of(const Kept& kept) const;
  std::filesystem::path target_of(const Kept& kept) const;
  bool is_first_of_node() const { return world_.ranks_at(bsp::Level::kNode).front() == rank_; }

  bsp::World& world_;
  PartnerOptions options_;
  int rank_ = 0;
  int num_ranks_ = 1;
  std::string host_;
  std::vector<int> partners_;
  std::filesystem::path root_;  // of this run's pieces
  std::string run_id_;
  std::string program_version_;
  Position position_;
  std::int64_t file_elements_ = 0;
  Hash128 state_hash_;
  std::string checkpoint_manifest_;  // on the first rank of each node
  std::vector<Kept> kept_;
};

}  // namespace superstep::paramserver
