// Puts decoded elements on one grid: x = sig * 2^(shift + scale), exactly.
//
// All lanes share the scale. OUT_W holds every result: bits above it are lost. Combinational,
// nothing is registered.

module quire_align #(
  parameter int unsigned LANES   = 1,
  parameter int unsigned SIG_W   = 5,
  parameter int unsigned SHIFT_W = 4,
  parameter int unsigned SCALE_W = 1,
  parameter int unsigned OUT_W   = 20
) (
  input  logic [LANES*SIG_W-1:0]   sig_i,
  input  logic [LANES*SHIFT_W-1:0] shift_i,
  input  logic [SCALE_W-1:0]       scale_i,
  output logic [LANES*OUT_W-1:0]   x_o
);
  localparam int unsigned TotalW = (SHIFT_W > SCALE_W ? SHIFT_W : SCALE_W) + 1;
  localparam int unsigned WideW  = OUT_W > SIG_W ? OUT_W : SIG_W;

  if (LANES < 1) begin : gen_check_lanes
    $error("quire_align: LANES must be at least 1");
  end
  if (SIG_W < 1 || SHIFT_W < 1 || SCALE_W < 1 || OUT_W < 1) begin : gen_check_widths
    $error("quire_align: SIG_W, SHIFT_W, SCALE_W and OUT_W must be at least 1");
  end

  for (genvar l = 0; l < LANES; l++) begin : gen_lane
    logic [TotalW-1:0] total;
    logic [WideW-1:0]  shifted;
    logic unused_shifted;  // bits above OUT_W, where the values need fewer than SIG_W allows

    assign unused_shifted = ^shifted;
    assign total   = TotalW'(shift_i[l*SHIFT_W +: SHIFT_W]) + TotalW'(scale_i);
    assign shifted = WideW'(signed'(sig_i[l*SIG_W +: SIG_W])) << total;
    assign x_o[l*OUT_W +: OUT_W] = OUT_W'(shifted);
  end
endmodule
