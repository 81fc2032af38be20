// Drives the generated top `bench` of many stream cells at once: sources and sinks that stall at random.
//
// Reads jobs from standard input until it ends, as uint64 words: cycles, seed, stalls of the sources and of the sinks
// (chance of a stalled cycle times 2^32); then for each input the number of its beats and the beats. Writes for each
// job: for each input the number of beats taken and the cycle of each; for each output the number of beats, then the
// cycle and data of each. A job starts with a reset, whatever the one before left in flight. Ends with status 1 where
// an output that waits for ready changes or withdraws its beat.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "Vbench.h"

namespace {

using Words = std::vector<uint64_t>;

struct Random {  // xorshift64*, Vigna 2016
  uint64_t state;
  bool operator()(uint64_t threshold) {
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return ((state * 0x2545F4914F6CDD1DULL) >> 32) < threshold;
  }
};

struct Input {
  Words beats, taken;
  bool valid = false;
};

struct Output {
  Words beats;  // cycle, data
  bool waits = false;
  uint64_t held = 0;
};

Vbench top;

bool read(uint64_t* word) { return std::fread(word, sizeof *word, 1, stdin) == 1; }

uint64_t word() {
  uint64_t value = 0;
  if (!read(&value)) std::abort();
  return value;
}

void write(const Words& words, uint64_t count) {
  std::fwrite(&count, sizeof count, 1, stdout);
  std::fwrite(words.data(), sizeof(uint64_t), words.size(), stdout);
}

void edge() {
  top.clk = 1;
  top.eval();
  top.clk = 0;
  top.eval();
}

// An input channel is {data, valid} in three 32-bit words, an output channel likewise, a ready one word.
void drive(size_t i, Input& input, Random& random, uint64_t stall) {
  const size_t next = input.taken.size();
  if (next == input.beats.size()) input.valid = false;
  else if (!input.valid) input.valid = !random(stall);
  const uint64_t data = input.valid ? input.beats[next] : ~uint64_t{0};
  top.in[3 * i] = input.valid;
  top.in[3 * i + 1] = static_cast<uint32_t>(data);
  top.in[3 * i + 2] = static_cast<uint32_t>(data >> 32);
}

void sample(size_t i, Output& output, uint64_t cycle) {
  const bool valid = top.out[3 * i] & 1;
  const uint64_t data = top.out[3 * i + 1] | static_cast<uint64_t>(top.out[3 * i + 2]) << 32;
  if (output.waits && (!valid || data != output.held)) {
    std::fprintf(stderr, "output %zu changed under stall in cycle %zu\n", i, static_cast<size_t>(cycle));
    std::exit(1);
  }
  const bool ready = top.out_ready[i] & 1;
  if (valid && ready) output.beats.insert(output.beats.end(), {cycle, data});
  output.waits = valid && !ready;
  output.held = data;
}

void run(uint64_t cycles) {
  Random random{word()};
  const uint64_t in_stall = word(), out_stall = word();
  std::vector<Input> inputs(INPUTS);
  std::vector<Output> outputs(OUTPUTS);
  for (Input& input : inputs) {
    input.beats.resize(word());
    for (uint64_t& beat : input.beats) beat = word();
  }
  for (size_t i = 0; i < INPUTS; ++i) top.in[3 * i] = 0;
  for (size_t i = 0; i < OUTPUTS; ++i) top.out_ready[i] = 0;
  top.rst_n = 0;
  edge();
  edge();
  top.rst_n = 1;
  for (uint64_t cycle = 0; cycle < cycles; ++cycle) {
    for (size_t i = 0; i < INPUTS; ++i) drive(i, inputs[i], random, in_stall);
    for (size_t i = 0; i < OUTPUTS; ++i) top.out_ready[i] = !random(out_stall);
    top.eval();
    for (size_t i = 0; i < OUTPUTS; ++i) sample(i, outputs[i], cycle);
    for (size_t i = 0; i < INPUTS; ++i) {
      if (!inputs[i].valid || !(top.in_ready[i] & 1)) continue;
      inputs[i].taken.push_back(cycle);
      inputs[i].valid = false;
    }
    edge();
  }
  for (const Input& input : inputs) write(input.taken, input.taken.size());
  for (const Output& output : outputs) write(output.beats, output.beats.size() / 2);
}

}  // namespace

int main() {
  for (uint64_t cycles; read(&cycles);) run(cycles);
  return 0;
}
