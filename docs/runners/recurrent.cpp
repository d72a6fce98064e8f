// Boxes of a recurrent detector of events, without Python: events in, boxes out, the state kept here.
//
//   recurrent MODEL.onnx RECORDING.dat > boxes.csv
//
// MODEL.onnx is what `jaxdet export` wrote. The recording is a DAT file of the sensor that the model sees.
// Each line of the output is: end of the step in microseconds, x1, y1, x2, y2 in pixels, score, class.

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <map>
#include <onnxruntime_cxx_api.h>
#include <stdexcept>
#include <string>
#include <vector>

constexpr int64_t kStepUs = 5000;  // "step_us" of MODEL.onnx.json
constexpr int kCell = 4;           // "cell_pixels"

struct Event {
  int64_t t_us;
  int x, y, polarity;
};

// Text lines that begin with %, two bytes of type and size, then records of a time and packed coordinates.
std::vector<Event> read_dat(const std::string& path, int& width) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error(path + ": cannot be opened; expected a DAT recording");
  std::string line;
  while (file.peek() == '%' && std::getline(file, line))
    if (line.rfind("% Width ", 0) == 0) width = std::stoi(line.substr(8));
  file.ignore(2);
  std::vector<Event> events;
  uint32_t record[2];
  while (file.read(reinterpret_cast<char*>(record), sizeof record)) {
    const uint32_t data = record[1];
    events.push_back({record[0], int(data & 0x3fff), int(data >> 14 & 0x3fff), int(data >> 28 & 1)});
  }
  return events;
}

// A buffer for each input of the model, zero at first, and where each state lies among the outputs.
class Stepper {
 public:
  explicit Stepper(const std::string& path)
      : env_(ORT_LOGGING_LEVEL_WARNING), session_(env_, path.c_str(), Ort::SessionOptions{}) {
    Ort::AllocatorWithDefaultOptions allocator;
    for (size_t i = 0; i < session_.GetInputCount(); ++i) {
      const auto type = session_.GetInputTypeInfo(i);  // of which the next line is a view
      const auto info = type.GetTensorTypeAndShapeInfo();
      const auto shape = info.GetShape();
      tensors_.push_back(Ort::Value::CreateTensor(allocator, shape.data(), shape.size(), info.GetElementType()));
      // Every input is float or int32, of four bytes.
      std::memset(tensors_.back().GetTensorMutableRawData(), 0, 4 * info.GetElementCount());
      inputs_.push_back(session_.GetInputNameAllocated(i, allocator).get());
    }
    for (size_t i = 0; i < session_.GetOutputCount(); ++i)
      outputs_.push_back(session_.GetOutputNameAllocated(i, allocator).get());
  }

  Ort::Value& input(const std::string& name) {
    return tensors_.at(std::find(inputs_.begin(), inputs_.end(), name) - inputs_.begin());
  }

  // Outputs by name; those called new_NAME become the input NAME of the next call.
  std::map<std::string, Ort::Value> operator()() {
    const auto in = pointers(inputs_), out = pointers(outputs_);
    auto found = session_.Run(Ort::RunOptions{}, in.data(), tensors_.data(), in.size(), out.data(), out.size());
    std::map<std::string, Ort::Value> rest;
    for (size_t i = 0; i < found.size(); ++i) {
      if (outputs_[i].rfind("new_", 0) == 0)
        input(outputs_[i].substr(4)) = std::move(found[i]);
      else
        rest.emplace(outputs_[i], std::move(found[i]));
    }
    return rest;
  }

 private:
  static std::vector<const char*> pointers(const std::vector<std::string>& names) {
    std::vector<const char*> found;
    for (const auto& name : names) found.push_back(name.c_str());
    return found;
  }

  Ort::Env env_;
  Ort::Session session_;
  std::vector<std::string> inputs_, outputs_;
  std::vector<Ort::Value> tensors_;
};

// The events of one step, sorted by cell row by row and padded with zeros; times count from the step's start.
void fill(Stepper& step, std::vector<Event> events, int64_t start_us, int width) {
  const int columns = (width + kCell - 1) / kCell;
  auto cell = [&](const Event& e) { return e.y / kCell * columns + e.x / kCell; };
  std::stable_sort(events.begin(), events.end(), [&](auto& a, auto& b) { return cell(a) < cell(b); });
  const size_t room = step.input("t_us").GetTensorTypeAndShapeInfo().GetElementCount();
  if (events.size() > room)
    throw std::runtime_error(std::to_string(events.size()) + " events in one step, the model takes " +
                             std::to_string(room) + "; export it with a larger --events");
  float* xy = step.input("xy").GetTensorMutableData<float>();
  int32_t* t_us = step.input("t_us").GetTensorMutableData<int32_t>();
  int32_t* polarity = step.input("polarity").GetTensorMutableData<int32_t>();
  std::fill_n(xy, 2 * room, 0.f);
  std::fill_n(t_us, room, 0);
  std::fill_n(polarity, room, 0);
  for (size_t i = 0; i < events.size(); ++i) {
    xy[2 * i] = float(events[i].x);
    xy[2 * i + 1] = float(events[i].y);
    t_us[i] = int32_t(events[i].t_us - start_us);
    polarity[i] = events[i].polarity;
  }
  step.input("count").GetTensorMutableData<int32_t>()[0] = int32_t(events.size());
}

void print(const std::map<std::string, Ort::Value>& found, int64_t end_us) {
  const Ort::Value &scores = found.at("scores"), &labels = found.at("labels");
  const size_t count = scores.GetTensorTypeAndShapeInfo().GetElementCount();
  for (size_t i = 0; i < count; ++i) {
    const float* box = found.at("boxes").GetTensorData<float>() + 4 * i;
    std::printf("%lld,%.4f,%.4f,%.4f,%.4f,%.6f,%d\n", (long long)end_us, box[0], box[1], box[2], box[3],
                scores.GetTensorData<float>()[i], int(labels.GetTensorData<int32_t>()[i]));
  }
}

int run(const std::string& model, const std::string& recording) {
  int width = 304;
  const std::vector<Event> events = read_dat(recording, width);
  if (events.empty()) return 0;
  Stepper step(model);
  size_t at = 0;
  for (int64_t start = events[0].t_us / kStepUs * kStepUs; at < events.size(); start += kStepUs) {
    const size_t begin = at;
    while (at < events.size() && events[at].t_us < start + kStepUs) ++at;
    fill(step, {events.begin() + begin, events.begin() + at}, start, width);
    print(step(), start + kStepUs);
  }
  return 0;
}

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: recurrent MODEL.onnx RECORDING.dat\n");
    return 2;
  }
  try {
    return run(argv[1], argv[2]);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
