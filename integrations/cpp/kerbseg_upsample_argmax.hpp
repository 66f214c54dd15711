// Class ids at full size from logits at a network's own size, without ever making full-size logits.
//
// C++17, one header, no dependencies. SPDX-License-Identifier: Apache-2.0
//
// Bilinear interpolation is a convex combination: where the four logits around a pixel have their maximum in the same
// class, so has every mixture of them. Only pixels beside a border between classes are interpolated. Sums are rounded
// as torch rounds them for contiguous NCHW tensors, and as kerbseg.upsample_argmax does it in Python; of equal logits
// the first class wins. docs/upsample-argmax.md has the proof.
//
//   kerbseg::UpsampleArgmax last_stage({128, 256}, {512, 1024}, 19);    // (height, width) of logits and ids, classes
//   last_stage(logits, ids);                                            // const float* [k h w], uint8_t* [H W]
//   last_stage(logits, ids, confidence);                                // also float* or uint8_t* [H W]
//
// Compile with -O3 and for your processor (-march=native): without fused multiply-add it is right, but slower.

#ifndef KERBSEG_UPSAMPLE_ARGMAX_HPP
#define KERBSEG_UPSAMPLE_ARGMAX_HPP

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

namespace kerbseg {

struct Size {
    int height;
    int width;
};

inline bool operator==(Size one, Size other) { return one.height == other.height && one.width == other.width; }

enum class Layout { nchw, nhwc };  // [k h w], or [h w k] with the classes of a pixel side by side
enum class Coordinates { half_pixel, align_corners, asymmetric };  // as in ONNX's Resize

struct Options {
    Layout layout = Layout::nchw;
    Coordinates coordinates = Coordinates::half_pixel;
    int threads = 1;           // of one call; for a pool of your own see UpsampleArgmax::rows
    float temperature = 1;     // the confidence is that of logits divided by it
    std::vector<float> scale;  // of uint8 logits, which mean scale * (q - zero_point): one for all, or one a class
    std::vector<int> zero_point;
    Size cropped = {0, 0};  // size of the ids, where the logits are interpolated to more than is wanted
};

namespace detail {

inline float fused(float a, float b, float c) {
#ifdef FP_FAST_FMAF
    return std::fma(a, b, c);
#else
    return static_cast<float>(static_cast<double>(a) * b + c);
#endif
}

// Of two values, the second by its weight, as torch rounds it.
inline float mix(float weight, float before, float after) { return fused(1 - weight, before, weight * after); }

// A probability as it is stored: itself, or 255 times it, rounded.
template <class C>
C stored(float probability) {
    if constexpr (std::is_same_v<C, std::uint8_t>)
        return static_cast<std::uint8_t>(probability * 255 + 0.5f);
    else
        return probability;
}

// e ** x for x <= 0, to 2e-7 of itself: a power of two times Taylor's polynomial; compilers vectorize it.
inline float power(float x) {
    x = x > -87.0f ? x : -87.0f;
    const float whole = fused(x, 1.44269504f, 12582912.0f) - 12582912.0f;  // rounded: floats of this size have no parts
    float rest = fused(whole, -0.693359375f, x);  // ln 2 in two parts, the first of few bits
    rest = fused(whole, 2.12194440e-4f, rest);
    float value = 1.0f / 5040;
    value = fused(value, rest, 1.0f / 720);
    value = fused(value, rest, 1.0f / 120);
    value = fused(value, rest, 1.0f / 24);
    value = fused(value, rest, 1.0f / 6);
    value = fused(value, rest, 0.5f);
    value = fused(value, rest, 1);
    value = fused(value, rest, 1);
    const std::int32_t bits = (static_cast<std::int32_t>(whole) + 127) * (1 << 23);
    float two_to_whole;
    std::memcpy(&two_to_whole, &bits, sizeof bits);
    return value * two_to_whole;
}

// For each target position the source position before it and the weight of the one after it; for each source position
// the first target position that it is before.
struct Places {
    std::vector<int> before, starts;
    std::vector<float> weights;

