// Puts a checkpoint together again from the partner copies that the nodes hold.
//
//   const PartnerSources sources{.partner_directory = "/scratch/copies",
//                                .run_id = manifest.run_id,
//                                .checkpoints = run / "checkpoints",
//                                .newer_than = superstep_of(newest_whole)};
//   for (const std::string& line : restore_from_partners(world, sources).lines) {
//     say(line);  // restored run/checkpoints/step-00000420 with 12 of 48 blocks from partner
//     copies
//   }             // on node-b (it was missing)
//
// Looks for the newest superstep after `newer_than` of which every block is somewhere with the hash
// that the checkpoint's manifest has for it: in the run's own damaged directory, or in a piece on
// any node (paramserver/partner_piece.h). It is written as a checkpoint is: under a temporary name,
// synced, read again, sealed with the bytes of its own manifest. A damaged directory that stands in
// its place is renamed to step-N.damaged and stays; its blocks are taken from there, so that a
// restoration that was interrupted can be repeated. What cannot be restored is said, and the run
// goes on from what it has.
//
// The world may have another number of ranks and nodes than the one that wrote; several nodes may
// share one partner directory. All nodes share the run's directory, as for writing.
//
// Cost: listing the pieces. When some are newer than `newer_than`, one rank of each node reads its
// node's pieces of them twice (looking and writing), rank 0 what the run has of them, and 4 bytes
// per block travel.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "bsp/world.h"

namespace superstep::paramserver {

struct PartnerSources {
  std::filesystem::path partner_directory;  // of this rank's node
  std::string run_id;
  std::filesystem::path checkpoints;  // the run's; they need not exist, their parent must
  std::int64_t newer_than = -1;       // superstep of the newest whole checkpoint; -1: there is none
};

struct RestoredFromPartners {
  bool any = false;
  std::vector<std::string> lines;  // what was restored, and what could not be, for the user
};

// Collective, while nobody writes checkpoints of the run; `newer_than` is rank 0's. The same result
// on every rank. Throws DataError on every rank when a checkpoint that is
// complete in the copies cannot be written.
RestoredFromPartners restore_from_partners(bsp::World& world, const PartnerSources& sources);

}  // namespace superstep::paramserver
