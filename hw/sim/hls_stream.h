// Stand-in for hls::stream<T> in the g++ builds; vendor tools bring their own.
//
// Unbounded, because sequential C simulation runs a producer to its end before the consumer starts. Reading an empty stream
// throws std::runtime_error naming the stream: a simulation neither hangs nor reads garbage. Words that nobody read are
// listed by broadaxe_sim::leftovers(), whether their stream is gone or still alive.
// With -DBROADAXE_TRACE every written word is kept under its stream's name (broadaxe_trace::histories()).
//
// Compile shared libraries with -fno-gnu-unique -fvisibility=hidden, or two of them in one process share these registries.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#ifdef BROADAXE_TRACE
#ifndef AP_INT_MAX_W
#define AP_INT_MAX_W 4096
#endif
#include <ap_int.h>
#include <map>
#endif

namespace broadaxe_sim {

struct Leftover {
  std::string name;
  std::size_t words;
};

class stream_base;

// Streams belong to the thread that made them: frames may be simulated in parallel threads.
struct Registry {
  std::vector<Leftover> destroyed;
  stream_base* live;
  Registry() : live(nullptr) {}
};

inline Registry& registry() {
  static thread_local Registry instance;
  return instance;
}

class stream_base {
 public:
  const std::string& name() const { return name_; }
  virtual std::size_t size() const = 0;
  stream_base* next() const { return next_; }

 protected:
  explicit stream_base(const std::string& name) : name_(name), previous_(nullptr), next_(registry().live) {
    if (next_) next_->previous_ = this;
    registry().live = this;
  }
  virtual ~stream_base() {
    if (next_) next_->previous_ = previous_;
    if (previous_) {
      previous_->next_ = next_;
    } else {
      registry().live = next_;
    }
  }
  void retire(std::size_t words) const {
    if (words == 0) return;
    const Leftover left = {name_, words};
    registry().destroyed.push_back(left);
  }
  void throw_empty() const {
    throw std::runtime_error("stream " + name_ + ": read while empty; its producer wrote too few words");
  }

 private:
  stream_base(const stream_base&);
  stream_base& operator=(const stream_base&);

  std::string name_;
  stream_base* previous_;
  stream_base* next_;
};

// Streams of this thread that were destroyed with words in them since the last clear_leftovers(), then live ones that hold words.
inline std::vector<Leftover> leftovers() {
  std::vector<Leftover> found = registry().destroyed;
  for (const stream_base* s = registry().live; s; s = s->next()) {
    if (s->size() > 0) {
      const Leftover left = {s->name(), s->size()};
      found.push_back(left);
    }
  }
  return found;
}

inline void clear_leftovers() { registry().destroyed.clear(); }

}  // namespace broadaxe_sim

#ifdef BROADAXE_TRACE
namespace broadaxe_trace {

typedef std::vector<int64_t> History;

// Every stream's words since the last clear(), in the order they were written. One thread only.
inline std::map<std::string, History>& histories() {
  static std::map<std::string, History> instance;
  return instance;
}

// Empties the histories and keeps their places, which live streams point to.
inline void clear() {
  for (std::map<std::string, History>::iterator it = histories().begin(); it != histories().end(); ++it) it->second.clear();
}

// How a word of type T is cut into integers. Lane words of the native build give one integer a lane (word.hpp). A plain
// ap_uint, which is what a lane word is in the exact build, gives ceil(width / 64) limbs from bit 0: cut the lanes outside.
template <typename T>
struct split {
  static void append(History& history, const T& word) { history.push_back(static_cast<int64_t>(word)); }
};
template <int W>
struct split<ap_int<W> > {
  static void append(History& history, const ap_int<W>& word) { history.push_back(word.to_int64()); }
};
template <int W>
struct split<ap_uint<W> > {
  static void append(History& history, ap_uint<W> word) {
    for (int lo = 0; lo < W; lo += 64) {
      const int hi = lo + 63 < W ? lo + 63 : W - 1;
      const ap_uint<64> limb = word.range(hi, lo);
      history.push_back(static_cast<int64_t>(limb.to_uint64()));
    }
  }
};

template <typename T>
void record(History& history, const T& word) {
  split<T>::append(history, word);
}
template <typename T>
void record(const std::string& name, const T& word) {
  split<T>::append(histories()[name], word);
}

}  // namespace broadaxe_trace
#endif

namespace hls {

template <typename T>
class stream : public broadaxe_sim::stream_base {
 public:
  stream() : stream("unnamed") {}
  explicit stream(const char* name)
      : broadaxe_sim::stream_base(name),
#ifdef BROADAXE_TRACE
        history_(broadaxe_trace::histories()[name]),
#endif
        head_(0) {
  }
  ~stream() { retire(size()); }

  bool empty() const { return head_ == words_.size(); }
  bool full() const { return false; }
  std::size_t size() const { return words_.size() - head_; }

  void write(const T& word) {
    // A long-lived stream whose reader keeps up must not grow for ever.
    if (head_ >= 4096 && head_ * 2 >= words_.size()) {
      words_.erase(words_.begin(), words_.begin() + static_cast<std::ptrdiff_t>(head_));
      head_ = 0;
    }
    words_.push_back(word);
#ifdef BROADAXE_TRACE
    broadaxe_trace::record(history_, word);
#endif
  }
  bool write_nb(const T& word) {
    write(word);
    return true;
  }
  T read() {
    if (empty()) throw_empty();
    const T word = words_[head_++];
    if (empty()) {
      words_.clear();
      head_ = 0;
    }
    return word;
  }
  void read(T& word) { word = read(); }
  bool read_nb(T& word) {
    if (empty()) return false;
    word = read();
    return true;
  }
  void operator>>(T& word) { word = read(); }
  void operator<<(const T& word) { write(word); }

 private:
  std::vector<T> words_;
#ifdef BROADAXE_TRACE
  broadaxe_trace::History& history_;
#endif
  std::size_t head_;
};

}  // namespace hls
