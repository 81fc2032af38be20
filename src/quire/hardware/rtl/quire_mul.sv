// Multiplies two's complement integers: x = (a * 2^A_SHIFT) * (b * 2^B_SHIFT), exactly.
//
// OUT_W holds every result: bits above it are lost. Combinational, nothing is registered.

module quire_mul #(
  parameter int unsigned LANES   = 1,
  parameter int unsigned A_W     = 8,
  parameter int unsigned B_W     = 8,
  parameter int unsigned A_SHIFT = 0,
  parameter int unsigned B_SHIFT = 0,
  parameter int unsigned OUT_W   = 16
) (
  input  logic [LANES*A_W-1:0]   a_i,
  input  logic [LANES*B_W-1:0]   b_i,
  output logic [LANES*OUT_W-1:0] x_o
);
  if (LANES < 1) begin : gen_check_lanes
    $error("quire_mul: LANES must be at least 1");
  end
  if (A_W < 1 || B_W < 1) begin : gen_check_widths
    $error("quire_mul: A_W and B_W must be at least 1");
  end
  if (OUT_W < 1) begin : gen_check_out_w
    $error("quire_mul: OUT_W must be at least 1");
  end

  localparam int unsigned ProductW = A_W + B_W;

  for (genvar l = 0; l < LANES; l++) begin : gen_lane
    // Operands as narrow as they are, so that a DSP block takes the product whole.
    logic signed [A_W-1:0]      a;
    logic signed [B_W-1:0]      b;
    logic signed [ProductW-1:0] product;
    logic                       unused_product;  // bits above OUT_W

    assign a       = signed'(a_i[l*A_W +: A_W]);
    assign b       = signed'(b_i[l*B_W +: B_W]);
    assign product = ProductW'(a) * ProductW'(b);
    assign unused_product = ^product;
    assign x_o[l*OUT_W +: OUT_W] = OUT_W'(product) << (A_SHIFT + B_SHIFT);
  end
endmodule
