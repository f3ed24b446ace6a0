#include "cluster/program.h"
#include "cluster/standard_streams.h"

int main(int argc, char** argv) {
  superstep::cluster::open_missing_standard_streams();  // before anything opens a file
  return superstep::cluster::run_program(argc, argv);
}
