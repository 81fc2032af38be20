// AXI4-Stream output: a beat padded with zeros to TDATA_W bits, and tlast_o on the last of BEATS.
//
// Latency 1 cycle, interval 1. Both paths are registered by a quire_slice.
module quire_axis_out #(
  parameter int unsigned TDATA_W = 8,
  parameter int unsigned WIDTH   = 8,
  parameter int unsigned BEATS   = 1
) (
  input  logic               clk_i,
  input  logic               rst_ni,
  input  logic               in_valid_i,
  output logic               in_ready_o,
  input  logic [WIDTH-1:0]   in_data_i,
  output logic               tvalid_o,
  input  logic               tready_i,
  output logic [TDATA_W-1:0] tdata_o,
  output logic               tlast_o
);

  localparam int unsigned BEAT_W = (BEATS > 1) ? $clog2(BEATS) : 1;

  if (WIDTH < 1 || TDATA_W < WIDTH) begin : g_check_width
    $error("quire_axis_out: WIDTH must lie between 1 and TDATA_W");
  end
  if (BEATS < 1) begin : g_check_beats
    $error("quire_axis_out: BEATS must be 1 or more");
  end

  logic [BEAT_W-1:0] beat_q;
  logic              last;
  logic [WIDTH-1:0]  data;

  assign last    = beat_q == BEAT_W'(BEATS - 1);
  assign tdata_o = TDATA_W'(data);

  always_ff @(posedge clk_i) begin
    if (!rst_ni) beat_q <= '0;
    else if (in_valid_i && in_ready_o) beat_q <= last ? '0 : beat_q + BEAT_W'(1);
  end

  quire_slice #(
    .WIDTH(WIDTH + 1)
  ) slice (
    .clk_i,
    .rst_ni,
    .in_valid_i,
    .in_ready_o,
    .in_data_i  ({last, in_data_i}),
    .out_valid_o(tvalid_o),
    .out_ready_i(tready_i),
    .out_data_o ({tlast_o, data})
  );

`ifndef SYNTHESIS
  always_ff @(posedge clk_i) begin
    if (rst_ni) begin
      a_beat : assert ((BEAT_W + 1)'(beat_q) / (BEAT_W + 1)'(BEATS) == '0);
      a_padding : assert (({1'b0, tdata_o} >> WIDTH) == '0);
    end
  end
`endif

endmodule
