// The loop that drives an emitted top and counts what it does. It knows no design: ports and inner wires are
// found by name through Verilator's table of public variables.
//
// The one argument is a job folder. Read: job.txt (below), in<i>.bin (the beats of source i, samples x beats x bytes).
// Written: out<i>.bin (the beats of sink i), ends.bin (for each sample the cycle of its last output beat, uint64),
// probe<i>.bin (the beats of stream i, where probed), times<i>.bin (the cycles of its first beats, uint64), wave.vcd,
// and report.txt, whose lines are "name values".
// job.txt: lines of "samples N", "seed N", "patience N" (cycles without a beat before giving up), "interrupt N"
// (cycles of beats before a reset that drops them, 0: none),
// "stalls P P" (sources, sinks), "trace N" (the cycle in which the waveform begins), "top NAME",
// "source PREFIX BEATS BYTES", "sink PREFIX BEATS BYTES", "stream NAME PROBED TIMED" (beats whose cycle is kept).
//
// A cycle: inputs change while the clock is low, the model settles, every handshake is sampled, the clock rises.
// Sample 0 runs alone and without stalls, for the latency; then the others follow one another.

#include <algorithm>
#include <chrono>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "Vmodel.h"
#include "verilated.h"
#include "verilated_syms.h"
#if VM_TRACE_VCD
#include "verilated_vcd_c.h"
#endif

#ifdef QUIRE_FAST
// What Vmodel::eval() calls between locks and queues that only models with threads need; they take a
// third of the time of a small one. Should a Verilator have no function of this name, eval() it is.
__attribute__((weak)) void Vmodel___024root___eval(Vmodel___024root*);
#endif

namespace {

using Bytes = std::vector<uint8_t>;

constexpr uint64_t kNever = ~uint64_t{0};
constexpr unsigned kResetCycles = 8;
constexpr unsigned kIdleCycles = 20;       // how many of a stuck run's idle cycles a waveform shows
constexpr unsigned kDrainCycles = 64;      // how long the top must stay silent after its last beat
constexpr uint64_t kCheckCycles = 1 << 12;  // how often the wall clock is read

struct Random {  // xorshift64*, Vigna 2016
  uint64_t state;
  uint32_t operator()() {
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return static_cast<uint32_t>((state * 0x2545F4914F6CDD1DULL) >> 32);
  }
};

struct Coin {  // true with a fixed probability
  uint64_t threshold = 0;
  explicit Coin(double probability = 0) : threshold(static_cast<uint64_t>(probability * 4294967296.0)) {}
  bool operator()(Random& random) const { return threshold && random() < threshold; }
};

enum Handshake { kIdle, kStarved, kStalled, kMoves };  // valid in bit 1, ready in bit 0

struct Stream {
  std::string name;
  uint8_t* valid = nullptr;
  uint8_t* ready = nullptr;
  uint8_t* data = nullptr;
  size_t bytes = 0;
  bool probed = false;
  uint64_t cycles[4] = {};  // of each Handshake, since samples follow one another
  uint64_t earlier = 0;     // beats before that
  uint64_t timed = 0;
  Bytes seen;
  std::vector<uint64_t> times;

  Handshake sample() {
    const auto now = static_cast<Handshake>(*valid << 1 | *ready);
    ++cycles[now];
    return now;
  }
  bool keeps() const { return probed || times.size() < timed; }
  void keep(uint64_t cycle) {
    if (times.size() < timed) times.push_back(cycle);
    if (probed) seen.insert(seen.end(), data, data + bytes);
  }
};

struct Port : Stream {
  uint8_t* last = nullptr;
  bool accepted = false;
  uint64_t beats_a_sample = 0;
  uint64_t done = 0, limit = 0, total = 0;  // beats: so far, in this phase, in all
  uint64_t sample_left = 0;                 // beats up to the end of the sample
  Bytes memory;

