// Decodes unsigned fixed point: sig is the code with a zero sign bit above it.
//
// value = sig * 2^exponent; shift_o is 0. Combinational, nothing is registered.

module quire_decode_ufixed #(
  parameter int unsigned LANES = 1,
  parameter int unsigned BITS  = 8
) (
  input  logic [LANES*BITS-1:0]     code_i,
  output logic [LANES*(BITS+1)-1:0] sig_o,
  output logic [LANES-1:0]          shift_o
);
  if (LANES < 1) begin : gen_check_lanes
    $error("quire_decode_ufixed: LANES must be at least 1");
  end
  if (BITS < 1) begin : gen_check_bits
    $error("quire_decode_ufixed: BITS must be at least 1");
  end

  for (genvar l = 0; l < LANES; l++) begin : gen_lane
    assign sig_o[l*(BITS+1) +: BITS+1] = {1'b0, code_i[l*BITS +: BITS]};
  end
  assign shift_o = '0;
endmodule
