// Adds two's complement integers of different grids: x = a * 2^A_SHIFT + b * 2^B_SHIFT, exactly.
//
// OUT_W holds every result: bits above it are lost. Combinational, nothing is registered.

module quire_add #(
  parameter int unsigned LANES   = 1,
  parameter int unsigned A_W     = 8,
  parameter int unsigned B_W     = 8,
  parameter int unsigned A_SHIFT = 0,
  parameter int unsigned B_SHIFT = 0,
  parameter int unsigned OUT_W   = 9
) (
  input  logic [LANES*A_W-1:0]   a_i,
  input  logic [LANES*B_W-1:0]   b_i,
  output logic [LANES*OUT_W-1:0] x_o
);
  if (LANES < 1) begin : gen_check_lanes
    $error("quire_add: LANES must be at least 1");
  end
  if (A_W < 1 || B_W < 1) begin : gen_check_widths
    $error("quire_add: A_W and B_W must be at least 1");
  end
  if (OUT_W < A_W || OUT_W < B_W) begin : gen_check_out_w
    $error("quire_add: OUT_W must be at least A_W and B_W");
  end

  for (genvar l = 0; l < LANES; l++) begin : gen_lane
    assign x_o[l*OUT_W +: OUT_W] = (OUT_W'(signed'(a_i[l*A_W +: A_W])) << A_SHIFT)
                                 + (OUT_W'(signed'(b_i[l*B_W +: B_W])) << B_SHIFT);
  end
endmodule
