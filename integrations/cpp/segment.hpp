// What both programs share: pictures as PPM and PGM, the card in an exported file, and the command line.
//
//   segment MODEL PICTURE.ppm IDS.pgm [PICTURE.ppm IDS.pgm ...] [--threads N] [--repeat N]
//
// SPDX-License-Identifier: Apache-2.0

#ifndef KERBSEG_SEGMENT_HPP
#define KERBSEG_SEGMENT_HPP

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <limits>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "kerbseg_upsample_argmax.hpp"

namespace segment {

using Error = std::runtime_error;
using Clock = std::chrono::steady_clock;

constexpr int WARM_UP = 20;  // calls that are not timed, where calls are repeated

struct Picture {
    kerbseg::Size size;
    std::vector<std::uint8_t> rgb;  // [H W 3]
};

// A number of a PPM's head; blanks and comments before it are skipped.
inline int number(std::istream& file) {
    while (file >> std::ws && file.peek() == '#') file.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
    int value = 0;
    file >> value;
    return value;
}

inline Picture read_ppm(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) throw Error(path + " cannot be read");
    if (file.get() != 'P' || file.get() != '6') throw Error(path + " is no binary PPM (P6); convert it first");
    Picture picture;
    picture.size.width = number(file);
    picture.size.height = number(file);
    const int highest = number(file);
    file.get();  // one blank before the pixels
    const kerbseg::Size size = picture.size;
    if (!file || highest != 255 || std::min(size.height, size.width) < 1 || std::max(size.height, size.width) > 1 << 15)
        throw Error(path + " is no RGB picture of 8 bits");
    picture.rgb.resize(std::size_t(3) * size.height * size.width);
    if (!file.read(reinterpret_cast<char*>(picture.rgb.data()), picture.rgb.size())) throw Error(path + " is cut off");
    return picture;
}

inline void write_pgm(const std::string& path, kerbseg::Size size, const std::vector<std::uint8_t>& ids) {
    std::ofstream file(path, std::ios::binary);
    file << "P5\n" << size.width << " " << size.height << "\n255\n";
    file.write(reinterpret_cast<const char*>(ids.data()), ids.size());
    if (!file.flush()) throw Error(path + " cannot be written");
}

// What stands behind a name in the card, which is JSON of one level as kerbseg writes it; empty where it is not there.
inline std::string field(const std::string& card, const std::string& name) {
    const std::size_t key = card.find("\"" + name + "\":");
    if (key == std::string::npos) return "";
    const std::size_t first = card.find_first_not_of(" ", key + name.size() + 3);
    return card.substr(first, card.find_first_of(card[first] == '[' ? "]" : ",}", first) - first);
}

inline std::vector<double> numbers(std::string text) {
    std::replace_if(text.begin(), text.end(), [](char c) { return c == '[' || c == ','; }, ' ');
    std::istringstream stream(text);
    std::vector<double> values;
    for (double value; stream >> value;) values.push_back(value);
    return values;
}

// How the last stage follows from the card of a file, which kerbseg has written as JSON; its sizes are not in here.
inline kerbseg::Options options_of(const std::string& card, kerbseg::Size size, int threads) {
    kerbseg::Options options;
    options.threads = threads;
    options.cropped = size;
    if (field(card, "align_corners") == "true") options.coordinates = kerbseg::Coordinates::align_corners;
    if (field(card, "coordinates") == "\"asymmetric\"") options.coordinates = kerbseg::Coordinates::asymmetric;
    return options;
}

// The size that logits are interpolated to.
inline kerbseg::Size padded_of(const std::string& card, const std::string& path) {
    const std::vector<double> padded = numbers(field(card, "padded"));
    if (padded.size() != 2) throw Error(path + ": its card is damaged; export it again");
    return {int(padded[0]), int(padded[1])};
}

inline std::string hw(kerbseg::Size size) { return std::to_string(size.height) + "x" + std::to_string(size.width); }

// The program, for a class made of a model's path and a number of threads that gives ids, and has a size.
template <class Segmenter>
int run(const std::vector<std::string>& given) {
    int threads = std::max(1u, std::thread::hardware_concurrency()), repeat = 1;
    std::vector<std::string> paths;
    for (std::size_t n = 0; n < given.size(); ++n) {
        const bool option = given[n] == "--threads" || given[n] == "--repeat";
        if (!option) {
            paths.push_back(given[n]);
        } else {
            const int value = n + 1 < given.size() ? std::atoi(given[n + 1].c_str()) : 0;
            if (value < 1) throw Error(given[n] + " needs a number of at least 1");
            (given[n] == "--threads" ? threads : repeat) = value;
            ++n;
        }
    }
    if (paths.size() < 3 || paths.size() % 2 == 0)
        throw Error("usage: segment MODEL PICTURE.ppm IDS.pgm [PICTURE.ppm IDS.pgm ...] [--threads N] [--repeat N]");
    Segmenter segmenter(paths[0], threads);
    std::vector<double> taken_ms;
    std::vector<std::uint8_t> ids;
    for (std::size_t n = 1; n < paths.size(); n += 2) {
        const Picture picture = read_ppm(paths[n]);
        if (!(picture.size == segmenter.size()))
            throw Error(paths[n] + " is " + hw(picture.size) + " (HxW), the model takes " + hw(segmenter.size()) +
                        "; resize it, or export for its size");
        const int before = repeat > 1 && n == 1 ? WARM_UP : 0;
        for (int turn = -before; turn < repeat; ++turn) {
            const auto start = Clock::now();
            segmenter(picture.rgb, ids);
            const double ms = std::chrono::duration<double, std::milli>(Clock::now() - start).count();
            if (turn >= 0) taken_ms.push_back(ms);
        }
        write_pgm(paths[n + 1], picture.size, ids);
    }
    std::sort(taken_ms.begin(), taken_ms.end());
    std::cout << "median " << taken_ms[taken_ms.size() / 2] << " ms a picture\n";
    return 0;
}

template <class Segmenter>
int run(int count, char** given) {
    try {
        return run<Segmenter>(std::vector<std::string>(given + 1, given + count));
    } catch (const std::exception& problem) {
        std::string told = problem.what();  // an engine's own may have several lines
        while (!told.empty() && told.back() == '\n') told.pop_back();
        for (std::size_t at; (at = told.find('\n')) != std::string::npos;) told.replace(at, 1, "; ");
        std::cerr << told << "\n";
        return 2;
    }
}

}  // namespace segment

#endif
