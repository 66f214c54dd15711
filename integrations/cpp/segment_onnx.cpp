// Class ids of pictures, by a file that kerbseg has exported as ONNX: the network in ONNX Runtime up to its logits, and
// our last stage behind it. Reads PPM and writes PGM, so that no other library is needed.
//
//   segment_onnx MODEL.onnx PICTURE.ppm IDS.pgm [PICTURE.ppm IDS.pgm ...] [--threads N] [--repeat N]
//
// SPDX-License-Identifier: Apache-2.0

#include <onnxruntime_cxx_api.h>

#include <iterator>
#include <optional>
#include <set>
#include <string_view>

#include "segment.hpp"

namespace {

using segment::Error;
using Bytes = std::string_view;

// Fields of a message of protobuf, which an ONNX file is: a number, and where the field and its content lie.
struct Field {
    int number;
    Bytes whole, content;
};

std::uint64_t varint(Bytes& rest) {
    std::uint64_t value = 0;
    for (int shift = 0; shift < 64 && !rest.empty(); shift += 7) {
        const auto byte = static_cast<unsigned char>(rest.front());
        rest.remove_prefix(1);
        value |= std::uint64_t(byte & 127) << shift;
        if (byte < 128) return value;
    }
    throw Error("the model is cut off or no ONNX file; export it again");
}

std::vector<Field> fields(Bytes message) {
    std::vector<Field> all;
    for (Bytes rest = message; !rest.empty();) {
        const Bytes before = rest;
        const std::uint64_t tag = varint(rest), kind = tag & 7;
        std::uint64_t length = kind == 1 ? 8 : kind == 5 ? 4 : 0;
        if (kind == 0)
            varint(rest);
        else if (kind == 2)
            length = varint(rest);
        if (length > rest.size() || kind == 3 || kind == 4)
            throw Error("the model is cut off or no ONNX file; export it again");
        const Bytes content = rest.substr(0, length);
        rest.remove_prefix(length);
        all.push_back({int(tag >> 3), before.substr(0, before.size() - rest.size()), content});
    }
    return all;
}

std::string field_of(int number, const std::string& content) {
    std::string head(1, char(number << 3 | 2));
    for (std::uint64_t length = content.size();; length >>= 7) {
        head += char(length < 128 ? length : length | 128);
        if (length < 128) return head + content;
    }
}

// The model ending at its logits: what only the ids need is left out. Numbers of fields are those of onnx.proto.
std::string ending_at_logits(Bytes model) {
    constexpr int GRAPH = 7, NODE = 1, INPUT = 1, OUTPUT = 2, OUTPUTS = 12, NAME = 1;
    std::string shortened;
    for (const Field& part : fields(model)) {
        if (part.number != GRAPH) {
            shortened += part.whole;
            continue;
        }
        std::vector<Field> parts = fields(part.content);
        std::set<Bytes> needed{"logits"};
        for (auto node = parts.rbegin(); node != parts.rend(); ++node) {  // the last ones first: they stand in order
            if (node->number != NODE) continue;
            bool wanted = false;
            const std::vector<Field> names = fields(node->content);
            for (const Field& each : names) wanted = wanted || (each.number == OUTPUT && needed.count(each.content));
            if (!wanted) node->whole = {};
            for (const Field& each : names)
                if (wanted && each.number == INPUT) needed.insert(each.content);
        }
        std::string graph;
        for (const Field& each : parts)
            if (each.number != OUTPUTS) graph += each.whole;
        shortened += field_of(GRAPH, graph + field_of(OUTPUTS, field_of(NAME, "logits")));
    }
    return shortened;
}

std::string read(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) throw Error(path + " cannot be read");
    return {std::istreambuf_iterator<char>(file), {}};
}

class Segmenter {
  public:
    Segmenter(const std::string& path, int threads) {
        const std::string model = ending_at_logits(read(path));
        Ort::SessionOptions settings;
        settings.SetIntraOpNumThreads(threads);
        session_ = Ort::Session(environment_, model.data(), model.size(), settings);

        Ort::AllocatorWithDefaultOptions allocator;
        const auto card = session_.GetModelMetadata().LookupCustomMetadataMapAllocated("kerbseg_last_stage", allocator);
        if (!card)
            throw Error(path + " carries no kerbseg card; make it with: kerbseg export BUNDLE -o " + path +
                        ", or of a network of others: kerbseg accelerate NETWORK -o " + path);
        card_ = card.get();
        padded_ = segment::padded_of(card_, path);
        shape_ = session_.GetInputTypeInfo(0).GetTensorTypeAndShapeInfo().GetShape();  // pictures, height, width, 3
        if (shape_[0] > 1) throw Error(path + " takes several pictures at once; export it without --batch");
        shape_[0] = 1;
        size_ = {int(shape_[1]), int(shape_[2])};
        threads_ = threads;
    }

    kerbseg::Size size() const { return size_; }

    // Ids [H W] of a picture of this size.
    void operator()(const std::vector<std::uint8_t>& rgb, std::vector<std::uint8_t>& ids) {
        ids.resize(std::size_t(size_.height) * size_.width);
        auto* pixels = const_cast<std::uint8_t*>(rgb.data());  // which are only read
        const auto picture = Ort::Value::CreateTensor<std::uint8_t>(memory_, pixels, rgb.size(), shape_.data(), 4);
        const char *input = "pictures", *output = "logits";
        const std::vector<Ort::Value> results = session_.Run(Ort::RunOptions{}, &input, &picture, 1, &output, 1);
        if (!last_stage_) {  // its sizes are known now
            const std::vector<std::int64_t> inner = results[0].GetTensorTypeAndShapeInfo().GetShape();  // 1, k, h, w
            last_stage_.emplace(kerbseg::Size{int(inner[2]), int(inner[3])}, padded_, int(inner[1]),
                                segment::options_of(card_, size_, threads_));
        }
        (*last_stage_)(results[0].GetTensorData<float>(), ids.data());
    }

  private:
    Ort::Env environment_{ORT_LOGGING_LEVEL_ERROR};
    Ort::Session session_{nullptr};
    Ort::MemoryInfo memory_ = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
    std::string card_;
    std::vector<std::int64_t> shape_;
    kerbseg::Size size_{}, padded_{};
    int threads_ = 1;
    std::optional<kerbseg::UpsampleArgmax> last_stage_;
};

}  // namespace

int main(int count, char** given) { return segment::run<Segmenter>(count, given); }