    Places(int source, int target, int wanted, Coordinates coordinates) : starts(source + 1), weights(target) {
        const float scale = coordinates != Coordinates::align_corners
                                ? static_cast<float>(static_cast<double>(source) / target)
                            : target > 1 ? static_cast<float>((source - 1.0) / (target - 1.0))
                                         : 0.0f;
        for (int at = 0; at < target; ++at) {
            double place = static_cast<double>(at) * scale;
            if (source == target)
                place = at;
            else if (coordinates == Coordinates::half_pixel)
                place = std::max((at + 0.5) * scale - 0.5, 0.0);
            const float rounded = static_cast<float>(place);
            before.push_back(std::min(static_cast<int>(rounded), source - 1));
            weights[at] = std::min(rounded - static_cast<float>(before.back()), 1.0f);
        }
        for (int n = 0; n <= source; ++n) {
            const auto first = std::lower_bound(before.begin(), before.end(), n) - before.begin();
            starts[n] = std::min(static_cast<int>(first), wanted);
        }
    }
};

}  // namespace detail

// Turns logits of one size into ids of another. An object may be used by any number of threads at once.
// The constructor throws std::invalid_argument where sizes, classes or options do not fit each other.
class UpsampleArgmax {
  public:
    UpsampleArgmax(Size logits, Size size, int classes, Options options = {})
        : logits_(logits),
          size_(options.cropped.height ? options.cropped : size),
          classes_(classes),
          same_(logits == size),
          options_(check(logits, size, classes, std::move(options))),
          down_(logits.height, size.height, size_.height, options_.coordinates),
          across_(logits.width, size.width, size_.width, options_.coordinates) {}

    Size size() const { return size_; }

    // Ids [H W] of one picture, and the probability of each where `confidence` is given: float, or uint8_t for 255 times
    // it, rounded. T is float or uint8_t. Throws std::invalid_argument where float logits hold NaN or infinite values.
    template <class T, class C = float>
    void operator()(const T* logits, std::uint8_t* ids, C* confidence = nullptr) const {
        check_finite(logits);
        if constexpr (std::is_same_v<T, std::uint8_t>) {
            if (confidence && options_.scale.empty())
                throw std::invalid_argument("the confidence of uint8 logits needs their scale");
            if (!one_range()) {
                const std::vector<float> values = dequantized(logits);
                in_bands(values.data(), ids, confidence);
                return;
            }
        }
        in_bands(logits, ids, confidence);
    }

    // The same for what lies below rows `first` to `last` of the logits, 0 to their height for all; nothing is checked.
    // Calls for different rows may run at once. Integers with a range for each class are not taken here.
    template <class T, class C>
    void rows(const T* logits, std::uint8_t* ids, C* confidence, int first, int last) const {
        fill_ids(logits, ids, first, last);
        if (confidence) fill_confidence(logits, ids, confidence, first, last);
    }

  private:
    static Options check(Size logits, Size size, int classes, Options options) {
        const Size wanted = options.cropped.height ? options.cropped : size;
        if (std::min({logits.height, logits.width, wanted.height, wanted.width, options.threads}) < 1)
            throw std::invalid_argument("sizes and threads are at least 1");
        if (wanted.height > size.height || wanted.width > size.width)
            throw std::invalid_argument("a size cannot be cropped to a larger one");
        if (classes < 1 || classes > 256) throw std::invalid_argument("1 to 256 classes fit into ids of 8 bits");
        if (!(options.temperature > 0)) throw std::invalid_argument("the temperature is a positive number");
        for (const std::size_t given : {options.scale.size(), options.zero_point.size()})
            if (given > 1 && given != static_cast<std::size_t>(classes))
                throw std::invalid_argument("give one scale and zero point for all classes, or one for each");
        for (const float scale : options.scale)
            if (!(scale > 0 && std::isfinite(scale))) throw std::invalid_argument("scales are positive numbers");
        return options;
    }

