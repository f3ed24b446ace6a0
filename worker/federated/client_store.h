// The state of clients that have one (SCAFFOLD, FedDyn, personal models), on disk, of touched
// clients only.
//
//   root/000123/123456.00000042       client 123456 after round 42: float32 and their XXH3-128
//
// A state is never overwritten: a round writes a new version. One that no checkpoint can ask for,
// because none came before the next version, is removed then by the rank that wrote it; what no
// kept checkpoint can ask for any more is removed when a checkpoint is written. So a client has at
// most one file per kept checkpoint and one more. So a run that was killed between checkpoints goes
// on from the older version, with the same bits. Every rank knows the versions of every touched
// client (they follow from the cohorts); the files lie in a directory that all ranks share.
//
//   store.read(client, state);                      // zeros for a client that was never touched
//   store.write(client, round + 1, state);          // on the rank that trained it
//   store.note(client, round + 1);                  // on every rank, after the round
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace superstep::worker {

class ClientStore {
 public:
  // The states that lie under `root` and are not newer than `round`.
  ClientStore(std::filesystem::path root, std::int64_t num_elements, std::int64_t round);

  // Whether a version of the client is noted.
  bool is_touched(std::int64_t client) const;
  // The newest version noted. Throws DataError when the file is missing, short or damaged.
  void read(std::int64_t client, std::span<float> state) const;
  void write(std::int64_t client, std::int64_t version, std::span<const float> state);
  void note(std::int64_t client, std::int64_t version);
  // Takes a write() of this rank back that was not noted; nothing on other ranks.
  void discard(std::int64_t client, std::int64_t version);

  // Makes durable what this rank wrote since the last call, before a checkpoint is. The call may
  // be made by another thread while this object reads and writes on. What was noted by now stays.
  using Flush = std::function<void()>;
  Flush take_unflushed();
  // Removes versions that no checkpoint of round `oldest_kept` or later can ask for, of clients
  // with client mod num_ranks == rank.
  void prune(std::int64_t oldest_kept, int rank, int num_ranks);

  std::string name() const { return root_.filename().string(); }  // "states", "errors", "personal"
  std::int64_t state_bytes() const { return num_elements_ * std::int64_t{sizeof(float)}; }
  std::int64_t num_touched() const { return static_cast<std::int64_t>(versions_.size()); }

  // "<n> clients, <hash of (client, newest version) in order>": what a checkpoint says of the
  // store.
  std::string describe() const;
  // Throws DataError (kBadCheckpoint) with the directory unless describe() is `expected`: a state
  // that is missing would read as zeros.
  void require_contents(const std::string& expected) const;

 private:
  std::filesystem::path path_of(std::int64_t client, std::int64_t version) const;

  std::filesystem::path root_;
  std::int64_t num_elements_;
  std::map<std::int64_t, std::vector<std::int64_t>> versions_;  // ascending
  std::set<std::filesystem::path> unflushed_;
  std::int64_t kept_up_to_;  // newest version noted at the last flush()
  std::int64_t newest_;      // version noted
};

// What ClientStore finds on the disk.
struct ClientStateName {
  std::int64_t client = 0;
  std::int64_t version = 0;
  std::string to_text() const;  // "123456.00000042"
};
// nullopt for every other name, also for another spelling of the same numbers.
std::optional<ClientStateName> parse_client_state_name(std::string_view name);

// The content of a state's file. Throws DataError (kBadCheckpoint) with `path` when it is short,
// damaged, or of another number of elements.
void decode_client_state(std::span<const std::byte> bytes, const std::filesystem::path& path,
                         std::span<float> state);

}  // namespace superstep::worker
