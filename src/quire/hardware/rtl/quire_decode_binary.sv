// Decodes signs: code 0 is +1 and code 1 is -1.
//
// value = sig; shift_o is 0. Combinational, nothing is registered.

module quire_decode_binary #(
  parameter int unsigned LANES = 1
) (
  input  logic [LANES-1:0]   code_i,
  output logic [LANES*2-1:0] sig_o,
  output logic [LANES-1:0]   shift_o
);
  if (LANES < 1) begin : gen_check_lanes
    $error("quire_decode_binary: LANES must be at least 1");
  end

  for (genvar l = 0; l < LANES; l++) begin : gen_lane
    assign sig_o[l*2 +: 2] = {code_i[l], 1'b1};
  end
  assign shift_o = '0;
endmodule
