#include "kernels/onednn/gemm.h"

#include <oneapi/dnnl/dnnl.h>

#include "base/check.h"
#include "kernels/threads.h"

namespace superstep::kernels::onednn {

void sgemm(const GemmShape& shape, const float* a, const float* b, float* c) {
  const TeamScope team(team_size());
  const dnnl_status_t status =
      dnnl_sgemm(shape.transpose_a ? 'T' : 'N', shape.transpose_b ? 'T' : 'N', shape.m, shape.n,
                 shape.k, 1.0F, a, shape.transpose_a ? shape.m : shape.k, b,
                 shape.transpose_b ? shape.k : shape.n, 0.0F, c, shape.n);
  SUPERSTEP_CHECK(status == dnnl_success, "dnnl_sgemm failed with status",
                  static_cast<int>(status));
}

}  // namespace superstep::kernels::onednn
