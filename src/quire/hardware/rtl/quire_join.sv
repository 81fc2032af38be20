// Join: a beat of each of N inputs becomes one beat.
//
// WIDTH is the sum of the inputs' widths and in_data_i their beats side by side, input 0 in the
// low bits; widths may differ. Latency 0, interval 1. Nothing is registered: out_valid_o passes
// through from in_valid_i, and in_ready_o from out_ready_i and in_valid_i.
module quire_join #(
  parameter int unsigned N     = 2,
  parameter int unsigned WIDTH = 16
) (
  input  logic [    N-1:0] in_valid_i,
  output logic [    N-1:0] in_ready_o,
  input  logic [WIDTH-1:0] in_data_i,
  output logic             out_valid_o,
  input  logic             out_ready_i,
  output logic [WIDTH-1:0] out_data_o
);

  if (N < 1 || WIDTH < N) begin : g_check_size
    $error("quire_join: N must be 1 or more, and WIDTH at least N");
  end

  assign out_valid_o = &in_valid_i;
  assign in_ready_o  = {N{out_valid_o & out_ready_i}};
  assign out_data_o  = in_data_i;

`ifndef SYNTHESIS
  always_comb begin
    a_together : assert ((in_valid_i & in_ready_o) == {N{out_valid_o & out_ready_i}});
    a_no_deadlock : assert (!(&in_valid_i) || out_valid_o);
    a_ready_output_suffices : assert (!out_valid_o || !out_ready_i || (&in_ready_o));
  end
`endif

endmodule
