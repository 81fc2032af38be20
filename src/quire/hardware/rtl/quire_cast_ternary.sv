// Rounds integers to -1, 0 and +1: to nearest, +-0.5 to 0, saturating.
//
// The DROP lowest bits of x lie below 1. Combinational, nothing is registered.

module quire_cast_ternary #(
  parameter int unsigned LANES = 1,
  parameter int unsigned IN_W  = 24,
  parameter int unsigned DROP  = 8
) (
  input  logic [LANES*IN_W-1:0] x_i,
  output logic [LANES*2-1:0]    code_o
);
  localparam int unsigned MinWideW = DROP + 2;
  localparam int unsigned WideW    = (IN_W + 1 > MinWideW) ? IN_W + 1 : MinWideW;
  localparam logic signed [WideW-1:0] One = WideW'(1) << DROP;

  if (LANES < 1) begin : gen_check_lanes
    $error("quire_cast_ternary: LANES must be at least 1");
  end
  if (IN_W < 2) begin : gen_check_in_w
    $error("quire_cast_ternary: IN_W must be at least 2");
  end

  for (genvar l = 0; l < LANES; l++) begin : gen_lane
    logic signed [WideW-1:0] twice;
    logic                    negative;

    assign twice    = WideW'(signed'({x_i[l*IN_W +: IN_W], 1'b0}));
    assign negative = twice < -One;
    assign code_o[l*2 +: 2] = {negative, negative | (twice > One)};
  end
endmodule