    template <class T>
    void check_finite(const T* logits) const {
        if constexpr (std::is_same_v<T, float>) {
            const std::size_t count = static_cast<std::size_t>(classes_) * logits_.height * logits_.width;
            std::uint32_t damaged = 0;
            for (std::size_t n = 0; n < count; ++n) {
                std::uint32_t bits;
                std::memcpy(&bits, logits + n, sizeof bits);
                damaged |= (bits & 0x7f800000u) == 0x7f800000u;
            }
            if (damaged) throw std::invalid_argument("logits hold NaN or infinite values, which are of no class");
        }
    }

    bool one_range() const { return options_.scale.size() < 2 && options_.zero_point.size() < 2; }

    std::vector<float> dequantized(const std::uint8_t* logits) const {
        const std::size_t pixels = static_cast<std::size_t>(logits_.height) * logits_.width;
        std::vector<float> values(pixels * classes_);
        for (std::size_t n = 0; n < values.size(); ++n) {
            const std::size_t k = options_.layout == Layout::nhwc ? n % classes_ : n / pixels;
            const auto at = [k](const auto& all) { return all.size() > 1 ? all[k] : all[0]; };
            const float zero = options_.zero_point.empty() ? 0.0f : static_cast<float>(at(options_.zero_point));
            values[n] = (static_cast<float>(logits[n]) - zero) * (options_.scale.empty() ? 1.0f : at(options_.scale));
        }
        return values;
    }

    template <class T, class C>
    void in_bands(const T* logits, std::uint8_t* ids, C* confidence) const {
        const int height = logits_.height, bands = std::min(options_.threads, height);
        const auto bound = [&](int band) { return static_cast<int>(static_cast<long long>(height) * band / bands); };
        std::vector<std::thread> others;
        for (int band = 1; band < bands; ++band)
            others.emplace_back([=, this_ = this] { this_->rows(logits, ids, confidence, bound(band), bound(band + 1)); });
        rows(logits, ids, confidence, 0, bound(1));
        for (std::thread& other : others) other.join();
    }

    template <class T>
    float at(const T* logits, int y, int x, int k) const {
        const std::size_t height = logits_.height, width = logits_.width;
        return options_.layout == Layout::nhwc ? logits[(y * width + x) * classes_ + k]
                                               : logits[(k * height + y) * width + x];
    }

    // The class of the largest logit of each pixel of a row, the first of equal ones, and that logit.
    template <class T>
    void fill_tops(const T* logits, int y, std::uint8_t* tops, float* largest) const {
        const int width = logits_.width;
        if (options_.layout == Layout::nhwc) {
            for (int x = 0; x < width; ++x) {
                const T* pixel = logits + (static_cast<std::size_t>(y) * width + x) * classes_;
                int top = 0;
                T value = pixel[0];
                for (int k = 1; k < classes_; ++k) {
                    const bool above = pixel[k] > value;
                    top = above ? k : top;
                    value = above ? pixel[k] : value;
                }
                tops[x] = static_cast<std::uint8_t>(top);
                largest[x] = value;
            }
            return;
        }
        for (int x = 0; x < width; ++x) {
            tops[x] = 0;
            largest[x] = at(logits, y, x, 0);
        }
        for (int k = 1; k < classes_; ++k) {
            const T* line = logits + (static_cast<std::size_t>(k) * logits_.height + y) * width;
            for (int x = 0; x < width; ++x) {
                const float value = line[x];
                const bool above = value > largest[x];
                tops[x] = above ? static_cast<std::uint8_t>(k) : tops[x];
                largest[x] = above ? value : largest[x];
            }
        }
    }

