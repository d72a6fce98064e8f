// Boxes of an image, without Python.
//
//   image MODEL.onnx IMAGE.ppm > boxes.csv
//
// MODEL.onnx is a detector of images that `jaxdet export` wrote; the image is a binary PPM (P6). It is placed
// as YOLOX does: scaled into the network's size by bilinear interpolation, at the top left, the rest grey, BGR.
// Each line of the output is x1, y1, x2, y2 in pixels of the image, score, class.

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <onnxruntime_cxx_api.h>
#include <stdexcept>
#include <string>
#include <vector>

struct Image {
  int width = 0, height = 0;
  std::vector<unsigned char> rgb;
};

Image read_ppm(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string kind;
  Image image;
  int most = 0;
  if (!(file >> kind >> image.width >> image.height >> most) || kind != "P6" || most != 255)
    throw std::runtime_error(path + ": expected a binary PPM of 8 bits (P6)");
  file.get();
  image.rgb.resize(size_t(image.width) * image.height * 3);
  if (!file.read(reinterpret_cast<char*>(image.rgb.data()), image.rgb.size()))
    throw std::runtime_error(path + ": the file ends early");
  return image;
}

// Weights of the two neighbours of each pixel of a scaled side, in 2048ths, and the first of them.
struct Neighbours {
  int low;
  int part[2];
};

std::vector<Neighbours> along(int to, int from, bool keeps_part) {
  std::vector<Neighbours> found(to);
  for (int i = 0; i < to; ++i) {
    float at = float((i + 0.5) * (double(from) / to) - 0.5);
    int low = int(std::floor(at));
    at -= low;
    if (!keeps_part && (low < 0 || low >= from - 1)) low = std::clamp(low, 0, from - 1), at = 0;
    found[i] = {low, {int(std::lrint((1 - at) * 2048)), int(std::lrint(at * 2048))}};
  }
  return found;
}

// Bilinear with OpenCV's whole numbers, on which the detector was trained; returns the scale.
float place(const Image& image, float* planes, int height, int width) {
  const double scale = std::min(double(height) / image.height, double(width) / image.width);
  const int rows = std::max(int(image.height * scale), 1), columns = std::max(int(image.width * scale), 1);
  std::fill_n(planes, size_t(3) * height * width, 114.f);
  const auto down = along(rows, image.height, true), across = along(columns, image.width, false);
  for (int y = 0; y < rows; ++y)
    for (int x = 0; x < columns; ++x)
      for (int c = 0; c < 3; ++c) {
        int sum = 2;
        for (int i = 0; i < 2; ++i) {
          const int row = std::clamp(down[y].low + i, 0, image.height - 1);
          const unsigned char* line = &image.rgb[size_t(row) * image.width * 3 + c];
          const int left = across[x].low, right = std::min(left + 1, image.width - 1);
          const int mixed = line[3 * left] * across[x].part[0] + line[3 * right] * across[x].part[1];
          sum += (down[y].part[i] * (mixed >> 4)) >> 16;
        }
        planes[(size_t(2 - c) * height + y) * width + x] = float(sum >> 2);
      }
  return float(scale);
}

int run(const std::string& model, const std::string& path) {
  Ort::Env env(ORT_LOGGING_LEVEL_WARNING);
  Ort::Session session(env, model.c_str(), Ort::SessionOptions{});
  const auto shape = session.GetInputTypeInfo(0).GetTensorTypeAndShapeInfo().GetShape();  // 1, 3, height, width
  std::vector<float> planes(size_t(3) * shape[2] * shape[3]);
  const float scale = place(read_ppm(path), planes.data(), int(shape[2]), int(shape[3]));
  const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  const auto images =
      Ort::Value::CreateTensor<float>(memory, planes.data(), planes.size(), shape.data(), shape.size());
  const char* inputs[] = {"images"};
  const char* outputs[] = {"boxes", "scores", "labels"};
  const auto found = session.Run(Ort::RunOptions{}, inputs, &images, 1, outputs, 3);
  const size_t count = found[1].GetTensorTypeAndShapeInfo().GetElementCount();
  for (size_t i = 0; i < count; ++i) {
    const float* box = found[0].GetTensorData<float>() + 4 * i;
    std::printf("%.4f,%.4f,%.4f,%.4f,%.6f,%d\n", box[0] / scale, box[1] / scale, box[2] / scale, box[3] / scale,
                found[1].GetTensorData<float>()[i], int(found[2].GetTensorData<int32_t>()[i]));
  }
  return 0;
}

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: image MODEL.onnx IMAGE.ppm\n");
    return 2;
  }
  try {
    return run(argv[1], argv[2]);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
