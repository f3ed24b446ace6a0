#include "bsp/gloo_peer.h"

#include <cstdlib>
#include <filesystem>
#include <string>

#include <gloo/allreduce.h>
#include <gloo/math.h>
#include <gloo/rendezvous/context.h>
#include <gloo/rendezvous/file_store.h>
#include <gloo/transport/tcp/device.h>

#include "base/check.h"

namespace superstep::bsp {

struct GlooPeer::State {
  std::shared_ptr<gloo::rendezvous::Context> context;
};

namespace {

// Rank 0 makes a directory and tells the others.
std::string meeting_place(World& world) {
  std::string directory;
  if (world.rank() == 0) {
    std::string pattern = (std::filesystem::temp_directory_path() / "gloo-XXXXXX").string();
    SUPERSTEP_CHECK(mkdtemp(pattern.data()) != nullptr, "cannot make", pattern);
    directory = pattern;
  }
  return world.allgather_string(directory).front();
}

}  // namespace

GlooPeer::GlooPeer(World& world) : state_(std::make_unique<State>()) {
  const std::string directory = meeting_place(world);
  gloo::transport::tcp::attr attributes;
  attributes.hostname = "localhost";
  auto device = gloo::transport::tcp::CreateDevice(attributes);
  gloo::rendezvous::FileStore store(directory);
  state_->context = std::make_shared<gloo::rendezvous::Context>(world.rank(), world.size());
  state_->context->connectFullMesh(store, device);
  world.sync();
  if (world.rank() == 0) {
    std::filesystem::remove_all(directory);
  }
}

GlooPeer::~GlooPeer() = default;

bool GlooPeer::is_there() {
  return true;
}

void GlooPeer::allreduce(std::span<const float> in, std::span<float> out) {
  gloo::AllreduceOptions options(state_->context);
  // Inputs are not written.
  options.setInput(const_cast<float*>(in.data()), in.size());
  options.setOutput(out.data(), out.size());
  options.setReduceFunction([](void* target, const void* left, const void* right, std::size_t n) {
    gloo::sum<float>(target, left, right, n);
  });
  gloo::allreduce(options);
}

}  // namespace superstep::bsp