    template <class T>
    void fill_ids(const T* logits, std::uint8_t* ids, int first, int last) const {
        const int height = logits_.height, width = logits_.width;
        std::vector<std::uint8_t> upper(width), lower(width);
        std::vector<float> largest(width);
        if (same_) {
            for (int y = first; y < std::min(last, size_.height); ++y) {
                fill_tops(logits, y, upper.data(), largest.data());
                std::copy_n(upper.data(), size_.width, line_of(ids, y));
            }
            return;
        }
        std::vector<int> borders, rivals;
        std::vector<float> corners(4 * static_cast<std::size_t>(classes_)), mixed(2 * static_cast<std::size_t>(classes_));
        const int* starts = across_.starts.data();
        int known = -1;  // the row of the logits that `lower` is of
        for (int y = first; y < last; ++y) {
            const int begin = down_.starts[y], end = down_.starts[y + 1], below = std::min(y + 1, height - 1);
            if (begin == end) continue;
            if (known == y)
                upper.swap(lower);
            else
                fill_tops(logits, y, upper.data(), largest.data());
            fill_tops(logits, below, lower.data(), largest.data());
            known = below;
            std::uint8_t* line = line_of(ids, begin);
            borders.clear();
            for (int x = 0; x < width; ++x) {
                const int beside = std::min(x + 1, width - 1), top = upper[x];
                if (top == upper[beside] && top == lower[x] && top == lower[beside])
                    for (int column = starts[x]; column < starts[x + 1]; ++column) line[column] = upper[x];
                else if (starts[x] < starts[x + 1])
                    borders.push_back(x);
            }
            for (int row = begin + 1; row < end; ++row) std::copy_n(line, size_.width, line_of(ids, row));
            for (const int x : borders) {
                const int beside = std::min(x + 1, width - 1);
                for (int k = 0; k < classes_; ++k) {
                    corners[4 * k] = at(logits, y, x, k);
                    corners[4 * k + 1] = at(logits, y, beside, k);
                    corners[4 * k + 2] = at(logits, below, x, k);
                    corners[4 * k + 3] = at(logits, below, beside, k);
                }
                const int tops[4] = {upper[x], upper[beside], lower[x], lower[beside]};
                find_rivals(corners.data(), tops, rivals);
                fill_cell(corners.data(), rivals, mixed.data(), begin, end, starts[x], starts[x + 1], ids);
            }
        }
    }

    // Classes that are not below one of the corners' largest in all of the corners: none else can win.
    void find_rivals(const float* corners, const int* tops, std::vector<int>& rivals) const {
        rivals.clear();
        for (int k = 0; k < classes_; ++k) {
            const float* own = corners + 4 * k;
            bool far = false;
            for (int n = 0; n < 4; ++n) {
                const float* top = corners + 4 * tops[n];
                far |= own[0] < top[0] && own[1] < top[1] && own[2] < top[2] && own[3] < top[3];
            }
            if (!far) rivals.push_back(k);
        }
    }

    void fill_cell(const float* corners, const std::vector<int>& rivals, float* mixed, int begin, int end, int from,
                   int to, std::uint8_t* ids) const {
        const int count = static_cast<int>(rivals.size());
        for (int column = from; column < to; ++column) {
            const float u = across_.weights[column];
            for (int n = 0; n < count; ++n) {
                const float* four = corners + 4 * rivals[n];
                mixed[2 * n] = detail::mix(u, four[0], four[1]);
                mixed[2 * n + 1] = detail::mix(u, four[2], four[3]);
            }
            for (int row = begin; row < end; ++row) {
                const float v = down_.weights[row];
                int best = 0;
                float largest = detail::mix(v, mixed[0], mixed[1]);
                for (int n = 1; n < count; ++n) {
                    const float value = detail::mix(v, mixed[2 * n], mixed[2 * n + 1]);
                    if (value > largest) {
                        best = n;
                        largest = value;
                    }
                }
                line_of(ids, row)[column] = static_cast<std::uint8_t>(rivals[best]);
            }
        }
    }

