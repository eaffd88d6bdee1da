// Stand-in for hls::stream<T> in the bounded simulation: every process of the dataflow runs by itself, reads wait for words,
// writes wait for room, and every beat has a cycle.
//
// A process is a rigid pipeline of `holdback` L >= 0 stages. Its loop makes trips 0 .. T-1 a frame, and its beats are
// 0 .. T+L-1: beat b consists of the reads of trip b, if b < T, and of the writes of trip b - L, if b >= L. A beat fires as
// a whole, when all its words are there and there is room for all that it writes. So results may be stuck behind a read.
//   - A read takes its word when the beat fires; until then the word keeps its place. A write waits in the delay line.
//   - Only its own process takes from an input and puts into an output: waiting for the words first and for the room then
//     is waiting for both.
//   - Streams that are named so are used outside the loop (parameters, which are loaded before it). There every write is a beat of
//     its own, together with the reads before it, and so is every read, but that the last one before the loop belongs to beat 0.
//   - Who may fire next is determined by each process alone, so the order in which processes run changes nothing: a run
//     that stops, stops in the same state, and no process being able to go on is a deadlock.
//   - Cycles follow from the same order: a beat fires one cycle or more after the process' last one, after each of its words
//     was put, and after the word that had the slot of each word it puts was taken. Nothing is polled.
//
// Processes are contexts of one thread. What stands outside a process (a testbench) sees streams without bounds, whose words
// are there from the start. BROADAXE_PROCESS and BROADAXE_ANOTHER are put into copies of the sources, see bounded.py.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <exception>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include <sys/mman.h>
#include <ucontext.h>

namespace broadaxe_bounded {

typedef int64_t Cycle;

class Process;
class Fifo;

// What a run is given, by name. A FIFO that is not named has no bound, a process that is not named holds nothing back.
struct Settings {
  std::map<std::string, int64_t> depths, holdbacks, outside;
  int frames;
  int64_t loading;  // the frame that loads parameters; none below 0
  bool tracing;
  Settings() : frames(1), loading(-1), tracing(false) {}
};

inline Settings& settings() {
  static Settings instance;
  return instance;
}

inline int64_t named(const std::map<std::string, int64_t>& values, const std::string& name, int64_t otherwise) {
  const std::map<std::string, int64_t>::const_iterator found = values.find(name);
  return found == values.end() ? otherwise : found->second;
}

// How a run left a stream, which is gone with the function that declared it.
struct Left {
  std::string name;
  int64_t fill, depth;
};

// What a process that cannot go on waits for: a word, or room.
struct Blocked {
  std::string process, stream;
  bool full;
};

// Streams and processes of a run, which processes can go on, and what came of it.
struct Run {
  std::vector<Fifo*> fifos;
  std::vector<std::unique_ptr<Process> > processes;
  std::deque<Process*> runnable;
  Process* current;
  ucontext_t scheduler;
  std::vector<Left> left;
  std::vector<Blocked> blocked;
  Run() : current(nullptr) {}
};

inline Run& run() {
  static Run instance;
  return instance;
}

// A FIFO without its words. Words are numbered from 0 in the order they are written: taken_ are gone, put_ were ever put,
// written_ - put_ stand in the writer's delay line. reads_ words after taken_ are read by the beat that is being made up.
class Fifo {
 public:
  const std::string& name() const { return name_; }
  int64_t depth() const { return depth_; }  // 0: without bound
  int64_t fill() const { return put_ - taken_; }

  bool holds_another() const { return put_ - taken_ > reads_; }
  bool empty() const { return put_ == taken_; }
  bool outside() const { return outside_; }
  bool has_room() const { return depth_ == 0 || put_ + promised_ - taken_ < depth_; }
  // The first cycle in which the next word can be taken, or the next slot filled.
  Cycle word_from() const { return put_at_[slot(taken_ + reads_)] + 1; }
  Cycle room_from() const {
    const int64_t word = put_ + promised_;
    return word < depth_ || depth_ == 0 ? 0 : freed_at_[static_cast<std::size_t>(word % depth_)] + 1;
  }
  void promise() { promised_++; }
  void put(Cycle now);
  void take(Cycle now);

