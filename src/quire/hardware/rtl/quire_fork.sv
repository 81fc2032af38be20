// Fork: delivers each beat once to each of N outputs, which take it in any order.
//
// All outputs share out_data_o. Latency 0, interval 1. Nothing but the done bits is registered:
// out_valid_o and out_data_o pass through from the input, in_ready_o from out_ready_i.
module quire_fork #(
  parameter int unsigned N     = 2,
  parameter int unsigned WIDTH = 8
) (
  input  logic             clk_i,
  input  logic             rst_ni,
  input  logic             in_valid_i,
  output logic             in_ready_o,
  input  logic [WIDTH-1:0] in_data_i,
  output logic [    N-1:0] out_valid_o,
  input  logic [    N-1:0] out_ready_i,
  output logic [WIDTH-1:0] out_data_o
);

  if (N < 1 || WIDTH < 1) begin : g_check_size
    $error("quire_fork: N and WIDTH must be 1 or more");
  end

  // Outputs that have taken the beat at the input already.
  logic [N-1:0] done_q;

  assign out_valid_o = {N{in_valid_i}} & ~done_q;
  assign in_ready_o  = &(out_ready_i | done_q);
  assign out_data_o  = in_data_i;

  always_ff @(posedge clk_i) begin
    if (!rst_ni) done_q <= '0;
    else if (in_valid_i) done_q <= in_ready_o ? '0 : done_q | out_ready_i;
  end

endmodule
