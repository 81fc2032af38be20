// Rounds integers to minifloats: to nearest, ties to the even code, saturating at MAX_CODE.
//
// The DROP lowest bits of x lie below the smallest subnormal. A negative x that rounds to zero
// gives -0. MAX_CODE is the largest finite magnitude's code. Combinational, nothing is registered.

module quire_cast_minifloat #(
  parameter int unsigned LANES    = 1,
  parameter int unsigned IN_W     = 24,
  parameter int unsigned DROP     = 4,
  parameter int unsigned E        = 4,
  parameter int unsigned M        = 3,
  parameter int unsigned MAX_CODE = (1 << (E + M)) - 1
) (
  input  logic [LANES*IN_W-1:0]    x_i,
  output logic [LANES*(1+E+M)-1:0] code_o
);
  localparam int unsigned Bits = 1 + E + M;

  if (LANES < 1) begin : gen_check_lanes
    $error("quire_cast_minifloat: LANES must be at least 1");
  end
  if (E < 1) begin : gen_check_e
    $error("quire_cast_minifloat: E must be at least 1");
  end
  if (E + M > 31) begin : gen_check_bits
    $error("quire_cast_minifloat: E + M must be at most 31");
  end

  for (genvar l = 0; l < LANES; l++) begin : gen_lane
    logic            sign, half, rest, big, odd, up;
    logic [M:0]      sig;
    logic [E-1:0]    shift;
    logic [Bits-1:0] sum;

    quire_normalize #(
      .IN_W(IN_W),
      .DROP(DROP),
      .KEEP(M + 1),
      .SHIFT_W(E)
    ) u_normalize (
      .x_i(x_i[l*IN_W +: IN_W]),
      .sig_o(sig),
      .shift_o(shift),
      .half_o(half),
      .rest_o(rest),
      .big_o(big)
    );

    assign sign = x_i[l*IN_W+IN_W-1];
    assign odd  = sig[0] ^ (M == 0 ? shift[0] : 1'b0);  // of the magnitude's code
    assign up   = half & (rest | (odd ^ sign));
    // The hidden bit of sig makes the exponent field of a normal number shift + 1, and a carry out
    // of the mantissa is the next exponent.
    assign sum  = (Bits'(shift) << M) + Bits'(sig) + Bits'(up ^ sign);
    assign code_o[l*Bits +: Bits] =
        {sign, big | (sum > Bits'(MAX_CODE)) ? (Bits - 1)'(MAX_CODE) : sum[Bits-2:0]};
  end
endmodule
