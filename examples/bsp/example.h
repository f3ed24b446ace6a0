// The frame of the BSP examples: options, the prediction w + g*h + l, and the lines that show it
// beside the measured time.
//
//   return run_example(argc, argv, 1'000'000, [](World& world, const Options& options) {
//     ...
//     Prediction prediction;
//     prediction.add({.work_seconds = operations / rate, .h_bytes = h});        // per superstep
//     const Measurement measured = measure(world, options.rounds, [&](HCounter& counter) {
//       compute();
//       world.sync();
//       counter.end_superstep();
//     });
//     report(world, options, {"inner_product", n, prediction, measured, machine});
//   });
//
// h is predicted in closed form and must be what was counted, byte for byte; times are compared
// with
// --within R: the program fails (exit code 1) when measured / predicted is not within 1 - R and
// 1 + R.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "bsp/probe.h"
#include "bsp/world.h"

namespace superstep::examples {

struct Options {
  int lanes = 1;
  std::int64_t elements = 0;
  int rounds = 5;
  double within = 0.0;  // 0: times are shown, not checked
};

// Parses --lanes, --elements, --rounds, --within and runs `body` on every rank; returns the exit
// code of the process.
int run_example(int argc, char** argv, std::int64_t default_elements,
                const std::function<void(bsp::World&, const Options&)>& body);

struct SuperstepCost {
  double work_seconds = 0.0;  // of the slowest rank
  std::int64_t h_bytes = 0;   // of the rank that sends or receives most; 0: an empty sync
};

class Prediction {
 public:
  void add(const SuperstepCost& superstep) { supersteps_.push_back(superstep); }
  double work_seconds() const;
  double communication_seconds(const bsp::MachineProfile& machine) const;    // g*h
  double synchronisation_seconds(const bsp::MachineProfile& machine) const;  // l
  std::vector<std::int64_t> h_bytes() const;

 private:
  std::vector<SuperstepCost> supersteps_;
};

// Counts what this rank sends and receives per superstep.
class HCounter {
 public:
  explicit HCounter(const bsp::World& world) : world_(world) {}
  void end_superstep();
  const std::vector<std::int64_t>& h_bytes() const { return h_bytes_; }

 private:
  const bsp::World& world_;
  std::uint64_t sent_ = world_.traffic().bytes_sent;
  std::uint64_t received_ = world_.traffic().bytes_received;
  std::vector<std::int64_t> h_bytes_;
};

struct Measurement {
  double seconds = 0.0;  // median over rounds of the slowest rank
  double low = 0.0;
  double high = 0.0;
  std::vector<std::int64_t> h_bytes;  // by superstep, the largest over ranks
};
// Collective.
Measurement measure(bsp::World& world, int rounds, const std::function<void(HCounter&)>& program);

struct Report {
  std::string name;
  std::int64_t elements = 0;
  Prediction prediction;
  Measurement measured;
  bsp::MachineProfile machine;
};
// Collective. Prints on rank 0; throws CheckFailure when h differs, or the time where it is
// checked.
void report(bsp::World& world, const Options& options, const Report& report);

}  // namespace superstep::examples
