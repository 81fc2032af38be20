// Rounds integers to fixed point: to nearest, ties to even, saturating.
//
// The DROP lowest bits of x lie below the last bit of the code. With SYMMETRIC the most negative
// code is never emitted (elements of blocks). Combinational, nothing is registered.

module quire_cast_fixed #(
  parameter int unsigned LANES     = 1,
  parameter int unsigned IN_W      = 24,
  parameter int unsigned DROP      = 8,
  parameter int unsigned BITS      = 8,
  parameter int unsigned SYMMETRIC = 0
) (
  input  logic [LANES*IN_W-1:0] x_i,
  output logic [LANES*BITS-1:0] code_o
);
  localparam int unsigned MinWideW = DROP + BITS;
  localparam int unsigned WideW    = IN_W > MinWideW ? IN_W : MinWideW;
  localparam logic [BITS-1:0] Highest = {1'b0, {(BITS - 1) {1'b1}}};

  if (LANES < 1) begin : gen_check_lanes
    $error("quire_cast_fixed: LANES must be at least 1");
  end
  if (IN_W < 2) begin : gen_check_in_w
    $error("quire_cast_fixed: IN_W must be at least 2");
  end
  if (BITS < 2) begin : gen_check_bits
    $error("quire_cast_fixed: BITS must be at least 2");
  end
  if (SYMMETRIC > 1) begin : gen_check_symmetric
    $error("quire_cast_fixed: SYMMETRIC must be 0 or 1");
  end

  for (genvar l = 0; l < LANES; l++) begin : gen_lane
    logic                    sign, beyond, up;
    logic [WideW+1:0]        wide;  // two zero bits at the right: there is always something to cut
    logic [WideW-DROP-BITS:0] above;
    logic [BITS-1:0]         floor, clamped, code;

    assign wide    = {WideW'(signed'(x_i[l*IN_W +: IN_W])), 2'b00};
    assign sign    = wide[WideW+1];
    assign floor   = wide[DROP+2 +: BITS];
    assign above   = wide[WideW+1:DROP+BITS+1];
    assign beyond  = above != {(WideW - DROP - BITS + 1) {sign}};
    assign clamped = beyond ? (sign ? ~Highest : Highest) : floor;
    // Clamping first keeps the adder as narrow as the code; the ends must not be rounded then.
    assign up      = wide[DROP+1] & (|wide[DROP:0] | floor[0]) & ~beyond & (floor != Highest);
    assign code    = clamped + BITS'(up);

    if (SYMMETRIC == 1) begin : gen_symmetric
      assign code_o[l*BITS +: BITS] = code | BITS'(code == ~Highest);
    end else begin : gen_full
      assign code_o[l*BITS +: BITS] = code;
    end
  end
endmodule
