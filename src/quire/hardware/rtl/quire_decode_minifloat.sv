// Decodes minifloats: sig is the significand with its hidden bit and its sign, and shift the
// exponent field above that of the subnormals.
//
// value = sig * 2^(shift + exponent). Combinational, nothing is registered. Codes of Inf and NaN
// are read as numbers.

module quire_decode_minifloat #(
  parameter int unsigned LANES = 1,
  parameter int unsigned E     = 4,
  parameter int unsigned M     = 3
) (
  input  logic [LANES*(1+E+M)-1:0] code_i,
  output logic [LANES*(M+2)-1:0]   sig_o,
  output logic [LANES*E-1:0]       shift_o
);
  localparam int unsigned Bits = 1 + E + M;
  localparam int unsigned SigW = M + 2;

  if (LANES < 1) begin : gen_check_lanes
    $error("quire_decode_minifloat: LANES must be at least 1");
  end
  if (E < 1) begin : gen_check_e
    $error("quire_decode_minifloat: E must be at least 1");
  end

  for (genvar l = 0; l < LANES; l++) begin : gen_lane
    logic [E-1:0]    field;
    logic [SigW-1:0] magnitude;
    logic            negative, normal;

    assign negative = code_i[l*Bits+E+M];
    assign field    = code_i[l*Bits+M +: E];
    assign normal   = |field;
    // The lowest M bits of the code below the hidden bit, written so that M = 0 is legal.
    assign magnitude = (SigW'(code_i[l*Bits +: E+M]) & SigW'((1 << M) - 1)) | (SigW'(normal) << M);
    assign sig_o[l*SigW +: SigW] = negative ? -magnitude : magnitude;
    assign shift_o[l*E +: E]     = field - E'(normal);
  end
endmodule
