// Recorded steps that read a copy of parameters: whichever were loaded last.
//
//   StepPrograms& programs = loaded.load(parameters);
//   programs.train(batch, epoch, gradient);
//
// For parameters that are not those of the server: older versions, models of local workers. One
// arena and one copy of n elements however many these are. Cost of load(): n loads and stores.
#pragma once

#include <span>

#include "base/aligned.h"
#include "worker/model.h"
#include "worker/step_programs.h"

namespace superstep::worker {

class LoadedPrograms {
 public:
  // `model` must outlive this object.
  LoadedPrograms(const Model& model, const StepOptions& options)
      : copy_(model.layout().size()), programs_(model, copy_.span(), options) {}
  LoadedPrograms(const LoadedPrograms&) = delete;
  LoadedPrograms& operator=(const LoadedPrograms&) = delete;

  // parameters.size() == layout().size().
  StepPrograms& load(std::span<const float> parameters);
  StepPrograms& programs() { return programs_; }  // of what was loaded last

 private:
  AlignedBuffer<float> copy_;
  StepPrograms programs_;
};

}  // namespace superstep::worker