  uint8_t* beat() { return memory.data() + done * bytes; }
  bool at_last() const { return sample_left == 1; }
  void advance() {
    ++done;
    if (--sample_left == 0) sample_left = beats_a_sample;
  }
  void restart() {
    done = 0;
    sample_left = beats_a_sample;
  }
};

struct Job {
  std::string folder, top;
  uint64_t samples = 0, seed = 1, patience = 0, interrupt = 0, trace = kNever;
  Coin source_stalls, sink_stalls;
  std::vector<Port> sources, sinks;
  std::vector<Stream> streams;
};

Job job;
VerilatedContext context;
Random draw{1};
std::unique_ptr<Vmodel> model;
#if VM_TRACE_VCD
std::unique_ptr<VerilatedVcdC> wave;
#endif
uint64_t cycle = 0, first_input = kNever;
uint64_t awaited = 0;        // beats at ports that the phase still lacks
std::vector<Stream*> kept;   // the streams inside whose beats are still noted down
uint64_t moved_at = 0;       // when a beat last moved
uint64_t finished = kNever;  // what a waveform should reach, if it is not all of the run
std::vector<uint64_t> ends;

std::string path(const std::string& name) { return job.folder + "/" + name; }

void write(const std::string& name, const void* data, size_t bytes) {
  std::ofstream file(path(name), std::ios::binary);
  file.write(static_cast<const char*>(data), static_cast<std::streamsize>(bytes));
  if (!file.good()) {
    std::cerr << "cannot write " << path(name) << "\n";
    std::exit(1);
  }
}

void close_wave() {
#if VM_TRACE_VCD
  if (wave) wave->close();
  wave.reset();
#endif
}

void report(const Stream& stream, std::ostream& out) {
  out << "stream " << stream.name << " " << stream.earlier + stream.cycles[kMoves] << " "
      << stream.cycles[kStalled] << " " << stream.cycles[kStarved] << "\n";
}

// Write every result and leave; a failure is empty when all went well.
[[noreturn]] void finish(const std::string& failure) {
  std::ostringstream text;
  text << "cycles " << std::min(cycle, finished) << "\n";
  if (first_input != kNever) text << "first " << first_input << "\n";
  for (const auto& port : job.sources) report(port, text);
  for (const auto& stream : job.streams) report(stream, text);
  for (const auto& port : job.sinks) report(port, text);
  if (!failure.empty()) text << "failure " << failure << "\n";
  close_wave();
  for (size_t i = 0; i < job.sinks.size(); ++i)
    write("out" + std::to_string(i) + ".bin", job.sinks[i].memory.data(), job.sinks[i].memory.size());
  for (size_t i = 0; i < job.streams.size(); ++i) {
    const Stream& stream = job.streams[i];
    const std::string file = std::to_string(i) + ".bin";
    if (stream.probed) write("probe" + file, stream.seen.data(), stream.seen.size());
    if (stream.timed) write("times" + file, stream.times.data(), stream.times.size() * sizeof(uint64_t));
  }
  write("ends.bin", ends.data(), ends.size() * sizeof(uint64_t));
  write("report.txt", text.str().data(), text.str().size());
  std::fflush(nullptr);
  std::_Exit(failure.empty() ? 0 : 2);  // the model's destructor may not run inside its own evaluation
}

VerilatedVar* find(const std::string& scope, const std::string& name) {
  const VerilatedScope* found = context.scopeFind(scope.c_str());
  return found ? found->varFind(name.c_str()) : nullptr;
}

uint8_t* wire(const std::string& scope, const std::string& name, size_t bytes = 1) {
  VerilatedVar* variable = find(scope, name);
  if (!variable) finish("the top module '" + job.top + "' has no wire '" + name + "', which manifest.json asks for");
  const size_t found = (static_cast<size_t>(variable->entBits()) + 7) / 8;
  if (bytes && found != bytes)
    finish("'" + name + "' has " + std::to_string(found) + " bytes, and manifest.json says " + std::to_string(bytes));
  return static_cast<uint8_t*>(variable->datap());
}

void bind(Port& port) {
  const std::string scope = "TOP.TOP";
  port.data = wire(scope, port.name + "_tdata", port.bytes);
  port.valid = wire(scope, port.name + "_tvalid");
  port.ready = wire(scope, port.name + "_tready");
  port.last = wire(scope, port.name + "_tlast");
  port.total = job.samples * port.beats_a_sample;
  port.restart();
}

void bind(Stream& stream) {
  const std::string scope = "TOP." + job.top;
  stream.valid = wire(scope, stream.name + "_valid");
  stream.ready = wire(scope, stream.name + "_ready");
  if (!stream.probed) return;
  stream.data = wire(scope, stream.name + "_data", 0);
  stream.bytes = (static_cast<size_t>(find(scope, stream.name + "_data")->entBits()) + 7) / 8;
}

void load(Port& source, size_t index) {
  const std::string name = path("in" + std::to_string(index) + ".bin");
  source.memory.resize(source.total * source.bytes);
  std::ifstream file(name, std::ios::binary);
  file.read(reinterpret_cast<char*>(source.memory.data()), static_cast<std::streamsize>(source.memory.size()));
  if (file.gcount() != static_cast<std::streamsize>(source.memory.size())) finish("cannot read " + name);
}

void read_job() {
  std::ifstream file(path("job.txt"));
  std::string line, word;
  while (std::getline(file, line)) {
    std::istringstream in(line);
    in >> word;
    if (word == "samples") in >> job.samples;
    if (word == "seed") in >> job.seed;
    if (word == "patience") in >> job.patience;
    if (word == "interrupt") in >> job.interrupt;
    if (word == "trace") in >> job.trace;
    if (word == "top") in >> job.top;
    if (word == "stalls") {
      double sources = 0, sinks = 0;
      in >> sources >> sinks;
      job.source_stalls = Coin(sources);
      job.sink_stalls = Coin(sinks);
    }
    if (word == "source" || word == "sink") {
      Port port;
      in >> port.name >> port.beats_a_sample >> port.bytes;
      (word == "source" ? job.sources : job.sinks).push_back(port);
    }
    if (word == "stream") {
      Stream stream;
      in >> stream.name >> stream.probed >> stream.timed;
      job.streams.push_back(stream);
    }
  }
}

void dump([[maybe_unused]] uint64_t time) {
#if VM_TRACE_VCD
  if (wave) wave->dump(time);
#endif
}

void open_wave() {
#if VM_TRACE_VCD
  if (cycle != job.trace) return;
  wave = std::make_unique<VerilatedVcdC>();
  model->trace(wave.get(), 99);
  wave->open(path("wave.vcd").c_str());
#endif
}

void evaluate() {
#ifdef QUIRE_FAST
  if (Vmodel___024root___eval) return Vmodel___024root___eval(model->rootp);
#endif
  model->eval();
}

// One clock period is 10 units of the waveform: low first, then high.
void settle() {
  open_wave();
  context.time(cycle * 10);
  model->aclk = 0;
  evaluate();
  dump(cycle * 10);
}

void tick() {
  model->aclk = 1;
  evaluate();
  dump(cycle * 10 + 5);
  ++cycle;
}

void reset(unsigned cycles) {
  model->aresetn = 0;
  for (auto& source : job.sources) *source.valid = 0;
  for (auto& sink : job.sinks) *sink.ready = 0;
  for (unsigned i = 0; i < cycles; ++i) {
    settle();
    tick();
  }
  model->aresetn = 1;
}

void check_error() {
  if (model->error)
    finish("the error output rose in cycle " + std::to_string(cycle) + ": an input's tlast is misplaced");
}

void present(Port& source) {
  std::memcpy(source.data, source.beat(), source.bytes);
  *source.last = source.at_last();
  *source.valid = 1;
}

void take(Port& sink) {
  if (sink.done == sink.total) finish("'" + sink.name + "' gives more beats than its samples have");
  const bool last = sink.at_last();
  if (last != static_cast<bool>(*sink.last))
    finish("'" + sink.name + "_tlast' is " + (last ? "0" : "1") + " on beat " +
           std::to_string(sink.done % sink.beats_a_sample) + " of sample " +
           std::to_string(sink.done / sink.beats_a_sample) + ", which has " +
           std::to_string(sink.beats_a_sample) + " beats");
  std::memcpy(sink.beat(), sink.data, sink.bytes);
  if (last) ends[sink.done / sink.beats_a_sample] = cycle;
  awaited -= sink.done < sink.limit;
  sink.advance();
}

std::string names(bool (*holds)(const Stream&)) {
  std::string text;
  const auto add = [&](const Stream& stream) {
    if (holds(stream)) text += (text.empty() ? "" : ", ") + stream.name;
  };
  for (const auto& port : job.sources) add(port);
  for (const auto& stream : job.streams) add(stream);
  for (const auto& port : job.sinks) add(port);
  return text.empty() ? "none" : text;
}

[[noreturn]] void stuck() {
  finished = moved_at + kIdleCycles;
  for (auto& sink : job.sinks) *sink.ready = 1;
  settle();
  std::string text = "no beat moved for " + std::to_string(job.patience) + " cycles; valid without ready: " +
                     names([](const Stream& s) { return *s.valid && !*s.ready; }) + "; ready without valid: " +
                     names([](const Stream& s) { return *s.ready && !*s.valid; });
  for (const auto* side : {&job.sources, &job.sinks})
    for (const auto& port : *side)
      text += "; " + port.name + ": " + std::to_string(port.done) + " of " + std::to_string(port.total) + " beats";
  finish(text);
}

void progress(bool now) {
  using Clock = std::chrono::steady_clock;
  static Clock::time_point next = Clock::now();
  if (!now && Clock::now() < next) return;
  next = Clock::now() + std::chrono::milliseconds(250);
  uint64_t samples = job.samples;
  for (const auto& sink : job.sinks) samples = std::min(samples, sink.done / sink.beats_a_sample);
  std::printf("progress %" PRIu64 " %" PRIu64 "\n", samples, cycle);
  std::fflush(stdout);
}

// What is sent, and how both sides pause.
struct Phase {
  uint64_t samples;
  Coin source_stalls, sink_stalls;
};

void drive(const Phase& phase) {
  for (auto& source : job.sources)
    if (!*source.valid && source.done < source.limit && !phase.source_stalls(draw)) present(source);
  for (auto& sink : job.sinks) *sink.ready = !phase.sink_stalls(draw);
}

void keep() {
  for (auto* stream : kept)
    if (*stream->valid & *stream->ready) stream->keep(cycle);
  const auto keeps = [](const Stream* stream) { return stream->keeps(); };
  kept.erase(std::partition(kept.begin(), kept.end(), keeps), kept.end());
}

// Take what the settled handshakes move; whether anything did.
bool move() {
  bool moved = false;
  if (!kept.empty()) keep();
  for (auto& stream : job.streams) moved |= stream.sample() == kMoves;
  for (auto& sink : job.sinks)
    if (sink.sample() == kMoves) {
      moved = true;
      take(sink);
    }
  for (auto& source : job.sources) {
    source.accepted = source.sample() == kMoves;
    if (!source.accepted) continue;
    moved = true;
    first_input = std::min(first_input, cycle);
  }
  return moved;
}

// A handshake ends after the edge.
void release(Port& source) {
  if (!source.accepted) return;
  source.advance();
  --awaited;
  *source.valid = 0;
}

void step(const Phase& phase) {
  drive(phase);
  settle();
  check_error();
  const bool moved = move();
  tick();
  for (auto& source : job.sources) release(source);
  if (moved) moved_at = cycle;
  if (cycle - moved_at >= job.patience) stuck();
  if (cycle % kCheckCycles == 0) progress(false);
}

void begin(const Phase& phase) {
  awaited = 0;
  for (auto* side : {&job.sources, &job.sinks})
    for (auto& port : *side) {
      port.limit = phase.samples * port.beats_a_sample;
      awaited += port.limit - std::min(port.done, port.limit);
    }
}

void run(const Phase& phase) {
  begin(phase);
  while (awaited) step(phase);
}

template <typename Function>
void each_stream(Function function) {
  for (auto& stream : job.streams) function(stream);
  for (auto* side : {&job.sources, &job.sinks})
    for (auto& port : *side) function(port);
}

// From here on samples follow one another: what is counted is traffic.
void count_anew() {
  each_stream([](Stream& stream) {
    stream.earlier += stream.cycles[kMoves];
    std::fill(std::begin(stream.cycles), std::end(stream.cycles), 0);
  });
}

void keep_from_the_start() {
  kept.clear();
  for (auto& stream : job.streams) {
    stream.seen.clear();
    stream.times.clear();
    if (stream.keeps()) kept.push_back(&stream);
  }
}

// Send beats for some cycles and reset for two: nothing of it may be left.
void interrupt(const Phase& phase) {
  begin(phase);
  for (uint64_t i = 0; i < job.interrupt && awaited; ++i) step(phase);
  reset(2);
  count_anew();
  each_stream([](Stream& stream) { stream.earlier = 0; });
  for (auto* side : {&job.sources, &job.sinks})
    for (auto& port : *side) port.restart();
  keep_from_the_start();
  first_input = kNever;
}

// Every expected beat is out: the top must give no other.
void drain() {
  finished = cycle;
  progress(true);
  close_wave();
  for (unsigned i = 0; i < kDrainCycles; ++i) {
    for (auto& sink : job.sinks) *sink.ready = 1;
    settle();
    check_error();
    for (auto& sink : job.sinks)
      if (*sink.valid) take(sink);
    tick();
  }
}

}  // namespace

