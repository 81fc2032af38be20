// Environment of the proof of quire_fork: a reset first, and again at any time; a source that holds
// its beat while it waits, but may drop it in a reset.
module formal_fork #(
  parameter int unsigned N = 3
) (
  input logic         clk_i,
  input logic         rst_ni,
  input logic         in_valid_i,
  input logic [  2:0] in_data_i,
  input logic [N-1:0] out_ready_i
);

  logic       ready;
  logic       started = 1'b0;
  logic       waits_q = 1'b0;
  logic [2:0] data_q;

  always_ff @(posedge clk_i) begin
    started <= 1'b1;
    waits_q <= rst_ni & in_valid_i & ~ready;
    data_q  <= in_data_i;
  end

  always_comb begin
    assume (started || !rst_ni);
    assume (!waits_q || !rst_ni || (in_valid_i && in_data_i == data_q));
  end

  quire_fork #(
    .N    (N),
    .WIDTH(3)
  ) dut (
    .clk_i,
    .rst_ni,
    .in_valid_i,
    .in_ready_o (ready),
    .in_data_i,
    .out_valid_o(),
    .out_ready_i,
    .out_data_o ()
  );

endmodule
