// Takes the signs of integers: code 1 is -1, and code 0 is +1, zero included.
//
// Combinational, nothing is registered.

module quire_cast_binary #(
  parameter int unsigned LANES = 1,
  parameter int unsigned IN_W  = 24
) (
  input  logic [LANES*IN_W-1:0] x_i,
  output logic [LANES-1:0]      code_o
);
  if (LANES < 1) begin : gen_check_lanes
    $error("quire_cast_binary: LANES must be at least 1");
  end
  if (IN_W < 2) begin : gen_check_in_w
    $error("quire_cast_binary: IN_W must be at least 2");
  end

  for (genvar l = 0; l < LANES; l++) begin : gen_lane
    logic [IN_W-1:0] unused_x;  // all but its sign

    assign unused_x  = x_i[l*IN_W +: IN_W];
    assign code_o[l] = unused_x[IN_W-1];
  end
endmodule
