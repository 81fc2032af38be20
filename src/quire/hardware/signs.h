// Sign extension by two shifts, which a compiler makes one instruction and vectorises. Verilator's own is an and, a
// negation and an or, and a dot product in fixed(8,f) then spends half of its time on them.
#pragma once
#include "verilated.h"

#define VL_EXTENDS_II(obits, lbits, lhs) \
  static_cast<IData>(static_cast<int32_t>(static_cast<IData>(lhs) << (32 - (lbits))) >> (32 - (lbits)))
#define VL_EXTENDS_QQ(obits, lbits, lhs) \
  static_cast<QData>(static_cast<int64_t>(static_cast<QData>(lhs) << (64 - (lbits))) >> (64 - (lbits)))
#define VL_EXTENDS_QI(obits, lbits, lhs) VL_EXTENDS_QQ(obits, lbits, lhs)
#define VL_MULS_III(lbits, lhs, rhs) \
  static_cast<IData>(static_cast<int32_t>(VL_EXTENDS_II(32, lbits, lhs)) * \
                     static_cast<int32_t>(VL_EXTENDS_II(32, lbits, rhs)))
#define VL_MULS_QQQ(lbits, lhs, rhs) \
  static_cast<QData>(static_cast<int64_t>(VL_EXTENDS_QQ(64, lbits, lhs)) * \
                     static_cast<int64_t>(VL_EXTENDS_QQ(64, lbits, rhs)))
