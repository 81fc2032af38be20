// Environment of the proof of quire_gearbox: a reset first, and again at any time; beats of 1 to
// IN_UNITS units, with zeros above them.
module formal_gearbox #(
  parameter int unsigned IN_UNITS  = 3,
  parameter int unsigned OUT_UNITS = 2,
  parameter int unsigned ROW_UNITS = 5
) (
  input logic                          clk_i,
  input logic                          rst_ni,
  input logic                          in_valid_i,
  input logic [$clog2(IN_UNITS+1)-1:0] in_count_i,
  input logic [        IN_UNITS*2-1:0] in_data_i,
  input logic                          out_ready_i
);

  logic started = 1'b0;
  always_ff @(posedge clk_i) started <= 1'b1;
  always_comb begin
    assume (started || !rst_ni);
    assume (in_count_i != '0 && 32'(in_count_i) <= IN_UNITS);
    assume ((in_data_i >> (in_count_i * 2)) == '0);
  end

  quire_gearbox #(
    .UNIT_W   (2),
    .IN_UNITS (IN_UNITS),
    .OUT_UNITS(OUT_UNITS),
    .ROW_UNITS(ROW_UNITS)
  ) dut (
    .clk_i,
    .rst_ni,
    .in_valid_i,
    .in_ready_o (),
    .in_count_i,
    .in_data_i,
    .out_valid_o(),
    .out_ready_i,
    .out_data_o ()
  );

endmodule
