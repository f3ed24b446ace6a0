#include "bsp/environment.h"
#include "cluster/program.h"

int main(int argc, char** argv) {
  superstep::bsp::Environment environment;  // first: MPI may take arguments and signals for itself
  return superstep::cluster::run_program(environment, argc, argv);
}
