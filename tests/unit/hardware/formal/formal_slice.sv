// Environment of the proof of quire_slice: a reset first, and again at any time.
module formal_slice (
  input logic       clk_i,
  input logic       rst_ni,
  input logic       in_valid_i,
  input logic [3:0] in_data_i,
  input logic       out_ready_i
);

  logic started = 1'b0;
  always_ff @(posedge clk_i) started <= 1'b1;
  always_comb assume (started || !rst_ni);

  quire_slice #(
    .WIDTH(4)
  ) dut (
    .clk_i,
    .rst_ni,
    .in_valid_i,
    .in_ready_o (),
    .in_data_i,
    .out_valid_o(),
    .out_ready_i,
    .out_data_o ()
  );

endmodule
