// max(x, 0) of two's complement integers.
//
// Combinational, nothing is registered.

module quire_relu #(
  parameter int unsigned LANES = 1,
  parameter int unsigned WIDTH = 8
) (
  input  logic [LANES*WIDTH-1:0] x_i,
  output logic [LANES*WIDTH-1:0] x_o
);
  if (LANES < 1) begin : gen_check_lanes
    $error("quire_relu: LANES must be at least 1");
  end
  if (WIDTH < 1) begin : gen_check_width
    $error("quire_relu: WIDTH must be at least 1");
  end

  for (genvar l = 0; l < LANES; l++) begin : gen_lane
    assign x_o[l*WIDTH +: WIDTH] = x_i[l*WIDTH +: WIDTH] & {WIDTH{~x_i[l*WIDTH+WIDTH-1]}};
  end
endmodule
