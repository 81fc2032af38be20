// Table look-up: each lane's code addresses a ROM of 2^IN_BITS words of OUT_BITS from FILE.
//
// Latency 2 cycles, interval 1. The table read and the output are registered; in_ready_o passes
// through from out_ready_i, which holds the whole pipeline.
module quire_lookup #(
  parameter int unsigned LANES    = 1,
  parameter int unsigned IN_BITS  = 8,
  parameter int unsigned OUT_BITS = 8,
  parameter int unsigned BLOCK    = 1,
  parameter              FILE     = ""
) (
  input  logic                      clk_i,
  input  logic                      rst_ni,
  input  logic                      in_valid_i,
  output logic                      in_ready_o,
  input  logic [ LANES*IN_BITS-1:0] in_data_i,
  output logic                      out_valid_o,
  input  logic                      out_ready_i,
  output logic [LANES*OUT_BITS-1:0] out_data_o
);

  if (LANES < 1 || IN_BITS < 1 || OUT_BITS < 1) begin : g_check_size
    $error("quire_lookup: LANES, IN_BITS and OUT_BITS must be 1 or more");
  end

  logic read_valid_q, advance;

  assign advance    = out_ready_i | ~out_valid_o;
  assign in_ready_o = advance;

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      read_valid_q <= 1'b0;
      out_valid_o  <= 1'b0;
    end else if (advance) begin
      read_valid_q <= in_valid_i;
      out_valid_o  <= read_valid_q;
    end
  end

  for (genvar i = 0; i < LANES; i++) begin : g_lane
    quire_rom #(
      .WIDTH(OUT_BITS),
      .DEPTH(2 ** IN_BITS),
      .BLOCK(BLOCK),
      .FILE (FILE)
    ) rom (
      .clk_i,
      .en_i  (advance),
      .addr_i(in_data_i[i*IN_BITS+:IN_BITS]),
      .data_o(out_data_o[i*OUT_BITS+:OUT_BITS])
    );
  end

endmodule
