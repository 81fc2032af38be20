// Rounds integers to unsigned fixed point: to nearest, ties to even, saturating at 0 and 2^BITS-1.
//
// The DROP lowest bits of x lie below the last bit of the code. Combinational, nothing is
// registered.

module quire_cast_ufixed #(
  parameter int unsigned LANES = 1,
  parameter int unsigned IN_W  = 24,
  parameter int unsigned DROP  = 8,
  parameter int unsigned BITS  = 8
) (
  input  logic [LANES*IN_W-1:0] x_i,
  output logic [LANES*BITS-1:0] code_o
);
  localparam int unsigned MinWideW = DROP + BITS + 1;
  localparam int unsigned WideW    = IN_W > MinWideW ? IN_W : MinWideW;

  if (LANES < 1) begin : gen_check_lanes
    $error("quire_cast_ufixed: LANES must be at least 1");
  end
  if (IN_W < 2) begin : gen_check_in_w
    $error("quire_cast_ufixed: IN_W must be at least 2");
  end
  if (BITS < 1) begin : gen_check_bits
    $error("quire_cast_ufixed: BITS must be at least 1");
  end

  for (genvar l = 0; l < LANES; l++) begin : gen_lane
    logic             sign, above, up;
    logic [WideW+1:0] wide;  // two zero bits at the right: there is always something to cut
    logic [BITS-1:0]  floor, clamped;

    assign wide    = {WideW'(signed'(x_i[l*IN_W +: IN_W])), 2'b00};
    assign sign    = wide[WideW+1];
    assign above   = |wide[WideW+1:DROP+BITS+2];
    assign floor   = wide[DROP+2 +: BITS];
    assign clamped = above ? {BITS{~sign}} : floor;
    // Clamping first keeps the adder as narrow as the code; the ends must not be rounded then.
    assign up      = wide[DROP+1] & (|wide[DROP:0] | floor[0]) & ~above & ~&floor;
    assign code_o[l*BITS +: BITS] = clamped + BITS'(up);
  end
endmodule
