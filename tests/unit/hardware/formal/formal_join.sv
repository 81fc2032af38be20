// Environment of the proof of quire_join: sources that hold their beats while they wait. The cell
// has no clock, so that the properties over time stand here.
module formal_join #(
  parameter int unsigned N = 3
) (
  input logic           clk_i,
  input logic [  N-1:0] in_valid_i,
  input logic [2*N-1:0] in_data_i,
  input logic           out_ready_i
);

  logic [  N-1:0] ready;
  logic [2*N-1:0] out_data;
  logic           out_valid;
  logic [  N-1:0] waits_q = '0;
  logic           stalled_q = 1'b0;
  logic [2*N-1:0] data_q, held_q;
  logic [    7:0] count_q = '0;
  logic [8*N-1:0] taken_q = '0;

  always_ff @(posedge clk_i) begin
    waits_q   <= in_valid_i & ~ready;
    data_q    <= in_data_i;
    stalled_q <= out_valid & ~out_ready_i;
    held_q    <= out_data;
    count_q   <= count_q + 8'(out_valid & out_ready_i);
    for (int unsigned i = 0; i < N; i++) begin
      taken_q[i*8+:8] <= taken_q[i*8+:8] + 8'(in_valid_i[i] & ready[i]);
    end
  end

  always_comb begin
    for (int unsigned i = 0; i < N; i++) begin
      assume (!waits_q[i] || (in_valid_i[i] && in_data_i[i*2+:2] == data_q[i*2+:2]));
    end
  end

  always_ff @(posedge clk_i) begin
    a_stable : assert (!stalled_q || (out_valid && out_data == held_q));
    a_once : assert (taken_q == {N{count_q}});
    a_data : assert (out_data == in_data_i);
  end

  quire_join #(
    .N    (N),
    .WIDTH(2 * N)
  ) dut (
    .in_valid_i,
    .in_ready_o (ready),
    .in_data_i,
    .out_valid_o(out_valid),
    .out_ready_i,
    .out_data_o (out_data)
  );

endmodule
