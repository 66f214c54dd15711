// Class ids of pictures, by a file that kerbseg has exported for OpenVINO: the network in OpenVINO up to its logits,
// and our last stage behind it. Reads PPM and writes PGM, so that no other library is needed.
//
//   segment MODEL.xml PICTURE.ppm IDS.pgm [PICTURE.ppm IDS.pgm ...] [--threads N] [--repeat N]
//
// SPDX-License-Identifier: Apache-2.0

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <limits>
#include <memory>
#include <openvino/op/constant.hpp>
#include <openvino/op/convert.hpp>
#include <openvino/op/fake_quantize.hpp>
#include <openvino/op/transpose.hpp>
#include <openvino/openvino.hpp>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "kerbseg_upsample_argmax.hpp"

namespace {

using Error = std::runtime_error;
using Clock = std::chrono::steady_clock;

struct Picture {
    kerbseg::Size size;
    std::vector<std::uint8_t> rgb;  // [H W 3]
};

// A number of a PPM's head; blanks and comments before it are skipped.
int number(std::istream& file) {
    while (file >> std::ws && file.peek() == '#') file.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
    int value = 0;
    file >> value;
    return value;
}

Picture read_ppm(const std::string& path) {
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

void write_pgm(const std::string& path, kerbseg::Size size, const std::vector<std::uint8_t>& ids) {
    std::ofstream file(path, std::ios::binary);
    file << "P5\n" << size.width << " " << size.height << "\n255\n";
    file.write(reinterpret_cast<const char*>(ids.data()), ids.size());
    if (!file.flush()) throw Error(path + " cannot be written");
}

// What stands behind a name in the card, which is JSON of one level as kerbseg writes it; empty where it is not there.
std::string field(const std::string& card, const std::string& name) {
    const std::size_t key = card.find("\"" + name + "\":");
    if (key == std::string::npos) return "";
    const std::size_t first = card.find_first_not_of(" ", key + name.size() + 3);
    return card.substr(first, card.find_first_of(card[first] == '[' ? "]" : ",}", first) - first);
}

std::vector<double> numbers(std::string text) {
    std::replace_if(text.begin(), text.end(), [](char c) { return c == '[' || c == ','; }, ' ');
    std::istringstream stream(text);
    std::vector<double> values;
    for (double value; stream >> value;) values.push_back(value);
    return values;
}

class Segmenter {
  public:
    Segmenter(const std::string& path, int threads) {
        ov::Core core;
        std::shared_ptr<ov::Model> model = core.read_model(path);
        if (!model->has_rt_info("kerbseg", "kerbseg_last_stage"))
            throw Error(path + " carries no kerbseg card; make it with: kerbseg export BUNDLE -o " + path);
        const auto card = model->get_rt_info<std::string>("kerbseg", "kerbseg_last_stage");
        const std::vector<double> padded = numbers(field(card, "padded"));
        if (padded.size() != 2) throw Error(path + ": its card is damaged; export it again");

        ov::Output<ov::Node> logits = output_of(*model, "logits", path);
        kerbseg::Options options;
        if (field(card, "dtype") == "\"uint8\"") {
            // the graph holds the floats that the levels stand for; with the levels themselves it writes a byte a logit
            const auto range = [](float bound) { return ov::op::v0::Constant::create(ov::element::f32, {}, {bound}); };
            const auto given = logits.get_node_shared_ptr();
            if (given->get_input_size() != 5) throw Error(path + ": its logits have no levels; export it again");
            logits = std::make_shared<ov::op::v0::FakeQuantize>(given->input_value(0), given->input_value(1),
                                                                given->input_value(2), range(0), range(255), 256);
            logits = std::make_shared<ov::op::v0::Convert>(logits, ov::element::u8);
        }
        const auto order = ov::op::v0::Constant::create(ov::element::i64, {4}, {0, 2, 3, 1});
        logits = std::make_shared<ov::op::v1::Transpose>(logits, order);  // classes of a pixel side by side: no copy
        model = std::make_shared<ov::Model>(ov::OutputVector{logits}, model->get_parameters());
        ov::PartialShape shape = model->input().get_partial_shape();  // [pictures, height, width, 3]
        shape[0] = 1;
        model->reshape(shape);
        request_ = core.compile_model(model, "CPU", ov::hint::performance_mode(ov::hint::PerformanceMode::LATENCY),
                                      ov::hint::inference_precision(ov::element::f32),
                                      ov::inference_num_threads(threads))
                       .create_infer_request();

        const ov::Shape in = request_.get_input_tensor().get_shape(), out = request_.get_output_tensor().get_shape();
        size_ = {int(in[1]), int(in[2])};
        options.layout = kerbseg::Layout::nhwc;
        options.threads = threads;
        options.cropped = size_;
        if (field(card, "align_corners") == "true") options.coordinates = kerbseg::Coordinates::align_corners;
        if (field(card, "coordinates") == "\"asymmetric\"") options.coordinates = kerbseg::Coordinates::asymmetric;
        const kerbseg::Size inner{int(out[1]), int(out[2])}, whole{int(padded[0]), int(padded[1])};
        last_stage_.emplace(inner, whole, int(out[3]), options);
    }

    kerbseg::Size size() const { return size_; }

    // Ids [H W] of a picture of this size.
    void operator()(const std::vector<std::uint8_t>& rgb, std::vector<std::uint8_t>& ids) {
        ids.resize(std::size_t(size_.height) * size_.width);
        auto* pixels = const_cast<std::uint8_t*>(rgb.data());  // which are only read
        request_.set_input_tensor(ov::Tensor(ov::element::u8, request_.get_input_tensor().get_shape(), pixels));
        request_.infer();
        const ov::Tensor logits = request_.get_output_tensor();
        if (logits.get_element_type() == ov::element::u8)
            (*last_stage_)(logits.data<const std::uint8_t>(), ids.data());
        else
            (*last_stage_)(logits.data<const float>(), ids.data());
    }

  private:
    static ov::Output<ov::Node> output_of(const ov::Model& model, const std::string& name, const std::string& path) {
        for (const auto& operation : model.get_ops())
            for (const auto& output : operation->outputs())
                if (output.get_names().count(name)) return output;
        throw Error(path + " holds no tensor " + name + "; export it again");
    }

    ov::InferRequest request_;
    kerbseg::Size size_{};
    std::optional<kerbseg::UpsampleArgmax> last_stage_;  // its sizes are known once the model is compiled
};

std::string hw(kerbseg::Size size) { return std::to_string(size.height) + "x" + std::to_string(size.width); }

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
        throw Error("usage: segment MODEL.xml PICTURE.ppm IDS.pgm [PICTURE.ppm IDS.pgm ...] [--threads N] [--repeat N]");
    Segmenter segmenter(paths[0], threads);
    std::vector<double> taken_ms;
    std::vector<std::uint8_t> ids;
    for (std::size_t n = 1; n < paths.size(); n += 2) {
        const Picture picture = read_ppm(paths[n]);
        if (!(picture.size == segmenter.size()))
            throw Error(paths[n] + " is " + hw(picture.size) + " (HxW), the model takes " + hw(segmenter.size()) +
                        "; resize it, or export for its size");
        for (int turn = 0; turn < repeat; ++turn) {
            const auto start = Clock::now();
            segmenter(picture.rgb, ids);
            taken_ms.push_back(std::chrono::duration<double, std::milli>(Clock::now() - start).count());
        }
        write_pgm(paths[n + 1], picture.size, ids);
    }
    std::sort(taken_ms.begin(), taken_ms.end());
    std::cout << "median " << taken_ms[taken_ms.size() / 2] << " ms a picture\n";
    return 0;
}

}  // namespace

int main(int count, char** given) {
    try {
        return run(std::vector<std::string>(given + 1, given + count));
    } catch (const std::exception& problem) {
        std::cerr << problem.what() << "\n";
        return 2;
    }
}