// What Verilator reports at run time ends the run: a warning is a missing or short memory file.
void vl_stop(const char* file, int line, const char*) {
  finish("an assertion failed in " + std::string(file) + ":" + std::to_string(line) + ", cycle " +
         std::to_string(cycle));
}
void vl_fatal(const char* file, int, const char*, const char* message) {
  finish(std::string(message) + ": " + file + ", cycle " + std::to_string(cycle));
}
void vl_warn(const char* file, int, const char*, const char* message) {
  finish(std::string(message) + ": " + file);
}

int main(int count, char** arguments) {
  if (count != 2) return 1;
  job.folder = arguments[1];
  read_job();
  ends.assign(job.samples, 0);
  context.randReset(2);  // registers without a reset start at random: what depends on them shows
  context.randSeed(static_cast<int>(job.seed % 0x7fffffff) + 1);
#if VM_TRACE_VCD
  context.traceEverOn(true);
#endif
  model = std::make_unique<Vmodel>(&context);
  model->aclk = 0;
  model->eval();  // the initial values
  for (auto& source : job.sources) bind(source);
  for (auto& sink : job.sinks) bind(sink);
  for (auto& stream : job.streams) bind(stream);
  for (size_t i = 0; i < job.sources.size(); ++i) load(job.sources[i], i);
  for (auto& sink : job.sinks) sink.memory.resize(sink.total * sink.bytes);
  draw.state = job.seed * 0x9E3779B97F4A7C15ULL | 1;
  reset(kResetCycles);
  keep_from_the_start();
  const Phase alone{1, Coin(), Coin()};
  const Phase streaming{job.samples, job.source_stalls, job.sink_stalls};
  if (job.interrupt) interrupt(streaming);
  run(alone);
  count_anew();
  run(streaming);
  drain();
  finish("");
}
