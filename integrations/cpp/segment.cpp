// Class ids of pictures, by a file that kerbseg has exported for OpenVINO: the network in OpenVINO up to its logits,
// and our last stage behind it. Reads PPM and writes PGM, so that no other library is needed.
//
//   segment MODEL.xml PICTURE.ppm IDS.pgm [PICTURE.ppm IDS.pgm ...] [--threads N] [--repeat N]
//
// SPDX-License-Identifier: Apache-2.0

#include <memory>
#include <openvino/op/constant.hpp>
#include <openvino/op/convert.hpp>
#include <openvino/op/fake_quantize.hpp>
#include <openvino/op/transpose.hpp>
#include <openvino/openvino.hpp>
#include <optional>

#include "segment.hpp"

namespace {

using segment::Error;

class Segmenter {
  public:
    Segmenter(const std::string& path, int threads) {
        ov::Core core;
        std::shared_ptr<ov::Model> model = core.read_model(path);
        if (!model->has_rt_info("kerbseg", "kerbseg_last_stage"))
            throw Error(path + " carries no kerbseg card; make it with: kerbseg export BUNDLE -o " + path +
                        ", or of a network of others: kerbseg accelerate NETWORK -o " + path);
        const auto card = model->get_rt_info<std::string>("kerbseg", "kerbseg_last_stage");
        const kerbseg::Size padded = segment::padded_of(card, path);

        ov::Output<ov::Node> logits = output_of(*model, "logits", path);
        if (segment::field(card, "dtype") == "\"uint8\"") {
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
        kerbseg::Options options = segment::options_of(card, size_, threads);
        options.layout = kerbseg::Layout::nhwc;
        last_stage_.emplace(kerbseg::Size{int(out[1]), int(out[2])}, padded, int(out[3]), options);
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

}  // namespace

int main(int count, char** given) { return segment::run<Segmenter>(count, given); }
