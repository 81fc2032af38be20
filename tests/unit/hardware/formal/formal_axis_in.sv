// Environment of the proof of quire_axis_in: a reset first, and again at any time; tlast anywhere.
module formal_axis_in #(
  parameter int unsigned BEATS = 3
) (
  input logic       clk_i,
  input logic       rst_ni,
  input logic       tvalid_i,
  input logic [4:0] tdata_i,
  input logic       tlast_i,
  input logic       out_ready_i
);

  logic started = 1'b0;
  always_ff @(posedge clk_i) started <= 1'b1;
  always_comb assume (started || !rst_ni);

  quire_axis_in #(
    .TDATA_W(5),
    .WIDTH  (3),
    .BEATS  (BEATS)
  ) dut (
    .clk_i,
    .rst_ni,
    .tvalid_i,
    .tready_o   (),
    .tdata_i,
    .tlast_i,
    .out_valid_o(),
    .out_ready_i,
    .out_data_o (),
    .error_o    ()
  );

endmodule
