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

`ifndef SYNTHESIS
  // Outputs that have taken the beat at the input, and that wait for ready.
  logic [N-1:0] taken_q, stalled_q, take;
  logic [WIDTH-1:0] held_q;
  logic accept, waits_q;

  assign take   = out_valid_o & out_ready_i;
  assign accept = in_valid_i & in_ready_o;

  always_ff @(posedge clk_i) begin
    taken_q   <= (rst_ni && !accept) ? taken_q | take : '0;
    stalled_q <= {N{rst_ni}} & out_valid_o & ~out_ready_i;
    waits_q   <= rst_ni & in_valid_i & ~in_ready_o;
    held_q    <= out_data_o;
    if (rst_ni) begin
      a_stable : assert ((stalled_q & ~out_valid_o) == '0);
      a_stable_data : assert (!waits_q || out_data_o == held_q);
      a_done : assert (done_q == taken_q && (done_q == '0 || waits_q));
      a_none_twice : assert ((take & taken_q) == '0);
      a_none_lost : assert (!accept || (&(take | taken_q)));
      a_no_deadlock : assert (!in_valid_i || out_valid_o != '0);
      a_ready_outputs_suffice : assert (!(&out_ready_i) || in_ready_o);
    end
  end
`endif

endmodule
