// XRT's C++ interface as far as a host needs it, over the C simulation: kernels are functions of a board (board_run), buffers
// have a host and a device side, and what is not synchronised does not arrive.
#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

extern "C" int board_run(const char* kernel, uint8_t* memory, int64_t size, int frames);

enum ert_cmd_state { ERT_CMD_STATE_NEW = 1, ERT_CMD_STATE_COMPLETED = 4, ERT_CMD_STATE_ERROR = 5 };
enum xclBOSyncDirection { XCL_BO_SYNC_BO_TO_DEVICE = 0, XCL_BO_SYNC_BO_FROM_DEVICE };

namespace xrt {

class uuid {};

class device {
 public:
  explicit device(unsigned) {}
  uuid load_xclbin(const std::string& path) {
    if (path.empty()) throw std::runtime_error("no xclbin");
    return uuid();
  }
};

class bo {
 public:
  bo(const device&, size_t size, int group) : sides(std::make_shared<sides_t>(size)) {
    if (group != 7) throw std::runtime_error("bo: in another memory than its kernel's");
  }
  void write(const void* from, size_t size, size_t seek) { std::memcpy(&sides->host.at(seek + size - 1) + 1 - size, from, size); }
  void read(void* to, size_t size, size_t skip) { std::memcpy(to, &sides->host.at(skip + size - 1) + 1 - size, size); }
  void sync(xclBOSyncDirection direction, size_t size, size_t offset) {
    uint8_t *host = &sides->host.at(offset + size - 1) + 1 - size, *card = &sides->card.at(offset + size - 1) + 1 - size;
    std::memcpy(direction == XCL_BO_SYNC_BO_TO_DEVICE ? card : host, direction == XCL_BO_SYNC_BO_TO_DEVICE ? host : card, size);
  }

  struct sides_t {
    std::vector<uint8_t> host, card;
    explicit sides_t(size_t size) : host(size, 0xa5), card(size, 0x5a) {}
  };
  std::shared_ptr<sides_t> sides;
};

class run;

class kernel {
 public:
  kernel(const device&, const uuid&, const std::string& name) : name(name) {}
  int group_id(int argument) const {
    if (argument != 0) throw std::runtime_error(name + ": argument is no memory");
    return 7;
  }
  run operator()(const bo& buffer, int frames);
  std::string name;
};

// What reads a stream runs when it is waited for: by then the sequential simulation has filled the stream.
class run {
 public:
  explicit run(const kernel& of) : name_(of.name), frames_(0), late_(of.name.compare(0, 5, "s2mm_") == 0), status_(-1) {}
  run(const kernel& of, const bo& buffer, int frames) : run(of) {
    sides_ = buffer.sides;
    frames_ = frames;
  }
  void start() {
    if (!late_) status_ = execute();
  }
  ert_cmd_state wait(unsigned int) {
    if (late_) status_ = execute();
    return status_ == 0 ? ERT_CMD_STATE_COMPLETED : ERT_CMD_STATE_ERROR;
  }

 private:
  int execute() {
    return sides_ ? board_run(name_.c_str(), sides_->card.data(), (int64_t)sides_->card.size(), frames_)
                  : board_run(name_.c_str(), nullptr, 0, 1);
  }
  std::string name_;
  std::shared_ptr<bo::sides_t> sides_;
  int frames_;
  bool late_;
  int status_;
};

inline run kernel::operator()(const bo& buffer, int frames) {
  run made(*this, buffer, frames);
  made.start();
  return made;
}

}  // namespace xrt
