// What other ranks can read of this one without a message, for the audit.
#include <algorithm>

#include "worker/federated/federated_state.h"

namespace superstep::worker {

void FederatedTrainer::State::watch_samples() {
  watch_samples_of(*clients, local);
  if (options.audit != nullptr && personal) {
    personal->set_sample_watch(
        [audit = options.audit](Audit::Memory samples) { audit->protect(samples); });
  }
}

void FederatedTrainer::State::watch_samples_of(const ClientData& data, LocalTrainer& reader) const {
  if (options.audit == nullptr) {
    return;
  }
  options.audit->protect(data.sample_memory());
  reader.set_sample_watch(
      [audit = options.audit](Audit::Memory samples) { audit->protect(samples); });
}

// The buffers that samples were read into go with this object.
FederatedTrainer::State::~State() {
  if (options.audit != nullptr) {
    options.audit->forget();
  }
}

// `mine`: of the clients that this rank trained.
void FederatedTrainer::State::note_round(const std::vector<ClientRecord>& mine) {
  if (options.audit == nullptr) {
    return;
  }
  const std::int64_t size = model.layout().size();
  if (world.ranks_at(bsp::Level::kNode).size() > 1) {
    const std::int64_t shard = model.layout().shard(world.rank(), world.size()).length();
    const std::int64_t arrays = server.control().empty() ? 1 : 2;
    options.audit->note("update_sums", AuditWay::kSharedMemory,
                        server.num_channels() * size * std::int64_t{sizeof(std::int64_t)});
    options.audit->note("published_parameters", AuditWay::kSharedMemory,
                        arrays * shard * std::int64_t{sizeof(float)});
  }
  const auto accepted = std::count_if(mine.begin(), mine.end(), [](const ClientRecord& record) {
    return record.rejection == Rejection::kNone;
  });
  for (const ClientStore* states : client_stores()) {
    for (std::int64_t i = 0; i < accepted; ++i) {
      options.audit->note("client_state", AuditWay::kFile, states->state_bytes());
    }
  }
}

void FederatedTrainer::State::note_checkpoint(std::span<const paramserver::ArrayPart> parts) const {
  if (options.audit == nullptr) {
    return;
  }
  for (const paramserver::ArrayPart& part : parts) {
    options.audit->note("checkpoint", AuditWay::kFile,
                        static_cast<std::int64_t>(part.values.size_bytes()));
  }
}

void FederatedTrainer::State::tell_audit() const {
  if (options.audit == nullptr) {
    return;
  }
  const std::vector<AuditEntry> entries = options.audit->take();
  if (observer != nullptr) {
    observer->on_audit(rounds_done, entries);
  }
}

}  // namespace superstep::worker
