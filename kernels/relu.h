// max(x, 0) and its gradient, for one number or for a vector of them.
#pragma once

namespace superstep::kernels {

template <typename T>
inline T relu_of(T x) {
  return x < T{} ? T{} : x;  // in this order NaN stays NaN
}

// `y` is relu_of(x).
template <typename T>
inline T relu_gradient_of(T dy, T y) {
  return y > T{} ? dy : T{};
}

}  // namespace superstep::kernels