  Process* reader;
  Process* writer;
  Process* waiting;  // for a word or for room: never both ends at once

 protected:
  Fifo(const char* name, std::size_t bytes)
      : reader(nullptr), writer(nullptr), waiting(nullptr), name_(name), depth_(named(settings().depths, name, 0)),
        outside_(named(settings().outside, name, 0) != 0), taken_(0), put_(0), written_(0), reads_(0), promised_(0), bytes_(bytes), words_(16 * bytes), put_at_(16),
        freed_at_(static_cast<std::size_t>(depth_)) {
    run().fifos.push_back(this);
  }
  ~Fifo() {}
  void write_bytes(const void* word);
  void read_bytes(void* word);

 private:
  // Word n stands in slot n mod their number, a power of two.
  std::size_t slot(int64_t word) const { return static_cast<std::size_t>(word) & (put_at_.size() - 1); }
  void* at(int64_t word) { return words_.data() + slot(word) * bytes_; }
  void grow();

  std::string name_;
  int64_t depth_;
  bool outside_;
  int64_t taken_, put_, written_, reads_, promised_;
  std::size_t bytes_;
  std::vector<unsigned char> words_;
  std::vector<Cycle> put_at_, freed_at_;

  Fifo(const Fifo&);
  Fifo& operator=(const Fifo&);
};

// In which trips a process reads, or writes: by stream.
typedef std::map<std::string, std::vector<int64_t> > Record;

struct Frame {
  Cycle first, last;  // beats
};

class Process {
 public:
  Process(const std::string& name, void (*call)(const void*), const void* closure)
      : name_(name), call_(call), closure_(closure), holdback_(named(settings().holdbacks, name, 0)),
        line_(static_cast<std::size_t>(holdback_) + 1), trips_(0), frame_(0), looped_(false), fresh_(true), clock_(-1), ready_(0),
        stack_(MAP_FAILED), waits_(nullptr), for_room_(false), finished_(false) {}
  ~Process() {
    if (stack_ != MAP_FAILED) munmap(stack_, STACK);
  }

  const std::string& name() const { return name_; }
  const Fifo* waits() const { return waits_; }
  bool for_room() const { return for_room_; }
  bool finished() const { return finished_; }
  const std::string& error() const { return error_; }
  const std::vector<Frame>& frames() const { return frames_; }
  int64_t trips() const { return trips_; }
  int64_t frame() const { return frame_; }
  const Record& reads() const { return reads_; }
  const Record& writes() const { return writes_; }

  void start();
  void resume() {
    swapcontext(&run().scheduler, &context_);
  }

  // The condition of the kernel's loop: trip t - 1 has ended, trip t begins if there is another.
  bool another(int64_t t, bool more) {
    if (looped_ || t != trips_) throw std::logic_error(name_ + ": its loop runs more than once");
    if (t > 0) beat(t - 1);
    if (more) {
      trips_++;
    } else {
      for (int64_t b = t; b < t + holdback_; b++) beat(b);
      looped_ = true;
    }
    return more;
  }
  void read(Fifo* fifo) {
    belongs(fifo->reader, fifo);
    if (fifo->outside() && !taken_.empty()) fire(nullptr);
    while (!fifo->holds_another()) wait(fifo, false);
    later(fifo->word_from());
    taken_.push_back(fifo);
    if (settings().tracing && !fifo->outside()) reads_[fifo->name()].push_back(trips_ - 1);
  }
  void write(Fifo* fifo) {
    belongs(fifo->writer, fifo);
    if (fifo->outside()) {
      std::vector<Fifo*> alone(1, fifo);
      fire(&alone);
      return;
    }
    line_[static_cast<std::size_t>((trips_ - 1) % (holdback_ + 1))].push_back(fifo);
    if (settings().tracing) writes_[fifo->name()].push_back(trips_ - 1);
  }

 private:
  static const std::size_t STACK = std::size_t(64) << 20;  // kernels keep line buffers there; untouched pages cost nothing

  static void enter();
  void call_frames();

