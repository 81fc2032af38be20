// Register slice: one beat in, the same beat out, through two entries.
//
// Latency 1 cycle, interval 1. Both paths are registered: out_valid_o and out_data_o come from
// registers, and so does in_ready_o, which does not see out_ready_i.
module quire_slice #(
  parameter int unsigned WIDTH = 8
) (
  input  logic             clk_i,
  input  logic             rst_ni,
  input  logic             in_valid_i,
  output logic             in_ready_o,
  input  logic [WIDTH-1:0] in_data_i,
  output logic             out_valid_o,
  input  logic             out_ready_i,
  output logic [WIDTH-1:0] out_data_o
);

  if (WIDTH < 1) begin : g_check_width
    $error("quire_slice: WIDTH must be 1 or more");
  end

  logic             main_valid_q, skid_valid_q;
  logic [WIDTH-1:0] main_q, skid_q;
  logic             advance;

  assign in_ready_o  = ~skid_valid_q;
  assign out_valid_o = main_valid_q;
  assign out_data_o  = main_q;
  assign advance     = out_ready_i | ~main_valid_q;

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      main_valid_q <= 1'b0;
      skid_valid_q <= 1'b0;
    end else if (advance) begin
      main_valid_q <= skid_valid_q | in_valid_i;
      skid_valid_q <= 1'b0;
    end else if (in_valid_i) begin
      skid_valid_q <= 1'b1;
    end
  end

  always_ff @(posedge clk_i) begin
    if (advance) main_q <= skid_valid_q ? skid_q : in_data_i;
    if (in_ready_o) skid_q <= in_data_i;
  end

endmodule
