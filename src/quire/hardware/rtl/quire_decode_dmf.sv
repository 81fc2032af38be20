// Decodes denormed minifloats (no hidden bit): sig is the mantissa with its sign, and shift the
// exponent field.
//
// value = sig * 2^(shift + exponent). Combinational, nothing is registered.

module quire_decode_dmf #(
  parameter int unsigned LANES = 1,
  parameter int unsigned E     = 4,
  parameter int unsigned M     = 3
) (
  input  logic [LANES*(1+E+M)-1:0] code_i,
  output logic [LANES*(M+1)-1:0]   sig_o,
  output logic [LANES*E-1:0]       shift_o
);
  localparam int unsigned Bits = 1 + E + M;
  localparam int unsigned SigW = M + 1;

  if (LANES < 1) begin : gen_check_lanes
    $error("quire_decode_dmf: LANES must be at least 1");
  end
  if (E < 1) begin : gen_check_e
    $error("quire_decode_dmf: E must be at least 1");
  end
  if (M < 1) begin : gen_check_m
    $error("quire_decode_dmf: M must be at least 1");
  end

  for (genvar l = 0; l < LANES; l++) begin : gen_lane
    logic [SigW-1:0] magnitude;

    assign magnitude             = {1'b0, code_i[l*Bits +: M]};
    assign sig_o[l*SigW +: SigW] = code_i[l*Bits+E+M] ? -magnitude : magnitude;
    assign shift_o[l*E +: E]     = code_i[l*Bits+M +: E];
  end
endmodule
