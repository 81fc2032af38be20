// Decodes a table of listed values: sig is the entry that the code selects.
//
// value = sig * 2^exponent; shift_o is 0. Combinational, nothing is registered. VALUES holds one
// SIG_W-bit two's complement integer a code, that of code 0 in the low bits.

module quire_decode_table #(
  parameter int unsigned LANES = 1,
  parameter int unsigned BITS  = 2,
  parameter int unsigned SIG_W = 4,
  parameter logic [(1<<BITS)*SIG_W-1:0] VALUES = 16'h31FD
) (
  input  logic [LANES*BITS-1:0]  code_i,
  output logic [LANES*SIG_W-1:0] sig_o,
  output logic [LANES-1:0]       shift_o
);
  if (LANES < 1) begin : gen_check_lanes
    $error("quire_decode_table: LANES must be at least 1");
  end
  if (BITS < 1) begin : gen_check_bits
    $error("quire_decode_table: BITS must be at least 1");
  end
  if (SIG_W < 1) begin : gen_check_sig_w
    $error("quire_decode_table: SIG_W must be at least 1");
  end

  for (genvar l = 0; l < LANES; l++) begin : gen_lane
    assign sig_o[l*SIG_W +: SIG_W] = VALUES[32'(code_i[l*BITS +: BITS])*SIG_W +: SIG_W];
  end
  assign shift_o = '0;
endmodule