  void belongs(Process*& end, const Fifo* fifo) {
    if (end == nullptr) end = this;
    if (end != this) throw std::logic_error(fifo->name() + ": more than one process uses the same end");
    if (!fifo->outside() && (trips_ == 0 || looped_)) throw std::logic_error(name_ + ": uses " + fifo->name() + " outside its loop");
  }
  void later(Cycle cycle) {
    if (cycle > ready_) ready_ = cycle;
  }
  void wait(Fifo* fifo, bool for_room) {
    waits_ = fifo;
    for_room_ = for_room;
    fifo->waiting = this;
    run().current = nullptr;
    swapcontext(&context_, &run().scheduler);
    waits_ = nullptr;
  }

  void beat(int64_t b) {
    fire(b >= holdback_ ? &line_[static_cast<std::size_t>((b - holdback_) % (holdback_ + 1))] : nullptr);
  }

  // Fires a beat: what it reads was waited for, what it writes is waited for here.
  void fire(std::vector<Fifo*>* writes) {
    if (writes) {
      for (std::size_t i = 0; i < writes->size(); i++) {
        Fifo* const fifo = (*writes)[i];
        while (!fifo->has_room()) wait(fifo, true);
        later(fifo->room_from());
        fifo->promise();
      }
    }
    clock_ = ready_;
    ready_ = clock_ + 1;
    if (fresh_) {
      fresh_ = false;
      const Frame frame = {clock_, clock_};
      frames_.push_back(frame);
    }
    frames_.back().last = clock_;
    for (std::size_t i = 0; i < taken_.size(); i++) taken_[i]->take(clock_);
    taken_.clear();
    if (writes) {
      for (std::size_t i = 0; i < writes->size(); i++) (*writes)[i]->put(clock_);
      writes->clear();
    }
  }

  std::string name_;
  void (*call_)(const void*);
  const void* closure_;
  int64_t holdback_;
  std::vector<std::vector<Fifo*> > line_;  // trip t's writes stand in line_[t mod (holdback + 1)] until beat t + holdback
  std::vector<Fifo*> taken_;               // what the beat being made up reads
  int64_t trips_;                          // that have begun in this frame
  int64_t frame_;
  bool looped_, fresh_;                    // fresh: no beat of this frame has fired
  Cycle clock_, ready_;  // the last beat's cycle; the first in which the next one may fire
  std::vector<Frame> frames_;
  Record reads_, writes_;
  ucontext_t context_;
  void* stack_;
  Fifo* waits_;
  bool for_room_, finished_;
  std::string error_;

