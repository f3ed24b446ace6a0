// What boosted trees minimise: losses with their first and second derivatives at the margin.
//
//   kBinaryLogistic   p = 1 / (1 + exp(-m)),        g = p - y,          h = p (1 - p)
//   kMulticlass       p = softmax(m_1 ... m_K),     g_k = p_k - [y = k], h_k = 2 p_k (1 - p_k)
//   kSquaredError     prediction m,                 g = m - y,          h = 1
//
// as in XGBoost (Chen and Guestrin 2016, section 2.2; its softmax doubles the diagonal of the
// Hessian, which bounds the off-diagonal rest). Margins are float32, derivatives are computed in
// float32. Pure functions.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace superstep::worker {

enum class Objective : std::uint8_t { kBinaryLogistic, kMulticlass, kSquaredError };

// "binary", "multiclass", "regression".
std::string_view name_of(Objective objective);
// Throws InvalidArgument for another name.
Objective objective_of(std::string_view name);
std::vector<std::string> objective_names();

struct Derivatives {
  float gradient = 0.0F;
  float hessian = 0.0F;
};

// Bounds of |gradient| and of hessian that hold whatever the margins are; a gradient bound of 0
// means that there is none (squared error).
struct DerivativeBounds {
  double gradient = 0.0;
  double hessian = 0.0;
};
DerivativeBounds bounds_of(Objective objective);

// Margins of one row: num_outputs(...) of them; `out` is as long. `label` is the class, or the
// value.
void derivatives(Objective objective, std::span<const float> margins, float label,
                 std::span<Derivatives> out);

// The loss of one row, never NaN for finite margins: negative log-likelihood, or half the square.
double loss(Objective objective, std::span<const float> margins, float label);

// The class with the largest margin (the first of equal ones); of binary: margin above 0.
int predicted_class(Objective objective, std::span<const float> margins);

// Margins to probabilities (binary: of class 1) or to the value, in place.
void transform(Objective objective, std::span<float> margins);

// The margin that every row starts with: the inverse of transform for one number (multiclass: the
// number itself, equal for all classes). Throws InvalidArgument for a probability outside (0, 1).
float base_margin(Objective objective, double base_score);

// Margins per row.
int num_outputs(Objective objective, int num_classes);

}  // namespace superstep::worker
