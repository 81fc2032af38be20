// Rounds integers to denormed minifloats: to nearest, ties to the even mantissa (of one bit: to the
// even exponent field), saturating.
//
// The DROP lowest bits of x lie below the smallest step. A value gets the code of the smallest
// exponent; a negative x that rounds to zero gives -0. Combinational, nothing is registered.

module quire_cast_dmf #(
  parameter int unsigned LANES = 1,
  parameter int unsigned IN_W  = 24,
  parameter int unsigned DROP  = 4,
  parameter int unsigned E     = 4,
  parameter int unsigned M     = 3
) (
  input  logic [LANES*IN_W-1:0]    x_i,
  output logic [LANES*(1+E+M)-1:0] code_o
);
  localparam int unsigned Bits = 1 + E + M;

  if (LANES < 1) begin : gen_check_lanes
    $error("quire_cast_dmf: LANES must be at least 1");
  end
  if (E < 1) begin : gen_check_e
    $error("quire_cast_dmf: E must be at least 1");
  end
  if (M < 1) begin : gen_check_m
    $error("quire_cast_dmf: M must be at least 1");
  end

  for (genvar l = 0; l < LANES; l++) begin : gen_lane
    logic            sign, half, rest, big, odd, one_more;
    logic [M-1:0]    sig;
    logic [E-1:0]    shift;
    logic [Bits-1:0] sum;
    logic [Bits-2:0] carry;

    quire_normalize #(
      .IN_W(IN_W),
      .DROP(DROP),
      .KEEP(M),
      .SHIFT_W(E)
    ) u_normalize (
      .x_i(x_i[l*IN_W +: IN_W]),
      .sig_o(sig),
      .shift_o(shift),
      .half_o(half),
      .rest_o(rest),
      .big_o(big)
    );

    assign sign     = x_i[l*IN_W+IN_W-1];
    assign odd      = sig[0] & (M == 1 ? shift[0] : 1'b1);
    assign one_more = (half & (rest | (odd ^ sign))) ^ sign;
    assign sum      = {1'b0, shift, sig} + Bits'(one_more);
    // A mantissa that overflows to 2^M is 2^(M-1) at the next exponent.
    assign carry    = (Bits - 1)'(one_more & (&sig)) << (M - 1);
    assign code_o[l*Bits +: Bits] =
        {sign, big | sum[Bits-1] ? {(Bits - 1) {1'b1}} : sum[Bits-2:0] | carry};
  end
endmodule
