// Decodes logarithmic numbers: sig is 0 or +-1, and shift the exponent field less one.
//
// value = sig * 2^(shift + exponent), where 2^exponent is the value of code 1. Combinational,
// nothing is registered.

module quire_decode_log #(
  parameter int unsigned LANES = 1,
  parameter int unsigned BITS  = 8
) (
  input  logic [LANES*BITS-1:0]     code_i,
  output logic [LANES*2-1:0]        sig_o,
  output logic [LANES*(BITS-1)-1:0] shift_o
);
  localparam int unsigned FieldW = BITS - 1;

  if (LANES < 1) begin : gen_check_lanes
    $error("quire_decode_log: LANES must be at least 1");
  end
  if (BITS < 2) begin : gen_check_bits
    $error("quire_decode_log: BITS must be at least 2");
  end

  for (genvar l = 0; l < LANES; l++) begin : gen_lane
    logic [FieldW-1:0] field;
    logic              nonzero;

    assign field   = code_i[l*BITS +: FieldW];
    assign nonzero = |field;
    assign sig_o[l*2 +: 2]              = {code_i[l*BITS+FieldW] & nonzero, nonzero};
    assign shift_o[l*FieldW +: FieldW] = field - FieldW'(nonzero);
  end
endmodule