    // The softmax of the ids. Distances from each source pixel's largest logit are interpolated, a row at a time; what
    // is common to all classes changes no softmax.
    template <class T, class C>
    void fill_confidence(const T* logits, const std::uint8_t* ids, C* confidence, int first, int last) const {
        const int height = logits_.height, width = logits_.width;
        const double factor = (options_.scale.size() == 1 ? options_.scale[0] : 1.0) / options_.temperature;
        const std::size_t stride = static_cast<std::size_t>(width) + 1;
        std::vector<float> upper(stride * classes_), lower(stride * classes_), mixed(stride * classes_);
        std::vector<float> own(size_.width), sums(size_.width), values(size_.width), largest(width);
        std::vector<std::uint8_t> tops(width);
        const auto fill = [&](int y, std::vector<float>& distances) {
            fill_tops(logits, y, tops.data(), largest.data());
            for (int k = 0; k < classes_; ++k)
                for (int x = 0; x < width; ++x)
                    distances[k * stride + x] = static_cast<float>(
                        std::max(factor * (static_cast<double>(at(logits, y, x, k)) - largest[x]), -1e30));
        };
        int known = -1;
        for (int y = first; y < last; ++y) {
            const int below = std::min(y + 1, height - 1);
            if (down_.starts[y] == down_.starts[y + 1]) continue;
            if (known == y)
                upper.swap(lower);
            else
                fill(y, upper);
            fill(below, lower);
            known = below;
            for (int row = down_.starts[y]; row < down_.starts[y + 1]; ++row) {
                const std::uint8_t* line = ids + static_cast<std::size_t>(row) * size_.width;
                const float v = down_.weights[row];
                for (int k = 0; k < classes_; ++k) {
                    float* values_of = mixed.data() + k * stride;
                    for (int x = 0; x < width; ++x)
                        values_of[x] = detail::mix(v, upper[k * stride + x], lower[k * stride + x]);
                    values_of[width] = values_of[width - 1];
                }
                for (int column = 0; column < size_.width; ++column) {
                    const float* two = mixed.data() + line[column] * stride + across_.before[column];
                    own[column] = detail::mix(across_.weights[column], two[0], two[1]);
                    sums[column] = 0;
                }
                for (int k = 0; k < classes_; ++k) {
                    for (int column = 0; column < size_.width; ++column) {
                        const float* two = mixed.data() + k * stride + across_.before[column];
                        values[column] = detail::mix(across_.weights[column], two[0], two[1]);
                    }
                    for (int column = 0; column < size_.width; ++column)
                        sums[column] += line[column] != k ? detail::power(values[column] - own[column]) : 0.0f;
                }
                C* out = confidence + static_cast<std::size_t>(row) * size_.width;
                for (int column = 0; column < size_.width; ++column)
                    out[column] = detail::stored<C>(own[column] < -8  // float would lose digits
                                                        ? softmax_at(logits, y, below, row, column, line[column], factor)
                                                        : 1 / (1 + sums[column]));
            }
        }
    }

    template <class T>
    float softmax_at(const T* logits, int y, int below, int row, int column, int own, double factor) const {
        const int x = across_.before[column], beside = std::min(x + 1, logits_.width - 1);
        const double u = across_.weights[column], v = down_.weights[row];
        double total = 0;
        const auto above_own = [&](int i, int j, int k) {
            return static_cast<double>(at(logits, i, j, k)) - at(logits, i, j, own);
        };
        for (int k = 0; k < classes_; ++k) {
            const double upper = (1 - u) * above_own(y, x, k) + u * above_own(y, beside, k);
            const double lower = (1 - u) * above_own(below, x, k) + u * above_own(below, beside, k);
            total += std::exp(factor * ((1 - v) * upper + v * lower));
        }
        return static_cast<float>(1 / total);
    }

    std::uint8_t* line_of(std::uint8_t* ids, int row) const { return ids + static_cast<std::size_t>(row) * size_.width; }

    Size logits_, size_;
    int classes_;
    bool same_;
    Options options_;
    detail::Places down_, across_;
};

}  // namespace kerbseg

#endif
