// Rounds integers to logarithmic numbers: the exponent is rounded, that is, a significand above
// sqrt(2) goes to the next power of two (there are no ties); saturating.
//
// The DROP lowest bits of x lie below 2^emin, the value of code 1; below 2^(emin - 1/2) a value is
// zero, and -0 if it is negative. Combinational, nothing is registered.

module quire_cast_log #(
  parameter int unsigned LANES = 1,
  parameter int unsigned IN_W  = 24,
  parameter int unsigned DROP  = 4,
  parameter int unsigned BITS  = 8
) (
  input  logic [LANES*IN_W-1:0] x_i,
  output logic [LANES*BITS-1:0] code_o
);
  // The exponent field is the position of the leading bit above bit DROP - 1, plus one where the
  // significand is above sqrt(2). Zeros at the right keep every bit of it when it is shifted.
  localparam int unsigned FieldW = BITS - 1;
  localparam int unsigned PadW   = IN_W > DROP + 2 ? IN_W - 1 - DROP : 1;
  localparam int unsigned Keep   = DROP + PadW;
  localparam logic [127:0] Sqrt2 = 128'hB504F333_F9DE6484_597D89B3_754ABE9F;  // floor(sqrt(2) * 2^127)

  if (LANES < 1) begin : gen_check_lanes
    $error("quire_cast_log: LANES must be at least 1");
  end
  if (BITS < 2) begin : gen_check_bits
    $error("quire_cast_log: BITS must be at least 2");
  end
  if (IN_W < 2) begin : gen_check_in_w
    $error("quire_cast_log: IN_W must be at least 2");
  end
  if (Keep > 128) begin : gen_check_keep
    $error("quire_cast_log: IN_W must be at most 129, and DROP at most 127");
  end

  for (genvar l = 0; l < LANES; l++) begin : gen_lane
    logic              sign, big, up, unused_half, unused_rest;
    logic [Keep-1:0]   sig;
    logic [FieldW-1:0] shift;
    logic [FieldW:0]   sum;

    quire_normalize #(
      .IN_W(IN_W + PadW),
      .DROP(0),
      .KEEP(Keep),
      .SHIFT_W(FieldW)
    ) u_normalize (
      .x_i({x_i[l*IN_W +: IN_W], {PadW{1'b0}}}),
      .sig_o(sig),
      .shift_o(shift),
      .half_o(unused_half),  // what is cut off is padding
      .rest_o(unused_rest),
      .big_o(big)
    );

    assign sign = x_i[l*IN_W+IN_W-1];
    // sig is the magnitude less one where x is negative: equality suffices there.
    assign up   = {sig, sign} > {Sqrt2[127 -: Keep], 1'b0};
    assign sum  = {1'b0, shift} + BITS'(up);
    assign code_o[l*BITS +: BITS] = {sign, big | sum[FieldW] ? {FieldW{1'b1}} : sum[FieldW-1:0]};
  end
endmodule
