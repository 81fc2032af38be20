// Compares the sign extensions of signs.h with Verilator's own, for every width. Prints how many values were compared.

#include <cinttypes>
#include <cstdio>

#include "verilated.h"

namespace verilator {  // its functions, before signs.h hides them
IData extend(int bits, IData x) { return VL_EXTENDS_II(32, bits, x); }
QData extend(int bits, QData x) { return VL_EXTENDS_QQ(64, bits, x); }
QData extend_word(int bits, IData x) { return VL_EXTENDS_QI(64, bits, x); }
IData multiply(int bits, IData a, IData b) { return VL_MULS_III(bits, a, b); }
QData multiply(int bits, QData a, QData b) { return VL_MULS_QQQ(bits, a, b); }
}  // namespace verilator

#include "signs.h"

uint64_t state = 1;
uint64_t draw() { return state = state * 6364136223846793005ULL + 1442695040888963407ULL, state ^ state >> 29; }
uint64_t compared = 0;

template <typename T>
void expect(T wanted, T got, int bits) {
  ++compared;
  if (wanted == got) return;
  std::printf("%d bits: %" PRIx64 " for %" PRIx64 "\n", bits, static_cast<uint64_t>(got), static_cast<uint64_t>(wanted));
  std::exit(1);
}

int main() {
  for (int bits = 1; bits <= 64; ++bits)
    for (int i = 0; i < 1000; ++i) {
      const QData a = draw() >> (64 - bits), b = draw() >> (64 - bits);
      expect<QData>(verilator::extend(bits, a), VL_EXTENDS_QQ(64, bits, a), bits);
      expect<QData>(verilator::multiply(bits, a, b), VL_MULS_QQQ(bits, a, b), bits);
      if (bits > 32) continue;
      const IData c = static_cast<IData>(a), d = static_cast<IData>(b);
      expect<IData>(verilator::extend(bits, c), VL_EXTENDS_II(32, bits, c), bits);
      expect<QData>(verilator::extend_word(bits, c), VL_EXTENDS_QI(64, bits, c), bits);
      expect<IData>(verilator::multiply(bits, c, d), VL_MULS_III(bits, c, d), bits);
    }
  std::printf("%" PRIu64 "\n", compared);
}