  Process(const Process&);
  Process& operator=(const Process&);
};

inline void wake(Fifo* fifo) {
  if (!fifo->waiting) return;
  run().runnable.push_back(fifo->waiting);
  fifo->waiting = nullptr;
}

inline void Fifo::put(Cycle now) {
  put_at_[slot(put_)] = now;
  put_++;
  if (promised_ > 0) promised_--;
  wake(this);
}

inline void Fifo::take(Cycle now) {
  if (depth_ > 0) freed_at_[static_cast<std::size_t>(taken_ % depth_)] = now;
  taken_++;
  if (reads_ > 0) reads_--;
  wake(this);
}

inline void Fifo::write_bytes(const void* word) {
  if (written_ - taken_ == static_cast<int64_t>(put_at_.size())) grow();
  std::memcpy(at(written_), word, bytes_);
  written_++;
  if (Process* const process = run().current) {
    process->write(this);
  } else {
    put(-1);
  }
}

inline void Fifo::read_bytes(void* word) {
  if (Process* const process = run().current) {
    process->read(this);
    std::memcpy(word, at(taken_ + reads_), bytes_);
    reads_++;
    return;
  }
  if (empty()) throw std::runtime_error("stream " + name_ + ": read while empty; its producer wrote too few words");
  std::memcpy(word, at(taken_), bytes_);
  take(0);
}

inline void Fifo::grow() {
  std::vector<unsigned char> words(2 * words_.size());
  std::vector<Cycle> put_at(2 * put_at_.size());
  for (int64_t n = taken_; n < written_; n++) {
    const std::size_t to = static_cast<std::size_t>(n) & (put_at.size() - 1);
    std::memcpy(words.data() + to * bytes_, at(n), bytes_);
    put_at[to] = put_at_[slot(n)];
  }
  words_.swap(words);
  put_at_.swap(put_at);
}

inline void Process::start() {
  stack_ = mmap(nullptr, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (stack_ == MAP_FAILED) throw std::runtime_error(name_ + ": there is no address space for its stack");
  mprotect(stack_, 4096, PROT_NONE);  // running out of it must not go unnoticed
  getcontext(&context_);
  context_.uc_stack.ss_sp = stack_;
  context_.uc_stack.ss_size = STACK;
  context_.uc_link = &run().scheduler;
  makecontext(&context_, &Process::enter, 0);
}

inline void Process::enter() {
  Process* const self = run().current;
  try {
    self->call_frames();
  } catch (const std::exception& error) {
    self->error_ = error.what();
  }
  run().current = nullptr;
}

inline void Process::call_frames() {
  for (int f = 0; f < settings().frames; f++) {
    trips_ = 0;
    frame_ = f;
    looped_ = false;
    fresh_ = true;
    call_(closure_);
    if (!looped_ && (fresh_ || trips_ > 0 || !taken_.empty())) throw std::logic_error(name_ + ": has no loop, or leaves it early");
  }
  finished_ = true;
}

inline void add_process(const char* name, void (*call)(const void*), const void* closure) {
  run().processes.push_back(std::unique_ptr<Process>(new Process(name, call, closure)));
}
// The closure stays where it is: beside the streams that it captures.
template <typename Closure>
void called(const void* closure) {
  (*static_cast<const Closure*>(closure))();
}
template <typename Closure>
void process(const char* name, const Closure& closure) {
  add_process(name, &called<Closure>, &closure);
}

// Runs every process until it has made its frames, or none can go on. Throws what a process threw.
inline void run_processes() {
  Run& all = run();
  for (std::size_t i = 0; i < all.processes.size(); i++) {
    all.processes[i]->start();
    all.runnable.push_back(all.processes[i].get());
  }
  while (!all.runnable.empty()) {
    Process* const next = all.runnable.front();
    all.runnable.pop_front();
    all.current = next;
    next->resume();
    if (!next->error().empty()) throw std::runtime_error(next->error());
  }
  for (std::size_t i = 0; i < all.fifos.size(); i++) {
    const Left left = {all.fifos[i]->name(), all.fifos[i]->fill(), all.fifos[i]->depth()};
    all.left.push_back(left);
  }
  for (std::size_t i = 0; i < all.processes.size(); i++) {
    const Process& process = *all.processes[i];
    if (process.finished()) continue;
    const Blocked blocked = {process.name(), process.waits()->name(), process.for_room()};
    all.blocked.push_back(blocked);
  }
}

inline bool another(int64_t t, bool more) { return run().current ? run().current->another(t, more) : more; }

// Whether this frame loads parameters.
inline bool loads() { return run().current && run().current->frame() == settings().loading; }

}  // namespace broadaxe_bounded

#define BROADAXE_LOADS() ::broadaxe_bounded::loads()
#define BROADAXE_ANOTHER(TRIP, ...) ::broadaxe_bounded::another(TRIP, __VA_ARGS__)
#define BROADAXE_PROCESS(CLOSURE, NAME, ...)    \
  const auto CLOSURE = [&] { __VA_ARGS__; };     \
  ::broadaxe_bounded::process(NAME, CLOSURE)
#define BROADAXE_RUN_PROCESSES() ::broadaxe_bounded::run_processes()

namespace hls {

template <typename T>
class stream : public broadaxe_bounded::Fifo {
 public:
  explicit stream(const char* name) : broadaxe_bounded::Fifo(name, sizeof(T)) {
    static_assert(std::is_trivially_copyable<T>::value, "words are kept as bytes");
  }
  void write(const T& word) { write_bytes(&word); }
  T read() {
    T word;
    read_bytes(&word);
    return word;
  }
};

}  // namespace hls
