// Decodes fixed point: sig is the code itself, in two's complement.
//
// value = sig * 2^exponent; shift_o is 0. Combinational, nothing is registered.

module quire_decode_fixed #(
  parameter int unsigned LANES = 1,
  parameter int unsigned BITS  = 8
) (
  input  logic [LANES*BITS-1:0] code_i,
  output logic [LANES*BITS-1:0] sig_o,
  output logic [LANES-1:0]      shift_o
);
  if (LANES < 1) begin : gen_check_lanes
    $error("quire_decode_fixed: LANES must be at least 1");
  end
  if (BITS < 2) begin : gen_check_bits
    $error("quire_decode_fixed: BITS must be at least 2");
  end

  assign sig_o   = code_i;
  assign shift_o = '0;
endmodule
